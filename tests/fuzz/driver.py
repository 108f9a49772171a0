"""An engine behind a fake ring, which the cases are sent to. Besides what they are answered, the legs are
looked at: they hold what the model says, and nothing beyond it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from targetplugin.engine import Command, Engine, Event, MediumSpec, VolumeSpec
from targetplugin.scsi.logical_unit import LogicalUnit
from tests.engine.fake_ring import FakeRing
from tests.fuzz.bulk import DATA, Bulk
from tests.fuzz.cases import Case, Cases
from tests.fuzz.judge import Answer, Judge, Wrong
from tests.fuzz.model import READY, Disk
from tests.fuzz.verbs import Verbs

SIZE = 16 << 20
GAP = 4096  # between the volume's end and the first record: nobody writes there
MARK = b"\xa5"
LOOK = 500  # batches between two looks at the media
MEDIUM_CHANGED = (0x28, 0x00)  # the attention that is brought about now and then


class Driver(Judge):
    """An engine with one volume on two legs in files of `folder`, and the model beside it.

    Args:
        block: bytes of the volume's logical blocks.
    """

    def __init__(self, folder: Path, seed: int, block: int = 512) -> None:
        disk = Disk(SIZE, block)
        super().__init__(Cases(seed, disk), disk)
        self.unit = LogicalUnit(Verbs(SIZE, block), "fuzz")
        self.paths = [folder / "a", folder / "b"]
        self.fds = [self._medium(path) for path in self.paths]
        self.engine = Engine(1, self._answer, self._event, notes=folder / "notes")
        self.engine.start()
        media = [
            MediumSpec(path.name.encode().ljust(16, b"."), fd, SIZE, SIZE + GAP, SIZE + 65536, 1)
            for path, fd in zip(self.paths, self.fds, strict=True)
        ]
        self.handle = self.engine.add_volume(
            VolumeSpec(bytes(16), SIZE, 16, None, media, [], True, block_size=block)
        )
        self.ring = FakeRing(DATA, block)
        self.bulk = Bulk(self.ring)
        self.engine.attach_ring(
            self.handle, self.ring.engine_fd, self.ring.length, map_fd=self.ring.map_fd
        )
        self.events: list[Event] = []
        self.wanted = 0  # attentions that were brought about
        self.ready = False  # a TEST UNIT READY, which is told of them, was in the last batch

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
        done = 0
        while True:
            ran = self.run_for(min(cases - done, LOOK * self.together), end)
            done += ran
            self.look()
            if not ran:
                return done

    def send(self, cases: list[Case]) -> list[Answer]:
        if self.cases.chance() < 0.1:
            self.engine.set_write_through(self.handle, self.cases.chance() < 0.5)
        if self.cases.chance() < 0.1:
            self.engine.set_sense_ua(self.handle, *MEDIUM_CHANGED)
            self.wanted = self.attentions + 1
        self.ready = any(case.cdb[0] == READY for case in cases)
        return self.bulk.run(cases)

    def batch(self, size: int) -> int:
        done = super().batch(size)
        if self.attentions > self.wanted:
            raise Wrong("an attention is told twice")
        if self.ready and self.attentions < self.wanted:
            raise Wrong("no command was told of the attention")
        return done

    def look(self) -> None:
        """Both legs hold what the model says; beyond the volume nothing has changed."""
        for path in self.paths:
            with path.open("rb") as file:
                content, gap = file.read(SIZE), file.read(GAP)
            if content != self.disk.content:
                pairs = zip(content, self.disk.content, strict=True)
                at = next(i for i, (here, wanted) in enumerate(pairs) if here != wanted)
                raise Wrong(f"{path.name} differs from block {at // self.disk.block} on")
            if gap != MARK * GAP:
                raise Wrong(f"{path.name} was written beyond the volume's end")
        if self.events:
            raise Wrong(f"no disk failed, but the engine says {self.events}")
