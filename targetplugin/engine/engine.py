"""The engine as those above see it: volumes on native threads, and blocking verbs. Owns the threads
and who serves what.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from targetplugin.engine.core import Core
from targetplugin.engine.executor import Reactor
from targetplugin.engine.group import Group
from targetplugin.engine.served import Answerer, Served
from targetplugin.engine.values import (
    Command,
    Compared,
    Event,
    MediumSpec,
    Pause,
    Point,
    RecoverMember,
    SaveMember,
    SwapMember,
    ViewSpec,
    VolumeSpec,
)
from targetplugin.errors import Reason, Refused

log = logging.getLogger(__name__)

EVENTS = {
    1: "leg_stale",
    2: "leg_in_sync",
    3: "save_whole",
    4: "save_broken",
    5: "recovered",
    6: "recover_failed",
    32: "answers_again",
}
REFUSALS = {
    16: (Reason.BUSY, "another operation of the volume forbids it", "wait for it, then repeat"),
    22: (
        Reason.STATE,
        "the media are not in a state that allows it",
        "look at the volume's status",
    ),
    28: (
        Reason.STATE,
        "there is no room: too small a medium, or too many",
        "choose another medium",
    ),
    2: (Reason.NOT_FOUND, "the medium is not attached", "look at the volume's status"),
    5: (
        Reason.ENVIRONMENT,
        "a medium failed while it was asked for",
        "look at the volume's status",
    ),
}
COMMAND_THREADS = 4
VIEW_SHIFT = 20  # a view marks no extents: the coarsest take the least memory
START_WAIT = 10.0  # seconds for a volume's first record; longer, verbs are refused and hosts wait
SILENT = 12.0  # seconds: with what follows it stays well under the 30 s of a command in LIO
# Fixed-format sense: HARDWARE ERROR, 44h/00h
INTERNAL_TARGET_FAILURE = bytes([0x70, 0, 4, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x44, 0, 0, 0, 0, 0])


class Engine:
    """Serves volumes until stop().

    Args:
        threads: native threads; volumes are dealt out to them in turn.
        on_command: is called, on a thread of the engine's, with each SCSI command that is not
        native.
        on_event: is called, on another, with each Event, in order.
        on_kept: is called, on the same, with a volume's handle and the id of a command whose
        buffers the kernel kept and may have back.
        silent: seconds without an answer after which a medium is given up, where another stands in.
        spin: while commands come in gaps shorter than so many microseconds, a thread looks for them
        before it sleeps.
    """

    def __init__(
        self,
        threads: int,
        on_command: Callable[[Command], None],
        on_event: Callable[[Event], None],
        *,
        on_kept: Callable[[int, int], None] = lambda handle, command: None,
        silent: float = SILENT,
        spin: int = 1000,
    ) -> None:
        self.on_command = on_command
        self.on_event = on_event
        self.on_kept = on_kept
        self._reactors = [Reactor(spin, silent) for _ in range(threads)]
        self._volumes: dict[int, Served] = {}
        self._handles = 0
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._commands: queue.SimpleQueue[tuple[int, Answerer] | None] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Event | tuple[int, int] | None] = queue.SimpleQueue()

    def start(self) -> None:
        for index, reactor in enumerate(self._reactors):
            self._thread(f"engine-{index}", reactor.run)
            self._thread(f"messages-{index}", self._messages, reactor)
        for index in range(COMMAND_THREADS):
            self._thread(f"commands-{index}", self._run_commands)
        self._thread("events", self._run_events)

    def _thread(self, name: str, run: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=run, args=arguments, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop(self) -> None:
        """Closes all volumes cleanly, then ends the threads."""
        for handle in list(self._volumes):
            self.remove_volume(handle)
        reactors, self._reactors = self._reactors, []
        for reactor in reactors:
            reactor.stop()
        for _ in range(COMMAND_THREADS):
            self._commands.put(None)
        self._events.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(10)

    # --- volumes --------------------------------------------------------------------------------

    def add_volume(self, spec: VolumeSpec) -> int:
        """Starts a volume from what its media say. Returns its handle; commands come with
        attach_ring.

        Raises:
            Refused: the record is damaged or another volume's, or no leg in sync is there.
        """
        core = Core(spec.uuid, spec.size, spec.extent_shift)
        media = self._known(core, spec.media)
        core.start(spec.record, spec.maps, spec.same_content)
        handle = self._serve(core, media)
        over = time.monotonic() + START_WAIT
        while not core.started() and time.monotonic() < over:
            time.sleep(0.001)
        return handle

    def add_view(self, spec: ViewSpec) -> int:
        """Serves what media hold, to be read alone. Returns a handle as add_volume does; of the verbs
        only remove_volume and what is about rings and looking is for it.

        Raises:
            Refused: a medium is too small, or does not answer.
        """
        core = Core(spec.uuid, spec.size, VIEW_SHIFT)
        media = self._known(core, spec.media)
        core.show()
        return self._serve(core, media)

    def _known(self, core: Core, specs: list[MediumSpec]) -> dict[int, MediumSpec]:
        """Attaches media to a core that is not served yet."""
        media = {}
        for medium in specs:
            self._check_over(medium)
            try:
                index = core.attach(
                    medium.uuid,
                    medium.data_size,
                    medium.record_offset,
                    medium.maps_offset,
                    medium.map_slots,
                )
            except ValueError as error:
                raise Refused(Reason.STATE, str(error)) from None
            media[index] = medium
        return media

    def _serve(self, core: Core, media: dict[int, MediumSpec]) -> int:
        with self._lock:
            self._handles += 1
            handle = self._handles
            reactor = self._reactors[handle % len(self._reactors)]
        with reactor:
            number = reactor.volume_add(core, handle)
            for index, medium in media.items():
                reactor.set_fd(number, index, medium.fd)
            self._volumes[handle] = Served(reactor, number, core, media)
        return handle

    def remove_volume(self, handle: int) -> None:
        """Drains, flushes and records a clean end, then forgets the volume. Descriptors stay the
        caller's.
        """
        served = self._at(handle)
        self.detach_ring(handle)
        with served.verb:
            try:
                self._ask(served, "close")
            except (Refused, OSError) as error:
                log.warning("a volume could not be closed cleanly: %s", error)
            while True:
                with served:
                    if not served.reactor.ring_polled(served.number) and not self._io(served):
                        served.reactor.volume_remove(served.number)
                        served.gone = True
                        del self._volumes[handle]
                        return
                time.sleep(0.002)

    def _io(self, served: Served) -> int:
        return int(served.reactor.counters(served.number)["io"])

    def attach_ring(
        self, handle: int, uio_fd: int, map_length: int, *, map_fd: int | None = None
    ) -> None:
        """Serves a ring: its descriptor, the length to map, and (for tests) another descriptor to
        map from.
        """
        served = self._at(handle)
        with served:
            served.reactor.ring_attach(
                served.number, uio_fd, map_length, -1 if map_fd is None else map_fd
            )

    def detach_ring(self, handle: int) -> None:
        """Takes no more commands, answers those that were taken, and lets the ring go. What
        Python has not answered is answered BUSY: it may wait for a lock that the caller holds.
        """
        served = self._at(handle)
        while True:
            with served:
                if not served.reactor.ring_detaching(served.number):
                    served.reactor.ring_detach(served.number)
                    break
            time.sleep(0.002)
        while True:
            with served:
                if not served.reactor.ring_polled(served.number):
                    return
            time.sleep(0.002)

    def set_sense_ua(self, handle: int, asc: int, ascq: int) -> None:
        """The next command gets UNIT ATTENTION with this additional sense code (SPC-4 5.14)."""
        served = self._at(handle)
        with served:
            served.reactor.attention(served.number, asc << 8 | ascq)

    def _at(self, handle: int) -> Served:
        try:
            return self._volumes[handle]
        except KeyError:
            raise Refused(Reason.NOT_FOUND, f"the engine serves no volume {handle}") from None

    def silent(self) -> set[bytes]:
        """The uuids of media that were given up because they did not answer, and have not answered all
        since. Nothing may be done with them: what still writes to them would write over it.
        """
        found: set[bytes] = set()
        for reactor in self._reactors:
            with reactor:
                found |= reactor.silent()
        return found

    def _check_over(self, medium: MediumSpec) -> None:
        if medium.uuid in self.silent():
            raise Refused(
                Reason.BUSY,
                "a medium's last requests are not over",
                hint="it does not answer; wait until it does, or take its disk away",
            )

    # --- verbs ----------------------------------------------------------------------------------

    def save_split(self, handle: int, leaving: list[bytes], op: int) -> Point:
        """Legs leave the mirror, at once, and hold the volume as it is now."""
        served = self._at(handle)
        with served.verb:
            mask = sum(1 << self._index(served, uuid) for uuid in leaving)
            point = self._point(served, "split", op=op, mask=mask)
            self._drop_unused(served)
            return point

    def save_copy(
        self, handle: int, save: MediumSpec, op: int, *, lacks: bytes | None = None
    ) -> Point:
        """A medium gets what the volume is now, by copy before write, and fills in the background.

        Args:
            lacks: what it lacks of the content at the start of the live generation, as it holds an older
                save; None: all.
        """
        served = self._at(handle)
        with served.verb, self._attached(served, save) as index:
            return self._point(served, "copy", op=op, medium=index, lacks=lacks)

    def save_group(self, members: list[SaveMember], deadline: int) -> list[Point | Refused]:
        """Saves volumes as they are at one instant, all or none.

        Args:
            deadline: milliseconds that hosts of any may be held for it; it is called off then.
        Returns:
            For each member, in order, its point; or, where nothing was saved, why: CalledOff for
            those that were not at fault. Both come together only where a volume's disks failed in
            the moment of the switch: then what the others have is to be given up.
        """
        return Group(self, members).run(deadline)

    def recover_group(
        self, members: list[RecoverMember], deadline: int, commit: Callable[[], None]
    ) -> list[Point | Refused]:
        """The same of recovers.

        Args:
            commit: is called while hosts of all are held, before any volume is switched; what it
                raises calls all off.
        """
        return Group(self, members).run(deadline, commit)

    def swap_group(
        self, members: list[SwapMember], deadline: int, commit: Callable[[], None]
    ) -> list[Point | Refused]:
        """The same of swaps."""
        return Group(self, members).run(deadline, commit)

    def recover(
        self,
        handle: int,
        source: MediumSpec | bytes,
        generation: int,
        base: bytes,
        op: int,
        *,
        undo: MediumSpec | None = None,
        lacks: bytes | None = None,
    ) -> Point:
        """The volume reads as the save from here on; what differs is copied back meanwhile.

        Args:
            source: the save's medium, or the uuid of one that still fills.
            generation: the save's.
            base: what differs between the save and the start of the live generation.
            undo: a medium that gets what the volume was up to then, as one by save_copy. lacks: as there.
        """
        served = self._at(handle)
        with served.verb, contextlib.ExitStack() as stack:
            if isinstance(source, bytes):
                index = self._index(served, source)
            else:
                index = stack.enter_context(self._attached(served, source))
            save = None if undo is None else stack.enter_context(self._attached(served, undo))
            return self._point(
                served,
                "recover",
                op=op,
                medium=index,
                generation=generation,
                base=base,
                save=save,
                lacks=lacks,
            )

    def swap(self, handle: int, legs: list[MediumSpec], generation: int, op: int) -> Point:
        """Other media are the volume from here on; point.left names those that were it."""
        served = self._at(handle)
        with served.verb:
            mask = 0
            added = []
            try:
                for medium in legs:
                    index = self._attach(served, medium)
                    added.append(index)
                    mask |= 1 << index
                point = self._point(served, "swap", op=op, mask=mask, generation=generation)
            except BaseException:
                for index in added:
                    self._drop(served, index)
                raise
            self._drop_unused(served)
            return point

    def add_leg(self, handle: int, medium: MediumSpec, pending: bytes | None) -> None:
        """Makes a medium a leg; it takes all writes when this returns, and what it lacks is copied.

        Args:
            pending: what it lacks, up to the start of the live generation; None: everything, or,
            for a
                leg that is known as stale, what it is known to have missed.
        """
        served = self._at(handle)
        with served.verb:
            self._check_over(medium)
            known = self._find(served, medium.uuid)
            if known is not None:
                before = served.media.get(known)
                if before is None:
                    # It was away when the volume started, and the core knows nothing but its name.
                    self._attach(served, medium)
                else:
                    with served:
                        self._use(served, known, medium)
                try:
                    self._ask(served, "sync", medium=known)
                except BaseException:
                    with served:
                        self._use(served, known, before)  # the new descriptor may be closed now
                    raise
                return
            with self._attached(served, medium) as index:
                self._ask(served, "sync", medium=index, base=pending)

    def drop_leg(self, handle: int, uuid: bytes) -> None:
        """Takes a medium out, a leg or a save; its last I/O is over when this returns."""
        served = self._at(handle)
        with served.verb:
            self._drop(served, self._index(served, uuid))

    detach_save = drop_leg

    def compare(self, handle: int, offset: int, length: int) -> Compared:
        """Reads a run from every leg in sync, while no write of it is under way, and compares them.

        Args:
            offset: bytes, at an extent's begin. length: bytes, at most 1 MiB.
        Raises:
            Refused: STATE, no two legs are in sync.
        """
        served = self._at(handle)
        with served.verb:
            self._ask(served, "compare", offset=offset, length=length)
            with served:
                return Compared(*served.core.compared_now())

    def live_map(self, handle: int) -> bytes:
        """What was written in the live generation, lowest bit first."""
        served = self._at(handle)
        with served:
            return bytes(served.core.live_bytes())

    def checkpoint(self, handle: int) -> None:
        """Flushes all legs, makes all marks durable and empties the activity log."""
        self._ask(self._at(handle), "checkpoint")

    def status(self, handle: int) -> dict[str, Any]:
        """What Core.status() says, and counters of the ring."""
        served = self._at(handle)
        with served:
            return {**served.core.status(), "ring": served.reactor.counters(served.number)}

    # --- how they are asked for -----------------------------------------------------------------

    def _ask(self, served: Served, verb: str, **arguments: Any) -> None:
        reactor = served.reactor
        number = reactor.request_number()
        try:
            with served:
                error = served.core.request(verb, number, **arguments)
        except BaseException:
            reactor.request_free(number)
            raise
        if error:
            reactor.request_free(number)
        else:
            error = reactor.request_wait(number)
        if error:
            raise self.refusal(verb, error)

    @staticmethod
    def refusal(verb: str, error: int) -> Refused:
        """What a negative errno of the core's means."""
        reason, why, hint = REFUSALS.get(
            -error, (Reason.ENVIRONMENT, os.strerror(-error), "look at the volume's status")
        )
        return Refused(reason, f"{verb} is refused: {why}", hint=hint)

    def _point(self, served: Served, kind: str, **arguments: Any) -> Point:
        self._ask(served, kind, **arguments)
        return self._made(served, kind)

    def _made(self, served: Served, kind: str) -> Point:
        """The point that has just come in force."""
        with served:
            core = served.core
            status = core.status()
            counted = served.reactor.counters(served.number)
            return Point(
                core.frozen_generation,
                bytes(core.frozen_bytes()),
                status["generation"],
                core.pending_total if kind == "recover" else 0,
                Pause(counted["pause_us"], counted["drain_us"], counted["pause_work_us"]),
                core.left_uuids(),
            )

    def _find(self, served: Served, uuid: bytes) -> int | None:
        """The index of a medium that the core knows, a leg that is away included."""
        for index in range(16):
            if served.core.medium_uuid(index) == uuid:
                return index
        return None

    def _index(self, served: Served, uuid: bytes) -> int:
        with served:
            index = self._find(served, uuid)
        if index is None:
            raise Refused(Reason.NOT_FOUND, f"medium {uuid.hex()} is not attached to the volume")
        return index

    def _attach(self, served: Served, medium: MediumSpec) -> int:
        self._check_over(medium)
        with served:
            try:
                index = served.core.attach(
                    medium.uuid,
                    medium.data_size,
                    medium.record_offset,
                    medium.maps_offset,
                    medium.map_slots,
                )
            except ValueError as error:
                raise Refused(Reason.STATE, str(error)) from None
            served.reactor.set_fd(served.number, index, medium.fd)
            served.media[index] = medium
            return int(index)

    def _use(self, served: Served, index: int, medium: MediumSpec | None) -> None:
        """Sets the descriptor of a medium that the core knows."""
        served.reactor.set_fd(served.number, index, medium.fd if medium else -1)
        if medium is not None:
            served.media[index] = medium
        else:
            served.media.pop(index, None)

    def _attached(self, served: Served, medium: MediumSpec) -> _Attached:
        return _Attached(self, served, medium)

    def _drop(self, served: Served, index: int) -> None:
        self._ask(served, "drop", medium=index)
        with served:
            served.reactor.set_fd(served.number, index, -1)
            served.media.pop(index, None)

    def _drop_unused(self, served: Served) -> None:
        """Media that a point made no part of the volume any more. A refusal is no matter: the point is
        in force, and nobody uses such a medium.
        """
        with served:
            status = served.core.status()
            known = set(status["legs"]) | set(status["saves"])
            if status["recover"]:
                known.add(status["recover"]["source"])
            unused = [i for i, medium in served.media.items() if medium.uuid not in known]
        for index in unused:
            with contextlib.suppress(Refused):
                self._drop(served, index)

    # --- what comes out ---------------------------------------------------------------------------

    def _messages(self, reactor: Reactor) -> None:
        while (message := reactor.next_message()) is not None:
            kind, handle = message[0], message[1]
            served = self._volumes.get(handle)
            if served is None:
                continue
            if kind == "command":
                self._commands.put((handle, Answerer(served, *message[2:])))
            elif kind == "kept":
                self._events.put((handle, message[2]))
            else:
                self._events.put(Event(handle, EVENTS.get(message[2], "unknown"), message[3]))

    def _run_events(self) -> None:
        while (event := self._events.get()) is not None:
            try:
                if isinstance(event, Event):
                    self.on_event(event)
                else:
                    self.on_kept(*event)
            except Exception:
                log.exception("an event of the engine could not be handled: %s", event)

    def _run_commands(self) -> None:
        while (item := self._commands.get()) is not None:
            handle, answer = item
            try:
                if (fetched := answer.fetch()) is not None:
                    self.on_command(Command(handle, *fetched, answer))
            except Exception:
                log.exception("a SCSI command could not be answered")
                with contextlib.suppress(Refused):
                    answer(2, b"", INTERNAL_TARGET_FAILURE)


class _Attached:
    """A medium made known for a verb; forgotten again when the verb is refused."""

    def __init__(self, engine: Engine, served: Served, medium: MediumSpec) -> None:
        self.engine, self.served, self.medium = engine, served, medium

    def __enter__(self) -> int:
        self.index = self.engine._attach(self.served, self.medium)
        return self.index

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            with self.served:
                status = self.served.core.status()
                known = self.medium.uuid in status["legs"] or self.medium.uuid in status["saves"]
            if not known:
                self.engine._drop(self.served, self.index)
