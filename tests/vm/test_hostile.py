"""A slice of `python3 -m tests.vm.hostile`, new cases each time; and that it finds what is wrong."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

from .hostile import Hostile
from .lab import Lab

SECONDS = float(os.environ.get("HOSTILE_SECONDS", "20"))
BY_TOOL = 25


@pytest.fixture(scope="module")
def hostile(booted_lab: Lab) -> Iterator[Hostile]:
    made = Hostile(booted_lab)
    yield made
    made.close()


def test_no_command_harms_a_disk_on_which_fio_verifies(
    hostile: Hostile, told: Callable[[str], None]
) -> None:
    seed = time.time_ns()
    try:
        came = hostile.run(seed, 1_000_000, SECONDS, BY_TOOL)
    except AssertionError as wrong:
        raise AssertionError(f"python3 -m tests.vm.hostile --seed {seed}: {wrong}") from wrong
    told(f"hostile commands through iSCSI: {came.cases} with seed {seed}")
    assert came.cases >= 20 * SECONDS
    good = {name for name, code in came.counts if not code}
    assert {"READ (10)", "WRITE (10)"} <= good
    assert len(good) >= 12  # which, is chance
    assert any(name.startswith("PIT COPY OUT") for name in good)


def test_it_finds_what_another_writes(hostile: Hostile) -> None:
    disk = hostile.known.disk
    load = hostile.lab.spawn("initiator", hostile.known.fio(60, first_mib=0, mib=8, verify=False))
    time.sleep(1)
    command = hostile.command(7, "--cases", "500", disk)
    found = hostile.lab.exec("initiator", command, check=False)
    load.kill()
    assert found.returncode == 1
    assert "other data than was written" in found.stderr
