"""A volume that a native thread serves, and how its core is asked. Owns who may touch it: only who holds the
thread, and only while the volume is there.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from targetplugin.engine.core import Core
from targetplugin.engine.executor import Reactor
from targetplugin.engine.values import MediumSpec, Pause, Point
from targetplugin.errors import Reason, Refused

MEDIA = 16  # that a core knows at most
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


class Served(Struct):
    """A volume under a handle. Who asks more than one thing of it holds `verb` meanwhile.

    Attributes:
        silent: tells the uuids of media that were given up and may still be written to.
    """

    reactor: Reactor
    number: int  # of the reactor's
    core: Core
    silent: Callable[[], set[bytes]]
    media: dict[int, MediumSpec] = field(default_factory=dict)
    block_size: int = 512  # bytes of a logical block
    verb: threading.Lock = field(default_factory=threading.Lock)
    notes: tuple[int, Path] | None = None  # the file of unanswered commands
    gone: bool = False  # it was removed; its number may be another volume's

    def __enter__(self) -> None:
        """Holds its native thread, so that its state can be read and changed."""
        self.reactor.park()
        if self.gone:
            self.reactor.unpark()
            raise Refused(Reason.NOT_FOUND, "the engine serves this volume no more")

    def __exit__(self, *_: object) -> None:
        self.reactor.unpark()

    def end_notes(self) -> None:
        """The volume is closed and all is answered; what a daemon before this one left may be left to the
        next. Call it while the thread is held.
        """
        if self.notes is not None:
            fd, path = self.notes
            if not self.reactor.unanswered_left(self.number):
                path.unlink(missing_ok=True)
            self.reactor.unanswered_in(self.number, -1)
            os.close(fd)
            self.notes = None

    def under_way(self) -> int:
        """How many requests to media are not over. Call it while the thread is held."""
        return int(self.reactor.counters(self.number)["io"])

    # --- requests --------------------------------------------------------------------------------

    def ask(self, verb: str, *, into: bytearray | None = None, **arguments: Any) -> None:
        """Asks the core, and waits until that is done. Raises Refused.

        Args:
            into: gets the data that is asked for.
        """
        number = self.reactor.request_number()
        try:
            with self:
                if into is not None:
                    self.reactor.give_to(number, into)
                error = self.core.request(verb, number, **arguments)
        except BaseException:
            self.reactor.request_free(number)
            raise
        if error:
            self.reactor.request_free(number)
        else:
            error = self.reactor.request_wait(number)
        if error:
            raise refusal(verb, error)

    def change(self, verb: str, generation: int) -> None:
        """Releases or holds a save without fill. Nothing is done to one that is none. Raises Refused."""
        try:
            self.ask(verb, generation=generation)
        except Refused as error:
            if error.reason is not Reason.NOT_FOUND:
                raise

    def point(self, kind: str, **arguments: Any) -> Point:
        """Asks for a point, and waits until it is in force."""
        self.ask(kind, **arguments)
        return self.made(kind)

    def made(self, kind: str) -> Point:
        """The point that has just come in force."""
        with self:
            status = self.core.status()
            counted = self.reactor.counters(self.number)
            return Point(
                self.core.frozen_generation,
                bytes(self.core.frozen_bytes()),
                status["generation"],
                self.core.pending_total if kind == "recover" else 0,
                Pause(counted["pause_us"], counted["drain_us"], counted["pause_work_us"]),
                self.core.left_uuids(),
            )

    # --- media -----------------------------------------------------------------------------------

    def find(self, uuid: bytes) -> int | None:
        """The index of a medium that the core knows, a leg that is away included."""
        for index in range(MEDIA):
            if self.core.medium_uuid(index) == uuid:
                return index
        return None

    def index(self, uuid: bytes) -> int:
        """The same of one that it must know. Raises Refused."""
        with self:
            index = self.find(uuid)
        if index is None:
            raise Refused(Reason.NOT_FOUND, f"medium {uuid.hex()} is not attached to the volume")
        return index

    def store(self) -> int:
        """The index of the store of saves without fill. Raises Refused."""
        with self:
            store = self.core.status()["store"]
            index = None if store is None else self.find(store["uuid"])
        if index is None:
            raise Refused(
                Reason.STATE,
                "the volume has no store for saves without fill",
                hint="make one, or save onto a medium",
            )
        return index

    def look(self, generation: int, offset: int, length: int) -> bytes:
        """See Engine.look."""
        data = bytearray(length)
        self.ask("look", into=data, generation=generation, offset=offset, length=length)
        return bytes(data)

    def attach(self, medium: MediumSpec) -> int:
        """Makes a medium known to the core. Returns its index."""
        silent = self.silent()
        with self:
            index = attach(self.core, medium, silent, self.block_size)
            self.use(index, medium)
            return index

    @contextlib.contextmanager
    def attached(self, medium: MediumSpec) -> Iterator[int]:
        """Makes a medium known for a verb; it is forgotten again when the verb is refused."""
        index = self.attach(medium)
        try:
            yield index
        except BaseException:
            with self:
                status = self.core.status()
                known = medium.uuid in used(status)
            if not known:
                self.drop(index)
            raise

    def use(self, index: int, medium: MediumSpec | None) -> None:
        """Sets the descriptor of a medium that the core knows. Call it while the thread is held."""
        self.reactor.set_fd(self.number, index, medium.fd if medium else -1)
        if medium is not None:
            self.media[index] = medium
        else:
            self.media.pop(index, None)

    def drop(self, index: int) -> None:
        """Has a medium forgotten; its last I/O is over when this returns."""
        self.ask("drop", medium=index)
        with self:
            self.use(index, None)

    def drop_unused(self) -> None:
        """Media that a point made no part of the volume any more. A refusal is no matter: the point is
        in force, and nobody uses such a medium.
        """
        with self:
            status = self.core.status()
            unused = [i for i, medium in self.media.items() if medium.uuid not in used(status)]
        for index in unused:
            with contextlib.suppress(Refused):
                self.drop(index)


def used(status: dict[str, Any]) -> set[bytes]:
    """The uuids of media that a volume with this status makes use of."""
    media = {*status["legs"], *status["saves"]}
    if status["recover"]:
        media.add(status["recover"]["source"])
    if status["store"]:
        media.add(status["store"]["uuid"])
    return media


def refusal(verb: str, error: int) -> Refused:
    """What a negative errno of the core's means."""
    reason, why, hint = REFUSALS.get(
        -error, (Reason.ENVIRONMENT, os.strerror(-error), "look at the volume's status")
    )
    return Refused(reason, f"{verb} is refused: {why}", hint=hint)


def attach(core: Core, medium: MediumSpec, silent: set[bytes], block_size: int) -> int:
    """Makes a medium known to a core. Returns its index.

    Args:
        block_size: bytes of a logical block of the volume.

    Raises:
        Refused: it is one of the silent, or too small, or one too many, or its blocks are too large.
    """
    check_over(medium, silent)
    check_blocks(medium, block_size)
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
    return int(index)


def check_over(medium: MediumSpec, silent: set[bytes]) -> None:
    """Raises Refused (BUSY) for a medium that was given up and may still be written to."""
    if medium.uuid in silent:
        raise Refused(
            Reason.BUSY,
            "a medium's last requests are not over",
            hint="it does not answer; wait until it does, or take its disk away",
        )


def check_blocks(medium: MediumSpec, block_size: int) -> None:
    """Raises Refused (STATE) for a medium whose blocks are larger than a volume's, of `block_size` bytes: a
    host's write may be a part of one, which could only be read, changed and written back, and a power cut
    on the way would tear what no host has written.
    """
    if medium.block_size > block_size:
        raise Refused(
            Reason.STATE,
            f"a medium of {medium.block_size}-byte logical blocks can't be of a volume of {block_size}",
            hint="choose a medium whose logical blocks are no larger than the volume's",
        )
