"""Saves without fill: they share a store, which is made with the first and free when the last goes."""

from __future__ import annotations

from typing import Any

import pytest

from targetplugin.errors import Reason, Refused
from tests.unit.fake_engine import PowerCut
from tests.unit.house import MIB, House


def save(house: House, **more: Any) -> str:
    return str(house.subsystem.save("ledger", policy="sparse", **more)["save"]["name"])


def refused(reason: Reason, part: str, ask: Any, *rest: Any, **more: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        ask(*rest, **more)
    assert caught.value.reason is reason
    assert part in caught.value.message
    return caught.value


# --- the store ------------------------------------------------------------------------------------


def test_saves_without_fill_share_one_store(house: House) -> None:
    house.write(3, "x")
    first = house.subsystem.save("ledger", policy="sparse", label="one")
    house.write(3, "y")
    second = save(house)
    assert house.states() == {
        "a": "leg of ledger",
        "b": "leg of ledger",
        "c": "store of ledger",
        "d": "free",
    }
    assert (first["save"]["fill"], first["save"]["media"]) == ("unfilled", ["c"])
    assert first["operation"]["state"] == "done"
    told = house.show()
    assert [(one["name"], one["kept_bytes"]) for one in told["saves"]] == [
        ("ledger@1", 65536),
        (second, 0),
    ]
    assert told["store"] == {"medium": "c", "state": "ready", "size": 11 * MIB, "used": 65536}


def test_the_store_is_the_smallest_spare_that_the_volume_fits_on_else_the_largest(
    house: House,
) -> None:
    house.media("small", "smaller", size=4 * MIB)
    house.subsystem.media_remove("smaller")
    house.media("large", size=20 * MIB)
    save(house)
    assert house.show()["store"]["medium"] == "c"
    house.subsystem.release("ledger@1")
    for one in "cd":
        house.subsystem.media_remove(one)
    save(house)
    assert house.show()["store"]["medium"] == "large"
    house.subsystem.release("ledger@2")
    house.subsystem.media_remove("large")
    save(house)
    assert house.show()["store"]["medium"] == "small"


def test_the_store_is_on_the_medium_that_was_named(house: House) -> None:
    save(house, onto="d")
    assert house.states()["d"] == "store of ledger"
    refused(Reason.STATE, "one store", save, house, onto="c")
    assert save(house, onto="d") == "ledger@2"


def test_without_a_spare_there_is_no_store(house: House) -> None:
    for one in "cd":
        house.subsystem.media_remove(one)
    error = refused(Reason.NO_MEDIUM, "saves of ledger without fill", save, house)
    assert "media add" in error.hint
    assert house.saves() == []


def test_the_last_save_that_goes_frees_the_store(house: House) -> None:
    first, second, third = (save(house) for _ in range(3))
    for name in (second, first):  # the middle one too
        house.subsystem.release(name)
        assert house.states()["c"] == "store of ledger"
    house.subsystem.release(third)
    assert house.states()["c"] == "free"
    assert house.stores == {}
    assert house.show()["store"] is None


def test_a_save_that_fails_leaves_no_store(house: House) -> None:
    house.engine.broken = {house.floor.medium_row("c").uuid}
    refused(Reason.ENVIRONMENT, "", save, house)
    assert house.states()["c"] == "free"
    assert house.saves() == []
    house.engine.broken = set()
    assert save(house) == "ledger@1"


def test_a_volume_is_deleted_with_its_store(house: House) -> None:
    save(house)
    house.subsystem.volume_delete("ledger", force=True)
    assert house.states()["c"] == "free"


def test_a_medium_that_is_the_store_is_not_taken_away(house: House) -> None:
    save(house)
    refused(Reason.STATE, "store of ledger", house.subsystem.media_remove, "c")


# --- recover --------------------------------------------------------------------------------------


def test_any_of_them_is_recovered_from_and_others_stay(house: House) -> None:
    names = []
    for letter in "xyz":
        house.write(3, letter)
        names.append(save(house))
    house.write(3, "w")
    for name, letter in ((names[1], "y"), (names[0], "x"), (names[2], "z")):
        house.subsystem.recover(name, no_undo=True)
        house.finish()
        assert house.read(3) == letter
        assert house.on_medium("a", 3) == letter
    assert house.saves() == names


def test_a_recover_reads_the_save_at_once(house: House) -> None:
    house.write(3, "x")
    name = save(house)
    house.write(3, "y")
    house.engine.hold_copies = True
    house.subsystem.recover(name, no_undo=True)
    assert house.read(3) == "x"
    refused(Reason.BUSY, "is being recovered from", house.subsystem.release, name)
    house.finish()
    house.subsystem.release(name)
    assert house.states()["c"] == "free"


def test_a_recover_goes_on_after_a_kill(house: House) -> None:
    house.write(3, "x")
    name = save(house)
    house.write(3, "y")
    house.engine.hold_copies = True
    house.subsystem.recover(name, no_undo=True)
    house.restart()
    house.finish()
    assert house.read(3) == "x"
    assert house.show()["state"] == "serving"
    house.subsystem.release(name)
    assert house.states()["c"] == "free"


def test_without_another_spare_the_undo_save_is_in_the_store(house: House) -> None:
    house.subsystem.media_remove("d")
    house.write(3, "x")
    name = save(house)
    house.write(3, "y")
    answer = house.subsystem.recover(name)
    assert answer["undo"]["fill"] == "unfilled"
    assert answer["undo"]["media"] == ["c"]
    house.finish()
    assert house.read(3) == "x"
    house.subsystem.undo("ledger")
    house.finish()
    assert house.read(3) == "y"
    undos = [one["name"] for one in house.show()["saves"] if one["undo"]]
    assert undos == ["ledger@3"], "the older one is given up"


def test_an_undo_save_in_the_store_is_there_after_a_kill(house: House) -> None:
    house.subsystem.media_remove("d")
    house.write(3, "x")
    name = save(house)
    house.write(3, "y")
    house.killed_in("recover", in_force=False, run=lambda: house.subsystem.recover(name))
    assert house.states()["c"] == "store of ledger"
    assert house.read(3) == "y"
    house.subsystem.recover(name)
    house.restart()
    house.finish()
    house.subsystem.undo("ledger")
    house.finish()
    assert house.read(3) == "y"


# --- what it has no medium for ---------------------------------------------------------------------


def test_what_needs_a_medium_of_its_own_is_refused(house: House) -> None:
    name = save(house)
    for ask in (
        lambda: house.subsystem.resync(name),
        lambda: house.subsystem.clone(name, "other"),
        lambda: house.subsystem.save("ledger", replace=name),
    ):
        error = refused(Reason.STATE, "has no medium of its own", ask)
        assert error.hint == "fill it first"


def test_no_save_is_swapped_in_while_others_look_up_in_the_legs(house: House) -> None:
    house.subsystem.save("ledger", policy="copy", onto="d", label="whole")
    house.finish()
    name = save(house)
    refused(Reason.STATE, "look up in its legs", house.subsystem.swap, "ledger@whole")
    house.subsystem.release(name)
    house.subsystem.swap("ledger@whole")


# --- holds, rules and losses -----------------------------------------------------------------------


def test_a_hold_is_told_to_the_engine_and_ends_with_the_clock(house: House) -> None:
    name = save(house)
    (store,) = house.stores.values()
    house.subsystem.hold(name, seconds=60)
    assert store.saves[1].held
    refused(Reason.STATE, "is held", house.subsystem.release, name)
    house.subsystem.unhold(name, force=True)
    assert not store.saves[1].held
    house.subsystem.hold(name, seconds=60)
    row = house.catalog.holds()[0]
    house.catalog.hold_remove(row.volume, row.generation)  # as when its time is over
    save(house)
    assert not store.saves[1].held


def test_a_hold_that_was_set_while_the_volume_was_down_is_told_at_its_start(house: House) -> None:
    name = save(house)
    house.subsystem.hold(name, seconds=600)
    (store,) = house.stores.values()
    store.saves[1].held = False
    house.restart()
    assert store.saves[1].held


def test_rules_release_the_older_ones(house: House) -> None:
    house.subsystem.retain("ledger", last=2)
    for _ in range(4):
        save(house)
        house.subsystem.settled()
    assert house.saves() == ["ledger@3", "ledger@4"]


def test_a_full_store_loses_what_the_engine_gave_up_and_says_so(house: House) -> None:
    first, second = save(house), save(house)
    house.engine.fill_up(house.handle(), 1)
    house.subsystem.settled()
    assert [one["fill"] for one in house.show()["saves"]] == ["broken", "unfilled"]
    event = house.subsystem.event_list(volume="ledger")[-1]
    assert event["kind"] == "sparse_lost"
    assert "the store c is full" in event["what"]
    assert first in event["what"]
    refused(Reason.STATE, "is broken", house.subsystem.recover, first)
    refused(Reason.STATE, "is broken", house.subsystem.swap, first)
    house.subsystem.release(first)
    assert house.saves() == [second]


def test_a_store_that_is_nearly_full_is_warned_of(house: House) -> None:
    save(house)
    house.engine.warn(house.handle())
    house.subsystem.settled()
    event = house.subsystem.event_list(volume="ledger")[-1]
    assert event["kind"] == "store_low"
    assert "the store c is" in event["what"]
    assert "fill them" in event["what"]


def test_after_a_store_that_failed_another_is_made_when_its_saves_are_released(
    house: House,
) -> None:
    name = save(house)
    house.engine.fail_store(house.handle())
    house.subsystem.settled()
    assert house.show()["store"]["state"] == "broken"
    assert house.show()["saves"][0]["fill"] == "broken"
    error = refused(Reason.STATE, "the store of ledger, c, failed", save, house)
    assert name in error.hint
    house.subsystem.release(name)
    assert save(house) == "ledger@2"


def test_a_save_that_was_lost_while_nobody_looked_is_broken_after_a_start(house: House) -> None:
    save(house), save(house)
    (store,) = house.stores.values()
    store.saves[1].broken = True
    del store.saves[2]
    house.restart()
    assert [one["fill"] for one in house.show()["saves"]] == ["broken", "broken"]


# --- crashes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["add_store", "save_sparse"])
def test_the_first_save_is_there_after_a_kill_or_has_no_trace(house: House, call: str) -> None:
    house.write(3, "x")
    house.engine.cut_in_store = call
    with pytest.raises(PowerCut):
        save(house)
    house.restart()
    if call == "add_store":
        assert house.saves() == []
        assert house.states()["c"] == "free"
        assert house.stores == {}
        assert save(house) == "ledger@1"
    assert house.saves() == ["ledger@1"]
    assert house.states()["c"] == "store of ledger"
    house.write(3, "y")
    house.subsystem.recover("ledger@1", no_undo=True)
    assert house.read(3) == "x"


def test_a_release_that_was_cut_short_is_done_at_the_next_start(house: House) -> None:
    first, second = save(house), save(house)

    def cut(handle: int, generation: int) -> None:
        raise PowerCut

    house.engine.release_sparse = cut  # type: ignore[method-assign]
    with pytest.raises(PowerCut):
        house.subsystem.release(first)
    house.restart()
    assert house.saves() == [second]
    (store,) = house.stores.values()
    assert list(store.saves) == [2]


def test_the_same_request_is_the_same_save(house: House) -> None:
    one = house.subsystem.save("ledger", policy="sparse", request=bytes(range(16)))
    two = house.subsystem.save("ledger", policy="sparse", request=bytes(range(16)))
    assert one["operation"]["id"] == two["operation"]["id"]
    assert house.saves() == ["ledger@1"]


def test_a_preview_says_where_and_does_nothing(house: House) -> None:
    told = house.subsystem.save("ledger", policy="sparse", preview=True)
    assert (told["onto"], told["kind"]) == ("c", "sparse")
    assert house.saves() == []
    assert house.states()["c"] == "free"


# --- several volumes --------------------------------------------------------------------------------


def pair(house: House) -> None:
    house.media("e", "f")
    house.volume("journal", media=["e", "f"])


def test_several_volumes_are_saved_without_fill_as_one_each_in_its_store(house: House) -> None:
    pair(house)
    house.write(3, "x")
    house.write(3, "j", "journal")
    made = house.subsystem.save_group(["ledger", "journal"], policy="sparse", label="night")
    assert {one["fill"] for one in made["saves"]} == {"unfilled"}
    stores = {house.show(name)["store"]["medium"] for name in ("ledger", "journal")}
    assert stores == {"c", "d"}
    house.write(3, "y")
    house.write(3, "k", "journal")
    answer = house.subsystem.recover_group(["ledger@night", "journal@night"])
    assert [one["fill"] for one in answer["undos"]] == ["unfilled", "unfilled"]
    house.finish()
    assert [house.read(3), house.read(3, "journal")] == ["x", "j"]
    house.subsystem.undo_group(["ledger", "journal"])
    house.finish()
    assert [house.read(3), house.read(3, "journal")] == ["y", "k"]


def test_a_group_that_is_late_leaves_no_store(house: House) -> None:
    pair(house)
    house.engine.late = {house.handle("journal")}
    refused(
        Reason.BUSY,
        "",
        house.subsystem.save_group,
        ["ledger", "journal"],
        policy="sparse",
    )
    assert [house.states()[one] for one in "cd"] == ["free", "free"]
    assert house.stores == {}


@pytest.mark.parametrize("count", [-2, 0, 1, 2])
def test_a_group_is_saved_on_all_or_on_none_after_a_kill(house: House, count: int) -> None:
    pair(house)
    house.engine.cut_group = count
    with pytest.raises(PowerCut):
        house.subsystem.save_group(["ledger", "journal"], policy="sparse")
    house.restart()
    both = [house.saves(name) for name in ("ledger", "journal")]
    assert both == ([["ledger@1"], ["journal@1"]] if count == 2 else [[], []])
    free = [house.states()[one] for one in "cd"]
    assert free == (["store of ledger", "store of journal"] if count == 2 else ["free", "free"])
