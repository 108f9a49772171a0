"""What a volume takes of the process that serves it: memory, time to start, processor while nothing happens.

Each figure is of a process of its own (footprint_volume.py) that serves one volume of two legs on
sparse files, with extents of 64 KiB.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from .table import Goal, Options, Spread, Table

TIB = 1 << 40
SIZES = (1, 4)  # TiB
EXTENT = 65536
MOST_TURNS = 3  # they hardly differ
MEMORY = Goal(8, is_most=True)  # MiB a TiB and generation
IDLE = Goal(1, is_most=True)  # milliseconds a second


def run(options: Options) -> list[Table]:
    memory = Table(
        "MiB of memory above the process without a volume",
        (
            "TiB",
            "new volume",
            "every extent written",
            "a TiB",
            "goal",
            "a save later, every extent written again",
            "a TiB and generation",
            "goal",
            "started again",
            "at most meanwhile",
        ),
        notes=["each figure counts the fixed part, about that of a new volume, once"],
    )
    times = Table(
        "Seconds to start, and milliseconds of the processor a second while nothing happens",
        ("TiB", "new volume", "full maps: read", "and started", "idle", "goal"),
        notes=[
            "full maps are read from both legs, after the process was new and the files were not"
        ],
    )
    for size in SIZES[:1] if options.quick else SIZES:
        turns = [
            measure(size) for _ in range(1 if options.quick else min(options.turns, MOST_TURNS))
        ]
        figure = {name: Spread.of([turn[name] for turn in turns]) for name in turns[0]}
        one, two = per(figure["marked"], size), per(figure["next_generation"], 2 * size)
        cells: list[object] = [size, figure["idle"]]
        cells += [figure["marked"], one, MEMORY.judge(one)]
        cells += [figure["next_generation"], two, MEMORY.judge(two)]
        memory.rows.append([*cells, figure["started"], figure["start_peak"]])
        idle = figure["idle_processor"]
        times.rows.append(
            (size, figure["add"], figure["read"], figure["start"], idle, IDLE.judge(idle))
        )
    return [memory, times]


def measure(size: int) -> dict[str, float]:
    """One volume of so many TiB: made and filled by one process, started again by another."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        for step in ("new", "again"):
            command = [sys.executable, "-m", "benchmarks.footprint_volume", step, folder]
            ended = subprocess.run(
                [*command, str(size * TIB), str(EXTENT)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[1],
            )
            found |= json.loads(ended.stdout)
    return found


def per(figure: Spread, number: int) -> Spread:
    return Spread.of([value / number for value in figure.values])
