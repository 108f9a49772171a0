"""Scrub: the legs of a mirror are compared with each other, then each whole save with a leg where
nothing has changed since, slowly, while hosts work.

Tells what differs and where; mends nothing, for nobody knows which is right. Legs are compared by
the engine, saves by kept.py; here is how fast it goes and how far it is. A daemon that ends goes on
with it at its next start.
"""

from __future__ import annotations

import logging
import threading
import time

from msgspec import Struct, field

from targetplugin.catalog import Operation, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.ground.floor import Floor
from targetplugin.subsystem.ground.operations import Ask, Operations, logged_as, named
from targetplugin.subsystem.ground.states import Verb
from targetplugin.subsystem.ground.views import Shape, Views, now
from targetplugin.subsystem.mirror.found import Found, sentence
from targetplugin.subsystem.mirror.kept import Kept

log = logging.getLogger(__name__)
RATE = 32 << 20  # bytes of the volume a second, unless asked otherwise
RUN = 256 << 10  # bytes that are compared at once: a host's write waits for one such run at most
KEEP = 10.0  # seconds after which it is noted how far it is
RETRY = 1.0  # seconds, while there is nothing to compare with: no two legs in sync, a recover runs
EVENTS = 10  # runs that differ, each with an event; then there is one at the end


class Task(Struct):
    """A scrub that runs."""

    stop: threading.Event = field(default_factory=threading.Event)
    aborted: bool = False
    thread: threading.Thread | None = None


class Scrub:
    """See the module."""

    def __init__(self, floor: Floor, views: Views, operations: Operations) -> None:
        self._floor = floor
        self._views = views
        self._operations = operations
        self._kept = Kept(floor, views)
        self._tasks: dict[int, Task] = {}

    # --- asking ------------------------------------------------------------------------------

    def scrub(self, ask: Ask, name: str, rate: int | None) -> Shape:
        """See Subsystem.scrub."""
        with self._floor.locked(self._floor.volume(name)) as volume:
            ask.check_rights(volume)
            if (known := self._operations.again(ask)) is not None:
                return known
            self._floor.handle(volume)
            self._views.require_volume(Verb.SCRUB, volume)
            for running in self._operations.running(volume.uuid, "scrub"):
                raise Refused(
                    Reason.BUSY,
                    f"{name} is being scrubbed: operation {running.id}",
                    object=name,
                    hint="wait until it is done, or abort it",
                    progress=self._views.progress(running)[0],
                )
            parts = self._parts(volume)
            total = len(parts) * volume.size
            rate = rate or RATE
            if ask.preview:
                made = self._operations.preview(ask, volume, None)
                made["operation"]["bytes_total"] = total
                made["operation"]["seconds_left"] = round(total / rate, 1)
                return made
            prepared = {"rate": rate, "parts": parts, "part": 0, "at": 0}
            row = self._operations.begin(ask, volume, None, prepared, bytes_total=total)
            row = self._floor.catalog.operation_set(row.id, state="running", in_force=now())
            self._begin(row)
            return self._operations.answer(row, {})

    def _parts(self, volume: Volume) -> list[int | None]:
        """What there is to compare: None for the legs, then the generations of whole saves. Raises
        Refused (STATE) where there is nothing.
        """
        legs = self._views.legs(volume, self._floor.status(volume))
        two = sum(leg["state"] == "in_sync" for leg in legs) > 1
        parts: list[int | None] = [None] if two else []
        parts += self._kept.generations(volume)
        if not parts:
            raise Refused(
                Reason.STATE,
                f"{volume.name} can't be scrubbed: it has no two legs in sync, and no whole save to"
                " compare one with",
                object=volume.name,
                hint=f"bring a leg in first: leg add {volume.name} --wait",
            )
        return parts

    def abort(self, op: int) -> bool:
        """Stops a scrub, and waits for that. False where this is none that runs."""
        task = self._tasks.get(op)
        if task is None:
            return False
        task.aborted = True
        task.stop.set()
        if task.thread is not None:
            task.thread.join(30.0)
        return True

    def resume(self) -> None:
        """Goes on with those that ran when the daemon ended."""
        for row in self._floor.catalog.operations(running=True, limit=1 << 30):
            if row.verb == "scrub" and row.state == "running" and row.id not in self._tasks:
                self._begin(row)

    def stop(self) -> None:
        """Lets them rest until the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.stop.set()
        for task in tasks:
            if task.thread is not None:
                task.thread.join()

    def _begin(self, row: Operation) -> None:
        task = self._tasks[row.id] = Task()
        task.thread = threading.Thread(
            target=self._run_logged, args=(row, task), name=f"scrub {row.id}", daemon=True
        )
        task.thread.start()

    # --- doing it ----------------------------------------------------------------------------

    def _run_logged(self, row: Operation, task: Task) -> None:
        with logged_as(row):
            self._run(row, task)

    def _run(self, row: Operation, task: Task) -> None:
        assert row.volume is not None
        runtime = self._floor.runtime(row.volume)
        found = Found(row.prepared)
        try:
            state, error = self._compare_all(row, task, found)
        except Exception as failed:
            log.exception("%s met a defect", named(row))
            state, error = "failed", str(failed)
        try:
            with runtime.lock:
                if state is not None:
                    self._end(row, found, state, error)
                else:
                    self._keep(row, found)
        except Refused as refused:  # the volume is no more, or the catalog takes nothing
            log.error("%s: %s", named(row), refused.message)
        finally:
            runtime.progress.pop(row.id, None)
            self._tasks.pop(row.id, None)
            self._floor.tell()

    def _compare_all(self, row: Operation, task: Task, found: Found) -> tuple[str | None, str]:
        """Compares run after run. Returns the state that it ends in (None: it is to go on at the
        next start) and why.
        """
        assert row.volume is not None
        runtime = self._floor.runtime(row.volume)
        kept = time.monotonic()
        due = time.monotonic()
        while True:
            volume = self._floor.catalog.volume_get(row.volume)
            if volume is None or volume.details.get("creating"):
                return "aborted", "the volume was deleted"
            if found.over:
                return "done", ""
            runtime.progress[row.id] = found.compared / (row.bytes_total or 1)
            if task.stop.wait(max(0.0, due - time.monotonic())):
                return ("aborted", "") if task.aborted else (None, "")
            length = min(max(RUN, volume.extent_size), volume.size - found.at)
            due = max(due, time.monotonic() - 1.0) + length / found.rate
            try:
                run = self._compare(volume, found, length)
            except Refused as refused:
                if refused.reason not in (Reason.STATE, Reason.BUSY, Reason.NOT_FOUND):
                    return "failed", refused.message
                due = time.monotonic() + RETRY  # a leg may come back
                continue
            if run is None:  # the save is no more
                found.leave_out(volume.size)
                continue
            if run:
                self._tell(volume, row, run, found)
                kept = 0.0
            found.go_on(length, volume.size)
            if time.monotonic() - kept > KEEP:
                self._keep(row, found)
                kept = time.monotonic()

    def _compare(self, volume: Volume, found: Found, length: int) -> list[Shape] | None:
        """What is wrong in the next run; None: it is of a save that was released meanwhile."""
        generation = found.parts[found.part]
        if generation is not None:
            wrong = self._kept.compare(volume, generation, found.at, length)
            return None if wrong is None else found.note(wrong, volume.extent_size)
        handle = self._floor.runtime(volume.uuid).handle
        if handle is None:
            raise Refused(Reason.STATE, f"{volume.name} is down")
        compared = self._floor.engine.compare(handle, found.at, length)
        return found.take(volume, compared, length, self._floor.medium_name)

    def _tell(self, volume: Volume, row: Operation, run: list[Shape], found: Found) -> None:
        if found.events < EVENTS:
            found.events += 1
            self._floor.journal.note(
                "scrub_difference",
                "; ".join(sentence(one) for one in run[:3]),
                door="engine",
                volume=volume.name,
                operation=row.id,
                details={"extents": run},
            )

    def _keep(self, row: Operation, found: Found) -> None:
        self._floor.catalog.operation_set(row.id, prepared={**row.prepared, **found.as_json()})

    def _end(self, row: Operation, found: Found, state: str, error: str) -> None:
        known = self._floor.catalog.operation_get(row.id)
        if known is None or known.state != "running":
            return  # the volume was deleted, and this with it
        total = row.bytes_total or 1
        if state == "done" and found.different + found.unreadable:
            self._floor.journal.note(
                "scrub_difference",
                f"scrub of {row.volume_name} is done: {found.summary()}",
                door="engine",
                volume=row.volume_name,
                operation=row.id,
                details={"extents": found.runs[:100]},
            )
        self._operations.end(
            known,
            state=state,
            error=error or None,
            progress=1.0 if state == "done" else round(found.compared / total, 4),
            prepared={**row.prepared, **found.as_json()},
        )
