"""Several volumes saved as one: all or none, whatever fails and whenever the daemon ends."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from targetplugin.errors import Reason, Refused
from tests.unit.fake_engine import PowerCut
from tests.unit.house import MIB, House

BOTH = ["ledger", "journal"]
NIGHT = ["ledger@night", "journal@night"]


@pytest.fixture
def pair(house: House) -> House:
    """The house with a second volume, `journal`, on the media e and f; c and d are free."""
    house.media("e", "f", size=12 * MIB)
    house.volume("journal", media=["e", "f"])
    house.write(3, "x")
    house.write(3, "j", "journal")
    return house


def save(house: House, **options: Any) -> dict[str, Any]:
    return house.subsystem.save_group(BOTH, **{"label": "night", **options})


def nothing_is_left(house: House) -> None:
    """No save, no medium taken, no operation under way; the volumes take the next one."""
    for name in BOTH:
        assert house.saves(name) == []
        assert [leg["state"] for leg in house.show(name)["legs"]] == ["in_sync", "in_sync"]
    assert house.states()["c"] == house.states()["d"] == "free"
    assert house.subsystem.status()["operations"] == []
    assert len(save(house)["saves"]) == 2


@pytest.mark.parametrize("policy", ["split", "copy"])
def test_all_are_saved_as_one_operation(pair: House, policy: str) -> None:
    pair.engine.hold_copies = True
    answer = save(pair, policy=policy)
    assert [one["name"] for one in answer["saves"]] == ["ledger@1", "journal@1"]
    assert {one["label"] for one in answer["saves"]} == {"night"}
    assert answer["operation"]["volume"] == "ledger, journal"
    assert answer["operation"]["state"] == ("done" if policy == "split" else "running")
    assert answer["operation"]["pause_ms"] == 1.0
    pair.write(3, "y")
    pair.write(3, "k", "journal")
    pair.finish()
    done = pair.subsystem.operation(answer["operation"]["id"])
    assert (done["state"], done["progress"]) == ("done", 1.0)
    assert [pair.subsystem.operation(one["id"])["state"] for one in answer["operations"]] == [
        "done",
        "done",
    ]
    for name, letter in zip(BOTH, "xj", strict=True):
        pair.subsystem.recover(f"{name}@night")
        pair.finish()
        assert pair.read(3, name) == letter


def test_a_running_one_shows_how_far_all_are_together(pair: House) -> None:
    pair.engine.hold_copies = True
    split, _ = pair.show(), pair.subsystem.save("ledger")  # ledger has one leg left: it copies
    assert split["legs"]
    answer = save(pair)
    assert answer["operation"]["state"] == "running"
    assert (
        answer["operation"]["progress"] == 0.5
    )  # one was split at once, of the other nothing is copied
    pair.subsystem.abort(answer["operation"]["id"])
    told = pair.subsystem.operation(answer["operation"]["id"])
    assert told["state"] == "aborted"
    assert told["error"] == "ledger: the save was aborted"


def test_the_smallest_volume_takes_the_smallest_spare(house: House) -> None:
    for name in "cd":
        house.subsystem.media_remove(name)
    house.media("e", size=12 * MIB)
    house.media("large", "f", size=20 * MIB)
    house.volume("journal", 16 * MIB, mirror=1, media=["f"])
    answer = house.subsystem.save_group(["journal", "ledger"], policy="copy")
    assert [one["media"] for one in answer["saves"]] == [["large"], ["e"]]


def test_too_few_spares_for_all_are_refused_and_nothing_changes(pair: House) -> None:
    pair.subsystem.media_remove("c")
    with pytest.raises(Refused) as refused:
        save(pair, policy="copy")
    assert refused.value.reason is Reason.NO_MEDIUM
    assert pair.saves("ledger") == pair.saves("journal") == []
    assert pair.states()["d"] == "free"
    assert pair.subsystem.operations() == []


def test_all_volumes_that_can_not_be_saved_are_named_before_anything_starts(pair: House) -> None:
    pair.subsystem.save("ledger", label="night")
    pair.subsystem.save("journal", label="night")
    with pytest.raises(Refused) as refused:
        save(pair)
    assert refused.value.reason is Reason.EXISTS
    assert "ledger@1" in refused.value.message
    assert "journal@1" in refused.value.message
    assert len(pair.saves()) == 1


def test_a_recover_of_one_forbids_the_save_of_all_with_its_progress(pair: House) -> None:
    pair.subsystem.save("journal")
    pair.write(3, "k", "journal")
    pair.engine.hold_copies = True
    pair.subsystem.recover("journal")
    with pytest.raises(Refused) as refused:
        save(pair)
    assert (refused.value.reason, refused.value.object) == (Reason.BUSY, "journal")
    assert refused.value.progress == 0.0
    assert pair.saves() == []


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["ledger"], "2 to 64 volumes, not 1"),
        (["ledger", "ledger"], "ledger is named twice"),
        (["ledger", "books"], "no volume books"),
    ],
)
def test_what_is_no_group_is_refused(pair: House, names: list[str], why: str) -> None:
    with pytest.raises(Refused) as refused:
        pair.subsystem.save_group(names)
    assert why in refused.value.message


@pytest.mark.parametrize("deadline", [0, 5001])
def test_a_deadline_has_bounds(pair: House, deadline: int) -> None:
    with pytest.raises(Refused) as refused:
        save(pair, deadline_ms=deadline)
    assert refused.value.reason is Reason.USAGE


@pytest.mark.parametrize("policy", ["split", "copy"])
def test_what_is_called_off_leaves_no_trace_and_names_who_was_late(
    pair: House, policy: str
) -> None:
    pair.engine.late.add(pair.handle("journal"))
    with pytest.raises(Refused) as refused:
        save(pair, policy=policy, deadline_ms=200)
    assert refused.value.object == "journal"
    assert "journal could not be saved: not over within 200 ms" in refused.value.message
    assert "so none of them is" in refused.value.message
    assert {one["state"] for one in pair.subsystem.operations()} == {"failed"}
    pair.engine.late.clear()
    nothing_is_left(pair)


@pytest.mark.parametrize("policy", ["split", "copy"])
@pytest.mark.parametrize("failing", BOTH)
def test_disks_that_fail_in_the_moment_of_the_switch_leave_no_save_of_the_others(
    pair: House, policy: str, failing: str
) -> None:
    pair.engine.fail_at_go.add(pair.handle(failing))
    with pytest.raises(Refused) as refused:
        save(pair, policy=policy)
    assert refused.value.object == failing
    pair.engine.fail_at_go.clear()
    pair.finish()
    for name, letter in zip(BOTH, "xj", strict=True):
        assert pair.saves(name) == []
        assert pair.read(3, name) == letter
    other = next(name for name in BOTH if name != failing)
    assert [leg["state"] for leg in pair.show(other)["legs"]] == ["in_sync", "in_sync"]
    assert pair.states()["c"] == pair.states()["d"] == "free"
    assert pair.subsystem.status()["operations"] == []


@pytest.mark.parametrize("policy", ["split", "copy"])
@pytest.mark.parametrize("in_force", [0, 1, 2])
def test_a_kill_leaves_all_or_none(pair: House, policy: str, in_force: int) -> None:
    pair.engine.cut_group = in_force
    request = bytes(range(16))
    with pytest.raises(PowerCut):
        save(pair, policy=policy, request=request)
    pair.restart()
    pair.finish()
    whole = next(one for one in pair.subsystem.operations() if one["volume"] == "ledger, journal")
    if in_force == 2:
        assert whole["state"] == "done"
        for name, letter in zip(BOTH, "xj", strict=True):
            assert [one["label"] for one in pair.show(name)["saves"]] == ["night"]
            pair.subsystem.recover(f"{name}@night")
            pair.finish()
            assert pair.read(3, name) == letter
        again = save(pair, policy=policy, request=request)
        assert again["operation"]["id"] == whole["id"]
        return
    assert whole["state"] == "failed"
    nothing_is_left(pair)


def test_it_is_decided_when_a_volume_that_was_away_is_back(pair: House) -> None:
    pair.engine.cut_group = 1
    with pytest.raises(PowerCut):
        save(pair)
    for name in "ef":
        shutil.move(pair.folder / name, pair.folder / f"{name}.away")
    pair.restart()
    pair.finish()
    assert pair.show("journal")["state"] == "down"
    # Nobody was told of it, and it is not yet known whether it stays: it has no name of its own.
    assert [one["label"] for one in pair.show()["saves"]] == [""]
    for name in "ef":
        shutil.move(pair.folder / f"{name}.away", pair.folder / name)
    pair.subsystem._comeback.look()
    pair.finish()
    nothing_is_left(pair)


def test_a_kill_while_the_others_are_given_up_is_made_good(pair: House) -> None:
    pair.engine.cut_group = 1
    with pytest.raises(PowerCut):
        save(pair)
    decide = pair.subsystem._together.__class__._give_up

    def dies(*_: Any) -> None:
        raise PowerCut

    pair.subsystem._together.__class__._give_up = dies  # type: ignore[method-assign]
    try:
        with pytest.raises(PowerCut):
            pair.restart()
    finally:
        pair.subsystem._together.__class__._give_up = decide  # type: ignore[method-assign]
    pair.restart()
    pair.finish()
    nothing_is_left(pair)


def test_the_same_request_is_one_save(pair: House) -> None:
    request = bytes(range(16))
    first = save(pair, request=request)
    again = save(pair, request=request)
    assert again["saves"] == first["saves"]
    assert again["operation"]["id"] == first["operation"]["id"]
    assert len(pair.saves()) == 1
    with pytest.raises(Refused) as refused:
        pair.subsystem.save_group(BOTH, label="other", request=request)
    assert refused.value.reason is Reason.REQUEST_MISMATCH


def test_a_preview_says_what_each_takes_and_does_nothing(pair: House) -> None:
    before = pair.subsystem.operations(), pair.states()
    told = save(pair, policy="copy", preview=True)
    assert [(one["volume"], one["kind"], one["onto"]) for one in told["members"]] == [
        ("ledger", "copy", "c"),
        ("journal", "copy", "d"),
    ]
    assert (pair.subsystem.operations(), pair.states()) == before


# --- what hosts may ------------------------------------------------------------------------------


def test_groups_are_declared_listed_and_taken_back(pair: House) -> None:
    made = pair.subsystem.group_create("books", BOTH)
    assert (made["name"], made["volumes"]) == ("books", BOTH)
    assert pair.subsystem.group_list() == [made]
    assert made["why"] == "they are not exported"
    with pytest.raises(Refused) as refused:
        pair.subsystem.group_create("books", BOTH)
    assert refused.value.reason is Reason.EXISTS
    assert pair.subsystem.status()["groups"] == [made]
    assert pair.subsystem.status("journal")["groups"] == [made]
    assert pair.subsystem.group_limit("ledger") == 2
    assert pair.subsystem.group_delete("books")["name"] == "books"
    assert pair.subsystem.group_list() == []
    assert pair.subsystem.group_limit("ledger") == 1
    with pytest.raises(Refused) as refused:
        pair.subsystem.group_delete("books")
    assert refused.value.reason is Reason.NOT_FOUND


def test_a_deleted_volume_is_in_no_group(pair: House) -> None:
    pair.subsystem.group_create("books", BOTH)
    pair.subsystem.volume_delete("journal", force=True)
    assert pair.subsystem.group_list()[0]["volumes"] == ["ledger"]
    assert "less than two" in pair.subsystem.group_list()[0]["why"]
    pair.subsystem.group_delete("books")


def test_a_host_reaches_declared_volumes_of_its_own_with_equal_rights_alone(pair: House) -> None:
    naa = pair.show("journal")["naa"]

    def refused() -> None:
        with pytest.raises(Refused) as told:
            pair.subsystem.group_reach("ledger", [naa])
        assert told.value.reason is Reason.RIGHTS
        assert "journal" not in told.value.message

    refused()
    pair.subsystem.group_create("books", BOTH)
    assert pair.subsystem.group_reach("ledger", [naa]) == BOTH
    for wrong in (["6" * 32], [naa, naa], [pair.show("ledger")["naa"]]):
        with pytest.raises(Refused):
            pair.subsystem.group_reach("ledger", wrong)
    journal = pair.floor.volume("journal")
    pair.catalog.volume_set(journal.uuid, rights="save")
    refused()


# --- recover -------------------------------------------------------------------------------------


@pytest.fixture
def saved(pair: House) -> House:
    """Both volumes have a save `night`, and were written since."""
    save(pair)
    pair.write(3, "y")
    pair.write(3, "k", "journal")
    return pair


def letters(house: House) -> str:
    return "".join(house.read(3, name) for name in BOTH)


def test_all_are_recovered_as_one_operation(saved: House) -> None:
    saved.engine.hold_copies = True
    answer = saved.subsystem.recover_group(NIGHT)
    assert letters(saved) == "xj"
    assert answer["operation"]["verb"] == "recover"
    assert answer["operation"]["state"] == "running"
    assert answer["operation"]["extents_changed"] == 2
    assert answer["operation"]["pause_ms"] == 1.0
    saved.finish()
    done = saved.subsystem.operation(answer["operation"]["id"])
    assert (done["state"], done["extents_copied"]) == ("done", 2)
    for name in BOTH:
        kept = [save["label"] for save in saved.show(name)["saves"]]
        assert kept == ["night", f"undo-{done['id']}"]
    for name in BOTH:
        assert saved.engine.volumes[saved.handle(name)].attentions == [(0x28, 0)]


def test_a_recover_that_is_called_off_changes_nothing(saved: House) -> None:
    saved.engine.late.add(saved.handle("journal"))
    with pytest.raises(Refused) as refused:
        saved.subsystem.recover_group(NIGHT, deadline_ms=200)
    assert "journal could not be recovered: not over within 200 ms" in refused.value.message
    saved.engine.late.clear()
    assert letters(saved) == "yk"
    assert saved.subsystem.status()["operations"] == []
    saved.subsystem.recover_group(NIGHT)
    assert letters(saved) == "xj"


@pytest.mark.parametrize("in_force", [-2, 0, 1, 2])
def test_a_kill_leaves_all_recovered_or_none(saved: House, in_force: int) -> None:
    saved.engine.cut_group = in_force
    with pytest.raises(PowerCut):
        saved.subsystem.recover_group(NIGHT)
    saved.restart()
    saved.finish()
    assert letters(saved) == ("xj" if in_force > 0 else "yk")
    whole = next(one for one in saved.subsystem.operations() if one["volume"] == "ledger, journal")
    assert whole["state"] == ("done" if in_force > 0 else "failed")
    assert saved.subsystem.status()["operations"] == []
    saved.write(5, "n", "journal")
    saved.subsystem.recover_group(NIGHT)
    saved.finish()
    assert saved.read(5, "journal") == ""


def test_a_volume_that_was_away_follows_before_its_hosts_see_it(saved: House) -> None:
    saved.engine.cut_group = 1
    with pytest.raises(PowerCut):
        saved.subsystem.recover_group(NIGHT)
    for name in "ef":
        shutil.move(saved.folder / name, saved.folder / f"{name}.away")
    saved.restart()
    saved.finish()
    assert saved.read(3) == "x"
    for name in "ef":
        shutil.move(saved.folder / f"{name}.away", saved.folder / name)
    saved.subsystem._comeback.look()
    saved.finish()
    assert letters(saved) == "xj"
    assert saved.subsystem.status()["operations"] == []


def test_a_volume_whose_save_is_missing_does_not_show_what_it_was(saved: House) -> None:
    saved.engine.cut_group = 1
    with pytest.raises(PowerCut):
        saved.subsystem.recover_group(NIGHT)
    medium = saved.show("journal")["saves"][0]["media"][0]
    shutil.move(saved.folder / medium, saved.folder / "away")
    saved.restart()
    saved.finish()
    shown = saved.show("journal")
    assert shown["state"] == "down"
    assert f"is there: {medium}" in shown["why"]
    shutil.move(saved.folder / "away", saved.folder / medium)
    saved.subsystem._comeback.look()
    saved.finish()
    assert letters(saved) == "xj"


def test_a_preview_of_a_recover_counts_what_differs_of_each(saved: House) -> None:
    told = saved.subsystem.recover_group(NIGHT, preview=True)
    assert [one["extents_changed"] for one in told["members"]] == [1, 1]
    assert told["operation"]["extents_changed"] == 2
    assert letters(saved) == "yk"


def test_disks_that_fail_in_a_recover_are_told_and_follow_at_the_next_start(saved: House) -> None:
    saved.engine.fail_at_go.add(saved.handle("journal"))
    with pytest.raises(Refused) as refused:
        saved.subsystem.recover_group(NIGHT)
    assert "journal could not be recovered" in refused.value.message
    assert "the others are" in refused.value.message
    assert saved.read(3) == "x"
    saved.engine.fail_at_go.clear()
    saved.restart()
    saved.finish()
    assert letters(saved) == "xj"
    assert saved.subsystem.status()["operations"] == []


def test_a_volume_that_is_deleted_ends_its_part(pair: House) -> None:
    pair.engine.hold_copies = True
    answer = save(pair, policy="copy")
    pair.subsystem.volume_delete("journal", force=True)
    pair.finish()
    told = pair.subsystem.operation(answer["operation"]["id"])
    assert (told["state"], told["error"]) == ("aborted", "journal: the volume was deleted")
    assert pair.subsystem.status()["operations"] == []
    assert pair.saves() == ["ledger@1"]


def test_what_was_called_off_too_late_to_be_written_down_does_not_come_back_at_a_start(
    saved: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved.engine.late_after_commit = True

    def full(*_: Any, **__: Any) -> None:
        raise Refused(Reason.ENVIRONMENT, "the catalog's disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(saved.subsystem._operations.__class__, "drop", full)
        with pytest.raises(Refused) as refused:
            saved.subsystem.recover_group(NIGHT)
        assert "disk is full" in refused.value.message
    saved.write(5, "n")
    saved.restart()
    saved.finish()
    assert letters(saved) == "yk"
    assert saved.read(5) == "n"
    assert saved.subsystem.status()["operations"] == []
    saved.subsystem.recover_group(NIGHT)
    assert letters(saved) == "xj"
