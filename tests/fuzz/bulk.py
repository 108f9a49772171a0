"""Many commands into a fake ring at once, and their answers out of it: one call each way, and few steps
for each command. Owns where their entries, CDBs and buffers lie.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from struct import Struct

from tests.engine.fake_ring import CMD, DATA_OFFSET, PAD, RING_OFFSET, RING_SIZE, FakeRing
from tests.fuzz.cases import Case
from tests.fuzz.judge import Answer

DATA = 64 << 20  # of the data area; more than a batch needs
CDBS = DATA_OFFSET + DATA - 65536  # where they lie: after all buffers
PAGE = 4096
MIN_ENTRY = 112
PADDING = Struct("<IHBB")
ANSWER = Struct("<IHBBBBHI")
ENTRIES = [Struct("<IHBBIIIIQQQ" + "QQ" * pieces) for pieces in range(8)]


class Bulk:
    """The kernel's end of a ring that is given batches, each of which is answered before the next."""

    def __init__(self, ring: FakeRing) -> None:
        self.ring = ring

    def run(self, cases: Sequence[Case]) -> list[Answer]:
        """Sends them, kicks once, and waits until all are answered. Raises AssertionError."""
        where: list[list[tuple[int, int]]] = []
        at = DATA_OFFSET
        for number, case in enumerate(cases):
            iovs: list[tuple[int, int]] = []
            if case.entry is None:
                at = self._put(number, case, at, iovs)
            else:
                self._wrong(number, case)
            where.append(iovs)
        self.ring.kick()
        return self._answers(cases, where)

    def _put(self, number: int, case: Case, at: int, iovs: list[tuple[int, int]]) -> int:
        """Returns where the next one's buffers begin."""
        ring = self.ring
        size = len(case.sent) or case.room
        step = -(-size // case.pieces // ring.block) * ring.block
        done = 0
        while done < size:
            take = min(size - done, step)
            if case.sent:
                ring.map[at : at + take] = case.sent[done : done + take]
            iovs.append((at, take))
            at += -(-take // PAGE) * PAGE
            done += take
        cdb_at = CDBS + number * 32
        ring.map[cdb_at : cdb_at + 16] = case.cdb.ljust(16, b"\0")
        count = len(iovs)
        length = max(MIN_ENTRY, 48 + 16 * count)
        flat = [one for iov in iovs for one in iov]
        entry = self._room(length)
        ENTRIES[count].pack_into(
            ring.map, entry, length | CMD, number, 0, 0, count, 0, 0, 0, cdb_at, 0, 0, *flat
        )
        self._add(length)
        return at

    def _wrong(self, number: int, case: Case) -> None:
        """An entry that points where it must not."""
        assert case.entry is not None
        count, base, length, cdb_at = case.entry
        place = CDBS + number * 32 if cdb_at == -1 else cdb_at
        self.ring.map[CDBS + number * 32 : CDBS + number * 32 + 16] = case.cdb
        there = (CDBS - 16384 if base == -1 else base, length)
        entry = self._room(MIN_ENTRY)
        ENTRIES[4].pack_into(
            self.ring.map, entry, MIN_ENTRY | CMD, number, 0, 0, count, 0, 0, 0, place, 0, 0, *there * 4
        )  # fmt: skip
        self._add(MIN_ENTRY)

    def _room(self, length: int) -> int:
        """Where an entry of this length goes; pads to the ring's end where it does not fit before it."""
        head = self.ring.head
        if head + length > RING_SIZE:
            PADDING.pack_into(self.ring.map, RING_OFFSET + head, (RING_SIZE - head) | PAD, 0, 0, 0)
            self.ring.words[3] = head = 0
        return RING_OFFSET + head

    def _add(self, length: int) -> None:
        self.ring.words[3] = (self.ring.head + length) % RING_SIZE

    def _answers(
        self, cases: Sequence[Case], where: Sequence[list[tuple[int, int]]]
    ) -> list[Answer]:
        ring = self.ring
        found: dict[int, Answer] = {}
        end = time.monotonic() + 60
        while len(found) < len(cases):
            tail = ring.tail
            while ring.cleaned != tail:
                at = RING_OFFSET + ring.cleaned
                op, number, _, flags, status, _, _, length = ANSWER.unpack_from(ring.map, at)
                ring.cleaned = (ring.cleaned + (op & ~7)) % RING_SIZE
                if op & 7 != CMD:
                    continue
                assert number < len(cases), f"nobody sent number {number}"
                assert number not in found, f"number {number} is answered twice"
                data = b""
                if cases[number].room:
                    data = b"".join([ring.map[base : base + take] for base, take in where[number]])
                sense = ring.map[at + 16 : at + 112] if status else b""
                found[number] = Answer(status, sense, data, length if flags & 2 else None)
            if len(found) < len(cases):
                late = [one for number, one in enumerate(cases) if number not in found]
                assert time.monotonic() < end, f"not answered: {late}"
                if select.select([ring.kernel], [], [], 0.05)[0]:
                    ring.kernel.recv(4096)
        return [found[number] for number in range(len(cases))]
