"""A host mounts a save that is shown, and a clone while it is copied, beside the volume itself."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from . import logins
from .lab import Lab
from .ledger import IQN, Ledger

PROTECTED = "python3 -IB /opt/targetplugin/checkout/tests/vm/guest/protected.py"
MOUNTS = ("/mnt/now", "/mnt/night", "/mnt/test")


class Shelf:
    """The ledger's disk, and those of what else is exported, by name."""

    def __init__(self, lab: Lab, size: str = "64M") -> None:
        self.ledger = Ledger(lab, "abcd", size)
        self.targets: list[str] = []

    def export(self, name: str) -> str:
        """Exports it to the initiator, which logs in. Returns its disk there."""
        made = json.loads(self.ledger.target("export", name, "--initiator", IQN, "--json"))
        self.targets.append(made["target"])
        logins.log_in(self.ledger.lab, [made["target"]])
        (disk,) = logins.disks(self.ledger.lab, [made["target"]])
        return disk

    def close(self) -> None:
        self.ledger.lab.disk("media-d", iops=0)
        self.ledger.initiator(f"umount {' '.join(MOUNTS)}; true")
        logins.log_out(self.ledger.lab, *self.targets)
        self.ledger.target("unexport", "ledger@night", "--force", check=False)
        self.ledger.target("unexport", "test", "--force", check=False)
        self.ledger.target("volume", "delete", "test", "--force", check=False)
        self.ledger.close()


def refusal(shelf: Shelf, *words: str) -> str:
    done = shelf.ledger.asked(*words)
    assert done.returncode == 1
    return done.stderr


@pytest.fixture
def shelf(lab: Lab) -> Iterator[Shelf]:
    made = Shelf(lab)
    yield made
    made.close()


def test_a_shown_save_and_a_clone_are_mounted_beside_their_volume(shelf: Shelf) -> None:
    ledger = shelf.ledger
    run = ledger.initiator
    now, night, test = MOUNTS
    run(
        f"dmesg --clear; mkdir -p {' '.join(MOUNTS)};"
        f"mkfs.ext4 -q {ledger.disk} && mount {ledger.disk} {now} &&"
        f"echo old > {now}/file && head -c 8000000 /dev/urandom > {now}/large && umount {now}"
    )
    ledger.target("save", "ledger", "--label", "night")
    run(f"mount {ledger.disk} {now} && echo new > {now}/file && rm {now}/large && sync")

    # Read-only, as a disk of its own.
    shown = shelf.export("ledger@night")
    ids = run(f"for d in {ledger.disk} {shown}; do cat /sys/block/${{d#/dev/}}/device/wwid; done")
    assert len(set(ids.split())) == 2, ids
    assert run(f"blockdev --getro {shown}").strip() == "1"
    run(f"mount -o ro,noload {shown} {night}")
    assert run(f"cat {night}/file {now}/file").split() == ["old", "new"]
    whole = run(f"sha256sum < {night}/large").split()[0]
    before = run(f"sha256sum < {shown}").split()[0]
    assert ledger.run(f"echo more > {night}/file").returncode
    # Whatever the host makes of that, the target writes nothing.
    told = json.loads(run(f"{PROTECTED} {shown}"))
    assert told == dict.fromkeys(("write", "write same", "unmap"), "7/27/00")
    for verb in ("release", "resync", "swap"):
        assert "shown to hosts" in refusal(shelf, verb, "ledger@night")

    # A clone, on a slow disk, mounted while it is copied.
    ledger.lab.disk("media-d", iops=5)
    ledger.target("clone", "ledger@night", "--name", "test", "--onto", "virtio-media-d")
    volumes = json.loads(ledger.target("volume", "show", "test", "--json"))
    assert volumes["state"] == "cloning", "the copy was over before anything was seen of it"
    mine = shelf.export("test")
    run(f"mount {mine} {test} && echo mine > {test}/file && echo more > {test}/other && sync")
    assert run(f"sha256sum < {test}/large").split()[0] == whole
    ledger.lab.exec("target", ["systemctl", "kill", "--signal=KILL", "targetplugind"])
    assert run(f"echo 3 > /proc/sys/vm/drop_caches; cat {night}/file {test}/file").split() == [
        "old",
        "mine",
    ]
    ledger.lab.shell("target", "until targetplugin status > /dev/null 2>&1; do sleep 0.2; done")
    ledger.lab.disk("media-d", iops=0)
    ledger.wait(lambda: ledger.operation("clone")["state"] == "done")

    # Nobody saw anything of the others.
    run(f"umount {test} && e2fsck -fn {mine} && mount {mine} {test}")
    assert run(f"cat {night}/file {now}/file {test}/file").split() == ["old", "new", "mine"]
    assert run(f"ls {now} {night}").split().count("other") == 0
    assert run(f"sha256sum < {test}/large").split()[0] == whole
    assert run(f"umount {night}; sha256sum < {shown}").split()[0] == before
    errors = run("dmesg | grep -E 'EXT4-fs error|rejecting I/O' || true")
    assert not errors
