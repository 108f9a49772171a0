"""`python3 -m tests.sim --seeds 0:1000`: runs the simulator and says what it covered and the first
seed that fails.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.sim.world import World, Wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", default="0:200", help="FIRST:END, default %(default)s")
    parser.add_argument("--steps", type=int, default=1500, help="of each run, default %(default)s")
    parser.add_argument("--seconds", type=float, default=0, help="stop after this time")
    arguments = parser.parse_args()
    first, end = (int(part) for part in arguments.seeds.split(":"))
    covered: Counter[str] = Counter()
    crashes = runs = 0
    begin = time.monotonic()
    for seed in range(first, end):
        world = World(seed)
        try:
            world.run(arguments.steps)
        except Wrong as wrong:
            print(f"seed {seed} fails at step {world.steps}: {wrong}")
            return 1
        covered.update(world.covered)
        crashes += world.crashes
        runs += 1
        if arguments.seconds and time.monotonic() - begin > arguments.seconds:
            break
    took = time.monotonic() - begin
    print(f"{runs} runs, {crashes} crash points, nothing wrong, {took:.0f} s")
    print(", ".join(f"{what} {count}" for what, count in sorted(covered.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
