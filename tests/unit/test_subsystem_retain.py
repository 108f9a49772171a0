"""Saves that rules do not keep are released after a save, and nothing else ever is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from targetplugin.errors import Reason, Refused
from tests.unit.house import House, image


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.media("a", "b", "c", "d", "e", "f")
    made.volume(policy="copy")
    yield made
    made.end()


def save(house: House, label: str = "", **more: Any) -> str:
    name: str = house.subsystem.save("ledger", label=label, **more)["save"]["name"]
    house.finish()
    return name


def told(shape: dict[str, Any], which: str) -> list[str]:
    return [one["name"] for one in shape[which]]


def releases(house: House) -> list[dict[str, Any]]:
    return [one for one in house.subsystem.operations() if one["verb"] == "release"]


def test_after_a_save_what_no_rule_keeps_is_released_by_the_policy(house: House) -> None:
    house.subsystem.retain("ledger", last=2)
    for number in range(4):
        save(house, f"night-{number}")
    assert house.saves() == ["ledger@3", "ledger@4"]
    found = releases(house)
    assert [(one["save"], one["door"], one["state"]) for one in found] == [
        ("ledger@2", "policy", "done"),
        ("ledger@1", "policy", "done"),
    ]
    events = [event.what for event in house.catalog.events() if event.door == "policy"]
    assert events == [
        "ledger: ledger@2 was released: kept are last 2",
        "ledger: ledger@1 was released: kept are last 2",
    ]
    assert list(house.states().values()).count("free") == 2


def test_a_split_save_is_whole_at_once_and_so_is_what_follows(house: House) -> None:
    save(house)
    house.subsystem.retain("ledger", last=1)
    assert save(house, policy="split") == "ledger@2"
    assert house.saves() == ["ledger@2"]


def test_setting_rules_releases_nothing_and_tells_what_would_go(house: House) -> None:
    for _ in range(3):
        save(house)
    made = house.subsystem.retain("ledger", last=1)
    house.finish()
    assert told(made, "released") == ["ledger@1", "ledger@2"]
    assert made["done"] is False
    assert made["kept"][0]["why"] == ["last 1 of 1"]
    assert len(house.saves()) == 3
    assert house.show()["retention"] == {"last": 1}
    house.restart()
    house.finish()
    assert len(house.saves()) == 3


def test_now_releases_at_once(house: House) -> None:
    for _ in range(3):
        save(house)
    made = house.subsystem.retain("ledger", last=1, now=True)
    assert (told(made, "released"), made["done"]) == (["ledger@1", "ledger@2"], True)
    assert house.saves() == ["ledger@3"]
    assert told(house.subsystem.retain("ledger", now=True), "released") == []


def test_a_preview_does_nothing_and_takes_rules_that_are_not_set(house: House) -> None:
    for _ in range(3):
        save(house)
    before = house.show(), house.subsystem.operations()
    made = house.subsystem.retain("ledger", last=2, preview=True)
    assert told(made, "released") == ["ledger@1"]
    assert (house.show(), house.subsystem.operations()) == before
    house.subsystem.retain("ledger", last=1)
    assert told(house.subsystem.retain("ledger", preview=True), "released") == [
        "ledger@1",
        "ledger@2",
    ]
    house.finish()
    assert len(house.saves()) == 3


def test_without_rules_it_shows_them_and_off_takes_them_away(house: House) -> None:
    save(house)
    assert house.subsystem.retain("ledger")["rules"] is None
    house.subsystem.retain("ledger", last=1, daily=7, keep_labelled=True)
    shown = house.subsystem.retain("ledger")
    assert shown["rules"] == {"last": 1, "daily": 7, "keep_labelled": True}
    house.subsystem.retain("ledger", off=True)
    assert house.subsystem.retain("ledger", off=True)["rules"] is None
    save(house)
    assert len(house.saves()) == 2


def test_without_rules_all_are_kept_a_broken_one_too(house: House) -> None:
    for _ in range(2):
        save(house)
    house.catalog.save_set(house.floor.volume("ledger").uuid, 1, fill="broken")
    shown = house.subsystem.retain("ledger")
    assert (told(shown, "kept"), told(shown, "released")) == (["ledger@1", "ledger@2"], [])


def test_new_rules_replace_all_old_ones(house: House) -> None:
    house.subsystem.retain("ledger", last=5, daily=7)
    assert house.subsystem.retain("ledger", last=1)["rules"] == {"last": 1}


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"keep_labelled": True}, Reason.USAGE),
        ({"off": True, "last": 3}, Reason.USAGE),
        ({"off": True, "now": True}, Reason.USAGE),
        ({"now": True}, Reason.STATE),
        ({"preview": True}, Reason.STATE),
    ],
)
def test_what_makes_no_sense_is_refused(
    house: House, asked: dict[str, Any], reason: Reason
) -> None:
    with pytest.raises(Refused) as refused:
        house.subsystem.retain("ledger", **asked)
    assert refused.value.reason is reason
    assert refused.value.hint
    assert house.subsystem.retain("ledger")["rules"] is None


# --- what is never released --------------------------------------------------------------------


def test_a_held_save_stays_and_goes_after_the_next_save_when_that_is_over(house: House) -> None:
    first = save(house)
    house.subsystem.hold(first, seconds=3600)
    house.subsystem.retain("ledger", last=1)
    second = save(house)
    assert house.saves() == [first, second]
    (why,) = house.subsystem.retain("ledger")["kept"][0]["why"]
    assert why.startswith("it is held until ")
    house.subsystem.unhold(first, force=True)
    house.floor.tell()
    house.finish()
    assert first in house.saves(), "not by itself: whoever ended the hold may want it"
    third = save(house)
    assert house.saves() == [third]


def test_a_save_that_is_recovered_from_goes_when_that_is_over(house: House) -> None:
    first = save(house)
    house.write(3, "x")
    house.subsystem.retain("ledger", last=1)
    house.engine.hold_copies = True
    filling = house.subsystem.save("ledger")["operation"]["id"]
    house.subsystem.recover(first, no_undo=True)
    house.subsystem.settled()
    assert house.saves() == [first, "ledger@2"]
    assert house.subsystem.retain("ledger")["kept"][0]["why"] == [
        "it is in use: recovering",
        "last 1 of 1",
    ]
    house.finish()
    assert house.subsystem.operation(filling)["state"] == "done"
    assert house.read(3) == ""
    house.finish()
    assert house.saves() == ["ledger@2"]


def test_a_save_that_fills_counts_for_no_rule_until_it_is_whole(house: House) -> None:
    first = save(house)
    house.subsystem.retain("ledger", last=1)
    house.engine.hold_copies = True
    house.subsystem.save("ledger")
    house.subsystem.settled()
    assert told(house.subsystem.retain("ledger", now=True), "released") == []
    assert house.saves() == [first, "ledger@2"]
    house.finish()
    assert house.saves() == ["ledger@2"]


def test_a_save_that_breaks_leaves_the_older_one(house: House) -> None:
    first = save(house)
    house.subsystem.retain("ledger", last=1)
    house.engine.hold_copies = True
    house.subsystem.save("ledger", onto="d")
    house.engine.broken.add(house.floor.medium_row("d").uuid)
    house.write(3, "y")
    house.finish()
    house.engine.broken.clear()
    assert house.saves() == [first, "ledger@2"]
    assert [one["fill"] for one in house.show()["saves"]] == ["whole", "broken"]
    made = house.subsystem.retain("ledger", now=True)
    assert told(made, "released") == ["ledger@2"]
    assert house.saves() == [first]


def test_a_restored_image_stays(house: House) -> None:
    path = image(house.folder / "image", "xyz")
    answer = house.subsystem.restore("ledger", image=path)
    house.wait(answer)
    house.subsystem.retain("ledger", last=1)
    save(house)
    save(house)
    assert answer["save"]["name"] in house.saves()
    assert len(house.saves()) == 2


def test_a_save_whose_medium_is_missing_stays(house: House) -> None:
    first = save(house)
    uuid = house.floor.medium_row("c").uuid
    medium = house.floor.media.pop(uuid)
    house.subsystem.retain("ledger", last=1)
    save(house)
    assert first in house.saves()
    assert "missing" in house.subsystem.retain("ledger")["kept"][0]["why"][0]
    house.floor.media[uuid] = medium


def test_nothing_goes_while_the_volume_is_down(house: House) -> None:
    for _ in range(2):
        save(house)
    house.subsystem.retain("ledger", last=1)
    house.catalog.retention_due(house.floor.volume("ledger").uuid, True)
    runtime = house.floor.runtime(house.floor.volume("ledger").uuid)
    handle, runtime.handle = runtime.handle, None
    house.subsystem.settled()
    with pytest.raises(Refused, match="is down"):
        house.subsystem.retain("ledger", last=2, now=True)
    assert house.subsystem.retain("ledger")["rules"] == {"last": 1}, "what is refused sets nothing"
    runtime.handle = handle
    assert len(house.saves()) == 2


def test_labelled_saves_stay_if_that_is_said(house: House) -> None:
    save(house, "before-upgrade")
    house.subsystem.retain("ledger", last=1, keep_labelled=True)
    save(house)
    save(house)
    assert [one["label"] for one in house.show()["saves"]] == ["before-upgrade", ""]


def test_another_volume_s_saves_are_its_own(house: House) -> None:
    house.volume("notes", size=1 << 20, mirror=1)
    house.subsystem.save("notes")
    house.finish()
    house.subsystem.retain("ledger", last=1)
    save(house)
    assert len(house.saves("notes")) == 1


# --- crashes and failures ------------------------------------------------------------------------


@pytest.mark.parametrize("in_force", [False, True])
def test_a_save_that_a_kill_cut_short_brings_about_what_a_save_does_or_nothing(
    house: House, in_force: bool
) -> None:
    for _ in range(2):
        save(house)
    house.subsystem.retain("ledger", last=1)
    house.killed_in(
        "split", in_force=in_force, run=lambda: house.subsystem.save("ledger", policy="split")
    )
    house.finish()
    assert house.saves() == (["ledger@3"] if in_force else ["ledger@1", "ledger@2"])


def test_what_was_due_when_the_daemon_ended_is_done_at_the_next_start(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(house)
    house.subsystem.retain("ledger", last=1)
    monkeypatch.setattr(house.subsystem._retain, "_look", lambda: None)
    house.subsystem.save("ledger")
    house.engine.release_copies()
    house.subsystem._transfers.settled()
    assert len(house.saves()) == 2
    house.restart()
    house.finish()
    assert house.saves() == ["ledger@2"]


def test_a_release_that_fails_is_noted_and_tried_again_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = save(house)
    house.subsystem.retain("ledger", last=1)
    house.engine.mute.add(house.floor.medium_row("c").uuid)
    second = save(house)
    assert house.saves() == [first, second]
    assert "could not be released" in house.catalog.events()[0].what
    events = len(house.catalog.events())
    for _ in range(3):
        house.floor.tell()
        house.finish()
    assert len(house.catalog.events()) == events, "not again and again"
    house.engine.mute.clear()
    monkeypatch.setattr(house.subsystem._retain, "_not_before", {})
    house.finish()
    assert house.saves() == [second]
