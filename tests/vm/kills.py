"""`python3 -m tests.vm.kills --count N`: the daemon is killed N times in a row under a verifying load.

Owns the run and what is asked of it: no I/O error at the host, no process that hangs, both legs alike.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
from dataclasses import dataclass

from .lab import Lab, Result, Running
from .ledger import END_FIO, MIB, Ledger, fio

UNIT = "targetplugind"
KILLER = "/opt/targetplugin/checkout/tests/vm/guest/killer.py"
LONGER_THAN_ANY_RUN = 86_400  # seconds; the load is ended by a signal
INTERRUPTED = 128  # how fio ends then
TROUBLE = "I/O error|rejecting I/O|offlined|capacity change"


@dataclass
class Kills:
    """How long service was away each time, in seconds, and the longest that a host's write took."""

    away: list[float]
    longest_write: float

    def __add__(self, other: Kills) -> Kills:
        return Kills(self.away + other.away, max(self.longest_write, other.longest_write))

    @property
    def median(self) -> float:
        return statistics.median(self.away)

    def percentile(self, percent: int) -> float:
        ordered = sorted(self.away)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]

    def __str__(self) -> str:
        return (
            f"{len(self.away)} kills, no error; service back after {self.median:.2f} s"
            f" (median), {self.percentile(99):.2f} s (99th percentile), {max(self.away):.2f} s (longest);"
            f" longest write of the host {self.longest_write:.2f} s"
        )


def ended_unharmed(lab: Lab, load: Running, timeout: float) -> Result:
    """Ends a load that goes on and on: the host saw no error, and no process of either machine hangs."""
    lab.exec("initiator", END_FIO)
    done = load.wait(timeout, check=False)
    assert done.returncode == INTERRUPTED, done
    assert "err= 0" in done.stdout, done
    assert "verify:" not in done.stdout + done.stderr, done
    assert lab.shell("initiator", f"dmesg | grep -E '{TROUBLE}' || true").stdout == ""
    assert stuck(lab) == set()
    return done


def stuck(lab: Lab) -> set[str]:
    """Processes that stay in uninterruptible sleep, on either machine."""
    script = "ps -eo stat=,pid=,comm= | sed -n 's/^D[^ ]* *//p'"
    seen: set[str] | None = None
    for _ in range(4):
        time.sleep(0.7)
        now = {
            f"{where}: {line}"
            for where in ("target", "initiator")
            for line in lab.shell(where, script).stdout.splitlines()
        }
        seen = now if seen is None else seen & now
    return seen or set()


def kill_again_and_again(ledger: Ledger, count: int, seed: int) -> Kills:
    """Asserts what the module says."""
    lab = ledger.lab
    kills = under_load(lab, ledger.disk, UNIT, "ledger", count, seed)
    ledger.wait(lambda: set(ledger.legs().values()) == {"in_sync"})
    one, other = ledger.legs()
    by_id = "/dev/disk/by-id/virtio-"
    lab.shell("target", f"cmp -n {256 * MIB} {by_id}{one} {by_id}{other}")
    return kills


def under_load(lab: Lab, disk: str, unit: str, device: str, count: int, seed: int) -> Kills:
    """Kills a unit that serves the storage object `device`, which is the initiator's `disk`."""
    lab.exec("initiator", ["dmesg", "--clear"])
    load = lab.spawn("initiator", fio(disk, LONGER_THAN_ANY_RUN))
    time.sleep(2)
    killer = ["python3", "-IB", KILLER, unit, device, str(count), str(seed)]
    said = lab.exec("target", killer, timeout=60 + 60 * count)
    assert load.is_running, load.wait(check=False)
    time.sleep(1)
    done = ended_unharmed(lab, load, 300)
    return Kills([float(line) for line in said.stdout.split()], longest_write(done.stdout))


def longest_write(said: str) -> float:
    """In seconds, by what fio printed: ` lat (msec): min=.., max=..`."""
    found = re.search(r"^ +lat \((\w)sec\): min=\S+ max=([\d.]+)(k?)", said, re.MULTILINE)
    assert found, said
    unit = {"n": 1e-9, "u": 1e-6, "m": 1e-3}[found[1]]
    return float(found[2]) * unit * (1000 if found[3] else 1)


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python3 -m tests.vm.kills", description=__doc__)
    arguments.add_argument("--count", type=int, default=100)
    arguments.add_argument("--seed", type=int, default=int(time.time()))
    wish = arguments.parse_args()
    lab = Lab(owned=True)
    lab.up()
    try:
        print(kill_again_and_again(Ledger(lab), wish.count, wish.seed))
    finally:
        lab.down()
    return 0


if __name__ == "__main__":
    sys.exit(main())
