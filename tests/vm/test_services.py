"""The services on a real kernel: how little each may do, by what systemd and the kernel say of them while
they run, that hosts notice nothing when one of them, or all at once, are killed, and what is in the journal.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from .kills import LONGER_THAN_ANY_RUN, ended_unharmed
from .lab import Lab
from .ledger import Ledger, clean

# Of systemd-analyze security; tcmu-runner: 9.6.
MOST = {
    "targetplugin-lio": 2.0,
    "targetplugin-files": 1.7,
    "targetplugin-images": 1.0,
    "targetplugin-hooks": 2.6,
    "targetplugind": 1.0,
}
CAPABILITIES: dict[str, set[str]] = {
    "targetplugin-lio": {"sys_admin", "net_bind_service"},
    "targetplugin-files": {"dac_override"},
    "targetplugin-images": {"dac_override"},
    "targetplugin-hooks": {"dac_override"},
    "targetplugind": set(),
}
WHEN_ASKED = {"targetplugin-images", "targetplugin-hooks"}  # started by the first who asks
NUMBERS = {1: "dac_override", 10: "net_bind_service", 21: "sys_admin"}  # linux/capability.h
IMAGE = "/var/tmp/services.qcow2"
STATE = "/var/lib/targetplugin"
HOOK = "/usr/local/sbin/services-hook"
TOLD = "/run/services-told"


@pytest.fixture(scope="module")
def ledger(booted_lab: Lab) -> Iterator[Ledger]:
    ledger = Ledger(booted_lab)
    ledger.fill(0, 4)
    script = f"#!/bin/sh\\ncat >> {TOLD}; id -un >> {TOLD}\\n"
    booted_lab.shell("target", f"printf '{script}' > {HOOK}; chmod 700 {HOOK}; rm -f {TOLD}")
    ledger.target("hook", "add", HOOK)
    ledger.target("save", "ledger", "--label", "whole", "--policy", "copy", "--wait")
    ledger.target("backup", "ledger@whole", "--to", IMAGE, "--wait")
    yield ledger
    ledger.target("hook", "remove", HOOK)
    ledger.close()
    booted_lab.shell("target", f"rm -f {IMAGE} {HOOK} {TOLD}")


def process(lab: Lab, unit: str) -> str:
    return lab.shell("target", f"systemctl show -P MainPID {unit}").stdout.strip()


@pytest.mark.parametrize("unit", MOST)
def test_a_service_that_runs_may_do_no_more_than_it_must(ledger: Ledger, unit: str) -> None:
    assert ledger.lab.shell("target", f"systemctl is-active {unit}").stdout == "active\n"
    said = ledger.lab.shell(
        "target", f"systemd-analyze security --no-pager {unit} | tail -1"
    ).stdout
    found = re.search(rf"exposure level for {unit}.service: ([0-9.]+)", said)
    assert found, said
    assert float(found[1]) <= MOST[unit], said
    status = f"/proc/{process(ledger.lab, unit)}/status"
    bits = int(ledger.lab.shell("target", f"sed -n 's/^CapEff:\t//p' {status}").stdout, 16)
    assert {NUMBERS.get(bit, str(bit)) for bit in range(64) if bits >> bit & 1} == CAPABILITIES[
        unit
    ]


def test_the_daemon_is_nobody_and_has_no_disk_but_open(ledger: Ledger) -> None:
    lab = ledger.lab
    number = process(lab, "targetplugind")
    assert lab.shell("target", f"ps -o user= -p {number}").stdout.strip() == "targetplugin"
    inside = f"nsenter --target {number} --mount"
    assert "vd" not in lab.shell("target", f"{inside} ls /dev").stdout
    opened = lab.shell("target", f"ls -l /proc/{number}/fd").stdout
    assert opened.count("/dev/vd") >= 2
    assert lab.shell("target", f"find {STATE} /run/targetplugin ! -user targetplugin").stdout == ""


def test_a_hook_is_run_as_root(ledger: Ledger) -> None:
    ledger.target("events", "--json")
    ledger.wait(lambda: "root\n" in ledger.lab.shell("target", f"cat {TOLD}").stdout)


def test_what_a_daemon_left_that_was_root_is_the_user_s(ledger: Ledger) -> None:
    """An upgrade of what ran as root."""
    lab = ledger.lab
    lab.shell(
        "target",
        f"systemctl stop targetplugind; chown -R root:root {STATE} /run/targetplugin;"
        " systemctl start targetplugind",
    )
    assert ledger.asked("status").returncode == 0
    assert lab.shell("target", f"find {STATE} /run/targetplugin ! -user targetplugin").stdout == ""
    ledger.wait(lambda: set(ledger.legs().values()) == {"in_sync"})


def test_the_ring_is_the_daemon_s_alone_and_was_opened_for_it(ledger: Ledger) -> None:
    lab = ledger.lab
    rings = {
        unit: lab.shell("target", f"ls -l /proc/{process(lab, unit)}/fd").stdout for unit in MOST
    }
    assert "/dev/uio" in rings["targetplugind"]
    assert "/dev/uio" not in rings["targetplugin-lio"]
    script = f"nsenter --target {process(lab, 'targetplugind')} --mount touch /sys/kernel/config/x"
    assert "Read-only" in lab.exec("target", ["sh", "-c", script], check=False).stderr


def test_an_image_is_read_by_the_service_for_images_alone(ledger: Ledger) -> None:
    """A restore onto the save's own medium: qemu-img opens a disk that it was handed."""
    lab = ledger.lab
    before = process(lab, "targetplugin-images")
    assert before != "0"
    ledger.target("release", "ledger@whole")
    ledger.target("restore", "ledger", "--from", IMAGE, "--wait")
    inside = f"nsenter --target {before} --mount --net"
    seen = lab.shell("target", f"{inside} sh -c 'ls /dev; ls -A /var/lib/targetplugin; ip -o link'")
    assert "vda" not in seen.stdout
    assert "catalog" not in seen.stdout
    assert re.findall(r"^\d+: (\w+)", seen.stdout, re.MULTILINE) == ["lo"]


def test_hosts_notice_nothing_when_services_are_killed(ledger: Ledger) -> None:
    lab = ledger.lab
    lab.exec("initiator", ["dmesg", "--clear"])
    load = lab.spawn("initiator", ledger.fio(LONGER_THAN_ANY_RUN))
    time.sleep(2)
    for units in (list(MOST), *([unit] for unit in MOST), list(MOST)):
        ledger.target("backups", "register", "ledger", IMAGE)  # it is there when it is asked
        ledger.wait(lambda: process(lab, "targetplugin-hooks") != "0")
        before = {unit: process(lab, unit) for unit in units}
        assert "0" not in before.values()
        lab.shell("target", f"kill -9 {' '.join(before.values())}")
        for unit in WHEN_ASKED:
            before.pop(unit, None)
        ledger.wait(lambda was=before: all(process(lab, u) not in ("0", p) for u, p in was.items()))
        ledger.wait(lambda: bool(ledger.asked("status").returncode == 0))
        time.sleep(1)
    assert load.is_running, load.wait(check=False)
    ended_unharmed(lab, load, 180)
    assert process(lab, "targetplugin-images") == "0", "it comes again when it is asked"
    ledger.target("backups", "register", "ledger", IMAGE)
    assert process(lab, "targetplugin-images") != "0"
    ledger.wait(lambda: set(ledger.legs().values()) == {"in_sync"})


def test_verbs_wait_for_a_service_that_is_started_anew(ledger: Ledger) -> None:
    lab = ledger.lab
    units = ["targetplugin-lio", "targetplugin-files"]
    before = {unit: process(lab, unit) for unit in units}
    lab.shell("target", f"kill -9 {' '.join(before.values())}")
    ledger.target("backups", "register", "ledger", IMAGE)
    other = "iqn.2026-11.org.example:other"
    ledger.target("export", "ledger", "--initiator", other)
    ledger.target("unexport", "ledger", "--initiator", other)
    for unit, was in before.items():
        assert process(lab, unit) not in ("0", was)


def test_an_order_of_starts_does_not_matter(ledger: Ledger) -> None:
    """Each is stopped and started under load, the other being there or not."""
    lab = ledger.lab
    load = lab.spawn("initiator", ledger.fio(20))
    time.sleep(1)
    both = "targetplugin-lio targetplugin-files"
    lab.shell("target", f"systemctl stop {both}; systemctl restart targetplugind")
    lab.shell("target", f"systemctl restart {both}")
    sockets = "targetplugin-lio.socket targetplugin-files.socket"
    lab.shell("target", f"systemctl stop targetplugind {sockets} {both}")
    lab.shell("target", "systemctl start targetplugind")
    clean(load.wait(120))
    assert process(lab, "targetplugin-lio") != "0"
    assert process(lab, "targetplugin-files") != "0"


def records(lab: Lab, **wanted: Any) -> list[dict[str, Any]]:
    """What the target's journal has of these fields."""
    matches = [f"{name}={value}" for name, value in wanted.items()]
    command = ["journalctl", "--boot", "--no-pager", "--output=json", *matches]
    return [json.loads(line) for line in lab.exec("target", command).stdout.splitlines()]


def test_the_journal_has_an_operation_by_its_number(ledger: Ledger) -> None:
    """One line of a host's save; one of a backup that fails, for its file system has no room."""
    lab = ledger.lab
    ledger.initiator(f"pitcopy save {ledger.disk} --label logged")
    save = ledger.operation("save")
    (told,) = records(lab, TARGETPLUGIN_OPERATION=save["id"])
    assert told["MESSAGE"] == f"save ledger label=logged: {save['save']} done"
    assert {name: told.get(name) for name in KNOWN} == {
        **KNOWN,
        "PRIORITY": "6",
        "TARGETPLUGIN_VOLUME": "ledger",
        "TARGETPLUGIN_SAVE": save["save"],
        "TARGETPLUGIN_DOOR": "in-band",
    }
    lab.shell("target", "mkdir -p /srv/small; mount -t tmpfs -o size=1M,mode=1777 small /srv/small")
    try:
        failed = ledger.asked("backup", "ledger@logged", "--to", "/srv/small/x.qcow2", "--wait")
    finally:
        lab.shell("target", "umount /srv/small; rmdir /srv/small")
    assert failed.returncode == 1, failed.stdout + failed.stderr
    backup = ledger.operation("backup")
    assert backup["state"] == "failed"
    told = records(lab, TARGETPLUGIN_OPERATION=backup["id"], TARGETPLUGIN_STATE="failed")[-1]
    assert told["MESSAGE"].startswith(f"backup {save['save']}, operation {backup['id']}, is failed")
    assert {name: told.get(name) for name in KNOWN} == {
        **KNOWN,
        "PRIORITY": "4",
        "TARGETPLUGIN_VOLUME": "ledger",
        "TARGETPLUGIN_SAVE": save["save"],
        "TARGETPLUGIN_DOOR": "terminal",
    }
    ledger.target("resync", "ledger@logged", "--wait")


KNOWN = {
    "PRIORITY": "",
    "_SYSTEMD_UNIT": "targetplugind.service",
    "_TRANSPORT": "journal",
    "SYSLOG_IDENTIFIER": "targetplugind",
    "TARGETPLUGIN_VOLUME": "",
    "TARGETPLUGIN_SAVE": "",
    "TARGETPLUGIN_DOOR": "",
}


def test_a_journal_that_is_started_anew_gets_what_comes_then(ledger: Ledger) -> None:
    ledger.lab.shell("target", "systemctl restart systemd-journald")
    refused = ledger.asked("release", "ledger@anew")
    assert refused.returncode == 1
    found = records(ledger.lab, TARGETPLUGIN_VOLUME="ledger", TARGETPLUGIN_EVENT="release")
    assert found[-1]["MESSAGE"].startswith("release ledger@anew: refused, there is no save")
    assert found[-1]["TARGETPLUGIN_ASKER"].startswith("root (process ")


def test_a_password_is_not_in_the_journal(ledger: Ledger) -> None:
    secret, other = "correct-horse-battery", "iqn.2026-11.org.example:other"
    chap = ["--chap-user", "night", "--chap-password-file", "-"]
    command = ["targetplugin", "export", "ledger", "--initiator", other, *chap]
    ledger.lab.exec("target", command, input=f"{secret}\n")
    ledger.target("unexport", "ledger", "--initiator", other)
    script = "journalctl --boot --no-pager --output=export --unit='targetplugin*'"
    told = ledger.lab.shell("target", script).stdout
    assert "chap=night" in told
    assert secret not in told
