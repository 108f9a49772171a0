"""The daemon killed and restarted under load, and LIO too: hosts wait, and see no error."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from .kills import kill_again_and_again
from .lab import Lab
from .ledger import Ledger, clean


@pytest.fixture(scope="module")
def ledger(booted_lab: Lab) -> Iterator[Ledger]:
    ledger = Ledger(booted_lab)
    yield ledger
    ledger.close()


def test_kill_9_of_the_daemon_under_load_is_not_noticed(
    ledger: Ledger, told: Callable[[str], None]
) -> None:
    seed = int(time.time())
    told(f"kills, seed {seed}: {kill_again_and_again(ledger, 5, seed=seed)}")


def test_a_clean_restart_under_load_is_not_noticed(ledger: Ledger) -> None:
    load = ledger.lab.spawn("initiator", ledger.fio(10))
    time.sleep(2)
    ledger.lab.shell("target", "systemctl restart targetplugind")
    clean(load.wait(60))
    ledger.wait(lambda: set(ledger.legs().values()) == {"in_sync"})


def test_lio_s_own_restore_does_not_take_the_export(ledger: Ledger) -> None:
    load = ledger.lab.spawn("initiator", ledger.fio(15))
    time.sleep(1)
    ledger.lab.shell("target", "systemctl restart rtslib-fb-targetctl")
    clean(load.wait(90))
