"""Several volumes swapped as one: all or none, whatever fails and whenever the daemon ends."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from targetplugin.errors import Reason, Refused
from tests.unit.fake_engine import PowerCut
from tests.unit.house import House

BOTH = ["ledger", "journal"]
NIGHT = ["ledger@night", "journal@night"]


def swap(house: House, saves: list[str] | None = None, **options: Any) -> dict[str, Any]:
    return dict(house.subsystem.swap_group(saves or NIGHT, **options))


def letters(house: House) -> str:
    return "".join(house.read(3, name) for name in BOTH)


def legs(house: House) -> list[list[str]]:
    return [[leg["medium"] for leg in house.show(name)["legs"]] for name in BOTH]


def test_all_are_swapped_as_one_operation_and_back(saved: House) -> None:
    answer = swap(saved)
    assert letters(saved) == "xj"
    assert legs(saved) == [["b"], ["f"]]
    assert (answer["operation"]["verb"], answer["operation"]["state"]) == ("swap", "done")
    assert answer["operation"]["volume"] == "ledger, journal"
    assert answer["operation"]["pause_ms"] == 1.0
    assert [one["state"] for one in answer["operations"]] == ["done", "done"]
    assert [one["media"] for one in answer["saves"]] == [["a"], ["e"]]
    for name in BOTH:
        assert saved.engine.volumes[saved.handle(name)].attentions == [(0x28, 0)]
    swap(saved, [one["name"] for one in answer["saves"]])
    assert letters(saved) == "yk"
    assert legs(saved) == [["a"], ["e"]]
    saved.restart()
    assert letters(saved) == "yk"


def test_a_bare_volume_means_what_it_means_for_a_swap_of_one(saved: House) -> None:
    swap(saved, BOTH)
    assert letters(saved) == "xj"


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["ledger"], "2 to 64 volumes, not 1"),
        (["ledger@night", "ledger"], "ledger is named twice"),
        (["ledger", "books"], "no volume books"),
        (["ledger@night", "journal@day"], "journal@day"),
    ],
)
def test_what_is_no_group_is_refused(saved: House, names: list[str], why: str) -> None:
    with pytest.raises(Refused) as refused:
        swap(saved, names)
    assert why in refused.value.message
    assert letters(saved) == "yk"


def test_all_that_can_not_be_swapped_are_named_before_anything_starts(saved: House) -> None:
    for name in NIGHT:
        saved.subsystem.hold(name, seconds=1000)
    with pytest.raises(Refused) as refused:
        swap(saved)
    assert refused.value.reason is Reason.STATE
    assert "ledger@1 is held" in refused.value.message
    assert "journal@1 is held" in refused.value.message
    assert [one["verb"] for one in saved.subsystem.operations()].count("swap") == 0


def test_a_save_that_fills_forbids_the_swap_of_all(saved: House) -> None:
    saved.engine.hold_copies = True
    saved.subsystem.save("journal", policy="copy")
    with pytest.raises(Refused) as refused:
        swap(saved)
    assert (refused.value.reason, refused.value.object) == (Reason.BUSY, "journal")
    assert letters(saved) == "yk"


def test_what_is_called_off_changes_nothing_and_names_who_was_late(saved: House) -> None:
    saved.engine.late.add(saved.handle("journal"))
    with pytest.raises(Refused) as refused:
        swap(saved, deadline_ms=200)
    assert "journal could not be swapped: not over within 200 ms" in refused.value.message
    assert "so none of them is" in refused.value.message
    saved.engine.late.clear()
    assert letters(saved) == "yk"
    assert legs(saved) == [["a"], ["e"]]
    assert saved.saves("ledger") == ["ledger@1"]
    assert saved.subsystem.status()["operations"] == []
    swap(saved)
    assert letters(saved) == "xj"


@pytest.mark.parametrize("in_force", [-2, 0, 1, 2])
def test_a_kill_leaves_all_swapped_or_none(saved: House, in_force: int) -> None:
    saved.engine.cut_group = in_force
    request = bytes(range(16))
    with pytest.raises(PowerCut):
        swap(saved, request=request)
    saved.restart()
    saved.finish()
    whole = next(
        one
        for one in saved.subsystem.operations()
        if one["volume"] == "ledger, journal" and one["verb"] == "swap"
    )
    assert saved.subsystem.status()["operations"] == []
    if in_force <= 0:
        assert whole["state"] == "failed"
        assert letters(saved) == "yk"
        assert legs(saved) == [["a"], ["e"]]
        swap(saved)
        assert letters(saved) == "xj"
        return
    assert whole["state"] == "done"
    assert letters(saved) == "xj"
    assert legs(saved) == [["b"], ["f"]]
    assert swap(saved, request=request)["operation"]["id"] == whole["id"]
    kept = [saved.show(name)["saves"] for name in BOTH]
    assert [[save["media"] for save in saves] for saves in kept] == [[["a"]], [["e"]]]
    saved.write(5, "n", "journal")
    swap(saved, BOTH)
    assert letters(saved) == "yk"
    assert saved.read(5, "journal") == ""


def test_a_second_kill_while_the_last_volume_follows_is_made_good(saved: House) -> None:
    saved.engine.cut_group = 1
    with pytest.raises(PowerCut):
        swap(saved)
    saved.kill()
    cut = type(saved.engine).swap

    def dies(*_: Any) -> None:
        raise PowerCut

    type(saved.engine).swap = dies  # type: ignore[method-assign]
    try:
        with pytest.raises(PowerCut):
            saved.boot()
    finally:
        type(saved.engine).swap = cut  # type: ignore[method-assign]
    saved.restart()
    saved.finish()
    assert letters(saved) == "xj"
    assert saved.subsystem.status()["operations"] == []


def test_a_volume_that_was_away_follows_before_its_hosts_see_it(saved: House) -> None:
    saved.engine.cut_group = 1
    with pytest.raises(PowerCut):
        swap(saved)
    for name in "ef":
        shutil.move(saved.folder / name, saved.folder / f"{name}.away")
    saved.restart()
    saved.finish()
    assert saved.read(3) == "x"
    assert saved.show("journal")["state"] == "down"
    for name in "ef":
        shutil.move(saved.folder / f"{name}.away", saved.folder / name)
    saved.subsystem._comeback.look()
    saved.finish()
    assert letters(saved) == "xj"
    assert saved.subsystem.status()["operations"] == []


def test_a_volume_whose_save_is_missing_does_not_show_what_it_was(saved: House) -> None:
    saved.engine.cut_group = 1
    with pytest.raises(PowerCut):
        swap(saved)
    shutil.move(saved.folder / "f", saved.folder / "away")
    saved.restart()
    saved.finish()
    shown = saved.show("journal")
    assert shown["state"] == "down"
    assert "is there: f" in shown["why"]
    shutil.move(saved.folder / "away", saved.folder / "f")
    saved.subsystem._comeback.look()
    saved.finish()
    assert letters(saved) == "xj"


def test_a_volume_follows_with_those_of_its_save_s_media_that_are_there(saved: House) -> None:
    for name in NIGHT:
        saved.subsystem.resync(name)
    saved.finish()
    saved.subsystem.save_group(BOTH, label="copied", policy="copy")
    saved.finish()
    kept = swap(saved, ["ledger@copied", "journal@copied"])["saves"]
    assert [sorted(one["media"]) for one in kept] == [["a", "b"], ["e", "f"]]
    saved.engine.cut_group = 1
    with pytest.raises(PowerCut):
        swap(saved, [one["name"] for one in kept])
    shutil.move(saved.folder / "f", saved.folder / "away")
    saved.restart()
    saved.finish()
    assert letters(saved) == "yk"
    assert legs(saved) == [["a", "b"], ["e"]]
    saved.write(3, "n", "journal")
    shutil.move(saved.folder / "away", saved.folder / "f")
    saved.subsystem._comeback.look()
    saved.restart()
    assert saved.read(3, "journal") == "n"
    assert saved.states()["f"] == "free"


def test_disks_that_fail_in_the_moment_of_the_switch_follow_at_the_next_start(
    saved: House,
) -> None:
    saved.engine.fail_at_go.add(saved.handle("journal"))
    with pytest.raises(Refused) as refused:
        swap(saved)
    assert "journal could not be swapped" in refused.value.message
    assert "the others are" in refused.value.message
    assert saved.read(3) == "x"
    saved.engine.fail_at_go.clear()
    saved.restart()
    saved.finish()
    assert letters(saved) == "xj"
    assert saved.subsystem.status()["operations"] == []


def test_what_was_called_off_too_late_to_be_written_down_does_not_come_back_at_a_start(
    saved: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved.engine.late_after_commit = True

    def full(*_: Any, **__: Any) -> None:
        raise Refused(Reason.ENVIRONMENT, "the catalog's disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(saved.subsystem._operations.__class__, "drop", full)
        with pytest.raises(Refused, match="disk is full"):
            swap(saved)
    saved.write(5, "n")
    saved.restart()
    saved.finish()
    assert letters(saved) == "yk"
    assert saved.read(5) == "n"
    assert saved.subsystem.status()["operations"] == []


def test_the_same_request_is_one_swap(saved: House) -> None:
    request = bytes(range(16))
    first = swap(saved, request=request)
    assert swap(saved, request=request)["operation"]["id"] == first["operation"]["id"]
    assert letters(saved) == "xj"
    with pytest.raises(Refused) as refused:
        swap(saved, BOTH, request=request)
    assert refused.value.reason is Reason.REQUEST_MISMATCH


def test_a_preview_names_the_saves_and_does_nothing(saved: House) -> None:
    before = saved.subsystem.operations(), saved.states()
    told = swap(saved, BOTH, preview=True)
    assert [one["save"] for one in told["members"]] == ["ledger@1", "journal@1"]
    assert (saved.subsystem.operations(), saved.states()) == before
    assert letters(saved) == "yk"


def test_the_journal_tells_of_what_was_asked_of_several(saved: House) -> None:
    asked = saved.subsystem.asked("terminal")
    asked.swap_group(NIGHT)
    with pytest.raises(Refused):
        asked.undo_group(BOTH)
    lines = [line["what"] for line in saved.subsystem.event_list()][-2:]
    assert lines[0] == "swap group saves=ledger@night,journal@night: done"
    assert lines[1].startswith("undo group volumes=ledger,journal: refused, the last that was done")
