"""Gives cases to an engine in batches and judges every answer: it is a valid one, and the one that the
model expects; and the legs hold what the model says, and nothing beyond it.
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from typing import Any

from targetplugin.engine import Command, Engine, Event, MediumSpec, VolumeSpec
from targetplugin.errors import Reason, Refused
from targetplugin.scsi import sense
from targetplugin.scsi.commands import COMMANDS
from targetplugin.scsi.logical_unit import LogicalUnit
from tests.engine.fake_ring import CMD, DATA_OFFSET, FakeRing, Result
from tests.fuzz.cases import Case, Cases
from tests.fuzz.model import BLOCK, NATIVE, Disk, Expected

BLOCKS = 4096
SIZE = BLOCKS * BLOCK
GAP = 4096  # between the volume's end and the first record: nobody writes there
MARK = b"\xa5"
BATCH = 64
LOOK = 200  # batches between two looks at the media


class Wrong(AssertionError):
    """An answer or a medium is not as it must be."""


class Stub:
    """A subsystem that refuses all: PIT COPY is tested elsewhere."""

    def volume_show(self, name: str) -> dict[str, Any]:
        shown = {"naa": "6" * 32, "size": SIZE, "rights": "all", "name": name, "saves": []}
        more = {"extent_size": 65536, "operation": None, "generation": 1, "changed_extents": 0}
        return {**shown, **more, "state": "serving", "legs": []}

    def volume_counters(self, name: str) -> dict[str, int]:
        return {}

    def group_limit(self, name: str) -> int:
        return 1

    def __getattr__(self, verb: str) -> Any:
        def refuse(*_: object, **__: object) -> None:
            raise Refused(Reason.STATE, f"{verb} is refused")

        return refuse


class Driver:
    """An engine with one volume on two legs in files of `folder`, and the model beside it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.disk = Disk(BLOCKS)
        self.cases = Cases(seed, self.disk)
        self.unit = LogicalUnit(Stub(), "fuzz")
        self.paths = [folder / "a", folder / "b"]
        self.fds = [self._medium(path) for path in self.paths]
        self.engine = Engine(1, self._answer, self._event)
        self.engine.start()
        media = [
            MediumSpec(path.name.encode().ljust(16, b"."), fd, SIZE, SIZE + GAP, SIZE + 65536, 1)
            for path, fd in zip(self.paths, self.fds, strict=True)
        ]
        self.handle = self.engine.add_volume(VolumeSpec(bytes(16), SIZE, 16, None, media, [], True))
        self.ring = FakeRing(64 << 20)
        self.engine.attach_ring(
            self.handle, self.ring.engine_fd, self.ring.length, map_fd=self.ring.map_fd
        )
        self.names = {one.opcode: one.name.split(":")[0] for one in COMMANDS}
        self.counts: dict[tuple[str, str], int] = {}
        self.events: list[Event] = []

    def _medium(self, path: Path) -> int:
        path.write_bytes(bytes(SIZE) + MARK * GAP + bytes(1 << 20))
        return os.open(path, os.O_RDWR | os.O_DIRECT)

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
        sent: list[tuple[int, Case, Expected | None]] = []
        busy: list[tuple[int, int, bool]] = []
        for _ in range(size):
            case = self.cases.next()
            expected = None
            if case.entry is None and case.cdb[0] in NATIVE:
                expected = self.disk.expect(case.cdb, case.sent, case.room)
                if self._meets(busy, expected):
                    self._judge(sent)
                    sent, busy = [], []
                    expected = self.disk.expect(case.cdb, case.sent, case.room)
                busy += [(a, b, bool(expected.writes)) for a, b in expected.touches]
            sent.append((self._send(case), case, expected))
        self._judge(sent)
        return size

    def _meets(self, busy: list[tuple[int, int, bool]], expected: Expected) -> bool:
        return any(
            a < end and first < b and (writes or expected.writes)
            for a, b in expected.touches
            for first, end, writes in busy
        )

    def _send(self, case: Case) -> int:
        if case.entry is None:
            return self.ring.send(case.cdb, case.sent, case.room, pieces=case.pieces, kick=False)
        ring = self.ring
        ring.number = (ring.number + 1) % 60000
        count, base, length, cdb_at = case.entry
        place = ring.length - 64 if cdb_at == -1 else cdb_at
        ring.map[ring.length - 64 : ring.length - 48] = case.cdb
        body = struct.pack("<HBBIIIIQQQ", ring.number, 0, 0, count, 0, 0, 0, place, 0, 0)
        body += struct.pack("<QQ", ring.length - 16384 if base == -1 else base, length) * 4
        ring.under_way[ring.number] = ([(DATA_OFFSET, 0)], 0)
        ring.entry(CMD, 112, body)
        return ring.number

    def _judge(self, sent: list[tuple[int, Case, Expected | None]]) -> None:
        self.ring.kick()
        for number, case, expected in sent:
            result = self.ring.wait(number)
            found = self._valid(case, result)
            if expected is not None:
                self._as_expected(case, expected, result, found)
                self.disk.apply(expected)

    def _valid(self, case: Case, result: Result) -> int:
        """Sense key and additional sense code of an answer, 0 for GOOD; Wrong where it is none."""
        if result.status == 0:
            self._count(case, "good")
            return 0
        value = sense.decode(result.sense)
        if result.status != 2 or value is None or value.key not in (2, 5, 6, 14):
            raise Wrong(f"{case} is answered with {result}")
        self._count(case, "refused")
        return value.key << 16 | value.asc << 8 | value.ascq

    def _as_expected(self, case: Case, expected: Expected, result: Result, found: int) -> None:
        if found != expected.sense:
            raise Wrong(f"{found:05X}h, not {expected.sense:05X}h, is the answer to {case}")
        if expected.data and case.room and result.data != expected.data.ljust(case.room, b"\0"):
            raise Wrong(f"other data than was written is the answer to {case}")

    def _count(self, case: Case, how: str) -> None:
        what = "ring entries that point anywhere"
        if case.entry is None:
            what = self.names.get(case.cdb[0], "not known")
        self.counts[what, how] = self.counts.get((what, how), 0) + 1

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
