"""Gives cases to a disk in batches and judges every answer: it is a valid one, and the one that the model
expects. Owns which commands go together; how they get to the disk is others'.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from typing import NamedTuple

from targetplugin.scsi import sense
from targetplugin.scsi.commands import ACTION_MASK, COMMANDS
from tests.fuzz.cases import Case, Cases
from tests.fuzz.model import NATIVE, Disk, Expected

BATCH_BYTES = 24 << 20
BUSY, CONFLICT = -1, -2  # beside sense: what is done later if at all; what is of a reservation
STATUS = {0x08: BUSY, 0x18: CONFLICT}
NOTED = 0x89  # COMPARE AND WRITE: one too many at once of what is noted before it is done
REQUEST_SENSE = 0x03
KEYS = (0x2, 0x5, 0x6, 0xE)  # sense keys that an answer may have while no disk fails
ATTENTION = 0x6
WRONG_ENTRY = "ring entries that point anywhere"


class Wrong(AssertionError):
    """An answer or a medium is not as it must be."""


class Answer(NamedTuple):
    """What comes of one command; `read_length` is None where it is not told."""

    status: int
    sense: bytes
    data: bytes
    read_length: int | None


class Judge(ABC):
    """Sends what `cases` draws, and weighs what comes of it by `disk`, which knows what the real one holds.

    Attributes:
        together: at most so many are under way.
        kept_off: blocks that are another's, as (first, end): what would touch them is not sent.
        reservations: operation codes that a reservation may keep from being done.
    """

    together = 128
    kept_off = (0, 0)
    reservations: frozenset[int] = frozenset()

    def __init__(self, cases: Cases, disk: Disk) -> None:
        self.disk = disk
        self.cases = cases
        self.attentions = 0  # so many were told
        self.late: deque[Case] = deque()  # those that had to wait for others on the same blocks
        self.opcodes: set[int] = set()
        self.counts: Counter[tuple[str, int]] = Counter()  # by command, and what was answered

    @abstractmethod
    def send(self, cases: list[Case]) -> list[Answer]:
        """All at once; their answers, in their order."""

    def sends(self, case: Case) -> bool:
        """Whether it is for this disk."""
        return True

    def expect(self, case: Case) -> Expected | None:
        """What it is to be answered; None: anything that is valid."""
        if case.entry is not None or case.cdb[0] not in NATIVE:
            return None
        return self.disk.expect(case.cdb, case.sent, case.room)

    def batch(self, size: int) -> int:
        """Returns how many it ran. Raises Wrong."""
        cases, wanted = self._choose(min(size, self.together))
        for case, expected, answer in zip(cases, wanted, self.send(cases), strict=True):
            found = self._valid(case, answer)
            if found >> 16 == ATTENTION or self._sensed(case, answer):
                self.attentions += 1  # one command gets it, and is not done
            elif expected is not None and found != BUSY:
                self._as_expected(case, expected, answer, found)
                self.disk.apply(expected)
        return len(cases)

    def run_for(self, cases: int, end: float | None) -> int:
        """Runs so many, or until a time. Returns how many. Raises Wrong."""
        done = 0
        while done < cases and (end is None or time.monotonic() < end):
            done += self.batch(cases - done)
        return done

    def _choose(self, size: int) -> tuple[list[Case], list[Expected | None]]:
        """Commands that are under way together; no two of them on the same blocks but to read."""
        cases: list[Case] = []
        wanted: list[Expected | None] = []
        read = written = length = 0  # blocks, a bit each; bytes
        late, self.late = self.late, deque()
        while len(cases) < size and length < BATCH_BYTES:
            case = late.popleft() if late else self.cases.next()
            if not self.sends(case):
                continue
            expected = self.expect(case)
            if expected is not None:
                if self._is_anothers(expected):
                    continue
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
        return cases, wanted

    def _is_anothers(self, expected: Expected) -> bool:
        first, end = self.kept_off
        return any(at < end and first < until for at, until in expected.touches)

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
        found = STATUS.get(answer.status, 0)
        if (found == BUSY and case.cdb[0] == NOTED) or (
            found == CONFLICT and case.cdb[0] in self.reservations
        ):
            self.counts[name, found] += 1
            return found
        value = sense.decode(answer.sense)
        if answer.status != 2 or value is None or value.key not in KEYS:
            raise Wrong(f"{case} is answered with {answer}")
        if value.key == ATTENTION and case.cdb[0] in (REQUEST_SENSE, 0x12, 0xA0):
            raise Wrong(f"{case} is never to be told of an attention")
        if value.in_cdb and (value.field_pointer or 0) > 15:
            raise Wrong(f"{value} points beyond the CDB of {case}")
        found = value.key << 16 | value.asc << 8 | value.ascq
        self.counts[name, found] += 1
        return found

    def _sensed(self, case: Case, answer: Answer) -> bool:
        """Whether a REQUEST SENSE returned an attention."""
        if case.cdb[0] != REQUEST_SENSE or answer.status:
            return False
        value = sense.decode(answer.data[: answer.read_length])
        return value is not None and value.key == ATTENTION

    def _as_expected(self, case: Case, expected: Expected, answer: Answer, found: int) -> None:
        if found != expected.sense:
            raise Wrong(f"{found:05X}h, not {expected.sense:05X}h, is the answer to {case}")
        if not found and case.room and answer.data != expected.data.ljust(case.room, b"\0"):
            raise Wrong(f"other data than was written is the answer to {case}")

    def name(self, cdb: bytes) -> str:
        """Of the command, or of none that is known."""
        return NAMES.get((cdb[0], None)) or NAMES.get((cdb[0], cdb[1] & ACTION_MASK), "not known")


NAMES = {(one.opcode, one.action): one.name for one in COMMANDS}
