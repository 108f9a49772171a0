"""A slice of the simulator in every test run, with new seeds each time, and that it is one that repeats."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable

from tests.sim.left_out import CHECKOUT
from tests.sim.process import simulate

SECONDS = os.environ.get("SIM_SECONDS", "60")


def test_nothing_is_lost_in_any_crash(told: Callable[[str], None]) -> None:
    first = int(time.time()) % 1_000_000 * 1000
    jobs = str(os.cpu_count() or 1)
    done = simulate(
        CHECKOUT,
        *("--seeds", f"{first}:{first + 999999}", "--seconds", SECONDS, "--jobs", jobs),
        PYTHONHASHSEED="0",
    )
    told(f"the simulator, seeds from {first}: {done.stdout}")
    print(done.stderr)
    assert done.returncode == 0
    points = re.search(r"(\d+) crash points", done.stdout)
    assert points
    assert int(points[1]) > 100, "too few for this to mean something"


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
