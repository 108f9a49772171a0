"""What goes into the engine and comes out of it, as values. Owns shapes only."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from msgspec import Struct, field


class MediumSpec(Struct, frozen=True):
    """A medium that is open: its identity, descriptor, and where its trailer lies (bytes).

    Attributes:
        block_size: what it is read and written in, bytes.
    """

    uuid: bytes
    fd: int
    data_size: int
    record_offset: int
    maps_offset: int
    map_slots: int
    block_size: int = 512


class VolumeSpec(Struct, frozen=True):
    """A volume to be served.

    Attributes:
        uuid: 16 bytes. size: bytes. extent_shift: 12 to 20.
        record: the newest valid record block of its media; None for a new volume.
        media: those that are there: legs, filling saves, a recover's source.
        maps: valid map slots of the record's in-sync legs and filling saves.
        same_content: a new volume's legs all hold the same already.
        block_size: bytes of a logical block, 512 or 4096: what hosts count in.
    """

    uuid: bytes
    size: int
    extent_shift: int
    record: bytes | None
    media: list[MediumSpec]
    maps: list[bytes] = field(default_factory=list)
    same_content: bool = False
    block_size: int = 512


class ViewSpec(Struct, frozen=True):
    """What is shown as it is, to be read alone.

    Attributes:
        uuid: 16 bytes, its own. size: bytes.
        media: those that hold it, all the same; they may be a volume's too, with these descriptors.
        looked_up: there are none: READ and VERIFY come as Commands, to whom it is known what it holds.
        block_size: as of a volume.
    """

    uuid: bytes
    size: int
    media: list[MediumSpec]
    looked_up: bool = False
    block_size: int = 512


class Pause(Struct, frozen=True):
    """How long hosts were held, in microseconds.

    Attributes:
        whole: from the first command that was held until all went on.
        drain: of that: until the commands that were under way were over.
        work: of what came after: what the engine itself took, without the wait for disks.
    """

    whole: int
    drain: int
    work: int


class Point(Struct, frozen=True):
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


class Sparse(Enum):
    """Where a medium is asked for: the store of the volume's saves without fill."""

    STORE = "store"


SPARSE = Sparse.STORE


class SaveMember(Struct, frozen=True):
    """A volume that is saved together with others.

    Attributes:
        handle: the volume's. op: the operation's number, for its record.
        leaving: uuids of the legs that are split; none: `save` is the medium that gets it by copy.
        sparse: neither; a save without fill.
    """

    handle: int
    op: int
    leaving: tuple[bytes, ...] = ()
    save: MediumSpec | None = None
    sparse: bool = False


class RecoverMember(Struct, frozen=True):
    """A volume that is recovered together with others; see Engine.recover."""

    handle: int
    op: int
    source: MediumSpec | bytes | Sparse
    generation: int
    base: bytes
    undo: MediumSpec | Sparse | None = None
    lacks: bytes | None = None


class SwapMember(Struct, frozen=True):
    """A volume that is swapped together with others; see Engine.swap."""

    handle: int
    op: int
    legs: tuple[MediumSpec, ...]
    generation: int


Member = SaveMember | RecoverMember | SwapMember


class Compared(Struct, frozen=True):
    """What comparing a run of the legs found.

    Attributes:
        different: extent, counted from the run's first, to the legs that differ from the first leg.
        first: that leg.
        unreadable: legs of which the run could not be read.
    """

    different: dict[int, list[bytes]]
    first: bytes | None
    unreadable: list[bytes]


class Event(Struct, frozen=True):
    """Something that happened to a volume: its handle, a kind, the medium's uuid.

    Kinds: leg_stale, leg_in_sync, save_whole, save_broken, recovered, recover_failed,
    sparse_lost: the store is full, and gave up saves without fill; store_low: four fifths of it are
    taken; store_broken: it failed, with all its saves;
    answers_again: the last request of a medium that was given up is over.
    """

    volume: int
    kind: str
    medium: bytes | None
    detail: str = ""


Answer = Callable[[int, bytes, bytes], None]


class Command(Struct, frozen=True):
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
