"""Two disks of a host that belong together: saved, taken back and swapped at one instant while it writes to
one after the other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from .lab import Lab
from .ledger import Ledger
from .long import long

PAIRS = "/opt/targetplugin/checkout/tests/vm/guest/pairs.py"
ROUNDS = 4
ALIVE = ["targetplugin", "status"]


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
        told = data.asked(*words)
        assert told.returncode == 1, told.stdout
        assert "not over within 1 ms; so none of them is" in told.stderr
        assert [len(one.status()["saves"]) for one in pair] == before
    finally:
        data.lab.disk("media-d", iops=0)
    load.wait(60)


def log_fio(pair: tuple[Ledger, Ledger]) -> list[str]:
    return pair[1].fio(5, first_mib=0, mib=32, verify=False)


# --- swap, and undo of a recover -----------------------------------------------------------------


@pytest.fixture(scope="module")
def roomy(pair: tuple[Ledger, Ledger]) -> tuple[Ledger, Ledger]:
    """The same with two spares, and with what the tests before left tidied away."""
    data, log = pair
    data.target("media", "add", "/dev/disk/by-id/virtio-media-c", "--force")
    data.target("media", "add", "/dev/disk/by-id/virtio-media-f", "--force")
    if "books" not in data.target("group", "list"):
        data.target("group", "create", "books", "ledger", "journal")
    return data, log


@contextmanager
def writing(pair: tuple[Ledger, Ledger]) -> Iterator[list[int]]:
    """The host writes to one after the other meanwhile; its last number is in the list at the end."""
    data, log = pair
    for one in pair:  # its numbers begin anew
        one.initiator(f"dd if=/dev/zero of={one.disk} bs=1M count=1 oflag=direct status=none")
    data.initiator("rm -f /tmp/pairs.end")
    load = data.lab.spawn("initiator", ["python3", PAIRS, "write", data.disk, log.disk])
    time.sleep(1)
    reached: list[int] = []
    try:
        yield reached
        time.sleep(3)  # until it has been everywhere since
    finally:
        data.initiator("touch /tmp/pairs.end")
        result = load.wait(60)
    assert result.returncode == 0, result.stderr
    reached.append(int(result.stdout))


def on_media(pair: tuple[Ledger, Ledger], named: Callable[[dict[str, Any]], bool]) -> list[str]:
    """What stands on the media of the save of each that is meant."""
    held = []
    for one in pair:
        (save,) = [save for save in one.status()["saves"] if named(save)]
        words = ["python3", PAIRS, "read", f"/dev/disk/by-id/{save['media'][0]}"]
        held.append(one.lab.exec("target", words).stdout)
    return held


def on_disks(pair: tuple[Ledger, Ledger]) -> list[str]:
    for one in pair:
        one.initiator(f"blockdev --flushbufs {one.disk}")
    return [one.initiator(f"python3 {PAIRS} read {one.disk}") for one in pair]


def gone(pair: tuple[Ledger, Ledger]) -> None:
    """No save is left, and both have all legs."""
    for one in pair:
        one.wait(lambda one=one: one.status()["state"] != "recovering")
        for save in one.status()["saves"]:
            split = len(one.legs()) < 2 and not save["undo"]
            words = ["resync", save["name"], "--wait"] if split else ["release", save["name"]]
            one.target(*words)
        one.wait(lambda one=one: list(one.legs().values()) == ["in_sync", "in_sync"])


@long
def test_pairs_that_were_swapped_under_load_and_back_are_each_of_one_instant(
    roomy: tuple[Ledger, Ledger],
) -> None:
    data, _ = roomy
    with writing(roomy):
        data.target("save", "ledger", "journal", "--label", "swapped", "--deadline", "5000")
    with writing(roomy) as reached:
        said = data.target("swap", "ledger@swapped", "journal@swapped", "--deadline", "5000")
    assert "back to it: targetplugin swap ledger@" in said
    # What they were up to the swap is a save of each, and the writes after it are on what they are.
    kept = on_media(roomy, lambda save: True)
    assert consistent(*kept), kept
    assert [int(one) for one in on_disks(roomy)] == [reached[0], reached[0]]
    swap = data.operation("swap")
    assert swap["state"] == "done"
    # The host swaps back: its disks are what the saves hold.
    data.initiator(f"pitcopy swap {roomy[0].disk} {roomy[1].disk} --deadline 5000")
    assert on_disks(roomy) == kept
    gone(roomy)


@long
def test_a_recover_of_pairs_is_undone_at_one_instant(roomy: tuple[Ledger, Ledger]) -> None:
    data, _ = roomy
    with writing(roomy):
        data.target("save", "ledger", "journal", "--label", "kept", "--deadline", "5000")
    with writing(roomy):
        said = data.target("recover", "ledger@kept", "journal@kept", "--deadline", "5000")
    assert "back to it: targetplugin undo ledger journal" in said
    for one in roomy:
        one.wait(lambda one=one: all(s["fill"] == "whole" for s in one.status()["saves"]))
        one.wait(lambda one=one: one.status()["state"] != "recovering")
    kept = on_media(roomy, lambda save: bool(save["undo"]))
    assert consistent(*kept), kept
    data.target("undo", "ledger", "journal", "--deadline", "5000", "--wait")
    assert on_disks(roomy) == kept
    # And by the host, which takes its disks down and up again: the way to the save and back.
    names = f"{roomy[0].disk} {roomy[1].disk}"
    said = data.initiator(f"pitcopy recover {names} --save kept --deadline 5000 --wait")
    assert f"pitcopy undo {names}" in said
    data.initiator(f"pitcopy undo {names} --deadline 5000 --wait")
    assert on_disks(roomy) == kept
    gone(roomy)


def test_a_kill_in_the_middle_leaves_both_swapped_or_none(roomy: tuple[Ledger, Ledger]) -> None:
    data, _ = roomy
    label = "killed"
    with writing(roomy):
        data.target("save", "ledger", "journal", "--label", label, "--deadline", "5000")
    for delay in (0.05, 0.15, 0.4):
        generations = [one.status()["generation"] for one in roomy]
        words = f"targetplugin swap ledger journal --deadline 5000 & sleep {delay};"
        words += "systemctl kill -s KILL targetplugind; wait; true"
        data.lab.exec("target", ["sh", "-c", words], check=False, timeout=60)
        data.wait(lambda: data.lab.exec("target", ALIVE, check=False).returncode == 0)
        for one in roomy:
            one.wait(lambda one=one: one.status()["state"] in ("serving", "degraded"))
        after = [one.status()["generation"] for one in roomy]
        moved = [new - old for new, old in zip(after, generations, strict=True)]
        assert moved in ([0, 0], [1, 1]), delay
        running = json.loads(data.target("operation", "list", "--json"))
        assert all(one["state"] not in ("prepared", "running") for one in running), delay
        assert consistent(*on_disks(roomy)), delay
    gone(roomy)
