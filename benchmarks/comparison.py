"""The same loads on every subject in turns, and this project's figures as ratios of its peers'.

Owns the loads, the order in which subjects come, and the goals of throughput.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tests.vm.lab import Lab
from tests.vm.state import progress

from .load import Load, Run, run_all
from .subjects import (
    ALL,
    FILEIO,
    FILEIO_MD,
    FILEIO_SYNC,
    IBLOCK,
    IBLOCK_MD,
    ONE,
    PLAIN,
    RUNNER,
    TWO,
    VOLUME_MIB,
    Subject,
)
from .table import Goal, Options, Spread, Table, ratio

LOADS = [
    Load(pattern, block, depth)
    for block, patterns in (("4k", ("randread", "randwrite")), ("1m", ("read", "write")))
    for depth in (1, 32)
    for pattern in patterns
]
SETTLE = "150ms"  # of each run is not counted
# Who is compared: this project's volume, and its peers on as many disks.
PAIRS = {ONE: (FILEIO, FILEIO_SYNC, IBLOCK, RUNNER, PLAIN), TWO: (FILEIO_MD, IBLOCK_MD)}

Found = Mapping[Subject, Mapping[Load, Spread]]


def measure(
    lab: Lab,
    where: str,
    disks: Mapping[Subject, str],
    options: Options,
    chosen: Sequence[Load] = tuple(LOADS),
) -> Found:
    """Every load on every subject, `turns` times, neighbours one after the other.

    Each turn begins with another subject, so that none always follows the same one.
    """
    loads = [load for load in chosen if load.is_random or not options.quick]
    everything: dict[Subject, dict[Load, list[float]]] = {
        subject: {load: [] for load in loads} for subject in ALL
    }
    warm_up = [Load("write", "1m", 8), Load("read", "1m", 8)]  # caches that there are, and ours
    run_all(lab, where, [run(disks[s], load, 0.6) for load in warm_up for s in ALL])
    for turn in range(options.turns):
        progress(f"turn {turn + 1} of {options.turns}")
        order = ALL[turn * 2 % len(ALL) :] + ALL[: turn * 2 % len(ALL)]
        places = [(subject, load) for load in loads for subject in order]
        runs = [run(disks[subject], load, options.seconds) for subject, load in places]
        for (subject, load), outcome in zip(places, run_all(lab, where, runs), strict=True):
            everything[subject][load].append(
                outcome.iops if load.is_random else outcome.mib_per_second
            )
    return {
        subject: {load: Spread.of(values) for load, values in figures.items()}
        for subject, figures in everything.items()
    }


def run(disk: str, load: Load, seconds: float) -> Run:
    # What a run left in a cache is written before the next one begins, which is another's.
    clean = (f"exec_postrun=sg_sync {disk}",) if load.is_write else ()
    return Run(disk, load, seconds, VOLUME_MIB, more=(f"ramp_time={SETTLE}", *clean))


def goal(subject: Subject, load: Load) -> Goal | None:
    """What this project with one leg is to be, times that subject's figure."""
    if subject is RUNNER:
        return Goal(1.0)
    if subject is FILEIO and load.is_random:
        return Goal(0.8 if load.depth > 1 else 0.4)
    if subject is PLAIN and load.is_random and load.depth == 1:
        return Goal(2.0)
    return None


def tables(found: Found, notes: list[str]) -> list[Table]:
    figures = Table(
        "Figures: IOPS of random loads, MiB/s of sequential ones", ["load", *(s.name for s in ALL)]
    )
    for load in found[ONE]:
        figures.rows.append([load, *(found[subject][load].median for subject in ALL)])
    figures.notes = notes
    return [figures, *(compared(found, ours, theirs) for ours, theirs in PAIRS.items())]


def compared(found: Found, ours: Subject, theirs: tuple[Subject, ...]) -> Table:
    table = Table(
        f"This project with {ours.name}, times", ["load", *(s.name for s in theirs), "goals"]
    )
    for load in found[ours]:
        ratios = {other: ratio(found[ours][load], found[other][load]) for other in theirs}
        goals = {other: goal(other, load) for other in theirs}
        judged = [
            f"{other.name} {wish.judge(ratios[other])}" for other, wish in goals.items() if wish
        ]
        table.rows.append([load, *ratios.values(), ", ".join(judged) or "-"])
    return table
