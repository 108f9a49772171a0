"""Gives cases to an engine in batches and judges every answer: it is a valid one, and the one that the
model expects; and the legs hold what the model says, and nothing beyond it.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from pathlib import Path

from targetplugin.engine import Command, Engine, Event, MediumSpec, VolumeSpec
from targetplugin.scsi import sense
from targetplugin.scsi.commands import ACTION_MASK, COMMANDS
from targetplugin.scsi.logical_unit import LogicalUnit
from tests.engine.fake_ring import FakeRing
from tests.fuzz.bulk import DATA, Answer, Bulk
from tests.fuzz.cases import Case, Cases
from tests.fuzz.model import BLOCK, NATIVE, Disk, Expected
from tests.fuzz.verbs import Verbs

BLOCKS = 32768
SIZE = BLOCKS * BLOCK
GAP = 4096  # between the volume's end and the first record: nobody writes there
MARK = b"\xa5"
BATCH = 128
BATCH_BYTES = 24 << 20
LOOK = 500  # batches between two looks at the media
BUSY = -1  # beside sense: what is one too many at once of what is noted before it is done
NOTED = 0x89  # COMPARE AND WRITE
KEYS = (0x2, 0x5, 0x6, 0xE)  # sense keys that an answer may have while no disk fails
ATTENTION = 0x62800  # the one that is brought about now and then
WRONG_ENTRY = "ring entries that point anywhere"


class Wrong(AssertionError):
    """An answer or a medium is not as it must be."""


class Driver:
    """An engine with one volume on two legs in files of `folder`, and the model beside it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.disk = Disk(BLOCKS)
        self.cases = Cases(seed, self.disk)
        self.unit = LogicalUnit(Verbs(SIZE), "fuzz")
        self.paths = [folder / "a", folder / "b"]
        self.fds = [self._medium(path) for path in self.paths]
        self.engine = Engine(1, self._answer, self._event, notes=folder / "notes")
        self.engine.start()
        media = [
            MediumSpec(path.name.encode().ljust(16, b"."), fd, SIZE, SIZE + GAP, SIZE + 65536, 1)
            for path, fd in zip(self.paths, self.fds, strict=True)
        ]
        self.handle = self.engine.add_volume(VolumeSpec(bytes(16), SIZE, 16, None, media, [], True))
        self.ring = FakeRing(DATA)
        self.bulk = Bulk(self.ring)
        self.engine.attach_ring(
            self.handle, self.ring.engine_fd, self.ring.length, map_fd=self.ring.map_fd
        )
        self.events: list[Event] = []
        self.late: deque[Case] = deque()  # those that had to wait for others on the same blocks
        self.opcodes: set[int] = set()
        self.counts: Counter[tuple[str, int]] = Counter()  # by command, and what was answered

    def _medium(self, path: Path) -> int:
        path.write_bytes(bytes(SIZE) + MARK * GAP + bytes(1 << 20))
        try:
            return os.open(path, os.O_RDWR | os.O_DIRECT)
        except OSError:  # a file system in memory, of an older kernel
            return os.open(path, os.O_RDWR)

    def close(self) -> None:
        self.engine.stop()
        self.ring.close()
        for fd in self.fds:
            os.close(fd)

    def _event(self, event: Event) -> None:
        self.events.append(event)

    def _answer(self, command: Command) -> None:
        answer = self.unit.execute(command.cdb, command.data_out, command.data_in_length)
        command.answer(answer.status, answer.data, answer.sense)

    # --- running -----------------------------------------------------------------------------

    def run(self, cases: int, seconds: float | None = None) -> int:
        """Runs so many, or for so long. Returns how many. Raises Wrong."""
        end = None if seconds is None else time.monotonic() + seconds
        done = batches = 0
        while done < cases and (end is None or time.monotonic() < end):
            done += self._batch(min(BATCH, cases - done))
            batches += 1
            if batches % LOOK == 0:
                self.look()
        self.look()
        return done

    def _batch(self, size: int) -> int:
        """Commands that are under way together; no two of them on the same blocks but to read."""
        cases: list[Case] = []
        wanted: list[Expected | None] = []
        read = written = length = 0  # blocks, a bit each; bytes
        late, self.late = self.late, deque()
        while len(cases) < size and length < BATCH_BYTES:
            case = late.popleft() if late else self.cases.next()
            expected = None
            if case.entry is None and case.cdb[0] in NATIVE:
                expected = self.disk.expect(case.cdb, case.sent, case.room)
                mask = 0
                for first, end in expected.touches:
                    mask |= (1 << end - first) - 1 << first
                if mask & (read | written if expected.writes else written):
                    self.late.append(case)
                    continue
                if expected.writes:
                    written |= mask
                else:
                    read |= mask
            cases.append(case)
            wanted.append(expected)
            length += len(case.sent) + case.room
        self.late.extend(late)
        if self.cases.chance() < 0.1:
            self.engine.set_write_through(self.handle, self.cases.chance() < 0.5)
        attention = self.cases.chance() < 0.1
        if attention:
            self.engine.set_sense_ua(self.handle, ATTENTION >> 8 & 0xFF, ATTENTION & 0xFF)
        for case, expected, answer in zip(cases, wanted, self.bulk.run(cases), strict=True):
            found = self._valid(case, answer)
            if found == ATTENTION and attention:
                attention = False  # one command gets it, and is not done
            elif expected is not None and found != BUSY:
                self._as_expected(case, expected, answer, found)
                self.disk.apply(expected)
        if attention and any(case.cdb[0] == 0 for case in cases):
            raise Wrong("no command was told of the attention")
        return len(cases)

    def _valid(self, case: Case, answer: Answer) -> int:
        """Sense key and additional sense code of an answer, 0 for GOOD; Wrong where it is none."""
        self.opcodes.add(case.cdb[0])
        name = WRONG_ENTRY if case.entry else self.name(case.cdb)
        if answer.status == 0:
            self.counts[name, 0] += 1
            length = answer.read_length
            if length is not None and answer.data.count(0, length) < len(answer.data) - length:
                raise Wrong(f"others' data comes after the answer to {case}")
            return 0
        if answer.status == 8 and case.cdb[0] == NOTED:
            self.counts[name, BUSY] += 1
            return BUSY
        value = sense.decode(answer.sense)
        if answer.status != 2 or value is None or value.key not in KEYS:
            raise Wrong(f"{case} is answered with {answer}")
        if value.key == 6 and case.cdb[0] in (0x03, 0x12, 0xA0):
            raise Wrong(f"{case} is never to be told of an attention")
        if value.in_cdb and (value.field_pointer or 0) > 15:
            raise Wrong(f"{value} points beyond the CDB of {case}")
        found = value.key << 16 | value.asc << 8 | value.ascq
        self.counts[name, found] += 1
        return found

    def _as_expected(self, case: Case, expected: Expected, answer: Answer, found: int) -> None:
        if found != expected.sense:
            raise Wrong(f"{found:05X}h, not {expected.sense:05X}h, is the answer to {case}")
        if not found and case.room and answer.data != expected.data.ljust(case.room, b"\0"):
            raise Wrong(f"other data than was written is the answer to {case}")

    def name(self, cdb: bytes) -> str:
        """Of the command, or of none that is known."""
        return NAMES.get((cdb[0], None)) or NAMES.get((cdb[0], cdb[1] & ACTION_MASK), "not known")

    def look(self) -> None:
        """Both legs hold what the model says; beyond the volume nothing has changed."""
        for path in self.paths:
            with path.open("rb") as file:
                content, gap = file.read(SIZE), file.read(GAP)
            if content != self.disk.content:
                pairs = zip(content, self.disk.content, strict=True)
                at = next(i for i, (here, wanted) in enumerate(pairs) if here != wanted)
                raise Wrong(f"{path.name} differs from block {at // BLOCK} on")
            if gap != MARK * GAP:
                raise Wrong(f"{path.name} was written beyond the volume's end")
        if self.events:
            raise Wrong(f"no disk failed, but the engine says {self.events}")


NAMES = {(one.opcode, one.action): one.name for one in COMMANDS}
