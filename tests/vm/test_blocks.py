"""A volume of 4096-byte logical blocks (4Kn) on media of the same, as a real initiator sees and uses it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from .lab import Lab
from .ledger import Ledger

MOUNT = "/mnt/blocks"
BLOCK = 4096
PLAIN = "/dev/disk/by-id/virtio-media-d"  # of 512-byte logical blocks


@pytest.fixture(scope="module")
def ledger(booted_lab: Lab) -> Iterator[Ledger]:
    """On two of three loop devices with 4096-byte logical blocks; the third is free, as is a plain one."""
    below = [f"/dev/disk/by-id/virtio-media-{letter}" for letter in "abc"]
    booted_lab.shell("target", "modprobe loop")
    made = "losetup --find --show --sector-size 4096"
    loops = [booted_lab.shell("target", f"{made} {one}").stdout.strip() for one in below]
    ledger = Ledger(booted_lab, paths=[*loops, PLAIN], blocks="4kn")
    yield ledger
    ledger.close()
    booted_lab.shell("target", f"losetup --detach {' '.join(loops)}")


def test_the_host_is_told_of_4096_bytes(ledger: Ledger) -> None:
    assert ledger.initiator(f"blockdev --getss --getpbsz {ledger.disk}").split() == ["4096"] * 2
    capacity = ledger.initiator(f"sg_readcap --long {ledger.disk}")
    assert "Logical block length=4096 bytes" in capacity
    assert "physical block exponent=0" in capacity
    assert f"Number of logical blocks={(256 << 20) // BLOCK}" in capacity
    limits = ledger.initiator(f"sg_vpd -p bl {ledger.disk}")
    assert "Maximum compare and write length: 16 blocks" in limits
    assert "Maximum transfer length: 128 blocks" in limits
    assert "Optimal transfer length granularity: 1 block" in limits
    place = "/sys/kernel/config/target/core/user_*/ledger/attrib"
    told = ledger.lab.shell("target", f"cat {place}/hw_block_size {place}/hw_max_sectors").stdout
    assert told.split() == ["4096", "256"]


def test_commands_count_in_them(ledger: Ledger) -> None:
    disk = ledger.disk
    script = f"""
        set -e; cd /tmp
        head -c {BLOCK} /dev/urandom > one; head -c {BLOCK} /dev/urandom > two; cat one two > both
        sg_write_same --16 --lba=4096 --num=64 --in=one {disk}
        sg_verify --16 --lba=4096 --count=64 {disk}
        sg_verify --lba=4096 --count=1 --ndo={BLOCK} --in=one {disk}
        sg_compare_and_write --in=both --lba=4096 --num=1 --xferlen={2 * BLOCK} {disk}
        status=0; sg_compare_and_write --in=both --lba=4096 --num=1 --xferlen={2 * BLOCK} {disk} || status=$?
        test $status = 14
        dd if={disk} bs={BLOCK} skip=4096 count=1 iflag=direct status=none | cmp - two
        sg_unmap --lba=4097 --num=1 --force {disk}
        dd if={disk} bs={BLOCK} skip=4097 count=1 iflag=direct status=none | cmp - -n {BLOCK} /dev/zero
        dd if={disk} bs={BLOCK} skip=4098 count=1 iflag=direct status=none | cmp - one
    """
    ledger.initiator(script)
    assert ledger.run(f"dd if={disk} bs=512 count=1 iflag=direct status=none").returncode == 1


def test_a_job_on_a_file_system_is_taken_back(ledger: Ledger) -> None:
    disk = ledger.disk
    ledger.initiator(
        f"mkfs.ext4 -q -F {disk} && mkdir -p {MOUNT} && mount {disk} {MOUNT}"
        f" && dd if=/dev/urandom of={MOUNT}/old bs=64K count=40 status=none && echo before > {MOUNT}/file"
    )
    before = ledger.initiator(f"sync; sha256sum {MOUNT}/old")
    job = f"rm {MOUNT}/old; echo after > {MOUNT}/file; dd if=/dev/zero of={MOUNT}/junk bs=1M count=9; exit 5"
    result = ledger.run(f"pitcopy run {disk} -- sh -c '{job}'")
    assert result.returncode == 5, result.stderr
    assert ledger.initiator(f"sha256sum {MOUNT}/old; cat {MOUNT}/file") == before + "before\n"
    assert set(ledger.initiator(f"ls {MOUNT}").split()) == {"file", "lost+found", "old"}
    ledger.initiator(f"umount {MOUNT} && fsck.ext4 -f -n {disk}")
    ledger.wait(lambda: ledger.status()["state"] == "serving" or not ledger.status()["operation"])


def test_a_differential_names_the_bytes_that_changed(ledger: Ledger) -> None:
    ledger.initiator(f"pitcopy save {ledger.disk} --label here")
    ledger.fill(100, 1)
    found = json.loads(ledger.initiator(f"pitcopy diff {ledger.disk} --save here --json"))
    assert found["list"] == [{"offset": 100 << 20, "length": 1 << 20}]


def test_a_daemon_that_is_killed_serves_the_same_blocks_again(ledger: Ledger) -> None:
    ledger.fill(30, 4)
    before = ledger.checksum(30, 4)
    ledger.lab.shell("target", "systemctl kill --signal KILL targetplugind")
    assert ledger.checksum(30, 4) == before
    ledger.fill(40, 1)
    assert ledger.initiator(f"blockdev --getss {ledger.disk}").strip() == "4096"


def test_a_volume_of_512_is_made_on_no_such_medium(ledger: Ledger) -> None:
    media = json.loads(ledger.target("media", "list", "--json"))
    free = {one["name"]: one["block_size"] for one in media if one["state"] == "free"}
    large = next((name for name, size in free.items() if size == 4096), None)
    words = ["volume", "create", "plain", "--size", "64M", "--mirror", "1"]
    if large is not None:
        refused = ledger.asked(*words, "--media", large)
        assert refused.returncode == 1
        assert "4096" in refused.stderr
    ledger.target(*words, "--blocks", "512n")
    shown = json.loads(ledger.target("volume", "show", "plain", "--json"))
    assert (shown["block_size"], shown["physical_block_size"]) == (512, 512)
    ledger.target("volume", "delete", "plain", "--force")
