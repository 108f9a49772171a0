"""`python3 -m tests.sim --seeds 0:1000`: runs the simulator and says what it covered and the first
seed that fails, with its history shortened to the steps that matter.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children

from tests.sim.oracle import Wrong
from tests.sim.shorten import shorten
from tests.sim.world import World

BATCH = 20
TOLD_EVERY = 60.0  # seconds, where nobody watches a terminal
STANDS_STILL = 30.0  # seconds of the processor; a run takes one or two


def run(seed: int, steps: int, options: dict[str, bool]) -> tuple[Counter[str], int, str]:
    """One run: what it covered, how many crash points, and what went wrong."""
    world = World(seed, **options)
    signal.setitimer(signal.ITIMER_VIRTUAL, STANDS_STILL)  # which ends a core that never returns
    try:
        world.run(range(steps))
    except Wrong as wrong:
        return world.covered, world.crashes, f"seed {seed} fails at step {world.now}: {wrong}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return world.covered, world.crashes, ""


def batch(
    first: int, end: int, steps: int, options: dict[str, bool], until: float
) -> tuple[Counter[str], int, int, str]:
    covered: Counter[str] = Counter()
    crashes = 0
    for seed in range(first, end):
        if until and time.monotonic() > until:
            return covered, crashes, seed, ""
        more, count, wrong = run(seed, steps, options)
        covered += more
        crashes += count
        if wrong:
            return covered, crashes, seed, wrong
    return covered, crashes, end, ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", default="0:200", help="FIRST:END, default %(default)s")
    parser.add_argument("--steps", type=int, default=1500, help="of each run, default %(default)s")
    parser.add_argument("--seconds", type=float, default=0, help="begin no run after this time")
    parser.add_argument(
        "--points", type=int, default=0, help="begin no run after so many crash points"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes, default %(default)s")
    parser.add_argument(
        "--shorten", type=float, default=30, help="seconds for that, default %(default)s"
    )
    parser.add_argument(
        "--no-fence", action="store_true", help="let a dead process write while the next one runs"
    )
    parser.add_argument(
        "--any-record", action="store_true", help="let starts go by any record, not by the newest"
    )
    parser.add_argument("--trace", action="store_true", help="print the history of the first seed")
    arguments = parser.parse_args()
    first, end = (int(part or 0) for part in arguments.seeds.split(":"))
    if arguments.trace:
        World(first, trace=print).run(range(arguments.steps))
        return 0
    options = {"fence": not arguments.no_fence, "newest": not arguments.any_record}
    covered: Counter[str] = Counter()
    crashes = runs = 0
    wrong = ""
    begin = told = time.monotonic()
    until = begin + arguments.seconds if arguments.seconds else 0.0
    with ProcessPoolExecutor(arguments.jobs) as pool:
        waiting = []
        at = start = first
        while (at < end or waiting) and not wrong:
            late = until and time.monotonic() > until
            late = late or (arguments.points and crashes >= arguments.points)
            try:
                while at < end and not late and len(waiting) < 2 * arguments.jobs:
                    stop = min(at + BATCH, end)
                    future = pool.submit(batch, at, stop, arguments.steps, options, until)
                    waiting.append((at, future))
                    at = stop
                if not waiting:
                    break
                start, future = waiting.pop(0)
                more, count, reached, wrong = future.result()
            except BrokenProcessPool:
                wrong = (
                    f"a seed from {start} on fails at step ?: the core stands still, or fell over"
                )
                break
            covered += more
            crashes += count
            runs += reached - start
            if sys.stderr.isatty():
                print(f"\r{runs} runs, {crashes} crash points ", end="", file=sys.stderr)
            elif time.monotonic() - told > TOLD_EVERY:
                told = time.monotonic()
                print(f"{runs} runs, {crashes} crash points", file=sys.stderr, flush=True)
        for _, future in waiting:
            future.cancel()
        if wrong:  # a core that is wrong may also stand still: nobody waits for the other runs
            for child in active_children():
                child.kill()
    took = time.monotonic() - begin
    print(f"{runs} runs, {crashes} crash points, {took:.0f} s")
    print(", ".join(f"{what} {count}" for what, count in sorted(covered.items())))
    if wrong:
        print(wrong)
        if wrong.startswith("seed "):
            seed = int(wrong.split()[1])
            for line in shorten(seed, arguments.steps, arguments.shorten):
                print(f"    {line}")
        return 1
    print("nothing wrong")
    return 0


if __name__ == "__main__":
    sys.exit(main())
