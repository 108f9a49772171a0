"""`python3 -m tests.vm.hostile --cases N [--seed S]`: commands as no host sends them, through iSCSI and a
real kernel, while fio verifies on the same disk.

Two volumes get them at once. Of the first, on which fio is, all is known: its host may save and not take
back, and each answer, and in the end each block, is what the model of tests/fuzz says. The host of the second
may do all, so that vendor commands save, take back, swap, undo and release it in any order; there an answer
has to be one. Owns the run, and what is asked after it: the daemon has not died, no process hangs, fio
found nothing, legs are in sync and alike, a save holds what it held.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.fuzz.told import Counts, coverage, table

from .kills import INTERRUPTED, LONGER_THAN_ANY_RUN, stuck
from .lab import Lab, Result
from .ledger import END_FIO, MIB, Ledger, fio

GUEST = "/opt/targetplugin/checkout/tests/vm/guest/hostile.py"
SIZE_MIB = 16
FIO_MIB = (8, 4)  # where it begins, and how much it has
MORE_MEDIA = 3  # files, for saves
FOLDER = "/var/lib/hostile"
TROUBLE = (
    "blocked for more than|BUG:|Oops|WARNING:|Call Trace|general protection|soft lockup"
    "|I/O error|rejecting I/O|offlined|conn error"
)
HUNG = 20  # seconds until the kernel says that a process hangs
PATIENCE = 600  # seconds that a run may take over its time


@dataclass
class Came:
    """How many commands there were, and what they were answered."""

    cases: int = 0
    counts: Counts = field(default_factory=Counter)
    opcodes: set[int] = field(default_factory=set)

    def __add__(self, other: Came) -> Came:
        return Came(
            self.cases + other.cases, self.counts + other.counts, self.opcodes | other.opcodes
        )

    @classmethod
    def decode(cls, result: Result, command: list[str]) -> Came:
        assert result.returncode == 0, f"{' '.join(command)}: {result.stdout}{result.stderr}"
        said = json.loads(result.stdout)
        counts = Counter({(name, code): count for name, code, count in said["counts"]})
        return cls(said["cases"], counts, set(said["opcodes"]))


class Hostile:
    """The two volumes, their media and a save of the first one.

    Args:
        blocks: format of the volumes' blocks; None: the usual one.
    """

    def __init__(self, lab: Lab, blocks: str | None = None) -> None:
        self.lab = lab
        self.known = Ledger(lab, "abc", f"{SIZE_MIB}M", name="known", blocks=blocks)
        self.all = Ledger(lab, "de", f"{SIZE_MIB}M", name="all", blocks=blocks)
        self.block = int(self.known.status()["block_size"])
        target = self.known.target
        target("volume", "set", "known", "--rights", "save", "--policy", "copy")
        self.known.fill(0, SIZE_MIB)
        target("save", "known", "--label", "kept", "--wait")
        lab.shell("target", f"mkdir -p {FOLDER}")
        for number in range(MORE_MEDIA):
            target("media", "add", f"{FOLDER}/{number}", "--size", f"{2 * SIZE_MIB}M")
        for where in ("target", "initiator"):
            script = f"sysctl -qw kernel.hung_task_timeout_secs={HUNG} || true; dmesg --clear"
            lab.shell(where, script)

    def close(self) -> None:
        self.all.leave()
        self.known.close()
        self.lab.shell("target", f"rm -rf {FOLDER}")

    def run(self, seed: int, cases: int, seconds: float | None, by_tool: int) -> Came:
        """Sends so many, or for so long, to each; and some by sg_raw. Asserts what the module says."""
        pid, kept = self._pid(), self._kept()
        load = self.lab.spawn(
            "initiator",
            fio(self.known.disk, LONGER_THAN_ANY_RUN, first_mib=FIO_MIB[0], mib=FIO_MIB[1]),
        )
        first = FIO_MIB[0] * MIB // self.block
        off = ["--kept-off", str(first), str(first + FIO_MIB[1] * MIB // self.block)]
        limits = ["--cases", str(cases)]
        limits += [] if seconds is None else ["--seconds", str(seconds)]
        commands = [
            self.command(seed, *limits, *off, self.known.disk),
            self.command(seed + 1, *limits, "--verbs", self.all.disk),
        ]
        running = [self.lab.spawn("initiator", command) for command in commands]
        came = Came()
        for one, command in zip(running, commands, strict=True):
            longest = None if seconds is None else seconds + PATIENCE
            came += Came.decode(one.wait(longest, check=False), command)
        if by_tool:
            command = self.command(
                seed + 2, "--cases", str(by_tool), *off, "--sg-raw", self.known.disk
            )
            done = self.lab.exec("initiator", command, check=False, timeout=PATIENCE)
            came += Came.decode(done, command)
        assert load.is_running, load.wait(check=False)
        self.lab.exec("initiator", END_FIO)
        done = load.wait(300, check=False)
        assert done.returncode == INTERRUPTED, done
        assert "err= 0" in done.stdout, done
        assert "verify:" not in done.stdout + done.stderr, done
        assert self._pid() == pid, "the daemon has died"
        assert self._kept() == kept, "the save holds other data than it held"
        self._unharmed()
        return came

    def command(self, seed: int, *words: str) -> list[str]:
        block = ["--block", str(self.block)]
        return ["python3", "-IB", GUEST, "--seed", str(seed), *block, *words]

    def _pid(self) -> str:
        return self.lab.shell("target", "systemctl show -P MainPID targetplugind").stdout

    def _kept(self) -> str:
        """A checksum of what the medium of the operator's save holds."""
        saves = self.known.status()["saves"]
        (medium,) = next(save["media"] for save in saves if save["label"] == "kept")
        path = f"/dev/disk/by-id/{medium}"
        script = f"dd if={path} bs=1M count={SIZE_MIB} iflag=direct status=none | sha256sum"
        return self.lab.shell("target", script).stdout

    def _unharmed(self) -> None:
        for where in ("target", "initiator"):
            said = self.lab.shell(where, f"dmesg | grep -E '{TROUBLE}' || true").stdout
            assert said == "", f"{where}: {said}"
        assert stuck(self.lab) == set()
        assert list(self.known.legs().values()) == ["in_sync"] * 2
        for ledger in (self.known, self.all):
            ledger.wait(lambda: self._settled(ledger), 120)  # noqa: B023
            self._alike(ledger)

    def _settled(self, ledger: Ledger) -> bool:
        shown = ledger.status()
        return shown["state"] != "recovering" and set(ledger.legs().values()) == {"in_sync"}

    def _alike(self, ledger: Ledger) -> None:
        media = {
            one["name"]: one["path"] for one in json.loads(ledger.target("media", "list", "--json"))
        }
        paths = [media[leg["medium"]] for leg in ledger.status()["legs"]]
        for other in paths[1:]:
            self.lab.shell("target", f"cmp -n {SIZE_MIB * MIB} {paths[0]} {other}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.vm.hostile", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="for each of the two volumes")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--sg-raw", type=int, default=200, help="so many by sg_raw")
    parser.add_argument("--blocks", choices=("512n", "512e", "4kn"), help="format of the volumes'")
    options = parser.parse_args()
    lab = Lab(owned=True)
    lab.up()
    try:
        hostile = Hostile(lab, options.blocks)
        began = time.monotonic()
        came = hostile.run(options.seed, options.cases, None, options.sg_raw)
    finally:
        lab.down()
    print("\n".join(table(came.counts)))
    print(coverage(came.counts, len(came.opcodes)))
    took = time.monotonic() - began
    print(f"{came.cases} cases with seed {options.seed} in {took:.0f} s, all well afterwards")
    return 0


if __name__ == "__main__":
    sys.exit(main())
