"""The daemon killed, the target's power cut, under load: hosts wait, and what was saved is there."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from .lab import Lab
from .ledger import Ledger, clean


@pytest.fixture(scope="module")
def ledger(booted_lab: Lab) -> Iterator[Ledger]:
    ledger = Ledger(booted_lab)
    yield ledger
    ledger.close()


def test_kill_9_of_the_daemon_under_load_is_not_noticed(ledger: Ledger) -> None:
    load = ledger.lab.spawn("initiator", ledger.fio(25))
    times = []
    for _ in range(4):
        time.sleep(2)
        begin = time.monotonic()
        ledger.lab.shell("target", "kill -9 $(systemctl show -P MainPID targetplugind)")
        ledger.wait(
            lambda: (
                ledger.run(
                    f"dd if={ledger.disk} of=/dev/null bs=4k count=1 iflag=direct"
                ).returncode
                == 0
            )
        )
        times.append(time.monotonic() - begin)
    clean(load.wait(90))
    print("seconds until a read is answered:", [round(t, 1) for t in times])
    stuck = ledger.lab.shell("target", "ps -eo stat,comm | grep ^D || true").stdout
    assert "iscsi" not in stuck, stuck


def test_a_clean_restart_under_load_is_not_noticed(ledger: Ledger) -> None:
    load = ledger.lab.spawn("initiator", ledger.fio(10))
    time.sleep(2)
    ledger.lab.shell("target", "systemctl restart targetplugind")
    clean(load.wait(60))
    ledger.wait(lambda: set(ledger.legs().values()) == {"in_sync"})


def test_a_save_outlives_a_power_cut_and_can_be_recovered(ledger: Ledger) -> None:
    ledger.fill(0, 32)
    before = ledger.checksum(0, 32)
    ledger.target("save", "ledger", "--label", "night")
    ledger.fill(8, 8)
    load = ledger.lab.spawn("initiator", ledger.fio(20))
    time.sleep(2)
    ledger.lab.power_cut("target")
    ledger.lab.start("target")
    clean(load.wait(150))  # the host waited, and all is served again with no hand on it
    ledger.target("recover", "ledger@night")
    assert ledger.checksum(0, 32) == before
    ledger.wait(lambda: ledger.operation("recover")["state"] == "done")
    assert ledger.checksum(0, 32) == before


def test_lio_s_own_restore_does_not_take_the_export(ledger: Ledger) -> None:
    load = ledger.lab.spawn("initiator", ledger.fio(15))
    time.sleep(1)
    ledger.lab.shell("target", "systemctl restart rtslib-fb-targetctl")
    clean(load.wait(90))
