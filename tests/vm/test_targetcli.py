"""A volume as a user-backed store of targetcli's: found, made, saved, restored and deleted as any other."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from . import by_targetcli
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


@pytest.fixture
def told(lab: Lab) -> Iterator[Lab]:
    with by_targetcli.told(lab) as told:
        yield told


def test_a_volume_is_made_saved_restored_and_deleted_as_targetcli_does(told: Lab) -> None:
    lab = told
    assert "The name of a volume of targetplugin" in targetcli(lab, STORE, "help", "create")
    make = (STORE, "create", "name=ledger", "size=64M")
    said = refused(lab, *make, "cfgstring=wrong")
    assert "cfgstring invalid" in said
    assert "wrong" in said
    targetcli(lab, STORE, "create", "name=other", "size=64M", "cfgstring=ledger")
    wait(lab, "The storage object other is not served: it must be called as its volume is, ledger.")
    targetcli(lab, STORE, "delete", "other")
    targetcli(lab, STORE, "create", "name=ledger", "size=65M", "cfgstring=ledger")
    wait(lab, f"The storage object ledger has {65 << 20} bytes, the volume {SIZE}. It is not")
    targetcli(lab, STORE, "delete", "ledger")

    targetcli(lab, *make, "cfgstring=ledger")
    lab.shell(
        "target",
        f"""
        targetcli /iscsi create {TARGET}
        targetcli /iscsi/{TARGET}/tpg1/luns create {STORE}/ledger
        targetcli /iscsi/{TARGET}/tpg1/acls create {IQN}
        targetcli saveconfig
        sync  # rtslib does not see to it that what it wrote is on the disk
        """,
    )
    assert "ledger (64.0MiB) activated" in targetcli(lab, STORE, "ls")
    lab.shell(
        "initiator",
        f"""
        iscsiadm -m node -T {TARGET} -p target:3260 -o new
        iscsiadm -m node -T {TARGET} --login && udevadm settle
        pitcopy save {LINK} --label good
        dd if=/dev/urandom of={LINK} bs=1M count=8 oflag=direct conv=fsync
        """,
    )

    written = content(lab)
    lab.shell("target", "systemctl restart targetplugin-dbus targetplugind")
    assert content(lab) == written, "after both services were started anew"
    lab.power_cut("target")
    lab.start("target")
    log_in_again(lab)
    assert content(lab) == written, "after a power cut, restored by rtslib's own service"
    (kept,) = json.loads(lab.shell("target", f"cat {SAVED}").stdout)["storage_objects"]
    assert (kept["config"], kept["size"]) == ("targetplugin/ledger", SIZE)
    done = lab.exec("target", ["targetcli", "restoreconfig", "clear_existing=True"])
    assert "Cannot set attribute" not in done.stderr + done.stdout
    log_in_again(lab)
    assert content(lab) == written, "after restoreconfig"
    lab.shell("target", "systemctl start targetplugin-dbus")
    targetcli(lab, f"{STORE}/ledger", "set", "attribute", f"dev_size={SIZE * 2}")
    wait(
        lab, f"LIO was told that ledger has {SIZE * 2} bytes; it has {SIZE}, and hosts are told so."
    )
    targetcli(lab, f"{STORE}/ledger", "set", "attribute", f"dev_size={SIZE}")
    # saveconfig has made the directory of LIO one that not even root may search without an override.
    lab.shell("target", "systemctl restart targetplugin-lio")
    said = lab.shell("target", "journalctl -b -o cat -u targetplugin-lio").stdout
    assert "can't be kept" not in said
    assert lab.shell("target", "ls -d /etc/rtslib-fb-target/pr").stdout

    export = lab.exec(
        "target", ["targetplugin", "export", "ledger", "--initiator", IQN], check=False
    )
    assert "was made with targetcli" in export.stderr
    delete = lab.exec(
        "target", ["targetplugin", "volume", "delete", "ledger", "--force"], check=False
    )
    assert f"targetcli {STORE} delete ledger" in delete.stderr
    lab.shell("initiator", f"iscsiadm -m node -T {TARGET} -u")
    lab.shell("target", f"targetcli /iscsi delete {TARGET} && targetcli {STORE} delete ledger")
    assert lab.shell("target", "ls /sys/class/uio").stdout == ""
    lab.shell("target", f"targetplugin export ledger --initiator {IQN}")
    assert "unexport ledger" in refused(lab, *make, "cfgstring=ledger")
    lab.shell("target", "targetplugin unexport ledger")


def test_the_service_that_tells_targetcli_may_do_little(told: Lab) -> None:
    said = told.shell("target", "systemd-analyze security targetplugin-dbus | tail -n 1").stdout
    assert float(said.split(":")[1].split()[0]) <= 2.0, said
