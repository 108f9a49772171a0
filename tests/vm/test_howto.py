"""What the how-to pages say of other programs, done as they say: LVM and XFS beside themselves, fstrim, a
disk that is taken away, timers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from .lab import Lab
from .ledger import Ledger
from .state import CHECKOUT
from .test_shown import Shelf


@pytest.fixture
def shelf(lab: Lab) -> Iterator[Shelf]:
    made = Shelf(lab, "352M")  # XFS wants 300 MiB
    yield made
    made.ledger.initiator(
        "umount /mnt/now /mnt/night; vgchange -an night data; dmsetup remove night;"
        "for d in $(losetup -nO NAME -j /var/tmp/night); do losetup -d $d; done; rm -f /var/tmp/night; true"
    )
    made.close()


def test_xfs_on_lvm_is_mounted_beside_itself_from_a_shown_save(shelf: Shelf) -> None:
    """LVM writes new names, so it gets an overlay in a file, and the save stays as it is."""
    ledger, run = shelf.ledger, shelf.ledger.initiator
    run(
        f"mkdir -p /mnt/now /mnt/night && pvcreate -q {ledger.disk} && vgcreate -q data {ledger.disk}"
        " && lvcreate -q -l 100%FREE -n home data && mkfs.xfs -q /dev/data/home"
        " && mount /dev/data/home /mnt/now && echo old > /mnt/now/file"
    )
    run(f"pitcopy save {ledger.disk} --label night && echo new > /mnt/now/file && sync")
    shown = shelf.export("ledger@night")
    run(
        f"""
        modprobe loop; truncate -s 64M /var/tmp/night
        size=$(blockdev --getsz {shown}) overlay=$(losetup --find --show /var/tmp/night)
        dmsetup create night --table "0 $size snapshot {shown} $overlay P 8"
        vgimportclone --basevgname night /dev/mapper/night
        vgchange -ay night
        """
    )
    assert ledger.run("mount -o ro,norecovery /dev/night/home /mnt/night").returncode, "same UUID"
    run("mount -o ro,norecovery,nouuid /dev/night/home /mnt/night")
    assert run("cat /mnt/night/file /mnt/now/file").split() == ["old", "new"]
    run(
        """
        umount /mnt/night && vgchange -an night && dmsetup remove night
        losetup -d $(losetup -nO NAME -j /var/tmp/night) && rm /var/tmp/night
        """
    )
    assert run("cat /mnt/now/file") == "new\n"


def test_fstrim_costs_a_store_what_it_frees(lab: Lab) -> None:
    ledger = Ledger(lab, "abc", "128M")

    def kept() -> int:
        (save,) = ledger.status()["saves"]
        return int(save["kept_bytes"])

    try:
        run = ledger.initiator
        run(
            f"mkdir -p /mnt/now && mkfs.ext4 -q {ledger.disk} && mount {ledger.disk} /mnt/now &&"
            "head -c 32M /dev/urandom > /mnt/now/large && sync"
        )
        ledger.target("save", "ledger", "--no-fill", "--label", "before")
        run("rm /mnt/now/large && sync")
        removed = kept()
        run("fstrim /mnt/now")
        assert kept() >= removed + (30 << 20), "what was freed, is in the store"
        run("umount /mnt/now")
        ledger.target("recover", "ledger@before")
        run(f"blockdev --flushbufs {ledger.disk}; mount {ledger.disk} /mnt/now")
        assert run("stat -c %s /mnt/now/large").strip() == str(32 << 20)
        run("umount /mnt/now")
        ledger.wait(lambda: ledger.operation("recover")["state"] == "done")
        ledger.target("release", "ledger@before")
    finally:
        ledger.initiator("umount /mnt/now; true")
        ledger.close()


def test_a_disk_is_taken_away_and_is_a_disk_like_any_other(lab: Lab) -> None:
    ledger = Ledger(lab, "ab", "128M")
    run = ledger.initiator
    try:
        run(
            f"mkdir -p /mnt/now && mkfs.ext4 -q {ledger.disk} && mount {ledger.disk} /mnt/now &&"
            "echo mine > /mnt/now/file && umount /mnt/now"
        )
        ledger.leave()  # logout, unexport, volume delete
        ledger.target("media", "remove", "virtio-media-a")
        found = lab.shell(
            "target",
            """
            mkdir -p /mnt/away && mount -o ro /dev/disk/by-id/virtio-media-a /mnt/away
            cat /mnt/away/file; umount /mnt/away
            e2fsck -fn /dev/disk/by-id/virtio-media-a > /dev/null
            """,
        ).stdout
        assert found == "mine\n"
    finally:
        for medium in json.loads(ledger.target("media", "list", "--json")):
            ledger.target("media", "remove", medium["name"], "--force")


UNIT = re.compile(r"^```ini\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
JOB = "#!/bin/sh\necho spoilt > /mnt/now/file; [ ! -e /run/hang ] || sleep 600; exit 3\n"


def test_a_timer_s_job_that_fails_or_is_stopped_is_taken_back(lab: Lab) -> None:
    """The units are the how-to page's."""
    units = dict(UNIT.findall((CHECKOUT / "docs/howto.md").read_text()))
    assert len(units) == 2
    ledger = Ledger(lab, "abc", "128M")
    run = ledger.initiator
    try:
        run(
            f"mkdir -p /mnt/now && mkfs.ext4 -q {ledger.disk} && mount {ledger.disk} /mnt/now &&"
            "echo good > /mnt/now/file"
        )
        for path, text in units.items():
            here = re.sub(r"/dev/disk/by-id/\S+", ledger.disk, text)
            lab.exec("initiator", ["tee", path], input=here.encode())
        job = "/usr/local/bin/night-job"
        lab.exec("initiator", ["tee", job], input=JOB.encode())
        run(f"chmod +x {job}; systemctl daemon-reload; systemctl enable --now night-job.timer")
        assert "night-job.timer" in run("systemctl list-timers")

        assert ledger.run("systemctl start night-job").returncode
        assert run("systemctl show -P Result -P ExecMainStatus night-job").split() == [
            "exit-code",
            "3",
        ]
        assert run("cat /mnt/now/file") == "good\n"

        run("touch /run/hang; systemctl reset-failed; systemctl start --no-block night-job")
        ledger.wait(lambda: run("cat /mnt/now/file") == "spoilt\n")
        run("systemctl stop night-job", check=False)
        assert run("cat /mnt/now/file") == "good\n"
    finally:
        run(
            "rm -f /run/hang; systemctl disable --now night-job.timer; systemctl stop night-job;"
            "rm -f /etc/systemd/system/night-job.*; systemctl daemon-reload; umount /mnt/now; true"
        )
        ledger.close()
