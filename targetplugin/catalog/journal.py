"""The catalog's journal of events, bounded, and the programs that are told of them."""

from __future__ import annotations

from typing import Any

from targetplugin.catalog.rows import Event, Hook, moment
from targetplugin.catalog.table import Tables, columns, make

EVENTS_KEPT = 10_000

_JSON = ("details",)


class JournalTables(Tables):
    """See Catalog."""

    def event_add(
        self,
        door: str,
        who: str,
        what: str,
        *,
        volume: str = "",
        kind: str = "",
        operation: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> int:
        """Writes a line; the newest EVENTS_KEPT are kept. Returns its number, which only grows."""
        with self._db.transaction():
            row = Event(0, moment(), door, who, what, volume, kind, operation, details or {})
            number = self._db.insert("events", columns(row, json_in=_JSON, without=("id",)))
            self._db.run("DELETE FROM events WHERE id <= ?", number - EVENTS_KEPT)
            return number

    def events(self, limit: int = 100, *, volume: str | None = None) -> list[Event]:
        """Of one volume or of all, newest first."""
        rows = self._db.all(
            "SELECT * FROM events WHERE ?1 IS NULL OR volume = ?1 ORDER BY id DESC LIMIT ?2",
            volume,
            limit,
        )
        return [make(Event, row, json_in=_JSON) for row in rows]

    def events_after(self, number: int, limit: int, *, volume: str | None = None) -> list[Event]:
        """Those that came after one, in their order."""
        rows = self._db.all(
            "SELECT * FROM events WHERE id > ?1 AND (?2 IS NULL OR volume = ?2)"
            " ORDER BY id LIMIT ?3",
            number,
            volume,
            limit,
        )
        return [make(Event, row, json_in=_JSON) for row in rows]

    def hook_add(self, program: str) -> Hook:
        """Raises Refused (EXISTS)."""
        row = Hook(program, moment())
        self._db.insert("hooks", columns(row))
        return row

    def hooks(self) -> list[Hook]:
        return [make(Hook, row) for row in self._db.all("SELECT * FROM hooks ORDER BY program")]

    def hook_remove(self, program: str) -> None:
        """One that is not there is removed already."""
        self._db.run("DELETE FROM hooks WHERE program = ?", program)
