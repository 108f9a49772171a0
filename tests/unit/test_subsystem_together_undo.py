"""Several volumes that were recovered as one keep what they were, and are taken back as one."""

from __future__ import annotations

import errno
import os
import shutil
from typing import Any

import pytest

from targetplugin.errors import Reason, Refused
from tests.unit.fake_engine import FakeEngine, PowerCut
from tests.unit.house import MIB, House

BOTH = ["ledger", "journal"]
NIGHT = ["ledger@night", "journal@night"]


def letters(house: House) -> str:
    return "".join(house.read(3, name) for name in BOTH)


def recover(house: House, **options: Any) -> dict[str, Any]:
    answer = house.subsystem.recover_group(NIGHT, **options)
    house.finish()
    return dict(answer)


def undo(house: House, **options: Any) -> dict[str, Any]:
    answer = house.subsystem.undo_group(BOTH, **options)
    house.finish()
    return dict(answer)


def unkept(house: House) -> None:
    """No undo save is there, its medium is free, and nothing is under way."""
    for name in BOTH:
        assert [save["label"] for save in house.show(name)["saves"]] == ["night"]
    assert house.states()["c"] == house.states()["d"] == "free"
    assert house.subsystem.status()["operations"] == []


def test_each_keeps_what_it_was_and_all_are_taken_back_as_one(saved: House) -> None:
    answer = recover(saved)
    assert letters(saved) == "xj"
    number = answer["operation"]["id"]
    assert [one["label"] for one in answer["undos"]] == [f"undo-{number}"] * 2
    assert [one["undo"] for one in answer["undos"]] == [one["id"] for one in answer["operations"]]
    assert answer["undo_why"] == ""
    assert [saved.on_medium(one["media"][0], 3) for one in answer["undos"]] == ["y", "k"]
    # The media of the undo saves are taken: there is no spare for those of the undo.
    back = undo(saved)
    assert letters(saved) == "yk"
    assert back["undone"] == number
    assert back["operation"]["verb"] == "undo"
    assert back["operation"]["volume"] == "ledger, journal"
    assert [one["name"] for one in back["saves"]] == [one["name"] for one in answer["undos"]]
    assert back["undos"] == []
    assert "no free medium" in back["undo_why"]


def test_an_undo_is_undone_as_one(saved: House) -> None:
    saved.media("g", "h", size=12 * MIB)
    recover(saved)
    saved.write(5, "n")
    undo(saved)
    assert letters(saved) == "yk"
    assert saved.read(5) == ""
    undo(saved)
    assert letters(saved) == "xj"
    assert saved.read(5) == "n"


def test_a_newer_recover_ends_the_undo_saves_of_the_one_before(saved: House) -> None:
    saved.media("g", "h", size=12 * MIB)
    recover(saved)
    saved.write(3, "z")
    answer = recover(saved)
    for name in BOTH:
        kept = [save["label"] for save in saved.show(name)["saves"]]
        assert kept == ["night", f"undo-{answer['operation']['id']}"]
    assert saved.states()["c"] == saved.states()["d"] == "free"


def test_with_too_few_spares_the_media_of_the_undo_saves_before_are_taken(saved: House) -> None:
    recover(saved)
    saved.write(3, "z")
    answer = recover(saved)
    assert sorted(one["media"][0] for one in answer["undos"]) == ["c", "d"]
    undo(saved)
    assert letters(saved) == "zj"


def test_a_spare_for_one_alone_is_left_alone(saved: House) -> None:
    saved.subsystem.media_remove("d")
    answer = recover(saved)
    assert letters(saved) == "xj"
    assert answer["undos"] == []
    assert "no free medium of 8" in answer["undo_why"]
    assert saved.states()["c"] == "free"
    with pytest.raises(Refused) as refused:
        undo(saved)
    assert refused.value.reason is Reason.STATE
    assert "no undo save was taken" in refused.value.message


def test_no_undo_leaves_the_spares_alone(saved: House) -> None:
    assert recover(saved, no_undo=True)["undos"] == []
    unkept(saved)


def test_previews_tell_where_the_undo_saves_would_go(saved: House) -> None:
    told = saved.subsystem.recover_group(NIGHT, preview=True)
    assert [one["undo_onto"] for one in told["members"]] == ["c", "d"]
    told = saved.subsystem.recover_group(NIGHT, preview=True, no_undo=True)
    assert [one["undo_onto"] for one in told["members"]] == [None, None]
    unkept(saved)
    recover(saved)
    told = saved.subsystem.undo_group(BOTH, preview=True)
    assert [one["extents_changed"] for one in told["members"]] == [1, 1]
    assert letters(saved) == "xj"


def test_the_same_request_is_one_undo(saved: House) -> None:
    recover(saved)
    request = bytes(range(16))
    first = undo(saved, request=request)
    assert undo(saved, request=request)["operation"]["id"] == first["operation"]["id"]
    assert letters(saved) == "yk"


# --- what keeps it from being so -----------------------------------------------------------------


def test_what_is_late_leaves_the_spares_free(saved: House) -> None:
    saved.engine.late.add(saved.handle("journal"))
    with pytest.raises(Refused) as refused:
        recover(saved, deadline_ms=200)
    assert refused.value.reason is Reason.BUSY
    saved.engine.late.clear()
    assert letters(saved) == "yk"
    unkept(saved)


def test_a_spare_that_can_not_be_written_keeps_no_one_from_recovering(
    saved: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    spare = saved.floor.media[saved.floor.medium_row("d").uuid]
    monkeypatch.setattr(spare, "write", broken)
    answer = recover(saved)
    assert answer["undos"] == []
    assert "d can't be written" in answer["undo_why"]
    assert letters(saved) == "xj"
    monkeypatch.undo()
    saved.restart()
    unkept(saved)


def test_an_engine_that_can_not_take_the_undo_saves_recovers_without(
    saved: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = FakeEngine.recover_group

    def refuses(self: FakeEngine, members: list[Any], *words: Any) -> list[Any]:
        if members[0].undo is not None:
            return [Refused(Reason.STATE, "there is no room") for _ in members]
        return plain(self, members, *words)

    monkeypatch.setattr(FakeEngine, "recover_group", refuses)
    answer = recover(saved)
    assert (answer["undos"], answer["undo_why"]) == ([], "there is no room")
    assert letters(saved) == "xj"
    unkept(saved)


@pytest.mark.parametrize("in_force", [-2, 0, 1, 2])
def test_a_kill_leaves_all_with_their_undo_saves_or_no_trace(saved: House, in_force: int) -> None:
    saved.engine.cut_group = in_force
    with pytest.raises(PowerCut):
        recover(saved)
    saved.restart()
    saved.finish()
    if in_force <= 0:
        assert letters(saved) == "yk"
        unkept(saved)
        return
    assert letters(saved) == "xj"
    undo(saved)
    assert letters(saved) == "yk"


@pytest.mark.parametrize("in_force", [-2, 0, 1, 2])
def test_a_kill_leaves_all_undone_or_none(saved: House, in_force: int) -> None:
    saved.media("g", "h", size=12 * MIB)
    recover(saved)
    saved.engine.cut_group = in_force
    with pytest.raises(PowerCut):
        undo(saved)
    saved.restart()
    saved.finish()
    assert letters(saved) == ("yk" if in_force > 0 else "xj")
    undo(saved)
    assert letters(saved) == ("xj" if in_force > 0 else "yk")
    assert saved.subsystem.status()["operations"] == []


@pytest.mark.parametrize("in_force", [-2, 0, 1, 2])
def test_a_kill_keeps_the_undo_saves_that_would_have_ended(saved: House, in_force: int) -> None:
    recover(saved)
    saved.write(3, "z")
    saved.engine.cut_group = in_force
    with pytest.raises(PowerCut):
        recover(saved)
    saved.restart()
    saved.finish()
    assert letters(saved) == ("xj" if in_force > 0 else "zj")
    undo(saved)
    assert letters(saved) == ("zj" if in_force > 0 else "yk")


def test_a_volume_that_was_away_follows_with_its_undo_save(saved: House) -> None:
    saved.engine.cut_group = 1
    with pytest.raises(PowerCut):
        recover(saved)
    for name in "ef":
        shutil.move(saved.folder / name, saved.folder / f"{name}.away")
    saved.restart()
    saved.finish()
    assert saved.show("journal")["state"] == "down"
    assert saved.states()["d"] != "free"
    for name in "ef":
        shutil.move(saved.folder / f"{name}.away", saved.folder / name)
    saved.subsystem._comeback.look()
    saved.finish()
    assert letters(saved) == "xj"
    undo(saved)
    assert letters(saved) == "yk"


def test_a_volume_follows_without_its_undo_save_where_the_medium_is_gone(saved: House) -> None:
    saved.engine.cut_group = 1
    with pytest.raises(PowerCut):
        recover(saved)
    shutil.move(saved.folder / "d", saved.folder / "away")
    saved.restart()
    saved.finish()
    assert letters(saved) == "xj"
    with pytest.raises(Refused) as refused:
        undo(saved)
    assert "no undo save was taken" in refused.value.message
    shutil.move(saved.folder / "away", saved.folder / "d")
    saved.subsystem._comeback.look()
    saved.finish()
    saved.restart()
    assert saved.states()["d"] == "free"


def test_disks_that_fail_in_the_moment_of_the_switch_follow_with_their_undo_saves(
    saved: House,
) -> None:
    saved.engine.fail_at_go.add(saved.handle("journal"))
    with pytest.raises(Refused) as refused:
        recover(saved)
    assert "the others are" in refused.value.message
    saved.engine.fail_at_go.clear()
    saved.restart()
    saved.finish()
    assert letters(saved) == "xj"
    undo(saved)
    assert letters(saved) == "yk"


# --- which recover is meant ----------------------------------------------------------------------


def test_the_operation_of_all_is_meant_or_a_volume_s_part_of_it(saved: House) -> None:
    saved.media("g", "h", size=12 * MIB)
    answer = recover(saved)
    with pytest.raises(Refused) as refused:
        undo(saved, op=answer["operation"]["id"] - 1)
    assert refused.value.reason is Reason.NOT_FOUND
    assert undo(saved, op=answer["operations"][1]["id"])["undone"] == answer["operation"]["id"]
    with pytest.raises(Refused) as refused:
        undo(saved, op=answer["operation"]["id"])
    assert refused.value.reason is Reason.STATE
    assert "came after operation" in refused.value.message


def test_recovers_that_were_not_one_are_not_undone_as_one(saved: House) -> None:
    saved.media("g", "h", size=12 * MIB)
    recover(saved)
    saved.subsystem.recover("journal@night")
    saved.finish()
    with pytest.raises(Refused) as refused:
        undo(saved)
    assert "were not one" in refused.value.message
    assert refused.value.hint.endswith("undo ledger; undo journal")


def test_all_that_were_recovered_are_undone(saved: House) -> None:
    saved.media("g", "h", "i", size=12 * MIB)
    saved.volume("third", mirror=1, media=["g"])
    saved.subsystem.save("third", label="night", onto="h")
    saved.finish()
    saved.subsystem.recover_group([*NIGHT, "third@night"])
    saved.finish()
    with pytest.raises(Refused) as refused:
        undo(saved)
    assert "was of third too" in refused.value.message
    assert refused.value.hint == "undo ledger journal third"
    saved.subsystem.undo_group(["third", *BOTH])
    assert letters(saved) == "yk"


def test_all_that_were_never_recovered_are_named(saved: House) -> None:
    with pytest.raises(Refused) as refused:
        undo(saved)
    assert "ledger was not recovered" in refused.value.message
    assert "journal was not recovered" in refused.value.message


def test_one_of_them_can_be_undone_alone(saved: House) -> None:
    recover(saved)
    saved.subsystem.undo("journal")
    saved.finish()
    assert letters(saved) == "xk"
