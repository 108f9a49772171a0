"""What goes into the engine and comes out of it, as values. Owns shapes only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class MediumSpec:
    """A medium that is open: its identity, descriptor, and where its trailer lies (bytes)."""

    uuid: bytes
    fd: int
    data_size: int
    record_offset: int
    maps_offset: int
    map_slots: int


@dataclass(frozen=True)
class VolumeSpec:
    """A volume to be served.

    Attributes:
        uuid: 16 bytes. size: bytes. extent_shift: 12 to 20.
        record: the newest valid record block of its media; None for a new volume.
        media: those that are there: legs, filling saves, a recover's source.
        maps: valid map slots of the record's in-sync legs and filling saves.
        same_content: a new volume's legs all hold the same already.
    """

    uuid: bytes
    size: int
    extent_shift: int
    record: bytes | None
    media: list[MediumSpec]
    maps: list[bytes] = field(default_factory=list)
    same_content: bool = False


@dataclass(frozen=True)
class Pause:
    """How long hosts were held, in microseconds.

    Attributes:
        whole: from the first command that was held until all went on.
        drain: of that: until the commands that were under way were over.
        work: of what came after: what the engine itself took, without the wait for disks.
    """

    whole: int
    drain: int
    work: int


@dataclass(frozen=True)
class Point:
    """A point that is in force.

    Attributes:
        frozen: the generation that ended. frozen_map: what was written in it, lowest bit first.
        generation: the live one. pending: extents that a recover has still to copy.
        pause: how long hosts were held for it.
        left: uuids of the legs in sync that are none any more; they hold the volume as it was.
    """

    frozen: int
    frozen_map: bytes
    generation: int
    pending: int
    pause: Pause
    left: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class Compared:
    """What comparing a run of the legs found.

    Attributes:
        different: extent, counted from the run's first, to the legs that differ from the first leg.
        first: that leg.
        unreadable: legs of which the run could not be read.
    """

    different: dict[int, list[bytes]]
    first: bytes | None
    unreadable: list[bytes]


@dataclass(frozen=True)
class Event:
    """Something that happened to a volume: its handle, a kind, the medium's uuid.

    Kinds: leg_stale, leg_in_sync, save_whole, save_broken, recovered, recover_failed,
    answers_again: the last request of a medium that was given up is over.
    """

    volume: int
    kind: str
    medium: bytes | None
    detail: str = ""


Answer = Callable[[int, bytes, bytes], None]


@dataclass(frozen=True)
class Command:
    """A SCSI command that the native path does not know.

    Attributes:
        volume: the handle. cdb: 16 bytes as they came. data_out: what the host sent.
        data_in_length: room for an answer's data, bytes.
        answer: call it once, with status, data and sense.
    """

    volume: int
    cdb: bytes
    data_out: bytes
    data_in_length: int
    answer: Answer
