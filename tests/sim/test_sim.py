"""A slice of the simulator in every test run, with new seeds each time."""

from __future__ import annotations

import os
import time

from tests.sim.world import World

SECONDS = float(os.environ.get("SIM_SECONDS", "60"))


def test_nothing_is_lost_in_any_crash() -> None:
    first = int(time.time()) % 1_000_000 * 1000
    print(f"seeds from {first}")
    end = time.monotonic() + SECONDS
    seed = first
    while time.monotonic() < end:
        world = World(seed)
        world.run(1500)
        seed += 1
    assert seed - first > 5, "too few runs for this to mean something"
    print(f"{seed - first} runs")
