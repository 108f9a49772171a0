"""The journal: who asked what, when and through which door, and what happened by itself. What is in it is
logged, too, once it is durable.

Never in the way of what it tells of: a line that can't be written is logged, and lost.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from targetplugin import logs
from targetplugin.catalog import Catalog, Event
from targetplugin.errors import Refused

log = logging.getLogger(__name__)
MOST = 2000  # characters of a line
AGAIN = 60.0  # seconds in which a host that repeats what is refused is noted once
MOST_REPEATED = 256  # different refusals that are remembered for that
# Where the log has them, by kind; all others are what was asked for, or good news.
LEVELS = {
    "leg_stale": logging.WARNING,
    "save_broken": logging.WARNING,
    "recover_failed": logging.WARNING,
    "sparse_lost": logging.WARNING,
    "store_low": logging.WARNING,
    "store_broken": logging.ERROR,
    "leg_not_replaced": logging.WARNING,
    "scrub_difference": logging.ERROR,
    "hook_dropped": logging.WARNING,
    # The end of the operation says so.
    "save_whole": logging.DEBUG,
    "recovered": logging.DEBUG,
}


class Journal:
    """Written by whoever changes something; read by the doors and the hooks."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._changed = threading.Condition()
        self._newest = self._read_newest()
        self._refused: dict[tuple[str, ...], float] = {}
        self._over: deque[int] = deque(maxlen=MOST_REPEATED)  # operations whose end was told

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
        level: int | None = None,
        strict: bool = False,
    ) -> None:
        """Writes a line, and wakes who waits for it; where it can't be written, that is logged.

        Args:
            kind: in a word; a verb for what was asked.
            what: for people, one sentence.
            door: "terminal", "in-band", "policy" or "engine".
            details: for programs, JSON.
            level: where the log has it; None: by its kind.
            strict: it raises Refused (ENVIRONMENT) instead, where it can't be written.
        """
        try:
            number = self._catalog.event_add(
                door,
                who,
                what[:MOST],
                volume=volume,
                kind=kind,
                operation=operation,
                details=details,
            )
        except Refused as error:
            if strict:
                raise
            fields = logged(kind, door, who, volume, operation, details)
            text = "the journal lacks a line (%s): %s"
            log.error(text, error.message, what, extra=logs.extra(fields))
            return
        with self._changed:
            self._newest = max(self._newest, number)
            self._changed.notify_all()
            told = logging.DEBUG if operation in self._over else LEVELS.get(kind, logging.INFO)
            if kind == "operation" and operation is not None:
                self._over.append(operation)
        known = all(name in what for name in volume.split(", "))
        text = what if known else f"{volume}: {what}"
        fields = logged(kind, door, who, volume, operation, details)

        def tell() -> None:
            log.log(told if level is None else level, "%s", text, extra=logs.extra(fields))

        self._catalog.after(tell)

    def over(self, operation: int) -> None:
        """The log has the end of an operation: the answer to who asked for it says no more."""
        with self._changed:
            self._over.append(operation)

    def note_refused(
        self, kind: str, what: str, *, door: str, who: str, volume: str, level: int | None = None
    ) -> None:
        """A request that was refused. A host that asks again and again does not fill the journal."""
        now = time.monotonic()
        key = (door, who, volume, kind, what)
        if door == "in-band" and now - self._refused.get(key, -AGAIN) < AGAIN:
            return
        if len(self._refused) >= MOST_REPEATED:
            self._refused.clear()
        self._refused[key] = now
        refused = {"refused": True}
        self.note(kind, what, door=door, who=who, volume=volume, details=refused, level=level)

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


def logged(
    kind: str,
    door: str,
    who: str,
    volume: str,
    operation: int | None,
    details: dict[str, Any] | None,
) -> logs.Fields:
    """The fields that the log has of a line, with those that are known here."""
    told = details or {}
    with logs.about(
        event=kind,
        door=door,
        asker=who,
        volume=volumes(volume),
        operation=operation,
        medium=told.get("medium"),
        state=told.get("state"),
    ):
        return logs.now()


def volumes(names: str) -> logs.Value:
    """`ledger`, or of `ledger, journal`, as an operation on several says it, each."""
    each = tuple(names.split(", "))
    return each if len(each) > 1 else names


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
