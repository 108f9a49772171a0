"""The native engine on a ring, without LIO and network, beside raw io_uring on the same files: random
4 KiB reads and writes, what each command takes of the processor and of the clock.

The ring is one in shared memory as LIO's TCMU makes it, and ring_load.c is the kernel's end of it, a
process of its own. raw_uring.c does the same reads and writes without a ring. What a command costs is
the user and system time of the whole process that serves it, the kernel's helper threads for io_uring
included and the load's own process not. Processors are dealt out: the engine and raw io_uring run on
one, the load on another.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from targetplugin.engine import Engine, MediumSpec, VolumeSpec
from targetplugin.media.layout import layout
from tests.engine.fake_ring import DATA_OFFSET, FakeRing

from .table import Goal, Options, Spread, Table, ratio

MIB = 1 << 20
SIZE = 256 * MIB
BLOCK = 4096
LEGS = ("a", "b")
DEPTHS = (1, 32)
OPERATIONS = ("read", "write")
TURNS = 5  # at least
SECONDS = 1  # of one measurement, at most: there are many
GOAL = Goal(1.5, is_most=True)
CPUS = sorted(os.sched_getaffinity(0))
SERVING, LOADING = {CPUS[0]}, {CPUS[-1]}


@dataclass(frozen=True)
class Cost:
    """What a command took, in microseconds of the processor and of the clock."""

    processor: float
    clock: float


class Subjects:
    """Volumes with one and with two legs on an engine each, and raw io_uring on the same files."""

    def __init__(self, folder: Path, direct: bool, seconds: float) -> None:
        self.folder, self.direct, self.seconds = folder, direct, seconds
        self.names = {leg: str(folder / leg) for leg in LEGS}

    def raw(self, operation: str, depth: int, legs: int) -> Cost:
        text = subprocess.run(
            [
                self.folder / "raw_uring",
                *(operation, str(depth), str(self.seconds), str(SIZE // BLOCK)),
                *("1" if self.direct else "0", *list(self.names.values())[:legs]),
            ],
            check=True,
            capture_output=True,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, SERVING),
        ).stdout
        commands, clock, user, system = (float(word) for word in text.split())
        return Cost((user + system) / commands * 1e6, clock / commands * 1e6)

    def engine(self, operation: str, depth: int, legs: int) -> Cost:
        with self._served(legs) as ring, self._load(ring, operation, depth) as load:
            assert load.stdin
            assert load.stdout
            if load.stdout.readline() != "ready\n":
                raise RuntimeError("the load on the ring ended early")
            before = processor_time()
            load.stdin.write("\n")
            load.stdin.flush()
            commands, clock = (float(word) for word in load.stdout.readline().split())
            took = processor_time() - before
        return Cost(took / commands * 1e6, clock / commands * 1e6)

    @contextlib.contextmanager
    def _served(self, legs: int) -> Iterator[FakeRing]:
        """A new volume on the first files, served from a ring."""
        engine = Engine(1, lambda command: command.answer(2, b"", b""), lambda event: None)
        ring = FakeRing()
        fds: list[int] = []
        engine.start()
        try:
            media = []
            for name in list(self.names.values())[:legs]:
                fds.append(os.open(name, os.O_RDWR | (os.O_DIRECT if self.direct else 0)))
                media.append(medium(name, fds[-1]))
            spec = VolumeSpec(os.urandom(16), SIZE, 16, None, media, [], same_content=True)
            handle = engine.add_volume(spec)
            engine.attach_ring(handle, ring.engine_fd, ring.length, map_fd=ring.map_fd)
            yield ring
        finally:
            engine.stop()
            ring.close()
            for fd in fds:
                os.close(fd)

    @contextlib.contextmanager
    def _load(self, ring: FakeRing, operation: str, depth: int) -> Iterator[subprocess.Popen[str]]:
        own = (ring.map_fd, ring.kernel.fileno())
        load = subprocess.Popen(
            [
                self.folder / "ring_load",
                *(operation, str(depth), str(self.seconds), str(SIZE // BLOCK)),
                *(str(own[0]), str(ring.length), str(own[1]), str(DATA_OFFSET)),
            ],
            pass_fds=own,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, LOADING),
        )
        try:
            yield load
            if load.wait(10):
                raise RuntimeError("the load on the ring failed")
        finally:
            load.kill()
            load.wait()


def processor_time() -> float:
    """User and system time of this process and all its threads, in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def medium(name: str, fd: int) -> MediumSpec:
    where = layout(os.path.getsize(name))
    uuid = os.path.basename(name).encode().ljust(16, b".")
    return MediumSpec(
        uuid, fd, where.data_size, where.record_offset, where.maps_offset, where.slots
    )


def fill(path: str) -> None:
    """A file with all its blocks written, so that no write has to allocate."""
    piece = bytes(range(256)) * (MIB // 256)
    with open(path, "wb") as file:
        for _ in range(SIZE // MIB + 4):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def build(folder: Path) -> None:
    """The two C programs."""
    for name, libraries in (("ring_load", []), ("raw_uring", ["-luring"])):
        source = Path(__file__).with_name(f"{name}.c")
        command = ["cc", "-O2", "-o", str(folder / name), str(source), *libraries]
        subprocess.run(command, check=True)


def measure(folder: Path, direct: bool, options: Options) -> Table:
    """All cases of one mode of I/O, in turns."""
    subjects = Subjects(folder, direct, min(options.seconds, SECONDS))
    cases = [(o, depth, legs) for o in OPERATIONS for depth in DEPTHS for legs in (1, 2)]
    raw: dict[tuple[str, int, int], list[Cost]] = {case: [] for case in cases}
    ours: dict[tuple[str, int, int], list[Cost]] = {case: [] for case in cases}
    for _ in range(max(options.turns, TURNS)):
        for case in cases:
            raw[case].append(subjects.raw(*case))
            ours[case].append(subjects.engine(*case))
    mode = "O_DIRECT" if direct else "the page cache"
    table = Table(
        f"Microseconds of the processor and of the clock for a command, {mode}",
        (
            "command",
            "depth",
            "legs",
            "engine: processor",
            "raw",
            "ratio",
            "goal",
            "engine: clock",
            "raw",
            "ratio",
        ),
    )
    for case in cases:
        operation, depth, legs = case
        cells: list[object] = [operation, depth, legs]
        for what in ("processor", "clock"):
            mine = Spread.of([getattr(cost, what) for cost in ours[case]])
            theirs = Spread.of([getattr(cost, what) for cost in raw[case]])
            cells += [mine, theirs, ratio(mine, theirs)]
            if what == "processor":
                goal = direct and legs == 1
                cells.append(GOAL.judge(ratio(mine, theirs)) if goal else "")
        table.rows.append(cells)
    table.notes = [
        f"files of {SIZE // MIB} MiB on {file_system(folder)}, written before; {subjects.seconds} s each,"
        f" {len(raw[cases[0]])} turns; with two legs raw io_uring writes both files too, and reads one"
    ]
    if not direct:
        table.notes.append(
            "a read is a copy from memory here: what is above raw is the engine's own"
        )
    return table


def file_system(folder: Path) -> str:
    command = ["df", "--output=fstype", str(folder)]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return found.split()[-1]


def run(options: Options) -> list[Table]:
    previous = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        build(folder)
        for leg in LEGS:
            fill(str(folder / leg))
        os.sched_setaffinity(0, SERVING)
        try:
            tables = [measure(folder, direct, options) for direct in (True, False)]
        finally:
            os.sched_setaffinity(0, previous)
    return tables
