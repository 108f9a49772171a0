"""Lists of jobs on a real kernel, and what stands between a disk and its file system: LVM."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from .lab import Lab
from .ledger import Ledger

MOUNT = "/mnt/test"
LIST = "/root/night.list"


@pytest.fixture(scope="module")
def ledger(booted_lab: Lab) -> Iterator[Ledger]:
    ledger = Ledger(booted_lab)
    yield ledger
    ledger.initiator(f"umount -A {MOUNT}; vgchange -an night; true")
    ledger.close()


@pytest.fixture(autouse=True)
def clean(ledger: Ledger) -> Iterator[None]:
    ledger.tidy()
    ledger.initiator(f"mkdir -p {MOUNT}; wipefs -qa {ledger.disk}")
    yield
    ledger.initiator(
        f"cd /; umount {MOUNT}/deep {MOUNT} 2>/dev/null; rm -rf /var/lib/pitcopy; true"
    )


def content(ledger: Ledger) -> list[str]:
    return ledger.initiator(f"cat {MOUNT}/file; ls {MOUNT}").split()


def test_a_list_that_fails_at_the_second_step_is_ended_by_continue(ledger: Ledger) -> None:
    ledger.initiator(f"mkfs.ext4 -qF {ledger.disk} && mount {ledger.disk} {MOUNT}")
    steps = f"""# three steps
echo one >> {MOUNT}/file

echo two >> {MOUNT}/file; dd if=/dev/zero of={MOUNT}/junk bs=1M count=4; test -e /root/mended
echo three >> {MOUNT}/file; rm -f {MOUNT}/junk
"""
    ledger.initiator(f"rm -f /root/mended; cat > {LIST} <<'END'\n{steps}END")
    result = ledger.run(f"pitcopy jobs {ledger.disk} {LIST} --label night")
    assert result.returncode == 1, result.stderr
    assert content(ledger) == ["one", "file", "lost+found"], "as it was before the second"
    shown = json.loads(ledger.initiator(f"pitcopy jobs {ledger.disk} --show --json"))
    assert [step["state"] for step in shown["steps"]] == ["done", "failed", "waiting"]
    ledger.initiator("touch /root/mended")
    assert ledger.run(f"pitcopy jobs {ledger.disk} {LIST}").returncode == 1, "it is to be continued"
    result = ledger.run(f"pitcopy jobs {ledger.disk} --continue")
    assert result.returncode == 0, result.stderr
    assert content(ledger) == ["one", "two", "three", "file", "lost+found"]
    assert [save["label"] for save in ledger.status()["saves"]] == ["night-3"]


def test_a_killed_pitcopy_is_taken_up_and_a_told_one_takes_the_disk_back(ledger: Ledger) -> None:
    ledger.initiator(f"mkfs.ext4 -qF {ledger.disk} && mount {ledger.disk} {MOUNT}")
    ledger.initiator(f"echo before > {MOUNT}/file")
    wait = f"while ! grep -q half {MOUNT}/file; do sleep 0.1; done"
    step = f"echo half > {MOUNT}/file; test -e /root/go || exec sleep 100"
    ledger.initiator(f"rm -f /root/go; echo '{step}; echo end > {MOUNT}/file' > {LIST}")
    begin = f"setsid pitcopy jobs {ledger.disk}"
    ledger.initiator(f"{begin} {LIST} >/tmp/said 2>&1 & {wait}; kill -9 $!; killall sleep; wait")
    assert content(ledger)[0] == "half"
    told = ledger.run(
        f"{begin} --continue >/tmp/said 2>&1 & sleep 4; {wait}; kill -TERM $!; wait $!"
    )
    assert told.returncode == 128 + 15, ledger.initiator("cat /tmp/said")
    assert content(ledger)[0] == "before"
    ledger.initiator(f"touch /root/go; pitcopy jobs {ledger.disk} --continue")
    assert content(ledger)[0] == "end"


def test_a_job_on_lvm_is_taken_back_with_what_it_did_to_lvm(ledger: Ledger) -> None:
    ledger.initiator(
        f"pvcreate -qqy {ledger.disk} && vgcreate -qq night {ledger.disk} &&"
        f"lvcreate -qqy -L 64M -n data night && mkfs.ext4 -qF /dev/night/data &&"
        f"mount /dev/night/data {MOUNT} && mkdir {MOUNT}/sub {MOUNT}/deep &&"
        f"echo before > {MOUNT}/file && mount --bind {MOUNT}/sub {MOUNT}/deep"
    )
    busy = ledger.run(f"cd {MOUNT} && pitcopy run /dev/night/data -- true")
    assert busy.returncode == 1
    assert "in use" in busy.stderr
    assert not ledger.status()["saves"], "it was refused before anything was done"
    job = f"echo after > {MOUNT}/file; lvextend -qq -L 96M night/data; exit 4"
    result = ledger.run(f"pitcopy run /dev/night/data -- sh -c '{job}'")
    assert result.returncode == 4, result.stderr
    assert content(ledger)[0] == "before", result.stderr
    assert ledger.initiator("lvs --noheadings --units m -o lv_size night").strip() == "64.00m"
    assert ledger.run(f"mountpoint -q {MOUNT}/deep").returncode == 0
    ledger.initiator(
        f"umount {MOUNT}/deep {MOUNT}; vgremove -qqf night; pvremove -qq {ledger.disk}"
    )
