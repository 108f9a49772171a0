"""Random cases: commands that are nearly right, CDBs and parameter lists that are anything, and ring
entries that point anywhere. Owns what they look like; the same seed makes the same ones.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from targetplugin.scsi import mode, pitcopy
from targetplugin.scsi.commands import COMMANDS, NATIVE, Command
from tests.fuzz import model

FEW_BLOCKS, MORE_BLOCKS = 9, 64  # of most commands, of some
MOST_BYTES = 550 << 10  # of a few
LIMITS = (64 << 10, 128 << 10, 512 << 10)  # of one command, bytes
NOISE = 4 << 20
MOST_DATA = 1 << 20  # bytes that a command brings, however many it names

One = TypeVar("One")


class Case(NamedTuple):
    """A command as a host sends it: what it brings, or its room for an answer, in so many buffers."""

    cdb: bytes
    sent: bytes = b""
    room: int = 0
    pieces: int = 1
    # One that is wrong: number of iovecs, their base, length, place of the CDB; -1: a right place.
    entry: tuple[int, int, int, int] | None = None


class Named(NamedTuple):
    """What vendor commands name that is there: generations of saves, numbers of operations."""

    saves: Sequence[int] = (3,)
    operations: Sequence[int] = (7,)


class Cases:
    """Draws them for a disk, whose content it looks at so that what compares is equal at times.

    Attributes:
        named: what PIT COPY finds; others may change it as it goes.
        entries: whether some ring entries are wrong, too.
    """

    def __init__(self, seed: int, disk: model.Disk, *, entries: bool = True) -> None:
        self.named = Named()
        self.entries = entries
        self.draw = random.Random(seed)
        self.chance = self.draw.random
        self.disk = disk
        self.noise = self.draw.randbytes(NOISE)
        self.edges = [limit // disk.block + off for limit in LIMITS for off in (-1, 0, 1)]
        self.most = MOST_BYTES // disk.block

    def below(self, end: int) -> int:
        """0 to end - 1. Ten times as fast as randrange, and this is called ten times a case."""
        return int(self.chance() * end)

    def one(self, of: Sequence[One]) -> One:
        return of[int(self.chance() * len(of))]

    def data(self, length: int) -> bytes:
        at = int(self.chance() * (NOISE - length))
        return self.noise[at : at + length]

    def next(self) -> Case:
        kind = self.chance()
        if kind < 0.84:
            return self._command()
        if kind < 0.97:
            return self._anything() if kind < 0.91 else self._of_python()
        return self._entry() if self.entries else self._command()

    # --- what the engine answers by itself -------------------------------------------------------

    def _command(self) -> Case:
        """Most are right but for a bit here or there."""
        op = self.one(model.NATIVE)
        if op == model.UNMAP:
            return self._unmap()
        count = self._count()
        lba = self.below(self.disk.blocks + 2)
        if lba > self.disk.blocks - count and self.chance() < 0.9:
            lba = max(0, self.disk.blocks - count)
        cdb = cdb_of(op, lba, count)
        if op >= 0x20 and self.chance() < 0.3:
            cdb = cdb[:1] + FLAGS[self.below(len(FLAGS))] + cdb[2:]
        if self.chance() < 0.05:
            cdb = self._flip(cdb)
        return self._with_data(cdb)

    def _count(self) -> int:
        kind = self.chance()
        if kind < 0.7:
            return self.below(FEW_BLOCKS)
        if kind < 0.97:
            return self.below(MORE_BLOCKS)
        return self.one(self.edges) if kind < 0.985 else self.below(self.most)

    def _flip(self, data: bytes) -> bytes:
        """Another bit somewhere, but in the operation code."""
        at = 1 + self.below(len(data) - 1)
        return data[:at] + bytes((data[at] ^ 1 << self.below(8),)) + data[at + 1 :]

    def _with_data(self, cdb: bytes) -> Case:
        """With the data that it should bring, or nearly."""
        op = cdb[0]
        lba, count = model.blocks_of(cdb)
        count = min(count, MOST_DATA // self.disk.block)
        pieces = self.one((1, 1, 2, 5))
        if op in model.READ:
            return Case(cdb, room=max(0, count + self._off()) * self.disk.block, pieces=pieces)
        check = (cdb[1] >> 1) & 3
        blocks = count
        if op in model.NOTHING or op == model.READY or (op in model.VERIFY and not check):
            blocks = 0
        elif op in model.WRITE_SAME or (op in model.VERIFY and check == 3):
            blocks = 0 if op == 0x93 and cdb[1] & 1 else 1
        elif op == model.COMPARE_AND_WRITE:
            blocks = 2 * count
        sent = self.data(max(0, blocks + self._off()) * self.disk.block)
        if op == model.COMPARE_AND_WRITE or op in model.VERIFY:
            if self.chance() < 0.7 and lba < self.disk.blocks:
                here = self.disk.held(lba, count)
                sent = (here + sent[len(here) :])[: len(sent)]
            if sent and self.chance() < 0.1:
                sent = self._flip(sent)
        elif op in model.WRITE_SAME and self.chance() < 0.5:
            sent = bytes(len(sent))
        return Case(cdb, sent, pieces=pieces)

    def _off(self) -> int:
        return self.one((-1, 1)) if self.chance() < 0.04 else 0

    def _unmap(self) -> Case:
        ranges = b""
        for _ in range(self.one((0, 1, 1, 1, 2, 5, 16, 17))):
            count = self.below(MORE_BLOCKS if self.chance() < 0.95 else 1 << 32)
            lba = self.below(self.disk.blocks if self.chance() < 0.99 else (1 << 64) - 2048)
            ranges += struct.pack(">QII", lba, count, 0)
        told = len(ranges) + self.one((0, 0, 0, 0, -1, 16, 7))
        data = struct.pack(">HHI", len(ranges) + 6, told & 0xFFFF, 0) + ranges
        length = len(data) + self.one((0, 0, 0, 0, 0, -16, 8, -len(data), 3 - len(data)))
        anchor = 1 if self.chance() < 0.03 else 0
        return Case(struct.pack(">BB5xHB6x", model.UNMAP, anchor, length & 0xFFFF, 0), data)

    # --- what it hands on ------------------------------------------------------------------------

    def _anything(self) -> Case:
        """Any CDB, with any data: most are not known, or have bits that must be zero."""
        cdb = self.draw.randbytes(16)
        if self.chance() < 0.5:
            command = self.one(OTHERS)
            cdb = self._looked_at(command, cdb)
        size = self.one(SIZES)
        if cdb[0] in model.READ or self.chance() < 0.5:
            return Case(cdb, room=size) if cdb[0] not in BRINGS else Case(cdb, self.data(size))
        return Case(cdb, self.data(size))

    def _looked_at(self, command: Command, cdb: bytes) -> bytes:
        """This command, with the bits of the CDB that it looks at."""
        cdb = bytes([a & b for a, b in zip(cdb, command.usage.ljust(16, b"\0"), strict=True)])
        action = cdb[1] if command.action is None else command.action
        code = self.one((cdb[2], *PAGES))
        cdb = bytes([command.opcode, action, code, *cdb[3:]])
        if self.chance() < 0.5:  # no subpage; INQUIRY has its length there
            cdb = cdb[:3] + b"\0" + cdb[4:]
        return cdb

    def _of_python(self) -> Case:
        """Commands with fields that are taken, and parameter lists that are nearly right."""
        command = self.one(OTHERS)
        if command.opcode in (0x15, 0x55):
            return self._mode_select(command.opcode)
        if command.opcode == pitcopy.PIT_COPY_OUT:
            return self._pit_copy_out(command)
        cdb = self._looked_at(command, self.draw.randbytes(16))
        if command.opcode == pitcopy.PIT_COPY_IN:
            slot = 1 + self.below(3) if command.action == 2 else 0
            start = self.below(4) if command.action not in (0, 1) else 0
            cdb = struct.pack(">BBIBHB6x", cdb[0], command.action, start, slot, self.one(SIZES), 0)
        elif cdb[:2] == GET_LBA_STATUS:
            cdb = GET_LBA_STATUS + self.below(self.disk.blocks + 9).to_bytes(8, "big") + cdb[10:]
        elif cdb[0] == LOG_SENSE and self.chance() < 0.8:
            cdb = cdb[:5] + bytes((0, self.below(5))) + cdb[7:]  # the first parameter
        elif cdb[0] == START_STOP_UNIT and self.chance() < 0.5:
            cdb = cdb[:2] + bytes((0, 0, 1)) + cdb[5:]
        elif self.chance() < 0.8:
            cdb = bytes([cdb[0], cdb[1] & ~0xE1 & 0xFF, cdb[2] & 0x3F, *cdb[3:]])
        return Case(cdb, room=self.one(SIZES))

    def _mode_select(self, op: int) -> Case:
        pages = b"".join(
            self.one((page, page, self._flip(page)))
            for page in mode.DEFAULTS.values()
            if self.below(2)
        )
        header = 4 if op == 0x15 else 8
        if self.chance() < 0.1:
            pages = self.data(header) + pages
        data = bytes(header) + pages
        if self.chance() < 0.2:
            data = data[: self.below(len(data))]
        length = len(data) + (self.one((-1, 1, 4)) if self.chance() < 0.1 else 0)
        flags = self.one((0x10, 0x10, 0x10, 0x11, 0))
        if op == 0x15:
            return Case(struct.pack(">BBHBB10x", op, flags, 0, max(length, 0) & 0xFF, 0), data)
        return Case(struct.pack(">BB5xHB6x", op, flags, max(length, 0), 0), data)

    def _pit_copy_out(self, command: Command) -> Case:
        action = command.action or 0
        save = self.one(self.named.saves)
        operation = self.one(self.named.operations)
        needs = {0: 0, 2: 0, 6: operation, 7: operation}.get(action, save)
        if self.chance() < 0.3:  # as a host asks
            asked = pitcopy.Parameters(
                needs, self.draw.randbytes(16), backup=1 if action == 2 else 0
            )
            return self._out(action, 0, asked.encode())
        others = self.one((0, 0, 1, 3))
        asked = pitcopy.Parameters(
            generation=self.one((needs, needs, needs, needs, 0, 1, 2**63)),
            request=self.draw.randbytes(16),
            label=self.one(("night", "é", "")) if action == 0 else self.one(("",) * 9 + ("no",)),
            backup=1 if (action == 2) != (self.chance() < 0.05) else 0,
            no_undo=self.chance() < 0.1,
            no_fill=self.chance() < 0.1,
            deadline_ms=self.one((100, 0, 6000)) if others else 0,
            hold=60 if self.chance() < 0.1 else 0,
            designators=tuple(
                pitcopy.Designator(
                    self.draw.randbytes(16), self.one((save if action in ON_A_SAVE else 0, needs))
                )
                for _ in range(others)
            ),
        )
        data = asked.encode()
        if self.chance() < 0.2:
            data = self._flip(data)
        if self.chance() < 0.05:
            data = data[: self.below(len(data))]
        return self._out(action, self.below(4), data)

    def _out(self, action: int, flags: int, data: bytes) -> Case:
        length = len(data) + (self.one((-1, 1, 24)) if self.chance() < 0.05 else 0)
        length = max(length, 0)
        return Case(struct.pack(">BBBxxIB6x", pitcopy.PIT_COPY_OUT, action, flags, length, 0), data)

    # --- the ring ----------------------------------------------------------------------------------

    def _entry(self) -> Case:
        """A command whose ring entry points where it must not."""
        count = self.one((1, 1, 4, 5, 1023, 0xFFFFFFFF))
        base = self.one((-1, 0, 1, 128, 1 << 40, HIGH, HIGH - 511))
        length = self.one((0, 1, 511, 513, 1 << 32, HIGH))
        cdb_at = self.one((-1, -1, -1, 1 << 40, HIGH, HIGH - 15))
        return Case(cdb_of(0x28, 0, 1), entry=(count, base, length, cdb_at))


ON_A_SAVE = (1, 3, 4, 5)  # service actions of PIT COPY OUT whose designators name saves
HIGH = (1 << 64) - 1
FLAGS = [bytes((bits,)) for bits in (2, 2, 2, 6, 8, 0x10, 1, 0x20, 4)]  # in byte 1
SIZES = (0, 0, 4, 8, 24, 72, 255, 512, 4096)
PAGES = (
    *(0x00, 0x02, 0x03, 0x08, 0x0A, 0x19, 0x1C, 0x2F, 0x3F),
    *(0x80, 0x83, 0x86, 0xB0, 0xB1, 0xB2, 0xC0),
)  # of INQUIRY, modes and logs
OTHERS = [one for one in COMMANDS if one.handler != NATIVE]
LOG_SENSE, START_STOP_UNIT = 0x4D, 0x1B
GET_LBA_STATUS = bytes((0x9E, 0x12))
BRINGS = {
    op
    for op in model.NATIVE
    if op not in model.READ and op not in model.NOTHING and op != model.READY
}
SIX, TEN, TWELVE, SIXTEEN, COMPARING = (
    struct.Struct(one).pack
    for one in (">BBHBB10x", ">BBIBHB6x", ">BBIIBB4x", ">BBQIBB", ">BBQ3xBxx")
)


def cdb_of(op: int, lba: int, count: int) -> bytes:
    """A CDB of 16 bytes, as its operation code has it."""
    group = op >> 5
    if op == model.COMPARE_AND_WRITE:
        return COMPARING(op, 0, lba, count & 0xFF)
    if group == 0:
        return SIX(op, lba >> 16 & 0x1F, lba & 0xFFFF, count & 0xFF, 0)
    if group in (1, 2):
        return TEN(op, 0, lba, 0, count, 0)
    if group == 4:
        return SIXTEEN(op, 0, lba, count, 0, 0)
    return TWELVE(op, 0, lba, count, 0, 0)
