"""An engine of one thread on the real core: every action is performed at once, on the media's own
descriptors.

Owns no rule of order: those are the core's. Copies in the background can be held, to look at what
    is under way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from targetplugin.engine import (
    CalledOff,
    Compared,
    RecoverMember,
    SwapMember,
    ViewSpec,
    VolumeSpec,
)
from targetplugin.engine.core import Core
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.ground.views import COUNTERS

READ, WRITE, FLUSH = 1, 2, 3
ACT_READ, ACT_WRITE, ACT_FLUSH, _ACT_ZERO, ACT_ANSWER, ACT_DONE, ACT_EVENT = range(1, 8)
ACT_COMPARE, ACT_GIVE = 8, 9
HOST, COPY, JOINED = 1, 2, 4
EVENTS = {
    1: "leg_stale",
    2: "leg_in_sync",
    3: "save_whole",
    4: "save_broken",
    5: "recovered",
    6: "recover_failed",
}


@dataclass(frozen=True)
class Pause:
    whole: int
    drain: int
    work: int


@dataclass(frozen=True)
class Point:
    frozen: int
    frozen_map: bytes
    generation: int
    pending: int
    pause: Pause
    left: list[bytes]


@dataclass(frozen=True)
class Event:
    volume: int
    kind: str
    medium: bytes | None
    detail: str = ""


@dataclass
class Volume:
    core: Core
    media: dict[int, Any] = field(default_factory=dict)  # index -> MediumSpec
    buffers: dict[int, bytes] = field(default_factory=dict)
    held: list[dict[str, Any]] = field(default_factory=list)
    done: dict[int, int] = field(default_factory=dict)
    host: dict[int, bytearray] = field(default_factory=dict)
    answers: dict[int, int] = field(default_factory=dict)
    attentions: list[tuple[int, int]] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTERS, 0))
    through: bool = False


class PowerCut(BaseException):
    """The daemon is no more from here on."""


class FakeEngine:
    """See targetplugin.engine.Engine."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self.on_event = on_event
        self.volumes: dict[int, Volume] = {}
        self.broken: set[bytes] = set()  # uuids of media that fail
        self.mute: set[bytes] = set()  # uuids of media that do not answer
        self.hold_copies = False
        self.flush_error = False
        self.cut_after = ""  # the verb after which, in force, the daemon dies
        self.cut_before = ""
        self.cut_group = -1  # of a group's save: the daemon dies when so many are in force
        self.fail_at_go: set[int] = set()  # handles: all media fail in the moment of the switch
        self.late_after_commit = False
        self.late: set[int] = set()  # handles: they do not drain in time
        self._lock = threading.RLock()
        self._number = 0
        self._handle = 0
        self._looking = False  # reads for copies are held, those of a look are not
        self._given = b""

    def start(self) -> None: ...

    def stop(self) -> None:
        for handle in list(self.volumes):
            self.remove_volume(handle)

    # --- volumes -----------------------------------------------------------------------------

    def add_volume(self, spec: VolumeSpec) -> int:
        with self._lock:
            volume = Volume(Core(spec.uuid, spec.size, spec.extent_shift))
            for medium in spec.media:
                self._attach(volume, medium)
            volume.core.start(spec.record, spec.maps, spec.same_content)
            self._handle += 1
            self.volumes[self._handle] = volume
            self._pump(self._handle)
            return self._handle

    def add_view(self, spec: ViewSpec) -> int:
        with self._lock:
            volume = Volume(Core(spec.uuid, spec.size, 20))
            for medium in spec.media:
                self._attach(volume, medium)
            volume.core.show(spec.looked_up)
            self._handle += 1
            self.volumes[self._handle] = volume
            return self._handle

    def remove_volume(self, handle: int) -> None:
        with self._lock:
            self.hold_copies = False
            self.release_copies()
            with contextlib.suppress(Refused):  # it is told only, as by the real one
                self._request(handle, "close")
            del self.volumes[handle]

    def attach_ring(self, handle: int, uio_fd: int, map_length: int) -> None: ...

    def detach_ring(self, handle: int) -> None: ...

    def set_sense_ua(self, handle: int, asc: int, ascq: int) -> None:
        self.volumes[handle].attentions.append((asc, ascq))

    def set_write_through(self, handle: int, on: bool) -> None:
        self.volumes[handle].through = on

    def flush(self, handle: int) -> None:
        if self.flush_error:
            raise Refused(Reason.ENVIRONMENT, "the legs can't be flushed")
        self._request(handle, "checkpoint")

    # --- hosts -------------------------------------------------------------------------------

    def write(self, handle: int, offset: int, data: bytes) -> None:
        self._host(handle, WRITE, offset, bytearray(data))

    def read(self, handle: int, offset: int, length: int) -> bytes:
        return bytes(self._host(handle, READ, offset, bytearray(length)))

    def _host(self, handle: int, op: int, offset: int, data: bytearray) -> bytearray:
        with self._lock:
            volume = self.volumes[handle]
            volume.host[0] = data
            verb, moved = ("reads", "read") if op == READ else ("writes", "written")
            volume.counters[verb] += 1
            volume.counters[f"bytes_{moved}"] += len(data)
            volume.core.command(0, op, offset, len(data), 0)
            self._pump(handle)
            while 0 not in volume.answers:  # it waits for a copy
                self._perform(volume, volume.held.pop(0))
                self._pump(handle)
            status = volume.answers.pop(0)
            if status:
                raise OSError(5, f"the host got status {status}")
            return data

    # --- verbs -------------------------------------------------------------------------------

    def save_split(self, handle: int, leaving: list[bytes], op: int) -> Point:
        volume = self.volumes[handle]
        indices = [self._find(volume, uuid) for uuid in leaving]
        point = self._point(handle, "split", mask=sum(1 << i for i in indices), op=op)
        for index in indices:
            self._drop(handle, index)
        return point

    def save_copy(self, handle: int, save: Any, op: int, *, lacks: bytes | None = None) -> Point:
        index = self._attach(self.volumes[handle], save)
        return self._point(handle, "copy", medium=index, op=op, lacks=lacks)

    def save_group(self, members: list[Any], deadline: int) -> list[Any]:
        return self._group(members, deadline, lambda: None)

    def recover_group(
        self, members: list[Any], deadline: int, commit: Callable[[], None]
    ) -> list[Any]:
        return self._group(members, deadline, commit)

    def swap_group(
        self, members: list[Any], deadline: int, commit: Callable[[], None]
    ) -> list[Any]:
        return self._group(members, deadline, commit)

    def _arguments(self, member: Any, attached: list[int]) -> tuple[str, dict[str, Any]]:
        """What a member asks of the core, with its media made known."""
        volume = self.volumes[member.handle]

        def known(medium: Any) -> int:
            if isinstance(medium, bytes):
                return self._find(volume, medium)
            attached.append(self._attach(volume, medium))
            return attached[-1]

        if isinstance(member, RecoverMember):
            return "recover", {
                "medium": known(member.source),
                "generation": member.generation,
                "base": member.base,
                "save": None if member.undo is None else known(member.undo),
                "lacks": member.lacks,
            }
        if isinstance(member, SwapMember):
            mask = sum(1 << known(leg) for leg in member.legs)
            return "swap", {"mask": mask, "generation": member.generation}
        if member.leaving:
            return "split", {"mask": sum(1 << known(uuid) for uuid in member.leaving)}
        return "copy", {"medium": known(member.save)}

    def _group(self, members: list[Any], deadline: int, commit: Callable[[], None]) -> list[Any]:
        results: list[Any] = [CalledOff() for _ in members]
        attached: list[list[int]] = [[] for _ in members]
        kinds = []
        numbers = []
        for place, member in enumerate(members):
            volume = self.volumes[member.handle]
            kind, arguments = self._arguments(member, attached[place])
            self._number += 1
            kinds.append(kind)
            numbers.append(self._number)
            error = volume.core.request(kind, self._number, op=member.op, waits=True, **arguments)
            self._pump(member.handle)
            if error or volume.core.stage() != "ready":
                results[place] = Refused(Reason.STATE, f"{kind}: it can't be")
        if not self.late and all(isinstance(one, CalledOff) for one in results):
            for member in members:
                assert self.volumes[member.handle].core.may_pause()
                self._pump(member.handle)
            if self.cut_group == -2:
                raise PowerCut
            commit()
            for member in members if self.late_after_commit else []:
                self.volumes[member.handle].core.call_off()
                self._pump(member.handle)
            for count, member in enumerate([] if self.late_after_commit else members):
                if self.cut_group == count:
                    raise PowerCut
                volume = self.volumes[member.handle]
                broken = set(self.broken)
                if member.handle in self.fail_at_go:
                    self.broken |= {medium.uuid for medium in volume.media.values()}
                assert volume.core.go()
                self._pump(member.handle)
                self.broken = broken
            if self.cut_group == len(members):
                raise PowerCut
        for place, member in enumerate(members):
            volume = self.volumes[member.handle]
            if member.handle in self.late:
                results[place] = Refused(Reason.BUSY, f"not over within {deadline} ms")
            volume.core.call_off()
            self._pump(member.handle)
            status = volume.done.pop(numbers[place], None)
            if status == 0:
                results[place] = self._made(member.handle, kinds[place])
                if kinds[place] in ("split", "swap"):
                    self._drop_unused(member.handle)
                continue
            if isinstance(results[place], CalledOff) and status == -5:
                results[place] = Refused(Reason.ENVIRONMENT, "a medium failed")
            for index in attached[place]:
                self._drop(member.handle, index)
        return results

    def recover(
        self,
        handle: int,
        source: Any,
        generation: int,
        base: bytes,
        op: int,
        *,
        undo: Any = None,
        lacks: bytes | None = None,
    ) -> Point:
        volume = self.volumes[handle]
        if isinstance(source, bytes):
            index = self._find(volume, source)
        else:
            index = self._attach(volume, source)
        save = None if undo is None else self._attach(volume, undo)
        running = volume.core.status()["recover"]
        try:
            point = self._point(
                handle,
                "recover",
                medium=index,
                generation=generation,
                base=base,
                op=op,
                save=save,
                lacks=lacks,
            )
            if running:
                self._drop_unused(handle)
            return point
        except Refused:
            if save is not None:
                self._drop(handle, save)
            raise

    def swap(self, handle: int, legs: list[Any], generation: int, op: int) -> Point:
        volume = self.volumes[handle]
        mask = sum(1 << self._attach(volume, medium) for medium in legs)
        point = self._point(handle, "swap", mask=mask, generation=generation, op=op)
        self._drop_unused(handle)
        return point

    def _drop_unused(self, handle: int) -> None:
        """What a split or swap made no part of the volume any more."""
        volume = self.volumes[handle]
        status = volume.core.status()
        known = set(status["legs"]) | set(status["saves"])
        known |= {status["recover"]["source"]} if status["recover"] else set()
        for index in [i for i, medium in volume.media.items() if medium.uuid not in known]:
            self._drop(handle, index)

    def add_leg(self, handle: int, medium: Any, pending: bytes | None) -> None:
        index = self._attach(self.volumes[handle], medium)
        self._request(handle, "sync", medium=index, base=pending)

    def drop_leg(self, handle: int, uuid: bytes) -> None:
        self._drop(handle, self._find(self.volumes[handle], uuid))

    detach_save = drop_leg

    def silent(self) -> set[bytes]:
        return self.mute

    def compare(self, handle: int, offset: int, length: int) -> Compared:
        with self._lock:
            self._request(handle, "compare", offset=offset, length=length)
            return Compared(*self.volumes[handle].core.compared_now())

    def look(self, handle: int, generation: int, offset: int, length: int) -> bytes:
        with self._lock:
            self._looking = True
            try:
                self._request(handle, "look", generation=generation, offset=offset, length=length)
            finally:
                self._looking = False
            return self._given

    def live_map(self, handle: int) -> bytes:
        return bytes(self.volumes[handle].core.live_bytes())

    def checkpoint(self, handle: int) -> None:
        self._request(handle, "checkpoint")

    def status(self, handle: int) -> dict[str, Any]:
        with self._lock:
            volume = self.volumes[handle]
            return {**volume.core.status(), "ring": dict(volume.counters)}

    # --- tests -------------------------------------------------------------------------------

    def release_copies(self) -> None:
        """Lets what was held go on, and waits until nothing is under way."""
        self.hold_copies = False
        for handle in list(self.volumes):
            self._release(handle)

    def _release(self, handle: int) -> None:
        volume = self.volumes[handle]
        while volume.held:
            self._perform(volume, volume.held.pop(0))
            self._pump(handle)

    # --- the core's actions --------------------------------------------------------------------

    def _attach(self, volume: Volume, medium: Any) -> int:
        for index, known in volume.media.items():
            if known.uuid == medium.uuid:
                volume.media[index] = medium
                return index
        try:
            index = volume.core.attach(
                medium.uuid,
                medium.data_size,
                medium.record_offset,
                medium.maps_offset,
                medium.map_slots,
            )
        except ValueError as error:
            raise Refused(Reason.STATE, str(error)) from error
        volume.media[index] = medium
        return int(index)

    def _find(self, volume: Volume, uuid: bytes) -> int:
        for index, medium in volume.media.items():
            if medium.uuid == uuid:
                return index
        for index in range(16):  # known to the core by its name alone
            if volume.core.medium_uuid(index) == uuid:
                return index
        raise Refused(Reason.NOT_FOUND, f"medium {uuid.hex()} is not attached")

    def _drop(self, handle: int, index: int) -> None:
        self._request(handle, "drop", medium=index)
        self.volumes[handle].media.pop(index, None)

    def _point(self, handle: int, kind: str, **arguments: Any) -> Point:
        if self.cut_before == kind:
            raise PowerCut
        self._request(handle, kind, **arguments)
        if self.cut_after == kind:
            raise PowerCut
        return self._made(handle, kind)

    def _made(self, handle: int, kind: str) -> Point:
        core = self.volumes[handle].core
        left = [bytes(uuid) for uuid in core.left_uuids()]
        status = core.status()
        pending = core.pending_total if kind == "recover" else 0
        return Point(
            core.frozen_generation,
            bytes(core.frozen_bytes()),
            status["generation"],
            pending,
            Pause(1000, 200, 100),
            left,
        )

    def _request(self, handle: int, verb: str, **arguments: Any) -> None:
        with self._lock:
            volume = self.volumes[handle]
            self._number += 1
            number = self._number
            error = volume.core.request(verb, number, **arguments)
            if not error:
                self._pump(handle)
                if number not in volume.done:
                    self._release(handle)
                error = volume.done.pop(number)
            if error:
                reason = Reason.NOT_FOUND if error == -errno.ENOENT else Reason.STATE
                raise Refused(reason, f"{verb}: {os.strerror(-error)}")

    def _pump(self, handle: int) -> None:
        with self._lock:
            volume = self.volumes[handle]
            while actions := volume.core.take():
                for action in actions:
                    self._act(handle, volume, action)

    def _act(self, handle: int, volume: Volume, action: dict[str, Any]) -> None:
        kind = action["kind"]
        if kind == ACT_READ and action["buffer"] == COPY and self.hold_copies and not self._looking:
            volume.held.append(action)
        elif kind in (ACT_READ, ACT_WRITE, ACT_FLUSH):
            self._perform(volume, action)
        elif kind == ACT_COMPARE:
            at, end = action["buffer_offset"], action["buffer_offset"] + action["length"]
            one, other = (volume.buffers[action[name]][at:end] for name in ("number", "copy"))
            differs = (
                i + 1 for i in range(0, len(one), 512) if one[i : i + 512] != other[i : i + 512]
            )
            volume.core.completed(action["tag"], next(differs, 0))
        elif kind == ACT_GIVE:
            self._given = volume.buffers[action["number"]][: action["length"]]
            volume.core.completed(action["tag"], 0)
        elif kind == ACT_ANSWER:
            volume.answers[action["number"]] = action["status"]
        elif kind == ACT_DONE:
            volume.done[action["number"]] = action["status"]
        elif kind == ACT_EVENT and action["number"] in EVENTS:
            uuid = volume.core.medium_uuid(action["medium"])
            self.on_event(Event(handle, EVENTS[action["number"]], uuid))

    def _perform(self, volume: Volume, action: dict[str, Any]) -> None:
        medium = volume.media[action["medium"]]
        result = 0
        try:
            if medium.uuid in self.broken:
                raise OSError(5, "broken")
            if action["kind"] == ACT_READ:
                self._read(volume, medium, action)
            elif action["kind"] == ACT_WRITE:
                self._write(volume, medium, action)
        except OSError as error:
            result = -(error.errno or 5)
        volume.core.completed(action["tag"], result)

    def _read(self, volume: Volume, medium: Any, action: dict[str, Any]) -> None:
        data = buffered_read(medium.fd, action["offset"], action["length"])
        if action["buffer"] == HOST:
            at = action["buffer_offset"]
            volume.host[action["number"]][at : at + len(data)] = data
        else:
            kept = volume.buffers.get(action["number"], b"")[: action["buffer_offset"]]
            volume.buffers[action["number"]] = kept + data

    def _write(self, volume: Volume, medium: Any, action: dict[str, Any]) -> None:
        if action["data"] is not None:
            data = action["data"]
        elif action["buffer"] == HOST:
            at = action["buffer_offset"]
            data = bytes(volume.host[action["number"]][at : at + action["length"]])
        elif action["buffer"] == JOINED:
            copied = volume.buffers.get(action["copy"], b"")
            host = action["length"] - action["head"] - action["tail"]
            data = copied[: action["head"]] + bytes(volume.host[action["number"]][:host])
            data += copied[action["tail_at"] : action["tail_at"] + action["tail"]]
        else:
            data = volume.buffers[action["number"]][: action["length"]]
        buffered_write(medium.fd, action["offset"], data)


def buffered_read(descriptor: int, offset: int, length: int) -> bytes:
    """Reads the file behind a descriptor through the page cache: no alignment of memory is asked
    for.
    """
    other = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)
    try:
        return os.pread(other, length, offset)
    finally:
        os.close(other)


def buffered_write(descriptor: int, offset: int, data: bytes) -> None:
    other = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)
    try:
        os.pwrite(other, data, offset)
    finally:
        os.close(other)
