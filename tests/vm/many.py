"""`python3 -m tests.vm.many --volumes 64`: so many disks of one host, saved and taken back at one instant.

The host writes a number to one disk after the other, so that what is saved or recovered of all tells
whether it is of one instant. At last each gets another leg, all at once, and the daemon is asked meanwhile.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from . import logins
from .lab import Lab
from .ledger import IQN

HERE = "/opt/targetplugin/checkout/tests/vm/guest"
DEADLINE = 5000  # milliseconds
FOLDER = "/var/lib/many"
PATIENCE = 3600.0  # seconds


def on_target(lab: Lab, *words: str) -> Any:
    command = ["python3", "-IB", f"{HERE}/many.py", *words]
    return json.loads(lab.exec("target", command, timeout=PATIENCE).stdout)


def read(lab: Lab, where: str, paths: list[str]) -> list[int]:
    """The highest number on each disk."""
    script = f'for disk in "$@"; do python3 {HERE}/pairs.py read $disk; done'
    said = lab.exec(where, ["sh", "-c", script, "read", *paths], timeout=PATIENCE).stdout
    return [int(line) for line in said.split()]


def of_one_instant(numbers: list[int]) -> bool:
    """Whether those before some disk have a number, and those from there on the one before."""
    return numbers == sorted(numbers, reverse=True) and numbers[0] - numbers[-1] in (0, 1)


def run(lab: Lab, count: int, rounds: int) -> str:
    """Asserts what the module says; returns it with its figures."""
    lab.shell("target", f"mkdir -p {FOLDER}")
    begin = time.monotonic()
    targets = on_target(lab, "make", str(count), IQN)
    logins.log_in(lab, targets, timeout=PATIENCE)
    disks = logins.disks(lab, targets, timeout=PATIENCE)
    assert len(set(disks)) == count, disks
    made = time.monotonic() - begin
    lab.shell("initiator", "rm -f /tmp/pairs.end")
    load = lab.spawn("initiator", ["python3", f"{HERE}/pairs.py", "write", *disks])
    pauses = []
    for number in range(rounds):
        time.sleep(2)
        saved = on_target(lab, "save", f"round-{number}", str(DEADLINE))
        found = read(lab, "target", saved["media"])
        assert of_one_instant(found), found
        pauses.append(saved["pause_ms"])
        if number < rounds - 1:
            on_target(lab, "resync", f"round-{number}")
    lab.shell("initiator", "touch /tmp/pairs.end")
    result = load.wait(PATIENCE)
    assert result.returncode == 0, result.stderr
    recovered = on_target(lab, "recover", f"round-{rounds - 1}", str(DEADLINE))
    lab.shell("initiator", f"for disk in {' '.join(disks)}; do blockdev --flushbufs $disk; done")
    assert read(lab, "initiator", disks) == found
    joined = on_target(lab, "join")
    told = ", ".join(f"{pause:.0f}" for pause in pauses)
    return (
        f"{count} volumes, made and logged in to in {made:.0f} s; {rounds} saves of all, each of one"
        f" instant, writes paused for {told} ms; recovered, {recovered['pause_ms']:.0f} ms;"
        f" a leg added to each at once: asked for in {joined['all_asked_s']:.1f} s and in sync after"
        f" {joined['took_s']:.0f} s, the longest of {joined['answers']} answers meanwhile took"
        f" {joined['longest_s']:.2f} s"
    )


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python3 -m tests.vm.many", description=__doc__)
    arguments.add_argument("--volumes", type=int, default=64)
    arguments.add_argument("--rounds", type=int, default=3)
    wish = arguments.parse_args()
    lab = Lab(owned=True)
    lab.up()
    try:
        print(run(lab, wish.volumes, wish.rounds))
    finally:
        lab.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
