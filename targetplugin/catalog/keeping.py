"""The catalog's holds on saves, and what volumes keep their saves for."""

from __future__ import annotations

from targetplugin.catalog.rows import Hold, Retention
from targetplugin.catalog.table import Tables, columns, make


class KeepingTables(Tables):
    """See Catalog. What belongs to a save or volume goes with it."""

    def hold_put(self, row: Hold) -> None:
        """Adds it, or puts it in the place of the save's."""
        with self._db.transaction():
            self.hold_remove(row.volume, row.generation)
            self._db.insert("holds", columns(row))

    def hold_get(self, volume: bytes, generation: int) -> Hold | None:
        row = self._db.one(
            "SELECT * FROM holds WHERE volume = ? AND generation = ?", volume, generation
        )
        return make(Hold, row) if row else None

    def holds(self) -> list[Hold]:
        return [make(Hold, row) for row in self._db.all("SELECT * FROM holds")]

    def hold_remove(self, volume: bytes, generation: int) -> None:
        """One that is not there is removed already."""
        self._db.run("DELETE FROM holds WHERE volume = ? AND generation = ?", volume, generation)

    def retention_put(self, row: Retention) -> None:
        """Adds it, or puts it in the place of the volume's."""
        with self._db.transaction():
            self.retention_remove(row.volume)
            self._db.insert("retentions", columns(row, json_in=("rules",)))

    def retention_get(self, volume: bytes) -> Retention | None:
        row = self._db.one("SELECT * FROM retentions WHERE volume = ?", volume)
        return make(Retention, row, json_in=("rules",), due=bool(row["due"])) if row else None

    def retention_remove(self, volume: bytes) -> None:
        """One that is not there is removed already."""
        self._db.run("DELETE FROM retentions WHERE volume = ?", volume)

    def retention_due(self, volume: bytes, due: bool) -> None:
        """Where the volume has one."""
        self._db.run("UPDATE retentions SET due = ? WHERE volume = ?", int(due), volume)

    def retentions_due(self) -> list[bytes]:
        """The volumes whose rules are to be applied."""
        return [row["volume"] for row in self._db.all("SELECT volume FROM retentions WHERE due")]
