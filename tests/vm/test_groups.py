"""Two disks of a host that belong together, saved at one instant while it writes to one after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from .lab import Lab
from .ledger import Ledger

PAIRS = "/opt/targetplugin/checkout/tests/vm/guest/pairs.py"
ROUNDS = 6


@pytest.fixture(scope="module")
def pair(booted_lab: Lab) -> Iterator[tuple[Ledger, Ledger]]:
    data = Ledger(booted_lab, media="ab", size="64M")
    log = Ledger(booted_lab, media="de", size="64M", name="journal")
    yield data, log
    log.leave()
    data.close()


def consistent(first: str, second: str) -> bool:
    return int(first) - int(second) in (0, 1)


def test_pairs_that_were_saved_and_recovered_under_load_are_each_of_one_instant(
    pair: tuple[Ledger, Ledger],
) -> None:
    data, log = pair
    data.target("group", "create", "books", "ledger", "journal")
    data.initiator("rm -f /tmp/pairs.end")
    load = data.lab.spawn("initiator", ["python3", PAIRS, "write", data.disk, log.disk])
    for number in range(ROUNDS):
        label = f"round-{number}"
        if number % 2:  # the operator asks, and the host
            data.target("save", "ledger", "journal", "--label", label, "--deadline", "5000")
        else:
            data.initiator(f"pitcopy save {data.disk} {log.disk} --label {label} --deadline 5000")
        kept = [
            next(save for save in one.status()["saves"] if save["label"] == label) for one in pair
        ]
        held = [
            data.lab.exec(
                "target",
                ["python3", PAIRS, "read", f"/dev/disk/by-id/{save['media'][0]}"],
            ).stdout
            for save in kept
        ]
        assert consistent(*held), f"{label}: {held}"
        if number < ROUNDS - 1:
            data.target("resync", f"ledger@{label}", "--wait")
            data.target("resync", f"journal@{label}", "--wait")
    data.initiator("touch /tmp/pairs.end")
    result = load.wait(60)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 16
    last = f"round-{ROUNDS - 1}"
    data.target("recover", f"ledger@{last}", f"journal@{last}", "--wait")
    for one in pair:
        one.initiator(f"blockdev --flushbufs {one.disk}")
    found = [data.initiator(f"python3 {PAIRS} read {one.disk}") for one in pair]
    assert consistent(*found)
    assert int(found[0]) < int(result.stdout)
    for one in pair:
        one.target("resync", f"{one.name}@{last}", "--wait")


def test_it_is_told_how_long_writes_were_paused_and_a_deadline_that_is_too_short_changes_nothing(
    pair: tuple[Ledger, Ledger],
) -> None:
    data, _ = pair
    whole = next(
        one
        for one in json.loads(data.target("operation", "list", "--json"))
        if one["volume"] == "ledger, journal" and one["verb"] == "save"
    )
    assert 0 < whole["pause_ms"] < 5000
    data.lab.disk("media-d", iops=20)
    try:
        before = [len(one.status()["saves"]) for one in pair]
        load = data.lab.spawn("initiator", log_fio(pair))
        words = ["save", "ledger", "journal", "--deadline", "1"]
        told = data.lab.exec("target", ["targetplugin", *words], check=False, timeout=120)
        assert told.returncode == 1, told.stdout
        assert "not over within 1 ms; so none of them is" in told.stderr
        assert [len(one.status()["saves"]) for one in pair] == before
    finally:
        data.lab.disk("media-d", iops=0)
    load.wait(60)


def log_fio(pair: tuple[Ledger, Ledger]) -> list[str]:
    return pair[1].fio(5, first_mib=0, mib=32, verify=False)
