"""`python3 -m tests.vm.power_points --entries N`: a host writes, a save and a recover run, and every write
to the volume's leg is logged; then a power cut at each of the log's points is judged.

Owns the run in the lab. The judgement is crash_points.py's.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import disks
from .crash_points import Book, Checker, Report
from .dm import Dm
from .lab import Lab
from .ledger import MIB, Ledger
from .log_writes import Image, Log

GUEST = "/opt/targetplugin/checkout/tests/vm/guest"
NAME = "logged"
SIZE = 72 * MIB
VOLUME = 64 * MIB
MEDIUM, LOG, SPARE = (
    "media-f",
    "media-e",
    "media-a",
)  # the first has one queue: flushes end in order
PORT = 7777
FILL_IOPS, RECOVER_IOPS = 30, 150  # of the spare, so that a fill and a recover last
AT_ONCE = 150  # blocks that a host writes between two looks at the log's length


@dataclass
class Run:
    """A volume on one leg whose writes are logged, and what its host was told."""

    lab: Lab
    ledger: Ledger
    device: Dm
    seed: int
    book: Book = field(default_factory=dict)
    next: int = 1

    def mark(self, name: str) -> None:
        self.lab.exec("target", ["dmsetup", "message", NAME, "0", "mark", name])

    def entries(self) -> int:
        """How many the log has."""
        return int(self.lab.exec("target", ["dmsetup", "status", NAME]).stdout.split()[3])

    def write_until(self, entries: int) -> None:
        while True:
            self.write(AT_ONCE)
            if self.entries() >= entries:
                return

    def write(self, blocks: int) -> None:
        wish = {"first": self.next, "count": blocks, "blocks": VOLUME // 4096, "port": PORT}
        words = [f"--{name}={value}" for name, value in wish.items()]
        stamper = ["python3", "-IB", f"{GUEST}/stamper.py", self.ledger.disk, "--target=target"]
        done = self.lab.exec("initiator", [*stamper, f"--seed={self.seed + self.next}", *words])
        for line in done.stdout.splitlines():
            told = json.loads(line)
            if "next" in told:
                self.next = told["next"]
            else:
                self.book[told["mark"]] = [(lba, seq) for lba, seq in told["durable"]]

    def verb(self, before: str, after: str, *words: str) -> None:
        self.mark(before)
        self.ledger.target(*words)
        self.mark(after)

    def everything(self, entries: int) -> None:
        ledger = self.ledger
        self.mark("ready")
        self.write_until(entries // 4)
        self.lab.disk(SPARE, iops=FILL_IOPS)
        self.verb("save", "saved", "save", "ledger", "--label", "point", "--policy", "copy")
        self.write_until(entries // 2)
        self.lab.disk(SPARE, iops=0)
        ledger.wait(lambda: ledger.status()["saves"][0]["fill"] == "whole")
        self.lab.disk(SPARE, iops=RECOVER_IOPS)
        self.verb("recover", "recovered", "recover", "ledger@point")
        self.write_until(entries * 3 // 4)
        self.lab.disk(SPARE, iops=0)
        ledger.wait(lambda: ledger.operation("recover")["state"] == "done")
        self.write_until(entries)
        self.mark("end")


def record(lab: Lab, entries: int, seed: int) -> Book:
    """Makes a log of at least so many entries on the log's medium; returns what the host was told."""
    lab.shell("target", f"blkdiscard -fz -l {SIZE} /dev/disk/by-id/virtio-{MEDIUM}")
    device = Dm(lab, NAME, MEDIUM, SIZE)
    device.log_writes(f"/dev/disk/by-id/virtio-{LOG}")
    paths = [device.path, f"/dev/disk/by-id/virtio-{SPARE}"]
    ledger = Ledger(lab, size=f"{VOLUME // MIB}M", paths=paths, mirror=1)
    marker = lab.spawn("target", ["python3", "-IB", f"{GUEST}/marker.py", NAME, str(PORT)])
    try:
        while "ready" not in marker.output_so_far():
            assert marker.is_running, marker.wait(check=False).stderr
            time.sleep(0.1)
        run = Run(lab, ledger, device, seed)
        run.everything(entries)
    finally:
        lab.disk(SPARE, iops=0)
        marker.kill()
        ledger.close()
        device.heal()
        device.remove()
    return run.book


def judge(book: Book) -> Report:
    with tempfile.NamedTemporaryFile(suffix=".image") as scratch:
        image = Image(Path(scratch.name), SIZE)
        with Log(disks.disk_dir() / f"{LOG}.raw") as log:
            report = Checker(image, SIZE, VOLUME, book).run(log)
        image.close()
    return report


def main() -> int:
    arguments = argparse.ArgumentParser(
        prog="python3 -m tests.vm.power_points", description=__doc__
    )
    arguments.add_argument("--entries", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=int(time.time()))
    wish = arguments.parse_args()
    lab = Lab(owned=True)
    lab.up()
    try:
        begin = time.monotonic()
        book = record(lab, wish.entries, wish.seed)
        took = time.monotonic() - begin
        report = judge(book)
        judged = time.monotonic() - begin - took
    finally:
        lab.down()
    print(f"seed {wish.seed}, {took:.0f} s to record and {judged:.0f} s to judge: {report}")
    return 1 if report.found else 0


if __name__ == "__main__":
    sys.exit(main())
