"""Kills a unit again and again and measures how long its ring is not served: runs on the target.

By the machine's own clock, for a probe from outside takes a while itself. Uses nothing of the project.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable

GATE = "/sys/kernel/config/target/core/user_*/{}/action/block_dev"
PATIENCE = 60.0  # seconds
STEP = 0.005


def main_process(unit: str) -> int:
    show = ["systemctl", "show", "--property=MainPID", "--value", unit]
    return int(subprocess.run(show, capture_output=True, text=True, check=True).stdout)


def gate(device: str) -> str:
    """Whether the kernel holds a storage object's commands back: "blocked" or "unblocked"."""
    (path,) = glob.glob(GATE.format(device))
    with open(path) as file:
        return file.read().strip()


def wait(reached: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not reached():
        if time.monotonic() > end:
            raise SystemExit(f"{what} did not come in {PATIENCE:.0f} s")
        time.sleep(STEP)


def kill(unit: str, device: str) -> float:
    """Returns the seconds from the kill until a new process has let the commands go on.

    At death the unit holds them back, and only then is a new process started.
    """
    process = main_process(unit)
    begin = time.monotonic()
    os.kill(process, signal.SIGKILL)
    wait(lambda: gate(device) == "blocked", "the end of what was killed")
    wait(lambda: gate(device) == "unblocked", "service")
    return time.monotonic() - begin


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("unit")
    arguments.add_argument("device")
    arguments.add_argument("count", type=int)
    arguments.add_argument("seed", type=int)
    wish = arguments.parse_args()
    chance = random.Random(wish.seed)
    for _ in range(wish.count):
        wait(lambda: main_process(wish.unit) != 0, "a process")
        time.sleep(chance.uniform(0.0, 1.5))
        print(json.dumps(kill(wish.unit, wish.device)), flush=True)


if __name__ == "__main__":
    main()
