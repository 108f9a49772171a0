"""The verbs under a host's load, on a real kernel: no I/O error, nothing wrong, and what was promised."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest

from .lab import Lab
from .ledger import MIB, Ledger, clean


@pytest.fixture(scope="module")
def ledger(booted_lab: Lab) -> Iterator[Ledger]:
    ledger = Ledger(booted_lab)
    yield ledger
    ledger.close()


@pytest.fixture(autouse=True)
def tidy(ledger: Ledger) -> Iterator[None]:
    """A test that fails leaves nothing to the next."""
    yield
    ledger.tidy()


def test_save_diff_and_resync_under_load(ledger: Ledger) -> None:
    ledger.fill(0, 8)
    before = ledger.checksum(0, 8)
    load = ledger.lab.spawn("initiator", ledger.fio(12))
    ledger.target("save", "ledger", "--label", "busy")
    assert ledger.operation("save")["pause_ms"] < 100
    assert "extents" in ledger.target("diff", "ledger@busy")
    ledger.target("resync", "ledger@busy", "--wait")
    assert set(ledger.legs().values()) == {"in_sync"}
    ledger.target("save", "ledger", "--label", "copied", "--policy", "copy", "--wait")
    clean(load.wait(60))
    assert ledger.checksum(0, 8) == before
    ledger.target("release", "ledger@copied")


def test_recover_under_load_gives_the_save_s_bytes_at_once(ledger: Ledger) -> None:
    ledger.fill(0, 16)
    ledger.stamp(64, 16)
    before = ledger.checksum(0, 16)
    ledger.target("save", "ledger", "--label", "good")
    ledger.fill(4, 6)
    ledger.stamp(64, 16)  # changed, and right before and after
    load = ledger.lab.spawn("initiator", ledger.fio(8, verify=False))
    reads = ledger.lab.spawn("initiator", ledger.stamped(8, 64, 16))
    ledger.target("recover", "ledger@good")
    assert ledger.checksum(0, 16) == before, "reads give the save's content when recover returns"
    done = ledger.operation("recover")
    assert done["seconds_in_force"] < 1
    assert done["extents_changed"] >= 96 + 256
    assert done["extents_changed"] < 2000, "only what differs"
    clean(load.wait(60))
    clean(reads.wait(60))
    ledger.wait(lambda: ledger.operation("recover")["state"] == "done")
    assert ledger.checksum(0, 16) == before
    ledger.target("resync", "ledger@good", "--wait")


def test_swap_under_load_there_and_back(ledger: Ledger) -> None:
    ledger.fill(0, 8)
    ledger.stamp(64, 16)
    first = ledger.checksum(0, 8)
    ledger.target("save", "ledger", "--label", "one")
    ledger.fill(0, 8)
    ledger.stamp(64, 16)
    second = ledger.checksum(0, 8)
    identity = ledger.initiator(f"lsblk -dno SERIAL {ledger.disk}")
    load = ledger.lab.spawn("initiator", ledger.fio(8, verify=False))
    reads = ledger.lab.spawn("initiator", ledger.stamped(8, 64, 16))
    ledger.target("swap", "ledger@one")
    assert ledger.checksum(0, 8) == first
    ledger.target("swap", "ledger")
    assert ledger.checksum(0, 8) == second
    clean(load.wait(60))
    clean(reads.wait(60))
    assert ledger.initiator(f"lsblk -dno SERIAL {ledger.disk}") == identity
    ledger.target("resync", "ledger", "--wait")


def test_a_backup_is_restored_and_swapped_in(ledger: Ledger) -> None:
    ledger.fill(0, 8)
    before = ledger.checksum(0, 8)
    ledger.target("save", "ledger", "--label", "src")
    ledger.target("backup", "ledger@src", "--to", "/var/tmp/ledger.qcow2", "--force")
    ledger.fill(0, 8)
    load = ledger.lab.spawn("initiator", ledger.fio(6))
    ledger.initiator(f"pitcopy restore {ledger.disk} --wait")
    clean(load.wait(60))
    ledger.target("swap", "ledger")
    assert ledger.checksum(0, 8) == before
    for save in ledger.status()["saves"]:
        ledger.target("release", save["name"], "--force")


def test_an_increment_is_written_through_a_kill_and_restored_with_its_base(ledger: Ledger) -> None:
    ledger.lab.exec("target", ["sh", "-c", "rm -f /var/tmp/one.qcow2 /var/tmp/two.qcow2"])
    ledger.fill(0, 8)
    ledger.target("save", "ledger", "--label", "one")
    ledger.target("backup", "ledger@one", "--to", "/var/tmp/one.qcow2")
    ledger.target("resync", "ledger@one", "--wait")  # the base outlives its save
    base = json.loads(ledger.target("backups", "list", "--json"))[-1]["number"]
    ledger.fill(2, 3)
    ledger.initiator(f"blkdiscard -o {6 * MIB} -l {MIB} {ledger.disk}")
    before = ledger.checksum(0, 8)
    ledger.target("save", "ledger", "--label", "two")
    load = ledger.lab.spawn("initiator", ledger.fio(8))
    two = ["backup", "ledger@two", "--to", "/var/tmp/two.qcow2", "--base", str(base)]
    ledger.target(*two, "--rate", "512K", "--no-wait")
    assert ledger.operation("backup")["rate"] == 512 << 10
    script = (
        "systemctl kill -s KILL targetplugind; sleep 1;"
        "until targetplugin status > /dev/null 2>&1; do sleep 0.2; done; ls -A /var/tmp"
    )
    left = ledger.lab.exec("target", ["sh", "-c", script], timeout=200).stdout
    assert "two.qcow2" not in left
    failed = ledger.operation("backup")
    assert failed["state"] == "failed"
    assert "nothing was written to /var/tmp/two.qcow2" in failed["error"]
    ledger.target(*two)
    done = ledger.operation("backup")
    assert 3 * 16 <= done["extents_changed"] < 5 * 16 + 16
    checked = (
        "qemu-img check -q /var/tmp/two.qcow2 && qemu-img info --backing-chain /var/tmp/two.qcow2"
    )
    assert "one.qcow2" in ledger.lab.exec("target", ["sh", "-c", checked]).stdout
    ledger.fill(0, 8)
    ledger.initiator(f"pitcopy restore {ledger.disk} --wait")
    clean(load.wait(60))
    ledger.target("swap", "ledger")
    assert ledger.checksum(0, 8) == before
    for save in ledger.status()["saves"]:
        ledger.target("release", save["name"], "--force")


def test_what_a_host_discards_reads_as_zeros_and_a_recover_brings_it_back(ledger: Ledger) -> None:
    ledger.fill(0, 16)
    before = ledger.checksum(0, 16)
    ledger.target("save", "ledger", "--label", "full")
    assert int(ledger.initiator(f"lsblk -bdno DISC-MAX {ledger.disk}")) == 16 * MIB
    ledger.initiator(f"blkdiscard -o {4 * MIB} -l {8 * MIB} {ledger.disk}")
    assert ledger.checksum(4, 8) == hashlib.sha256(bytes(8 * MIB)).hexdigest()
    ledger.initiator(f"blkdiscard -z -o 0 -l {MIB} {ledger.disk}")
    assert ledger.checksum(0, 1) == hashlib.sha256(bytes(MIB)).hexdigest()
    ledger.target("recover", "ledger@full")
    assert ledger.checksum(0, 16) == before
    ledger.wait(lambda: ledger.operation("recover")["state"] == "done")
    assert ledger.operation("recover")["extents_changed"] >= 144
    assert ledger.checksum(0, 16) == before
    ledger.target("resync", "ledger@full", "--wait")
