"""Random cases: commands that are nearly right, CDBs that are anything, and ring entries that point
anywhere. Owns what they look like; the same seed makes the same ones.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

from targetplugin.scsi.commands import COMMANDS, NATIVE
from tests.fuzz import model
from tests.fuzz.model import BLOCK

MOST_BLOCKS = 64  # of most commands; of a few up to the limits


@dataclass
class Case:
    """A command as a host sends it: what it brings, or its room for an answer, in so many buffers."""

    cdb: bytes
    sent: bytes = b""
    room: int = 0
    pieces: int = 1
    # One that is wrong: number of iovecs, their base, length, place of the CDB; -1: a right place.
    entry: tuple[int, int, int, int] | None = None


class Cases:
    """Draws them for a disk, whose content it looks at so that what compares is equal at times."""

    def __init__(self, seed: int, disk: model.Disk) -> None:
        self.draw = random.Random(seed)
        self.disk = disk
        self.noise = self.draw.randbytes(4 << 20)

    def data(self, length: int) -> bytes:
        at = self.draw.randrange(len(self.noise) - length) if length else 0
        return self.noise[at : at + length]

    def next(self) -> Case:
        kind = self.draw.random()
        if kind < 0.80:
            return self._command()
        if kind < 0.97:
            return self._anything()
        return self._entry()

    def _command(self) -> Case:
        """One that the engine answers by itself; most are right but for a bit here or there."""
        draw = self.draw
        op = draw.choice(model.NATIVE)
        if op == model.UNMAP:
            return self._unmap()
        count = draw.randrange(MOST_BLOCKS) if draw.random() < 0.98 else draw.randrange(1100)
        lba = draw.randrange(self.disk.blocks + 2)
        if draw.random() < 0.9:
            lba = max(0, min(lba, self.disk.blocks - count))
        cdb = bytearray(cdb_of(op, lba, count))
        if op >= 0x20 and draw.random() < 0.3:
            cdb[1] ^= draw.choice((2, 2, 2, 6, 8, 0x10, 1, 0x20, 4))
        if draw.random() < 0.05:
            cdb[draw.randrange(1, 16)] ^= 1 << draw.randrange(8)
        return self._with_data(bytes(cdb))

    def _with_data(self, cdb: bytes) -> Case:
        """With the data that it should bring, or nearly."""
        draw, op = self.draw, cdb[0]
        lba, count = model.blocks_of(cdb)
        count = min(count, 2048)
        pieces = draw.choice((1, 1, 2, 5))
        if op in model.READ:
            return Case(cdb, room=max(0, count + self._off()) * BLOCK, pieces=pieces)
        check = (cdb[1] >> 1) & 3
        blocks = count
        if op in model.NOTHING or op == model.READY or (op in model.VERIFY and not check):
            blocks = 0
        elif op in model.WRITE_SAME or (op in model.VERIFY and check == 3):
            blocks = 0 if op == 0x93 and cdb[1] & 1 else 1
        elif op == model.COMPARE_AND_WRITE:
            blocks = 2 * count
        sent = self.data(max(0, blocks + self._off()) * BLOCK)
        if op == model.COMPARE_AND_WRITE or op in model.VERIFY:
            here = bytes(self.disk.content[lba * BLOCK : (lba + count) * BLOCK])
            if draw.random() < 0.7:
                sent = (here + sent[len(here) :])[: len(sent)]
            if sent and draw.random() < 0.1:
                at = draw.randrange(len(sent))
                sent = sent[:at] + bytes([sent[at] ^ 1]) + sent[at + 1 :]
        elif op in model.WRITE_SAME and draw.random() < 0.5:
            sent = bytes(len(sent))
        return Case(cdb, sent, pieces=pieces)

    def _off(self) -> int:
        return self.draw.choice((-1, 1)) if self.draw.random() < 0.04 else 0

    def _unmap(self) -> Case:
        draw = self.draw
        ranges = b""
        for _ in range(draw.choice((0, 1, 1, 1, 2, 5, 16, 17))):
            count = draw.randrange(MOST_BLOCKS) if draw.random() < 0.95 else draw.randrange(1 << 32)
            lba = draw.randrange(self.disk.blocks) if draw.random() < 0.99 else draw.getrandbits(64)
            ranges += struct.pack(">QII", lba, count, 0)
        told = len(ranges) + draw.choice((0, 0, 0, 0, -1, 16, 7))
        data = struct.pack(">HHI", len(ranges) + 6, told & 0xFFFF, 0) + ranges
        length = len(data) + draw.choice((0, 0, 0, 0, 0, -16, 8, -len(data), 3 - len(data)))
        anchor = 1 if draw.random() < 0.03 else 0
        return Case(struct.pack(">BB5xHB6x", model.UNMAP, anchor, length & 0xFFFF, 0), data)

    def _anything(self) -> Case:
        """Any CDB, with any data: most are not known, or are Python's to answer."""
        draw = self.draw
        cdb = draw.randbytes(16)
        if draw.random() < 0.5:
            command = draw.choice(OTHERS)
            looked_at = command.usage.ljust(16, b"\0")
            cdb = bytes(a & b for a, b in zip(cdb, looked_at, strict=True))
            action = cdb[1] if command.action is None else command.action
            code = draw.choice((cdb[2], *PAGES))
            cdb = bytes([command.opcode, action, code, *cdb[3:]])
            if draw.random() < 0.5:  # no subpage; INQUIRY has its length there
                cdb = cdb[:3] + b"\0" + cdb[4:]
        size = draw.choice((0, 0, 4, 8, 24, 72, 255, 512, 4096))
        if cdb[0] in model.READ or draw.random() < 0.5:
            return Case(cdb, room=size) if cdb[0] not in BRINGS else Case(cdb, self.data(size))
        return Case(cdb, self.data(size))

    def _entry(self) -> Case:
        """A command whose ring entry points where it must not."""
        draw = self.draw
        high = (1 << 64) - 1
        count = draw.choice((1, 1, 4, 5, 1023, 0xFFFFFFFF))
        base = draw.choice((-1, 0, 1, 128, 1 << 40, high, high - 511))
        length = draw.choice((0, 1, 511, 513, 1 << 32, high))
        cdb_at = draw.choice((-1, -1, -1, 1 << 40, high, high - 15))
        return Case(cdb_of(0x28, 0, 1), entry=(count, base, length, cdb_at))


PAGES = (
    0x00,
    0x02,
    0x08,
    0x0A,
    0x1C,
    0x3F,
    0x80,
    0x83,
    0xB0,
    0xB2,
    0xC0,
)  # of INQUIRY, modes and logs
OTHERS = [one for one in COMMANDS if one.handler != NATIVE]
BRINGS = {
    op
    for op in model.NATIVE
    if op not in model.READ and op not in model.NOTHING and op != model.READY
}


def cdb_of(op: int, lba: int, count: int) -> bytes:
    """A CDB of 16 bytes, as its operation code has it."""
    group = op >> 5
    if op == model.COMPARE_AND_WRITE:
        return struct.pack(">BBQ3xBxx", op, 0, lba, count & 0xFF)
    if group == 0:
        return struct.pack(">BBHBB10x", op, lba >> 16 & 0x1F, lba & 0xFFFF, count & 0xFF, 0)
    if group in (1, 2):
        return struct.pack(">BBIBHB6x", op, 0, lba, 0, count, 0)
    if group == 4:
        return struct.pack(">BBQIBB", op, 0, lba, count, 0, 0)
    return struct.pack(">BBIIBB4x", op, 0, lba, count, 0, 0)
