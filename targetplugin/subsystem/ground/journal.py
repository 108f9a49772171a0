"""The journal: who asked what, when and through which door, and what happened by itself.

Never in the way of what it tells of: a line that can't be written is logged, and lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from targetplugin.catalog import Catalog, Event
from targetplugin.errors import Refused

log = logging.getLogger(__name__)
MOST = 2000  # characters of a line
AGAIN = 60.0  # seconds in which a host that repeats what is refused is noted once
MOST_REPEATED = 256  # different refusals that are remembered for that


class Journal:
    """Written by whoever changes something; read by the doors and the hooks."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._changed = threading.Condition()
        self._newest = self._read_newest()
        self._refused: dict[tuple[str, ...], float] = {}

    def _read_newest(self) -> int:
        found = self._catalog.events(1)
        return found[0].id if found else 0

    @property
    def newest(self) -> int:
        """The number of the newest line."""
        return self._newest

    def note(
        self,
        kind: str,
        what: str,
        *,
        door: str,
        who: str = "",
        volume: str = "",
        operation: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        """Writes a line, and wakes who waits for it; where it can't be written, that is logged.

        Args:
            kind: in a word; a verb for what was asked.
            what: for people, one sentence.
            door: "terminal", "in-band", "policy" or "engine".
            details: for programs, JSON.
        """
        try:
            self.write(
                kind,
                what,
                door=door,
                who=who,
                volume=volume,
                operation=operation,
                details=details,
            )
        except Refused as error:
            log.error("the journal lacks a line (%s): %s", error.message, what)

    def write(self, kind: str, what: str, **more: Any) -> None:
        """As `note`. Raises Refused (ENVIRONMENT) where it can't be written."""
        number = self._catalog.event_add(what=what[:MOST], kind=kind, **more)
        with self._changed:
            self._newest = max(self._newest, number)
            self._changed.notify_all()

    def note_refused(self, kind: str, what: str, *, door: str, who: str, volume: str) -> None:
        """A request that was refused. A host that asks again and again does not fill the journal."""
        now = time.monotonic()
        key = (door, who, volume, kind, what)
        if door == "in-band" and now - self._refused.get(key, -AGAIN) < AGAIN:
            return
        if len(self._refused) >= MOST_REPEATED:
            self._refused.clear()
        self._refused[key] = now
        self.note(kind, what, door=door, who=who, volume=volume, details={"refused": True})

    def all(self, volume: str | None, limit: int) -> list[dict[str, Any]]:
        """The newest lines, the oldest of them first."""
        return [shape(row) for row in reversed(self._catalog.events(limit, volume=volume))]

    def after(self, number: int, volume: str | None, limit: int) -> list[dict[str, Any]]:
        """The lines that came after one, in their order."""
        return [shape(r) for r in self._catalog.events_after(number, limit, volume=volume)]

    def wait(self, number: int, volume: str | None, timeout: float, limit: int) -> list[Any]:
        """The same, waiting for the first for `timeout` seconds at most."""
        end = time.monotonic() + timeout
        while True:
            newest = self._newest
            if newest > number and (found := self.after(number, volume, limit)):
                return found
            left = end - time.monotonic()
            with self._changed:
                if left <= 0 or not self._changed.wait_for(lambda: self._newest > newest, left):  # noqa: B023
                    return []

    def wait_until(self, so: Callable[[], bool]) -> None:
        """Waits until something is so: looks when a line comes, or when someone wakes."""
        with self._changed:
            self._changed.wait_for(so)

    def wake(self) -> None:
        """Lets who waits look again."""
        with self._changed:
            self._changed.notify_all()


def shape(row: Event) -> dict[str, Any]:
    """id, time, door, who, volume, kind, what, operation, details."""
    return {
        "id": row.id,
        "time": row.time,
        "door": row.door,
        "who": row.who,
        "volume": row.volume,
        "kind": row.kind,
        "what": row.what,
        "operation": row.operation,
        "details": row.details,
    }
