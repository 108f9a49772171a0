"""The engine as those above see it: volumes on native threads, and blocking verbs. Owns the native threads
and who serves what. See served.py for how a volume's core is asked, messages.py for what comes out by itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from targetplugin.engine.core import Core, decode_record
from targetplugin.engine.executor import Reactor
from targetplugin.engine.group import Group
from targetplugin.engine.messages import Messages
from targetplugin.engine.served import Served, attach, check_blocks, check_over
from targetplugin.engine.values import (
    Command,
    Compared,
    Event,
    MediumSpec,
    Point,
    RecoverMember,
    SaveMember,
    Sparse,
    SwapMember,
    ViewSpec,
    VolumeSpec,
)
from targetplugin.errors import Reason, Refused

log = logging.getLogger(__name__)

VIEW_SHIFT = 20  # a view marks no extents: the coarsest take the least memory
START_WAIT = 10.0  # seconds for a volume's first record; longer, verbs are refused and hosts wait
SILENT = 12.0  # seconds: with what follows it stays well under the 30 s of a command in LIO


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
        notes: a folder that outlives this process, where it notes, a file for each volume, which commands
        would be done but not answered if it were killed. None: such commands are not known again.
        spin: while commands come in gaps shorter than so many microseconds, a thread looks for them
        before it sleeps.

    Raises:
        Refused: ENVIRONMENT, the kernel gives no io_uring.
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
        notes: Path | None = None,
    ) -> None:
        try:
            self._reactors = [Reactor(spin, silent) for _ in range(threads)]
        except OSError as error:
            raise Refused(
                Reason.ENVIRONMENT,
                f"the kernel gives the engine no io_uring: {os.strerror(error.errno or 0)}",
                object="io_uring",
                hint="see kernel.io_uring_disabled (sysctl) and what targetplugin doctor says",
            ) from error
        self._volumes: dict[int, Served] = {}
        self._handles = 0
        self._notes = notes
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self.messages = Messages(self._volumes, on_command, on_event, on_kept)

    def start(self) -> None:
        for index, reactor in enumerate(self._reactors):
            thread = threading.Thread(target=reactor.run, name=f"engine-{index}", daemon=True)
            thread.start()
            self._threads.append(thread)
        self.messages.start(self._reactors)

    def stop(self) -> None:
        """Closes all volumes cleanly, then ends the threads."""
        for handle in list(self._volumes):
            self.remove_volume(handle)
        reactors, self._reactors = self._reactors, []
        for reactor in reactors:
            reactor.stop()
        for thread in self._threads:
            thread.join(10)
        self.messages.stop()

    # --- volumes --------------------------------------------------------------------------------

    def add_volume(self, spec: VolumeSpec) -> int:
        """Starts a volume from what its media say. Returns its handle; commands come with
        attach_ring.

        Raises:
            Refused: the record is damaged or another volume's, or no leg in sync is there.
        """
        core = Core(spec.uuid, spec.size, spec.extent_shift)
        media = self._known(core, with_store(spec), spec.block_size)
        core.start(spec.record, spec.maps, spec.same_content)
        handle = self._serve(core, media, spec.block_size)
        if self._notes is not None:
            self._note(self._at(handle), self._notes / spec.uuid.hex())
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
        media = self._known(core, spec.media, spec.block_size)
        core.show(spec.looked_up)
        return self._serve(core, media, spec.block_size)

    def _note(self, served: Served, path: Path) -> None:
        """Without such a file a volume is served all the same."""
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            log.warning("COMPARE AND WRITE is not known again after a crash: %s", error)
            return
        with served:
            served.notes = (fd, path)
            served.reactor.unanswered_in(served.number, fd)

    def _known(self, core: Core, specs: list[MediumSpec], block_size: int) -> dict[int, MediumSpec]:
        """Attaches media to a core that is not served yet."""
        silent = self.silent()
        return {attach(core, medium, silent, block_size): medium for medium in specs}

    def _serve(self, core: Core, media: dict[int, MediumSpec], block_size: int) -> int:
        with self._lock:
            self._handles += 1
            handle = self._handles
            reactor = self._reactors[handle % len(self._reactors)]
        with reactor:
            number = reactor.volume_add(core, handle, block_size.bit_length() - 1)
            for index, medium in media.items():
                reactor.set_fd(number, index, medium.fd)
            self._volumes[handle] = Served(
                reactor, number, core, self.silent, media, block_size=block_size
            )
        return handle

    def remove_volume(self, handle: int) -> None:
        """Drains, flushes and records a clean end, then forgets the volume. Descriptors stay the
        caller's.
        """
        served = self._at(handle)
        self.detach_ring(handle)
        with served.verb:
            try:
                served.ask("close")
            except (Refused, OSError) as error:
                log.warning("a volume could not be closed cleanly: %s", error)
            while True:
                with served:
                    if not served.reactor.ring_polled(served.number) and not served.under_way():
                        served.end_notes()
                        served.reactor.volume_remove(served.number)
                        served.gone = True
                        del self._volumes[handle]
                        return
                time.sleep(0.002)

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

    def set_write_through(self, handle: int, on: bool) -> None:
        """From now on hosts are told that something is written when it is on stable storage; or they
        have a write cache again.
        """
        served = self._at(handle)
        with served:
            served.reactor.write_through(served.number, on)

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
            if reactor.any_silent():  # there hardly ever are, and a thread's way to a halt costs
                with reactor:
                    found |= reactor.silent()
        return found

    # --- verbs ----------------------------------------------------------------------------------

    def save_split(self, handle: int, leaving: list[bytes], op: int) -> Point:
        """Legs leave the mirror, at once, and hold the volume as it is now."""
        served = self._at(handle)
        with served.verb:
            mask = sum(1 << served.index(uuid) for uuid in leaving)
            point = served.point("split", op=op, mask=mask)
            served.drop_unused()
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
        with served.verb, served.attached(save) as index:
            return served.point("copy", op=op, medium=index, lacks=lacks)

    # --- saves without fill ------------------------------------------------------------------------

    def add_store(self, handle: int, medium: MediumSpec, op: int) -> None:
        """Makes a medium of any size the store that saves without fill share; drop_leg ends it, where it has
        none any more.

        Raises:
            Refused: STATE, too small; BUSY, there is a store already; ENVIRONMENT, the medium fails.
        """
        served = self._at(handle)
        with served.verb, served.attached(replace(medium, map_slots=0)) as index:
            served.ask("store", medium=index, op=op)

    def save_sparse(self, handle: int, op: int) -> Point:
        """The store gets, from here on, what is overwritten: the save is of the generation that ends."""
        served = self._at(handle)
        with served.verb:
            return served.point("copy", op=op, medium=served.store())

    def release_sparse(self, handle: int, generation: int) -> None:
        """Gives a save without fill up, durably; its room becomes free in the background. One that is
        none is released already.
        """
        served = self._at(handle)
        with served.verb:
            served.change("forget", generation)

    def hold_sparse(self, handle: int, generation: int, held: bool) -> None:
        """One that is held is not given up for want of room while there is another. One that is none is
        not held.
        """
        served = self._at(handle)
        with served.verb:
            served.change("hold" if held else "unhold", generation)

    def look(self, handle: int, generation: int, offset: int, length: int) -> bytes:
        """Reads the volume as a save without fill, or one that fills, has it.

        Args:
            offset, length: bytes, multiples of 512; length at most 1 MiB.
        Raises:
            Refused: NOT_FOUND, there is no such save, it is broken, or it is whole; ENVIRONMENT, it can't
                be read.
        """
        return self._at(handle).look(generation, offset, length)

    # --- several volumes at once -------------------------------------------------------------------

    def save_group(self, members: list[SaveMember], deadline: int) -> list[Point | Refused]:
        """Saves volumes as they are at one instant, all or none.

        Args:
            deadline: milliseconds that hosts of any may be held for it; it is called off then.
        Returns:
            For each member, in order, its point; or, where nothing was saved, why: CalledOff for
            those that were not at fault. Both come together only where a volume's disks failed in
            the moment of the switch: then what the others have is to be given up.
        """
        return Group(self._at, members).run(deadline)

    def recover_group(
        self, members: list[RecoverMember], deadline: int, commit: Callable[[], None]
    ) -> list[Point | Refused]:
        """The same of recovers.

        Args:
            commit: is called while hosts of all are held, before any volume is switched; what it
                raises calls all off.
        """
        return Group(self._at, members).run(deadline, commit)

    def swap_group(
        self, members: list[SwapMember], deadline: int, commit: Callable[[], None]
    ) -> list[Point | Refused]:
        """The same of swaps."""
        return Group(self._at, members).run(deadline, commit)

    def recover(
        self,
        handle: int,
        source: MediumSpec | bytes | Sparse,
        generation: int,
        base: bytes,
        op: int,
        *,
        undo: MediumSpec | Sparse | None = None,
        lacks: bytes | None = None,
    ) -> Point:
        """The volume reads as the save from here on; what differs is copied back meanwhile.

        Args:
            source: the save's medium, or the uuid of one that still fills, or SPARSE for one without fill.
            generation: the save's.
            base: what differs between the save and the start of the live generation.
            undo: a medium that gets what the volume was up to then, as one by save_copy; SPARSE: the store
                does, as by save_sparse. lacks: as there.

        One that still copies is taken back by a recover from the save of the generation that it froze,
        without an undo save.
        """
        served = self._at(handle)
        with served.verb, contextlib.ExitStack() as stack:
            with served:
                running = served.core.status()["recover"] is not None
            if isinstance(source, Sparse):
                index = served.store()
            elif isinstance(source, bytes):
                index = served.index(source)
            else:
                index = stack.enter_context(served.attached(source))
            if isinstance(undo, Sparse):
                save: int | None = served.store()
            else:
                save = None if undo is None else stack.enter_context(served.attached(undo))
            point = served.point(
                "recover",
                op=op,
                medium=index,
                generation=generation,
                base=base,
                save=save,
                lacks=lacks,
            )
            if running:
                served.drop_unused()
            return point

    def swap(self, handle: int, legs: list[MediumSpec], generation: int, op: int) -> Point:
        """Other media are the volume from here on; point.left names those that were it."""
        served = self._at(handle)
        with served.verb:
            mask = 0
            added = []
            try:
                for medium in legs:
                    index = served.attach(medium)
                    added.append(index)
                    mask |= 1 << index
                point = served.point("swap", op=op, mask=mask, generation=generation)
            except BaseException:
                for index in added:
                    served.drop(index)
                raise
            served.drop_unused()
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
            check_over(medium, self.silent())
            check_blocks(medium, served.block_size)
            known = served.find(medium.uuid)
            if known is not None:
                before = served.media.get(known)
                if before is None:
                    # It was away when the volume started, and the core knows nothing but its name.
                    served.attach(medium)
                else:
                    with served:
                        served.use(known, medium)
                try:
                    served.ask("sync", medium=known)
                except BaseException:
                    with served:
                        served.use(known, before)  # the new descriptor may be closed now
                    raise
                return
            with served.attached(medium) as index:
                served.ask("sync", medium=index, base=pending)

    def drop_leg(self, handle: int, uuid: bytes) -> None:
        """Takes a medium out, a leg or a save; its last I/O is over when this returns."""
        served = self._at(handle)
        with served.verb:
            served.drop(served.index(uuid))

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
            served.ask("compare", offset=offset, length=length)
            with served:
                return Compared(*served.core.compared_now())

    def live_map(self, handle: int) -> bytes:
        """What was written in the live generation, lowest bit first."""
        served = self._at(handle)
        with served:
            return bytes(served.core.live_bytes())

    def checkpoint(self, handle: int) -> None:
        """Flushes all legs, makes all marks durable and empties the activity log."""
        self._at(handle).ask("checkpoint")

    def flush(self, handle: int) -> None:
        """What hosts were told is written is on stable storage when this returns. Raises Refused."""
        end = time.monotonic() + START_WAIT
        while True:
            try:
                self.checkpoint(handle)
            except Refused as error:
                if error.reason is not Reason.BUSY or time.monotonic() > end:
                    raise
                time.sleep(0.01)
            else:
                return

    def status(self, handle: int) -> dict[str, Any]:
        """What Core.status() says, and counters of the ring."""
        served = self._at(handle)
        with served:
            return {**served.core.status(), "ring": served.reactor.counters(served.number)}


def with_store(spec: VolumeSpec) -> list[MediumSpec]:
    """The volume's media; the store that its record names needs no room for maps."""
    record = None if spec.record is None else decode_record(spec.record)
    store = record.store.uuid if record and record.store else None
    return [replace(m, map_slots=0) if m.uuid == store else m for m in spec.media]
