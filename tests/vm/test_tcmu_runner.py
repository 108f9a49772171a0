"""targetcli finds volumes beside a real tcmu-runner, whichever of the two comes and goes first."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from . import by_targetcli, packages
from .by_targetcli import (
    LINK,
    SAVED,
    SIZE,
    STORE,
    TARGET,
    content,
    log_in_again,
    refused,
    targetcli,
    wait,
)
from .lab import Lab
from .ledger import IQN
from .long import long

pytestmark = long

# tcmu-runner's library refuses devices that it does not know, where the kernel asks it.
UNASKED = "control=nl_reply_supported=-1"


@pytest.fixture
def beside(lab: Lab) -> Iterator[Lab]:
    """tcmu-runner is there, and runs, and targetcli is told of a volume."""
    packages.install(lab, *packages.TCMU_RUNNER)
    lab.shell("target", "systemctl start tcmu-runner")
    with by_targetcli.told(lab) as told:
        yield told
    lab.shell("target", "dpkg --purge tcmu-runner > /root/purge.log 2>&1")


def found(lab: Lab) -> None:
    """Both kinds, soon."""
    end = time.monotonic() + 60
    while True:
        said = targetcli(lab, "/backstores", "ls", "/backstores", "1")
        if "user:targetplugin" in said and "user:qcow" in said:
            break
        assert time.monotonic() < end, said
        time.sleep(1)
    assert "The name of a volume of targetplugin" in targetcli(lab, STORE, "help", "create")
    said = refused(lab, STORE, "create", "name=ledger", "size=64M", "cfgstring=no-such")
    assert "there is no volume no-such" in said


def both(lab: Lab, *words: str) -> None:
    lab.shell("target", "\n".join(f"systemctl {word}" for word in words))
    found(lab)


def test_it_finds_both_in_whatever_order_they_come_and_go(beside: Lab) -> None:
    found(beside)
    both(beside, "restart targetplugin-dbus")
    both(beside, "restart tcmu-runner")
    both(beside, "stop tcmu-runner", "restart targetplugin-dbus", "start tcmu-runner")
    both(beside, "stop targetplugin-dbus", "restart tcmu-runner", "start targetplugin-dbus")
    both(beside, "stop tcmu-runner targetplugin-dbus", "start targetplugin-dbus tcmu-runner")
    beside.shell("target", "kill -9 $(pidof tcmu-runner) && systemctl restart tcmu-runner")
    found(beside)


def test_a_disk_of_targetcli_s_is_served_beside_it(beside: Lab) -> None:
    lab = beside
    found(lab)
    targetcli(lab, STORE, "create", "name=ledger", "size=64M", "cfgstring=ledger", UNASKED)
    lab.shell(
        "target",
        f"""
        truncate -s 64M /root/other.img
        targetcli /backstores/user:qcow create name=other size=64M cfgstring=/root/other.img
        targetcli /iscsi create {TARGET}
        targetcli /iscsi/{TARGET}/tpg1/luns create {STORE}/ledger
        targetcli /iscsi/{TARGET}/tpg1/luns create /backstores/user:qcow/other
        targetcli /iscsi/{TARGET}/tpg1/acls create {IQN}
        targetcli saveconfig && sync
        """,
    )
    lab.shell(
        "initiator",
        f"""
        iscsiadm -m node -T {TARGET} -p target:3260 -o new
        iscsiadm -m node -T {TARGET} --login && udevadm settle
        dd if=/dev/urandom of={LINK} bs=1M count=8 oflag=direct conv=fsync
        """,
    )

    written = content(lab)
    lab.shell("target", "systemctl restart tcmu-runner")
    assert content(lab) == written, "it leaves what is not its own alone"
    lab.shell("target", "systemctl restart targetplugind")
    assert content(lab) == written
    saved = json.loads(lab.shell("target", f"cat {SAVED}").stdout)
    kept = {one["name"]: one for one in saved["storage_objects"]}
    assert (kept["ledger"]["config"], kept["ledger"]["size"]) == ("targetplugin/ledger", SIZE)
    lab.shell("initiator", f"iscsiadm -m node -T {TARGET} -u")
    said = refused(lab, "restoreconfig", "clear_existing=True")
    assert "Could not create StorageObject ledger: [Errno 2] No such file or directory" in said
    wait(lab, "The storage object ledger was gone as soon as it was made. Where tcmu-runner runs")
    targetcli(lab, "/iscsi", "delete", TARGET)
    targetcli(lab, "/backstores/user:qcow", "delete", "other")


def test_what_targetplugin_exports_is_served_beside_it(beside: Lab) -> None:
    lab = beside
    lab.shell("target", f"targetplugin export ledger --initiator {IQN} --target {TARGET}")
    lab.shell("initiator", f"iscsiadm -m node -T {TARGET} -p target:3260 -o new")
    log_in_again(lab)
    lab.shell("initiator", f"dd if=/dev/urandom of={LINK} bs=1M count=8 oflag=direct conv=fsync")
    written = content(lab)
    for order in ("restart tcmu-runner", "restart targetplugind", "restart rtslib-fb-targetctl"):
        lab.shell("target", f"systemctl {order}")
        log_in_again(lab)
        assert content(lab) == written, order
    lab.shell("target", "systemctl enable tcmu-runner")
    lab.power_cut("target")
    lab.start("target")
    assert lab.shell("target", "systemctl is-active tcmu-runner").stdout.strip() == "active"
    log_in_again(lab)
    assert content(lab) == written, "after a power cut"
    lab.shell("initiator", f"iscsiadm -m node -T {TARGET} -u")
    lab.shell("target", "targetplugin unexport ledger")
