"""What becomes of the engine's events: transfers that end, legs that go.

One thread, so that no engine waits for a verb.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable

from targetplugin import logs
from targetplugin.catalog import Operation, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.ground.floor import Floor, Runtime
from targetplugin.subsystem.ground.operations import JOINING, Operations
from targetplugin.subsystem.ground.ports import Event
from targetplugin.subsystem.ground.views import Views
from targetplugin.subsystem.mirror.settle import Settle
from targetplugin.subsystem.points.undo import TAKES_BACK
from targetplugin.subsystem.saves.stores import Stores

log = logging.getLogger(__name__)
OF_THE_STORE = ("sparse_lost", "store_low", "store_broken")
AGAIN = 2.0  # seconds until what the catalog could not take is offered to it again


class Transfers:
    """Takes events from any thread and handles each under its volume's lock.

    Args:
        on_leg_lost: is called, without a lock, when a leg went stale, or answers again: someone may
            bring it back.
        on_over: is called, with the volume's lock, when a save needs nothing more or a recover is over:
            others may end.
    """

    def __init__(
        self,
        floor: Floor,
        views: Views,
        operations: Operations,
        settle: Settle,
        stores: Stores,
        on_leg_lost: Callable[[], None],
        on_over: Callable[[Volume], None],
    ) -> None:
        self._floor = floor
        self._views = views
        self._operations = operations
        self._settle = settle
        self._stores = stores
        self._on_leg_lost = on_leg_lost
        self._on_over = on_over
        self._queue: queue.SimpleQueue[Event | threading.Event | None] = queue.SimpleQueue()
        self._waiting: deque[Event] = deque()  # those that the catalog has not taken yet
        self._said = logs.Said()
        self._thread = threading.Thread(target=self._run, name="transfers", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Handles what has come, then ends."""
        self._queue.put(None)
        self._thread.join()

    def take(self, event: Event) -> None:
        """Queues an event; returns at once."""
        self._queue.put(event)

    def settled(self) -> None:
        """Waits until all events that came before are handled."""
        reached = threading.Event()
        self._queue.put(reached)
        reached.wait()

    def _run(self) -> None:
        while True:
            try:
                event = self._queue.get(timeout=AGAIN if self._waiting else None)
            except queue.Empty:
                self._handle_waiting()
                continue
            if event is None:
                return  # what still waits, the next start finds out by itself
            if isinstance(event, threading.Event):
                event.set()
                continue
            self._waiting.append(event)
            self._handle_waiting()
            if event.kind in ("leg_stale", "answers_again"):
                self._on_leg_lost()

    def _handle_waiting(self) -> None:
        """In their order, as far as the catalog takes them: its disk may be full, or fail."""
        while self._waiting:
            event = self._waiting[0]
            try:
                self._handle(event)
            except Refused as error:
                if error.reason is Reason.ENVIRONMENT:
                    if self._said.new(event, error.message):
                        text = "%s can't be noted yet: %s"
                        log.error(text, event.kind, error, extra=logs.came_from(error))
                    return
                log.exception("the engine's event %s could not be handled", event)
            except Exception:
                log.exception("the engine's event %s could not be handled", event)
            self._waiting.popleft()
            self._said.forget(event)

    def _handle(self, event: Event) -> None:
        runtime = self._floor.by_handle(event.volume)
        if runtime is None:
            return
        with runtime.lock, contextlib.ExitStack() as stack:
            volume = self._floor.catalog.volume_get(runtime.uuid)
            if volume is None or runtime.handle != event.volume:
                return
            name = self._floor.medium_name(event.medium) if event.medium else ""
            stack.enter_context(logs.about(volume=volume.name, medium=name))
            done = {
                "leg_stale": self._leg_stale,
                "leg_in_sync": self._leg_in_sync,
                "save_whole": self._save_whole,
                "save_broken": self._save_broken,
                "recovered": self._recovered,
                "recover_failed": self._recover_failed,
            }.get(event.kind)
            told = f"{event.kind.replace('_', ' ')} {name}".rstrip()
            if event.kind in OF_THE_STORE:
                told = self._stores.told(volume, event.volume, event.kind)
            elif done is not None and event.medium is not None:
                done(runtime, volume, event.medium)
            self._note_events(runtime, volume)
            self._floor.journal.note(
                event.kind,
                told,
                door="engine",
                who="",
                volume=volume.name,
                details={"medium": name} if name else {},
                strict=True,
            )
        self._floor.tell()

    def _note_events(self, runtime: Runtime, volume: Volume) -> None:
        """So that a start notices when the newest record is on a medium that is away."""
        assert runtime.handle is not None
        events = self._floor.engine.status(runtime.handle).get("events", 0)
        if events > volume.events:
            self._floor.catalog.volume_set(volume.uuid, events=events)

    def _set_state(self, medium: bytes, state: str) -> None:
        if self._floor.catalog.medium_get(medium) is not None:
            self._floor.catalog.medium_set(medium, state=state)

    def _leg_stale(self, runtime: Runtime, volume: Volume, medium: bytes) -> None:
        self._set_state(medium, "stale")

    def _leg_in_sync(self, runtime: Runtime, volume: Volume, medium: bytes) -> None:
        self._set_state(medium, "in use")
        for verb in JOINING:
            for row in self._operations.running(volume.uuid, verb):
                legs = row.prepared["media"]
                if medium.hex() in legs and self._all_in_sync(runtime, legs):
                    self._end(row, row.prepared["pending"])

    def _all_in_sync(self, runtime: Runtime, media: list[str]) -> bool:
        assert runtime.handle is not None
        legs = self._floor.engine.status(runtime.handle)["legs"]
        return all(
            legs.get(bytes.fromhex(medium), {}).get("state", "in_sync") == "in_sync"
            for medium in media
        )

    def _is_past(self, runtime: Runtime, medium: bytes, state: str) -> bool:
        """Whether an event is of an earlier save: the medium has one that is in another state."""
        assert runtime.handle is not None
        save = self._floor.catalog.save_on(medium)
        if save is not None and save.origin != "host":
            return True  # an image is restored onto it, of which the engine knows nothing
        seen = self._floor.engine.status(runtime.handle)["saves"].get(medium)
        return seen is not None and seen["state"] != state

    def _save_whole(self, runtime: Runtime, volume: Volume, medium: bytes) -> None:
        if self._is_past(runtime, medium, "whole"):
            return
        self.save_is_whole(volume, medium)
        self._detach(runtime, medium)
        self._on_over(volume)

    def save_is_whole(self, volume: Volume, medium: bytes) -> None:
        """The save on a medium needs nothing more."""
        save = self._floor.catalog.save_on(medium)
        if save is None or save.volume != volume.uuid:
            return
        with self._floor.catalog.transaction():
            self._floor.catalog.save_set(volume.uuid, save.generation, fill="whole")
            self._floor.catalog.retention_due(volume.uuid, True)
            for row in self._operations.running(volume.uuid, "save"):
                if row.save == save.generation:
                    self._end(row, row.prepared.get("pending", self._floor.extents(volume)))

    def _save_broken(self, runtime: Runtime, volume: Volume, medium: bytes) -> None:
        if self._is_past(runtime, medium, "broken"):
            return
        self.save_is_broken(volume, medium)
        rows = self._floor.catalog.operations(volume.uuid, running=True)
        if self._floor.catalog.save_on(medium) is None and any(r.state == "prepared" for r in rows):
            return  # the next start makes the save known, and its record must say then what it is
        self._detach(runtime, medium)

    def save_is_broken(self, volume: Volume, medium: bytes) -> None:
        """An old extent was overwritten before it could be kept."""
        save = self._floor.catalog.save_on(medium)
        if save is None or save.volume != volume.uuid:
            return
        with self._floor.catalog.transaction():
            self._floor.catalog.save_set(volume.uuid, save.generation, fill="broken")
            for row in self._operations.running(volume.uuid, "save"):
                if row.save == save.generation:
                    why = f"{self._floor.medium_name(medium)} failed: the save is broken"
                    self._operations.end(row, state="failed", error=why)

    def _recovered(self, runtime: Runtime, volume: Volume, medium: bytes) -> None:
        assert runtime.handle is not None
        if self._floor.engine.status(runtime.handle)["recover"] is not None:
            return  # another has begun since, and its end ends both
        self.recover_is_over(volume)
        if self._floor.catalog.store_of(medium) is None:
            self._detach(runtime, medium, unless_it_fills=True)
        self._stores.settle(volume, runtime.handle)
        self._on_over(volume)

    def recover_is_over(self, volume: Volume) -> None:
        """All extents are copied back; a clone needs its source no more."""
        verbs = (*TAKES_BACK, "clone")
        rows = [row for verb in verbs for row in self._operations.running(volume.uuid, verb)]
        now = self._floor.catalog.volume_get(volume.uuid) or volume
        if not rows and "source" not in now.details:
            return  # and the catalog's disk may be full
        details = {key: kept for key, kept in now.details.items() if key != "source"}
        with self._floor.catalog.transaction():
            self._floor.catalog.volume_set(volume.uuid, details=details)
            for row in rows:
                self._end(row, row.extents_changed)

    def _recover_failed(self, runtime: Runtime, volume: Volume, medium: bytes) -> None:
        name = self._floor.medium_name(medium)
        for verb in (*TAKES_BACK, "clone"):
            for row in self._operations.running(volume.uuid, verb):
                why = f"{name} can't be read; the {verb} goes on when the daemon starts and it is back"
                self._floor.catalog.operation_set(row.id, error=why)

    def _end(self, row: Operation, copied: int) -> None:
        size = row.prepared.get("extent_size", 0)
        self._operations.end(row, extents_copied=copied, bytes_copied=copied * size, error=None)

    def _detach(self, runtime: Runtime, medium: bytes, *, unless_it_fills: bool = False) -> None:
        assert runtime.handle is not None
        saves = self._floor.engine.status(runtime.handle)["saves"]
        if unless_it_fills and saves.get(medium, {}).get("state") == "filling":
            return
        try:
            self._floor.engine.detach_save(runtime.handle, medium)
        except Refused as error:
            # A point since then let it go already; or a recover reads it, and lets it go at its end.
            if error.reason not in (Reason.NOT_FOUND, Reason.BUSY):
                raise
