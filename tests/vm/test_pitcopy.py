"""pitcopy and the vendor commands from a real initiator."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from .lab import Lab
from .ledger import Ledger

MOUNT = "/mnt/test"


@pytest.fixture(scope="module")
def ledger(booted_lab: Lab) -> Iterator[Ledger]:
    ledger = Ledger(booted_lab)
    ledger.initiator(
        f"mkfs.ext4 -q -F {ledger.disk} && mkdir -p {MOUNT} && mount {ledger.disk} {MOUNT}"
    )
    yield ledger
    ledger.close()


def test_a_job_that_fails_leaves_the_disk_as_it_was(ledger: Ledger) -> None:
    ledger.initiator(f"echo before > {MOUNT}/file")
    job = f"echo after > {MOUNT}/file; dd if=/dev/zero of={MOUNT}/junk bs=1M count=4; exit 5"
    result = ledger.run(f"pitcopy run {ledger.disk} -- sh -c '{job}'")
    assert result.returncode == 5, result.stderr
    assert ledger.initiator(f"cat {MOUNT}/file; ls {MOUNT}").split() == [
        "before",
        "file",
        "lost+found",
    ]


def test_the_next_run_finds_a_leg_again_and_a_good_job_stays(ledger: Ledger) -> None:
    result = ledger.run(f"pitcopy run {ledger.disk} -- sh -c 'echo after > {MOUNT}/file'")
    assert result.returncode == 0, result.stderr
    assert ledger.initiator(f"cat {MOUNT}/file").strip() == "after"


def test_what_keeps_the_disk_busy_is_named_and_the_save_is_left(ledger: Ledger) -> None:
    job = f"echo bad > {MOUNT}/file; (cd {MOUNT}; sleep 60) >/dev/null 2>&1 </dev/null & sleep 1; exit 3"
    result = ledger.run(f"pitcopy run {ledger.disk} --label held -- sh -c '{job}'")
    assert result.returncode == 3
    assert "sleep" in result.stderr
    assert "pitcopy recover" in result.stderr
    assert ledger.run(f"pitcopy run {ledger.disk} -- true").returncode == 1
    ledger.initiator("kill $(pidof sleep)")
    ledger.initiator(f"pitcopy recover {ledger.disk} --save held --no-undo")
    assert ledger.initiator(f"cat {MOUNT}/file").strip() == "after"


def test_a_killed_pitcopy_leaves_nothing_frozen(ledger: Ledger) -> None:
    for label in ("k1", "k2"):
        ledger.run(f"pitcopy save {ledger.disk} --label {label} & sleep 0.4; kill -9 $!; wait")
        assert ledger.run(f"timeout 20 sh -c 'echo x > {MOUNT}/after; sync'").returncode == 0


def test_vendor_commands_by_hand(ledger: Ledger) -> None:
    def sg(cdb: str, more: str = "") -> str:
        result = ledger.run(f"sg_raw -v {more} {ledger.disk} {cdb} 2>&1")
        return result.stdout

    send = "-s 72 -i /tmp/list"
    ledger.initiator("printf '\\1' > /tmp/list; truncate -s 72 /tmp/list")
    before = json.loads(ledger.initiator(f"pitcopy status {ledger.disk} --json"))
    assert "Good" in sg("c0 00 00 00 00 00 00 00 40 00", "-r 64")
    assert "field in cdb" in sg("c0 00 00 00 00 01 00 00 40 00", "-r 64").lower()
    assert "field in cdb" in sg("c0 1f 00 00 00 00 00 00 40 00", "-r 64").lower()
    assert "field in cdb" in sg("c1 01 80 00 00 00 00 00 48 00", send).lower()
    no_generation = sg("c1 01 00 00 00 00 00 00 48 00", send).lower()
    assert "field in parameter list" in no_generation
    assert "list length" in sg("c1 01 00 00 00 00 00 00 47 00", "-s 71 -i /tmp/list").lower()
    ledger.initiator("printf '\\143' | dd of=/tmp/list bs=1 seek=15 conv=notrunc")
    assert "field in parameter list" in sg("c1 01 00 00 00 00 00 00 48 00", send).lower()
    after = json.loads(ledger.initiator(f"pitcopy status {ledger.disk} --json"))
    assert after["generation"] == before["generation"], "nothing was changed"
    assert [s["generation"] for s in after["saves"]] == [s["generation"] for s in before["saves"]]


def test_the_one_file_works_on_a_host(ledger: Ledger) -> None:
    ledger.initiator(
        "cd /opt/targetplugin/checkout && python3 -m targetplugin.host.onefile /root/pitcopy.pyz"
    )
    found = json.loads(ledger.initiator(f"cd / && /root/pitcopy.pyz status {ledger.disk} --json"))
    assert found["legs"]
