"""Saves without fill on a real disk: many that share a store, taken back one by one, whatever becomes of the
daemon meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from . import logins
from .lab import Lab
from .ledger import IQN, Ledger, clean

MOUNT = "/mnt/sparse"


@pytest.fixture(scope="module")
def ledger(booted_lab: Lab) -> Iterator[Ledger]:
    ledger = Ledger(booted_lab, "abcd")
    yield ledger
    ledger.close()


def saves(ledger: Ledger) -> dict[str, dict[str, Any]]:
    return {save["label"]: save for save in ledger.status()["saves"]}


def test_saves_under_load_share_a_store_and_outlive_a_daemon_that_is_killed(ledger: Ledger) -> None:
    sums: dict[str, str] = {}
    load = ledger.lab.spawn("initiator", ledger.fio(60))
    for number in range(3):
        ledger.fill(4 * number, 8)
        sums[f"s{number}"] = ledger.checksum(0, 32)
        said = json.loads(
            ledger.target("save", "ledger", "--no-fill", "--label", f"s{number}", "--json")
        )
        assert said["save"]["fill"] == "unfilled"
    ledger.fill(0, 32)
    ledger.lab.exec("target", ["systemctl", "kill", "-s", "KILL", "targetplugind"], timeout=30)
    clean(load.wait(180))
    asked = ["targetplugin", "status"]
    ledger.wait(lambda: ledger.lab.exec("target", asked, check=False).returncode == 0)
    assert {save["fill"] for save in saves(ledger).values()} == {"unfilled"}
    last = ledger.checksum(0, 32)
    ledger.target("release", "ledger@s1")
    ledger.target("recover", "ledger@s0", "--wait")
    assert ledger.checksum(0, 32) == sums["s0"]
    ledger.target("undo", "ledger", "--wait")
    assert ledger.checksum(0, 32) == last
    ledger.target("recover", "ledger@s2", "--wait")
    assert ledger.checksum(0, 32) == sums["s2"]


def shown(ledger: Ledger, name: str) -> tuple[str, str]:
    """Shows a save to the initiator, which logs in. Its target, and its disk there."""
    target = json.loads(ledger.target("export", name, "--initiator", IQN, "--json"))["target"]
    logins.log_in(ledger.lab, [target])
    (disk,) = logins.disks(ledger.lab, [target])
    return target, disk


def test_one_is_shown_at_once_and_filled_meanwhile_and_is_whole_without_its_store(
    ledger: Ledger,
) -> None:
    ledger.tidy()  # the spare has an undo save
    content = ledger.checksum(0, 32)
    ledger.target("save", "ledger", "--no-fill", "--label", "kept", "--hold", "1d")
    ledger.fill(0, 16)
    target, disk = shown(ledger, "ledger@kept")
    read = f"dd if={disk} bs=1M count=32 iflag=direct status=none | sha256sum | cut -d' ' -f1"
    assert ledger.initiator(read).strip() == content
    made = json.loads(ledger.target("fill", "ledger@kept", "--rate", "8M", "--no-wait", "--json"))[
        "operation"
    ]
    ledger.lab.exec("target", ["systemctl", "kill", "-s", "KILL", "targetplugind"], timeout=30)
    assert ledger.initiator(read).strip() == content
    ledger.target("operation", "rate", str(made["id"]), "none")
    ledger.wait(lambda: saves(ledger)["kept"]["fill"] == "whole")
    done = json.loads(ledger.target("operation", "show", str(made["id"]), "--json"))
    assert done["state"] == "done"
    assert ledger.initiator(read).strip() == content
    logins.log_out(ledger.lab, target)
    ledger.target("unexport", "ledger@kept")
    ledger.target("unhold", "ledger@kept", "--force")
    for name in [s["name"] for s in ledger.status()["saves"] if s["label"] != "kept"]:
        ledger.target("release", name, "--force")
    assert ledger.status().get("store") is None
    ledger.target("recover", "ledger@kept", "--no-undo", "--wait")
    assert ledger.checksum(0, 32) == content
    ledger.target("release", "ledger@kept")


def test_a_host_saves_often_and_takes_a_file_system_back(ledger: Ledger) -> None:
    ledger.initiator(
        f"mkfs.ext4 -q -F {ledger.disk} && mkdir -p {MOUNT} && mount {ledger.disk} {MOUNT}"
    )
    for number in range(4):
        ledger.initiator(
            f"echo {number} > {MOUNT}/file && pitcopy save {ledger.disk} --no-fill --label n{number}"
        )
    ledger.initiator(f"echo spoiled > {MOUNT}/file && pitcopy recover {ledger.disk} --save n2")
    assert ledger.initiator(f"cat {MOUNT}/file").strip() == "2"
    ledger.initiator(f"pitcopy undo {ledger.disk}")
    assert ledger.initiator(f"cat {MOUNT}/file").strip() == "spoiled"
    ledger.initiator(f"umount {MOUNT} && fsck.ext4 -fn {ledger.disk}")
