"""A slice of the simulator in every test run, with new seeds each time, and that it is one that repeats."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable

from tests.sim.left_out import CHECKOUT
from tests.sim.process import simulate
from tests.sim.slice import Slice


def test_a_seed_has_one_history() -> None:
    for seed in (3, 6, 7):
        histories = {
            hashlib.sha256(
                simulate(
                    CHECKOUT, "--seeds", f"{seed}:", "--trace", PYTHONHASHSEED=h
                ).stdout.encode()
            ).hexdigest()
            for h in ("1", "2")
        }
        assert len(histories) == 1
    assert hashlib.sha256(b"").hexdigest() not in histories


def test_nothing_is_lost_in_any_crash(simulated: Slice, told: Callable[[str], None]) -> None:
    done = simulated.end()
    told(f"the simulator, seeds from {simulated.first}: {done.stdout}")
    print(done.stderr)
    assert done.returncode == 0
    points = re.search(r"(\d+) crash points", done.stdout)
    assert points
    assert int(points[1]) > 100, "too few for this to mean something"
