"""fio on one machine: many runs one after the other in one process, and what each came to.

Owns the job file and what is read of fio's output. Starting fio costs seconds where a machine is
emulated, so all runs of a turn are one job file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tests.vm.lab import Lab

COMMON = """\
[global]
ioengine=libaio
direct=1
thread=1
time_based=1
randrepeat=0
norandommap=1
"""


@dataclass(frozen=True)
class Load:
    """What is done to a disk: fio's rw, bs and iodepth."""

    pattern: str
    block: str
    depth: int

    @property
    def is_write(self) -> bool:
        return "write" in self.pattern

    @property
    def is_random(self) -> bool:
        return self.pattern.startswith("rand")

    def __str__(self) -> str:
        order = "random" if self.is_random else "sequential"
        size = self.block.replace("k", " KiB").replace("m", " MiB")
        return f"{size} {order} {'write' if self.is_write else 'read'}, depth {self.depth}"


@dataclass(frozen=True)
class Run:
    """One load on one disk, for so many seconds."""

    disk: str
    load: Load
    seconds: float
    size_mib: int
    offset_mib: int = 0
    more: tuple[str, ...] = ()

    def section(self, name: str) -> str:
        lines = [
            f"[{name}]",
            "stonewall",
            f"filename={self.disk}",
            f"rw={self.load.pattern}",
            f"bs={self.load.block}",
            f"iodepth={self.load.depth}",
            f"offset={self.offset_mib}m",
            f"size={self.size_mib}m",
            f"runtime={round(self.seconds * 1000)}ms",
            *self.more,
        ]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Outcome:
    """What one run came to. Latencies are completion latencies, in milliseconds."""

    iops: float
    mib_per_second: float
    longest_ms: float
    median_ms: float


def run_all(lab: Lab, where: str, runs: Sequence[Run]) -> list[Outcome]:
    """Runs them in this order on a machine.

    Raises:
        AssertionError: an I/O error, or fio said something else that it should not.
    """
    jobs = COMMON + "".join(run.section(f"run-{n}") for n, run in enumerate(runs))
    limit = 120 + 3 * sum(run.seconds for run in runs)
    command = ["fio", "--output-format=json", "-"]
    said = lab.exec(where, command, input=jobs, timeout=limit)
    done = json.loads(said.stdout[said.stdout.index("{") :])["jobs"]
    assert len(done) == len(runs), said
    return [outcome(job, run.load) for job, run in zip(done, runs, strict=True)]


def outcome(job: dict, load: Load) -> Outcome:  # type: ignore[type-arg]
    """Of a job in fio's JSON."""
    assert job["error"] == 0, job
    side = job["write" if load.is_write else "read"]
    late = side["clat_ns"]
    median = late.get("percentile", {}).get("50.000000", 0)
    return Outcome(side["iops"], side["bw_bytes"] / (1 << 20), late["max"] / 1e6, median / 1e6)
