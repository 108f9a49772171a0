"""The story that ./demo tells: a night job spoils a ledger, and the disk takes it back; a backup is
restored and swapped in.

Every step is a command that a person could type; what it shows is checked, and a wrong ledger ends
the demo with 1.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from typing import Any

from examples.places import MOUNT, Failed, Here, InLab, Place
from tests.vm.errors import LabError

FILE = f"{MOUNT}/ledger.db"


class Story:
    """Tells what it does, and remembers what happened for the table at the end."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.begin = time.monotonic()
        self.rows: list[tuple[str, ...]] = []

    def say(self, text: str) -> None:
        print(f"\033[1m[{time.monotonic() - self.begin:5.0f} s]\033[0m {text}", flush=True)

    def ledger(self, verb: str, *more: str) -> str:
        return self.place.host("python3", self.place.ledger, verb, FILE, *more)

    def show(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ledger("show"))
        self.say(
            f"  {found['accounts']} accounts, {found['postings']} postings, sum {found['sum']}, "
            f"{found['wrong_balances']} wrong balances, sha256 {found['sha256'][:16]}..."
        )
        return found

    def operations(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(
            self.place.operator("targetplugin", "operation", "list", "--json")
        )
        return found

    def settle(self) -> None:
        """Waits until nothing is copied in the background."""
        while any(o["state"] in ("prepared", "running") for o in self.operations()):
            time.sleep(0.3)

    def note(self, verb: str, before: dict[str, int]) -> None:
        """A row for the table: the newest operation of a verb, and what was written meanwhile."""
        self.settle()
        operation = next(o for o in self.operations() if o["verb"] == verb)
        after = self.place.written()
        seconds = operation["seconds_in_force"]
        pause = operation["pause_ms"]
        self.rows.append(
            (
                verb,
                "-" if seconds is None else f"{seconds:.3f} s",
                "-" if pause is None else f"{pause:.1f} ms",
                str(operation["extents_changed"]),
                str(operation["extents_copied"]),
                *(f"{(after[name] - before[name]) / 2**20:.1f} MiB" for name in sorted(after)),
            )
        )

    def table(self) -> None:
        head = ("verb", "in force", "pause", "extents changed", "copied")
        lines = [(*head, *(f"to {name}" for name in sorted(self.place.written()))), *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        print()
        for line in lines:
            print("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip())

    def same(self, before: dict[str, Any], now: dict[str, Any], what: str) -> None:
        if now != before:
            raise Failed(f"{what}: the ledger is {now}, and was {before}")

    # --- the chapters ---------------------------------------------------------------------------

    def make(self) -> dict[str, Any]:
        place = self.place
        self.say(f"the host makes an ext4 file system on {place.disk} and a ledger in it")
        place.host("mkfs.ext4", "-q", "-F", place.disk)
        place.host("mkdir", "-p", MOUNT)
        place.host("mount", place.disk, MOUNT)
        begin = time.monotonic()
        self.ledger("create")
        self.say(f"  200000 rows in 2000 transactions, {time.monotonic() - begin:.0f} s")
        return self.show()

    def night(self, before: dict[str, Any]) -> None:
        place = self.place
        written = place.written()
        self.say(f"the night job: pitcopy run {place.disk} -- ledger.py night")
        place.host(
            "pitcopy", "run", place.disk, "--label", "before-night", "--",
            "python3", place.ledger, "night", FILE, status=1,
        )  # fmt: skip
        self.note("save", written)
        self.note("recover", written)
        self.say("it died half-way; after recovery:")
        self.same(before, self.show(), "after recovery")

    def backup(self) -> None:
        place = self.place
        self.say(
            "the operator's way: the mirror is made whole, saved again, and written to an image"
        )
        written = place.written()
        place.operator("targetplugin", "resync", f"{place.volume}@before-night", "--wait")
        self.note("resync", written)
        place.host("pitcopy", "save", place.disk, "--label", "good")
        written = place.written()
        place.operator("targetplugin", "backup", f"{place.volume}@good", "--to", place.image())
        self.note("backup", written)

    def damage(self, before: dict[str, Any]) -> None:
        place = self.place
        self.say("a hand at the wrong prompt: every third balance is 0")
        self.ledger("damage")
        if self.show() == before:
            raise Failed("the damage did no harm: this demo proves nothing")
        self.say("the image is restored onto a spare, while the host reads its ledger")
        written = place.written()
        reader = place.start("python3", place.ledger, "show", FILE)
        place.operator("targetplugin", "restore", place.volume, "--from", place.image())
        reader.wait()
        self.note("restore", written)
        self.say(
            "the host leaves the disk for a moment, and a swap makes the restored medium the disk"
        )
        identity = place.host("lsblk", "-dno", "SERIAL", place.disk)
        written = place.written()
        place.host("umount", MOUNT)
        place.operator("targetplugin", "swap", place.volume)
        place.host("blockdev", "--flushbufs", place.disk)
        place.host("mount", place.disk, MOUNT)
        self.note("swap", written)
        self.same(before, self.show(), "after the swap")
        if place.host("lsblk", "-dno", "SERIAL", place.disk) != identity:
            raise Failed("the disk has another identity after the swap")
        self.say("the ledger is right again, on the same device with the same identity")
        place.host("umount", MOUNT)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./demo", description=__doc__)
    parser.add_argument(
        "--here", action="store_true", help="with this machine's LIO through tcm_loop"
    )
    parser.add_argument("--keep", action="store_true", help="leave everything up to look around")
    options = parser.parse_args()
    place: Place = Here() if options.here else InLab()
    story = Story(place)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all is taken down then too
    try:
        story.say(
            "setting up: three media, a volume of 512 MiB on two of them, exported to the host"
        )
        place.up()
        before = story.make()
        story.night(before)
        story.backup()
        story.damage(before)
        story.table()
        took = time.monotonic() - story.begin
        print(f"\nDone in {took:.0f} s. The job was taken back, and the backup became the disk.")
        return 0
    except (Failed, LabError, TimeoutError) as failed:
        print(f"\nThe demo failed. {failed}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 128 + signal.SIGINT
    finally:
        if not options.keep:
            place.down()


if __name__ == "__main__":
    sys.exit(main())
