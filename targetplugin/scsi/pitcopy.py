"""The vendor commands PIT COPY IN (C0h) and PIT COPY OUT (C1h): their bytes, both ways.

Standard library only; hosts ship it. All numbers are big-endian, reserved fields are zero, and what
is not so is Malformed, with the byte at fault. Sizes are bytes unless a name says blocks or extents.

CDBs are 10 bytes:

    byte  PIT COPY IN                       PIT COPY OUT
    0     C0h                               C1h
    1     4-0 service action                4-0 service action
    2     2-5 start point                   bit 0 IMMED, bit 1 PREVIEW
    5                                       5-8 parameter list length
    6     slot of a save, 0: none
    7     7-8 allocation length
    9     control                           control

Parameter list of every OUT action, 72 bytes and 24 for each designator:

    0 revision, 01h   1 bit 0: take no undo save, bit 1: save without fill
    2-3 number of designators   4-7 deadline, ms
    8-15 generation, or operation number (ABORT, UNDO)   16-31 request identifier
    32-33 number of a backup (RESTORE)   34-37 seconds for which nothing takes the save away (SAVE,
    right all), 0: it is not held   38-39 reserved   40-71 label, UTF-8
    72- designators: NAA (16), generation (8): of this volume's save (RECOVER, SWAP), else 0 (SAVE, UNDO:
    what is undone is named by the operation of the first volume)

What IN actions return:

    CAPABILITIES          0 revision  1 rights (0 none, 1 status, 2 save, 3 all)  2 slots, at most
                          3 volumes in a group, at most  4-7 extent size  8-11 IN actions as bits
                          12-15 OUT actions as bits  16-31 reserved
    PAIR STATUS           0-3 live generation  4-7 extent size  8-11 changed extents  12 state of the
                          volume  13 number of legs  14 verb of the running operation (FFh none)
                          15 reserved  16-23 its number  24-25 its progress (0-FFFFh)  26-31 reserved
                          32- legs, 8 each: 0 state  1-3 reserved  4-7 extents that it lacks
    DIFFERENTIAL EXTENTS  0-3 length of what follows byte 3  4-7 extent size  8-11 generation of the
                          save  12-15 live generation  16-19 next start point, FFFFFFFFh at the end
                          20-23 reserved  24- descriptors, 16 each: 0-7 LBA  8-11 blocks  12 what
                          differs (1: content)  13-15 reserved
    SAVES, OPERATIONS,    0-3 length of what follows byte 3  4-7 next to start from, FFFFFFFFh at the
    BACKUPS               end  8- descriptors
    a save, 56            0 slot  1 fill, bit 7: a recover took it, for UNDO  2 what is done with it
                          3 percent complete  4-7 generation
                          8-15 time, seconds since 1970  16-19 extents changed since  20-23 time
                          before which it can't go (0: it may)  24-55 label
    an operation, 56      0-7 number  8-23 request identifier  24 verb  25 state  26-27 progress
                          28-31 generation  32-49 result as sense data  50-53 generation of the undo
                          save that it took, 0 none  54-55 reserved
    a backup, 56          0-3 number  4 whether it fits  5-7 reserved  8-15 time  16-23 size
                          24-55 label
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum

PIT_COPY_IN = 0xC0
PIT_COPY_OUT = 0xC1
CDB_LENGTH = 10
LIST_LENGTH = 72
DESIGNATOR_LENGTH = 24
REVISION = 1
LABEL_LENGTH = 32
END = 0xFFFFFFFF
SLOTS = 255
NO_VERB = 0xFF
NO_UNDO, NO_FILL = 1, 2  # flags of a parameter list
MAX_DEADLINE = 5000
MAX_HOLD = 36525 * 86400  # seconds: a hundred years


class InAction(IntEnum):
    CAPABILITIES = 0
    PAIR_STATUS = 1
    DIFFERENTIAL_EXTENTS = 2
    SAVES = 3
    OPERATIONS = 4
    BACKUPS = 5


class OutAction(IntEnum):
    SAVE = 0
    RECOVER = 1
    RESTORE = 2
    SWAP = 3
    RESYNC = 4
    RELEASE = 5
    ABORT = 6
    UNDO = 7


RIGHTS = ("none", "status", "save", "all")
VOLUME_STATES = ("serving", "degraded", "recovering", "down", "cloning")
LEG_STATES = ("in_sync", "syncing", "stale", "missing", "failed")
FILLS = ("unfilled", "filling", "whole", "broken")
UNDO_SAVE = 0x80  # bit beside the fill
ACTIVITIES = ("idle", "recovering", "resyncing", "backing-up", "restoring", "being-filled")
OPERATION_STATES = ("prepared", "running", "done", "failed", "aborted")
VERBS = (
    "save",
    "recover",
    "restore",
    "swap",
    "resync",
    "release",
    "abort",
    "undo",
    "backup",
    "clone",
    "leg add",
    "leg remove",
    "replace leg",
    "scrub",
    "fill",
    "volume resize",
)


class Malformed(ValueError):
    """Bytes that are no such command or answer.

    Attributes:
        position: the byte at fault. in_cdb: of the CDB, else of the parameter list or answer.
        length: the list's length is at fault.
    """

    def __init__(
        self, message: str, position: int, *, in_cdb: bool = False, length: bool = False
    ) -> None:
        super().__init__(f"{message} (byte {position})")
        self.position = position
        self.in_cdb = in_cdb
        self.length = length


def _zero(data: bytes, first: int, end: int, *, in_cdb: bool = False) -> None:
    for at in range(first, end):
        if data[at]:
            raise Malformed("a reserved field is not zero", at, in_cdb=in_cdb)


def _index(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names else 0xFF


def _name(names: tuple[str, ...], index: int) -> str:
    return names[index] if index < len(names) else f"unknown ({index})"


def encode_label(label: str) -> bytes:
    """A label as 32 bytes. Raises ValueError when it is longer."""
    data = label.encode()
    if len(data) > LABEL_LENGTH or "\0" in label:
        raise ValueError(f"the label {label!r} has more than {LABEL_LENGTH} bytes, or a zero")
    return data.ljust(LABEL_LENGTH, b"\0")


def decode_label(data: bytes, position: int) -> str:
    text, _, rest = data.partition(b"\0")
    if rest.strip(b"\0"):
        at = len(data) - len(rest.lstrip(b"\0"))
        raise Malformed("a label goes on after its end", position + at)
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise Malformed("a label is not UTF-8", position + error.start) from None


# --- CDBs ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InRequest:
    """A PIT COPY IN CDB."""

    action: InAction
    start: int = 0
    slot: int = 0
    allocation_length: int = 0xFFFF

    def encode(self) -> bytes:
        return struct.pack(
            ">BBIBHB",
            PIT_COPY_IN,
            self.action,
            self.start,
            self.slot,
            self.allocation_length,
            0,
        )

    @classmethod
    def decode(cls, cdb: bytes) -> InRequest:
        """Raises Malformed."""
        _, action, start, slot, length, control = struct.unpack(">BBIBHB", cdb[:CDB_LENGTH])
        if action & 0xE0 or action > max(InAction):
            raise Malformed("no such service action", 1, in_cdb=True)
        chosen = InAction(action)
        if start and chosen in (InAction.CAPABILITIES, InAction.PAIR_STATUS):
            raise Malformed("this service action takes no start point", 2, in_cdb=True)
        if bool(slot) != (chosen is InAction.DIFFERENTIAL_EXTENTS):
            raise Malformed("a slot goes with DIFFERENTIAL EXTENTS", 6, in_cdb=True)
        if control:
            raise Malformed("control is not zero", 9, in_cdb=True)
        return cls(chosen, start, slot, length)


@dataclass(frozen=True)
class OutRequest:
    """A PIT COPY OUT CDB."""

    action: OutAction
    list_length: int
    immed: bool = False
    preview: bool = False

    def encode(self) -> bytes:
        flags = (1 if self.immed else 0) | (2 if self.preview else 0)
        return struct.pack(">BBBxxIB", PIT_COPY_OUT, self.action, flags, self.list_length, 0)

    @classmethod
    def decode(cls, cdb: bytes) -> OutRequest:
        """Raises Malformed."""
        if cdb[1] & 0xE0 or cdb[1] > max(OutAction):
            raise Malformed("no such service action", 1, in_cdb=True)
        if cdb[2] & ~3:
            raise Malformed("a reserved bit is set", 2, in_cdb=True)
        _zero(cdb, 3, 5, in_cdb=True)
        if cdb[9]:
            raise Malformed("control is not zero", 9, in_cdb=True)
        length = int.from_bytes(cdb[5:9], "big")
        return cls(OutAction(cdb[1]), length, bool(cdb[2] & 1), bool(cdb[2] & 2))


@dataclass(frozen=True)
class Designator:
    """A further logical unit that takes part: NAA (16 bytes), generation."""

    naa: bytes
    generation: int


@dataclass(frozen=True)
class Parameters:
    """The parameter list of a PIT COPY OUT command.

    Attributes:
        generation: the save that is meant; 0 for a new one; or an operation's number.
        request: 16 random bytes: the same bytes with the same list are the same request.
        deadline_ms: of the pause of writes; 0: the default.
        hold: seconds for which a new save is held; 0: it is not.
    """

    generation: int = 0
    request: bytes = bytes(16)
    label: str = ""
    backup: int = 0
    no_undo: bool = False
    no_fill: bool = False
    deadline_ms: int = 0
    hold: int = 0
    designators: tuple[Designator, ...] = field(default=())

    def encode(self) -> bytes:
        data = struct.pack(
            ">BBHIQ16sHI2x32s",
            REVISION,
            (NO_UNDO if self.no_undo else 0) | (NO_FILL if self.no_fill else 0),
            len(self.designators),
            self.deadline_ms,
            self.generation,
            self.request,
            self.backup,
            self.hold,
            encode_label(self.label),
        )
        return data + b"".join(struct.pack(">16sQ", d.naa, d.generation) for d in self.designators)

    @classmethod
    def decode(cls, data: bytes) -> Parameters:
        """Raises Malformed; `length` is set where the list is too short or long."""
        if len(data) < LIST_LENGTH:
            raise Malformed("the list is too short", len(data), length=True)
        _, flags, count, deadline, generation, request, backup, hold, label = struct.unpack(
            ">BBHIQ16sHI2x32s", data[:LIST_LENGTH]
        )
        if data[0] != REVISION:
            raise Malformed("not a revision that is known", 0)
        if flags & ~(NO_UNDO | NO_FILL):
            raise Malformed("a reserved bit is set", 1)
        if len(data) != LIST_LENGTH + count * DESIGNATOR_LENGTH:
            raise Malformed("the list's length is not that of its designators", 2, length=True)
        if deadline > MAX_DEADLINE:
            raise Malformed("the deadline is longer than 5000 ms", 4)
        if hold > MAX_HOLD:
            raise Malformed("the hold is longer than a hundred years", 34)
        _zero(data, 38, 40)
        designators = tuple(
            Designator(*struct.unpack_from(">16sQ", data, at))
            for at in range(LIST_LENGTH, len(data), DESIGNATOR_LENGTH)
        )
        return cls(
            generation,
            request,
            decode_label(label, 40),
            backup,
            bool(flags & NO_UNDO),
            bool(flags & NO_FILL),
            deadline,
            hold,
            designators,
        )


# --- answers of PIT COPY IN -----------------------------------------------------------------------


def _need(data: bytes, length: int) -> None:
    if len(data) < length:
        raise Malformed("the answer is too short", len(data), length=True)


@dataclass(frozen=True)
class Capabilities:
    """What this volume's commands can do."""

    rights: str
    extent_size: int
    in_actions: tuple[int, ...]
    out_actions: tuple[int, ...]
    slots: int = SLOTS
    group: int = 1
    revision: int = REVISION

    def encode(self) -> bytes:
        return struct.pack(
            ">BBBBIII16x",
            self.revision,
            _index(RIGHTS, self.rights),
            self.slots,
            self.group,
            self.extent_size,
            sum(1 << action for action in self.in_actions),
            sum(1 << action for action in self.out_actions),
        )

    @classmethod
    def decode(cls, data: bytes) -> Capabilities:
        _need(data, 32)
        revision, rights, slots, group, size, ins, outs = struct.unpack(">BBBBIII16x", data[:32])
        bits = [tuple(i for i in range(32) if mask >> i & 1) for mask in (ins, outs)]
        return cls(_name(RIGHTS, rights), size, bits[0], bits[1], slots, group, revision)


@dataclass(frozen=True)
class PairStatus:
    """How the volume and its legs are. Legs are (state, extents that it lacks)."""

    generation: int
    extent_size: int
    changed: int
    state: str
    legs: tuple[tuple[str, int], ...]
    verb: str | None = None
    operation: int = 0
    progress: float = 0.0

    def encode(self) -> bytes:
        head = struct.pack(
            ">IIIBBBxQH6x",
            self.generation,
            self.extent_size,
            min(self.changed, END),
            _index(VOLUME_STATES, self.state),
            len(self.legs),
            NO_VERB if self.verb is None else _index(VERBS, self.verb),
            self.operation,
            round(self.progress * 0xFFFF),
        )
        return head + b"".join(
            struct.pack(">B3xI", _index(LEG_STATES, state), min(lacks, END))
            for state, lacks in self.legs
        )

    @classmethod
    def decode(cls, data: bytes) -> PairStatus:
        _need(data, 32)
        generation, size, changed, state, count, verb, number, progress = struct.unpack(
            ">IIIBBBxQH6x", data[:32]
        )
        _need(data, 32 + 8 * count)
        legs = [struct.unpack_from(">B3xI", data, 32 + 8 * i) for i in range(count)]
        return cls(
            generation,
            size,
            changed,
            _name(VOLUME_STATES, state),
            tuple((_name(LEG_STATES, leg), lacks) for leg, lacks in legs),
            None if verb == NO_VERB else _name(VERBS, verb),
            number,
            progress / 0xFFFF,
        )


@dataclass(frozen=True)
class DifferentialExtents:
    """What changed since a save: runs of (LBA, blocks). next_start: where to ask on, END: nowhere."""

    extent_size: int
    generation: int
    live: int
    runs: tuple[tuple[int, int], ...]
    next_start: int = END

    def encode(self) -> bytes:
        body = struct.pack(">IIII4x", self.extent_size, self.generation, self.live, self.next_start)
        body += b"".join(struct.pack(">QIB3x", lba, blocks, 1) for lba, blocks in self.runs)
        return struct.pack(">I", len(body)) + body

    @classmethod
    def decode(cls, data: bytes) -> DifferentialExtents:
        _need(data, 24)
        length, size, generation, live, following = struct.unpack(">IIIII4x", data[:24])
        _need(data, 4 + length)
        runs = [struct.unpack_from(">QIB3x", data, at) for at in range(24, 4 + length, 16)]
        return cls(size, generation, live, tuple((lba, n) for lba, n, _ in runs), following)


@dataclass(frozen=True)
class Save:
    """A save. time: seconds since 1970; percent complete; changed: extents that changed since; undo:
    whether a recover took it, for UNDO.

    held: nothing takes it away before, seconds since 1970; 0: it may go.
    """

    slot: int
    generation: int
    fill: str
    activity: str
    percent: int
    time: int
    changed: int
    label: str
    undo: bool = False
    held: int = 0

    def encode(self) -> bytes:
        return struct.pack(
            ">BBBBIQII32s",
            self.slot,
            _index(FILLS, self.fill) | (UNDO_SAVE if self.undo else 0),
            _index(ACTIVITIES, self.activity),
            self.percent,
            self.generation,
            self.time,
            min(self.changed, END),
            min(self.held, END),
            encode_label(self.label),
        )

    @classmethod
    def decode(cls, data: bytes) -> Save:
        _need(data, 56)
        slot, fill, activity, percent, generation, time, changed, held, label = struct.unpack(
            ">BBBBIQII32s", data[:56]
        )
        return cls(
            slot,
            generation,
            _name(FILLS, fill & ~UNDO_SAVE),
            _name(ACTIVITIES, activity),
            percent,
            time,
            changed,
            decode_label(label, 24),
            bool(fill & UNDO_SAVE),
            held,
        )


@dataclass(frozen=True)
class Operation:
    """An operation. progress: 0.0 to 1.0; sense: its result, empty while it runs or when good; undo: the
    generation of the save by which it can be undone, 0: none was taken.
    """

    number: int
    request: bytes
    verb: str
    state: str
    progress: float
    generation: int
    sense: bytes = b""
    undo: int = 0

    def encode(self) -> bytes:
        return struct.pack(
            ">Q16sBBHI18sI2x",
            self.number,
            self.request,
            _index(VERBS, self.verb),
            _index(OPERATION_STATES, self.state),
            round(self.progress * 0xFFFF),
            self.generation,
            self.sense[:18],
            self.undo,
        )

    @classmethod
    def decode(cls, data: bytes) -> Operation:
        _need(data, 56)
        number, request, verb, state, progress, generation, sense, undo = struct.unpack(
            ">Q16sBBHI18sI2x", data[:56]
        )
        return cls(
            number,
            request,
            _name(VERBS, verb),
            _name(OPERATION_STATES, state),
            progress / 0xFFFF,
            generation,
            sense if any(sense) else b"",
            undo,
        )


@dataclass(frozen=True)
class Backup:
    """A backup that an operator registered. time: seconds since 1970; size: bytes."""

    number: int
    label: str
    time: int
    size: int
    fits: bool

    def encode(self) -> bytes:
        return struct.pack(
            ">IB3xQQ32s",
            self.number,
            1 if self.fits else 0,
            self.time,
            self.size,
            encode_label(self.label),
        )

    @classmethod
    def decode(cls, data: bytes) -> Backup:
        _need(data, 56)
        number, fits, time, size, label = struct.unpack(">IB3xQQ32s", data[:56])
        return cls(number, decode_label(label, 24), time, size, bool(fits))


ITEM_LENGTH = 56


def encode_list(items: list[bytes], room: int, numbers: list[int]) -> bytes:
    """A list of descriptors, as many whole ones as fit into `room` bytes.

    Args:
        items: descriptors of 56 bytes. numbers: what to start from to get each.
    """
    fit = min(len(items), max(0, (room - 8) // ITEM_LENGTH))
    following = numbers[fit] if fit < len(items) else END
    body = struct.pack(">I", following) + b"".join(items[:fit])
    return struct.pack(">I", len(body)) + body


def decode_list(data: bytes) -> tuple[list[bytes], int]:
    """The descriptors of a list, and what to start the next request from (END: that was all)."""
    _need(data, 8)
    length, following = struct.unpack(">II", data[:8])
    _need(data, 4 + length)
    if (length - 4) % ITEM_LENGTH:
        raise Malformed("the list's length is not that of its descriptors", 0, length=True)
    return [data[at : at + ITEM_LENGTH] for at in range(8, 4 + length, ITEM_LENGTH)], following
