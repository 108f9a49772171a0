"""What a disk must answer to a command that moves blocks: written from SBC-3 and the limits that VPD B0h
and the reference tell, not from the engine. Owns the volume's content as hosts must see it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

BLOCKS = (512, 4096)  # bytes that a logical block may have
MOST_RANGES = 16
# Bytes.
MOST_UNMAP, MOST_COMPARE, MOST_STEPS, MOST_VERIFY = 16 << 20, 64 << 10, 512 << 10, 32 << 20
FIELD, RANGE, LENGTH, LIST, MISCOMPARE = 0x52400, 0x52100, 0x51A00, 0x52600, 0xE1D00
NACA = 0x04  # in the CONTROL byte
READ = {0x08, 0x28, 0x88, 0xA8}
WRITE = {0x0A, 0x2A, 0x8A, 0xAA}
WRITE_AND_VERIFY = {0x2E, 0x8E, 0xAE}
VERIFY = {0x2F, 0x8F, 0xAF}
WRITE_SAME = {0x41, 0x93}
NOTHING = {0x34, 0x35, 0x90, 0x91}  # PRE-FETCH, SYNCHRONIZE CACHE
ORWRITE, COMPARE_AND_WRITE, UNMAP, READY = 0x8B, 0x89, 0x42, 0x00
NATIVE = sorted(
    READ
    | WRITE
    | WRITE_AND_VERIFY
    | VERIFY
    | WRITE_SAME
    | NOTHING
    | {ORWRITE, COMPARE_AND_WRITE, UNMAP, READY}
)


@dataclass(slots=True)
class Expected:
    """The answer: sense key and additional sense code in one number, 0 for GOOD.

    Attributes:
        data: what a read returns. writes: first block, and what it holds then.
        touches: blocks that it looks at or changes, as (first, end).
    """

    sense: int = 0
    data: bytes = b""
    writes: list[tuple[int, bytes]] = field(default_factory=list)
    touches: list[tuple[int, int]] = field(default_factory=list)


def blocks_of(cdb: bytes) -> tuple[int, int]:
    """The first block and the number of blocks that a CDB names."""
    group = cdb[0] >> 5
    if cdb[0] == COMPARE_AND_WRITE:
        return int.from_bytes(cdb[2:10], "big"), cdb[13]
    if group == 0:
        return int.from_bytes(cdb[1:4], "big") & 0x1FFFFF, cdb[4] or 256
    if group in (1, 2):
        return int.from_bytes(cdb[2:6], "big"), int.from_bytes(cdb[7:9], "big")
    if group == 4:
        return int.from_bytes(cdb[2:10], "big"), int.from_bytes(cdb[10:14], "big")
    return int.from_bytes(cdb[2:6], "big"), int.from_bytes(cdb[6:10], "big")


def control(cdb: bytes) -> int:
    """The CONTROL byte, which is the last one."""
    return cdb[(5, 9, 9, 9, 15, 11, 11, 11)[cdb[0] >> 5]]


class Disk:
    """A volume of so many bytes, all zeros, in logical blocks of `block` bytes."""

    def __init__(self, size: int, block: int) -> None:
        self.block = block
        self.blocks = size // block
        self.content = bytearray(size)

    def held(self, lba: int, count: int) -> bytes:
        """What these blocks hold."""
        return memoryview(self.content)[lba * self.block : (lba + count) * self.block].tobytes()

    def apply(self, expected: Expected) -> None:
        for first, data in expected.writes:
            self.content[first * self.block : first * self.block + len(data)] = data

    def expect(self, cdb: bytes, sent: bytes, room: int) -> Expected:
        """The answer to a command that brings `sent`, or has `room` for an answer; changes nothing."""
        op = cdb[0]
        if control(cdb) & NACA:
            return Expected(FIELD)
        if op == READY:
            return Expected()
        if op == UNMAP:
            return self._unmap(cdb, sent)
        lba, count = blocks_of(cdb)
        if lba + count > self.blocks:
            return Expected(RANGE)
        if op in NOTHING:
            return Expected()
        touches = [(lba, lba + count)]
        if op in WRITE_SAME:
            return self._write_same(cdb, sent, lba, count, touches)
        if op >= 0x20 and cdb[1] & 0xE0:
            return Expected(FIELD)
        if op in READ or op in WRITE:
            if count and max(len(sent), room) < count * self.block:
                return Expected(FIELD)
            if op in READ:
                return Expected(data=self.held(lba, count), touches=touches)
            return Expected(writes=[(lba, sent[: count * self.block])], touches=touches)
        here = b"" if count * self.block > MOST_VERIFY else self.held(lba, count)
        return self._compared(cdb, sent, lba, count, here, touches)

    def _compared(
        self,
        cdb: bytes,
        sent: bytes,
        lba: int,
        count: int,
        here: bytes,
        touches: list[tuple[int, int]],
    ) -> Expected:
        op, check = cdb[0], (cdb[1] >> 1) & 3
        length = count * self.block
        if op == COMPARE_AND_WRITE:
            if length > MOST_COMPARE or len(sent) != 2 * length:
                return Expected(FIELD)
            if sent[: len(here)] != here:
                return Expected(MISCOMPARE, touches=touches)
            return Expected(writes=[(lba, sent[len(here) :])], touches=touches)
        if op == ORWRITE:
            if length > MOST_STEPS or (count and len(sent) != length):
                return Expected(FIELD)
            both = int.from_bytes(here, "big") | int.from_bytes(sent if count else b"", "big")
            return Expected(writes=[(lba, both.to_bytes(len(here), "big"))], touches=touches)
        if op in WRITE_AND_VERIFY:
            if check > 1 or length > MOST_STEPS or (count and len(sent) != length):
                return Expected(FIELD)
            return Expected(writes=[(lba, sent if count else b"")], touches=touches)
        most = MOST_STEPS if check == 1 else MOST_VERIFY
        if check == 2 or length > most:
            return Expected(FIELD)
        if not count or not check:
            return Expected(touches=touches)
        wanted = sent if check == 1 else sent * count
        if len(sent) != (length if check == 1 else self.block):
            return Expected(FIELD)
        return Expected(0 if wanted == here else MISCOMPARE, touches=touches)

    def _write_same(
        self, cdb: bytes, sent: bytes, lba: int, count: int, touches: list[tuple[int, int]]
    ) -> Expected:
        no_data = cdb[0] == 0x93 and cdb[1] & 1
        if cdb[1] & (0xF7 if cdb[0] == 0x41 else 0xF6):
            return Expected(FIELD)
        if not count or count * self.block > MOST_UNMAP:
            return Expected(FIELD)
        if not no_data and len(sent) != self.block:
            return Expected(FIELD)
        block = bytes(self.block) if no_data else sent
        return Expected(writes=[(lba, block * count)], touches=touches)

    def _unmap(self, cdb: bytes, sent: bytes) -> Expected:
        length = int.from_bytes(cdb[7:9], "big")
        if cdb[1] & 1:
            return Expected(FIELD)
        if not length:
            return Expected()
        if length < 8 or len(sent) < 8:
            return Expected(LENGTH)
        count = min(int.from_bytes(sent[2:4], "big"), length - 8) // 16
        if count > MOST_RANGES:
            return Expected(LIST)
        if len(sent) < 8 + 16 * count:
            return Expected(LENGTH)
        expected = Expected()
        total = 0
        for at in range(8, 8 + 16 * count, 16):
            lba = int.from_bytes(sent[at : at + 8], "big")
            blocks = int.from_bytes(sent[at + 8 : at + 12], "big")
            total += blocks
            if lba + blocks > self.blocks:
                return Expected(RANGE)
            if blocks:
                expected.writes.append((lba, bytes(blocks * self.block)))
                expected.touches.append((lba, lba + blocks))
        return Expected(LIST) if total * self.block > MOST_UNMAP else expected
