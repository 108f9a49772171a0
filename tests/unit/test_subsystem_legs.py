"""Legs: brought in, taken out, replaced by a spare when they fail."""

from __future__ import annotations

import os
from typing import Any

import pytest

from targetplugin.errors import Reason, Refused
from tests.unit.fake_engine import FakeEngine, PowerCut
from tests.unit.house import MIB, House


def legs(house: House) -> dict[str, str]:
    return {leg["medium"]: leg["state"] for leg in house.show()["legs"]}


def refusal(run: Any) -> Refused:
    with pytest.raises(Refused) as refused:
        run()
    return refused.value


# --- leg add ---------------------------------------------------------------------------------


def test_a_spare_takes_the_place_of_a_leg_that_a_save_took(house: House) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger")
    house.engine.hold_copies = True
    added = house.subsystem.leg_add("ledger")
    operation = added["operation"]
    assert (operation["verb"], operation["state"], operation["save"]) == (
        "leg add",
        "running",
        None,
    )
    assert operation["bytes_total"] == 8 * MIB
    assert legs(house) == {"a": "in_sync", "c": "syncing"}
    assert house.subsystem.operation(operation["id"])["progress"] < 0.5
    house.write(4, "y")
    house.finish()
    done = house.wait(added)
    assert (done["state"], done["progress"], done["extents_copied"]) == ("done", 1.0, 128)
    assert legs(house) == {"a": "in_sync", "c": "in_sync"}
    assert [house.on_medium("c", e) for e in (3, 4, 5)] == ["x", "y", ""]
    assert house.show()["mirror"] == 2
    assert house.saves() == ["ledger@1"]


def test_one_more_leg_is_a_wider_mirror(house: House) -> None:
    house.subsystem.leg_add("ledger", medium="d")
    house.finish()
    assert legs(house) == dict.fromkeys("abd", "in_sync")
    assert house.show()["mirror"] == 3
    house.restart()
    assert legs(house) == dict.fromkeys("abd", "in_sync")


def test_a_preview_of_a_leg_says_which_and_does_nothing(house: House) -> None:
    before = house.states()
    told = house.subsystem.leg_add("ledger", preview=True)
    assert (told["medium"], told["operation"]["bytes_total"]) == ("c", 8 * MIB)
    told = house.subsystem.leg_remove("ledger", "b", preview=True)
    assert told["medium"] == "b"
    assert house.states() == before
    assert house.subsystem.operations() == []


@pytest.mark.parametrize(
    ("medium", "reason"), [("a", Reason.STATE), ("tiny", Reason.STATE), ("no", Reason.NOT_FOUND)]
)
def test_a_medium_that_can_be_no_leg_is_refused(house: House, medium: str, reason: Reason) -> None:
    house.media("tiny", size=3 * MIB)
    before = house.states()
    assert refusal(lambda: house.subsystem.leg_add("ledger", medium=medium)).reason is reason
    assert house.states() == before
    assert house.subsystem.operations() == []


def test_a_mirror_has_at_most_eight_legs(house: House) -> None:
    house.media(*"efghijkl")
    for _ in range(6):
        house.subsystem.leg_add("ledger")
    assert "8 legs" in refusal(lambda: house.subsystem.leg_add("ledger")).message


def test_a_leg_that_is_brought_in_can_be_given_up(house: House) -> None:
    house.engine.hold_copies = True
    added = house.subsystem.leg_add("ledger")
    assert house.subsystem.abort(added["operation"]["id"])["operation"]["state"] == "aborted"
    assert legs(house) == dict.fromkeys("ab", "in_sync")
    assert house.states()["c"] == "free"


def test_a_leg_that_cant_be_written_is_refused_and_free_again(house: House) -> None:
    add_leg = FakeEngine.add_leg

    def fails(engine: FakeEngine, handle: int, medium: Any, pending: Any) -> None:
        raise OSError(5, "Input/output error")

    FakeEngine.add_leg = fails  # type: ignore[method-assign]
    try:
        assert refusal(lambda: house.subsystem.leg_add("ledger")).reason is Reason.ENVIRONMENT
    finally:
        FakeEngine.add_leg = add_leg  # type: ignore[method-assign]
    assert house.states()["c"] == "free"
    assert house.subsystem.operations()[0]["state"] == "failed"


def test_an_identifier_makes_asking_twice_asking_once(house: House) -> None:
    one = house.subsystem.leg_add("ledger", request=b"1" * 16)
    two = house.subsystem.leg_add("ledger", request=b"1" * 16)
    assert one["operation"]["id"] == two["operation"]["id"]
    assert len(legs(house)) == 3


@pytest.mark.parametrize("when", ["before", "after", "half"])
def test_a_daemon_that_dies_brings_the_leg_in_or_leaves_no_trace(house: House, when: str) -> None:
    house.write(3, "x")
    kill_in(house, "add_leg", when, lambda: house.subsystem.leg_add("ledger"))
    house.finish()
    operation = house.subsystem.operations()[0]
    if when == "before":
        assert operation["state"] == "failed"
        assert house.states()["c"] == "free"
        assert legs(house) == dict.fromkeys("ab", "in_sync")
    else:
        assert operation["state"] == "done"
        assert legs(house) == dict.fromkeys("abc", "in_sync")
        assert house.on_medium("c", 3) == "x"


def kill_in(house: House, verb: str, when: str, run: Any) -> None:
    """The daemon dies in a verb of the engine: before, or when it is in force; "half": that, with
    its copies still to come.
    """
    real = getattr(FakeEngine, verb)

    def dies(engine: FakeEngine, *arguments: Any) -> None:
        engine.hold_copies = when == "half"
        if when != "before":
            real(engine, *arguments)
        raise PowerCut

    setattr(FakeEngine, verb, dies)
    try:
        with pytest.raises(PowerCut):
            run()
    finally:
        setattr(FakeEngine, verb, real)
    house.restart()


# --- leg remove ------------------------------------------------------------------------------


def test_a_leg_is_taken_out_and_its_medium_is_free(house: House) -> None:
    house.write(3, "x")
    removed = house.subsystem.leg_remove("ledger", "b")
    assert removed["operation"]["state"] == "done"
    assert legs(house) == {"a": "in_sync"}
    assert house.states()["b"] == "free"
    assert house.show()["mirror"] == 1
    assert house.show()["state"] == "serving"
    house.restart()
    assert legs(house) == {"a": "in_sync"}
    assert house.read(3) == "x"
    house.subsystem.save("ledger", policy="copy", onto="b")


def test_the_last_leg_in_sync_stays(house: House) -> None:
    house.subsystem.save("ledger")
    house.engine.hold_copies = True
    house.subsystem.leg_add("ledger")
    refused = refusal(lambda: house.subsystem.leg_remove("ledger", "a"))
    assert "last leg in sync" in refused.message
    assert "leg add" in refused.hint
    assert refusal(lambda: house.subsystem.leg_remove("ledger", "d")).reason is Reason.STATE
    assert legs(house) == {"a": "in_sync", "c": "syncing"}


def test_a_leg_taken_out_while_it_is_brought_in_ends_that(house: House) -> None:
    house.engine.hold_copies = True
    added = house.subsystem.leg_add("ledger")
    house.subsystem.leg_remove("ledger", "c")
    done = house.subsystem.operation(added["operation"]["id"])
    assert (done["state"], done["error"]) == ("aborted", "its leg was taken out")
    assert house.states()["c"] == "free"


def test_a_leg_that_is_missing_is_taken_out_and_free_when_it_is_back(house: House) -> None:
    house.kill()
    os.rename(house.folder / "b", house.folder / "away")
    house.boot()
    house.write(3, "x")
    house.subsystem.leg_remove("ledger", "b")
    assert legs(house) == {"a": "in_sync"}
    house.kill()
    os.rename(house.folder / "away", house.folder / "b")
    house.boot()
    assert legs(house) == {"a": "in_sync"}
    assert house.floor.media[house.floor.medium_row("b").uuid].trailer.role.name == "FREE"  # type: ignore[union-attr]
    assert house.read(3) == "x"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_daemon_that_dies_while_a_leg_leaves(house: House, when: str) -> None:
    house.write(3, "x")
    kill_in(house, "drop_leg", when, lambda: house.subsystem.leg_remove("ledger", "b"))
    assert house.subsystem.operations()[0]["state"] == ("failed" if when == "before" else "done")
    assert legs(house) == dict.fromkeys("ab" if when == "before" else "a", "in_sync")
    assert (house.states()["b"] == "free") == (when == "after")
    assert house.read(3) == "x"


def test_a_leg_that_left_is_not_believed_when_the_others_are_away(house: House) -> None:
    """The daemon dies right after the record; its old record says still that it is in sync."""

    def run() -> None:
        house.subsystem.leg_remove("ledger", "b")

    real = FakeEngine.drop_leg

    def dies(engine: FakeEngine, handle: int, uuid: bytes) -> None:
        real(engine, handle, uuid)
        engine.write(handle, 0, b"n" * 65536)
        raise PowerCut

    FakeEngine.drop_leg = dies  # type: ignore[method-assign]
    try:
        with pytest.raises(PowerCut):
            run()
    finally:
        FakeEngine.drop_leg = real  # type: ignore[method-assign]
    house.kill()
    os.rename(house.folder / "a", house.folder / "away")
    house.boot()
    assert house.show()["state"] == "down"
    house.kill()
    os.rename(house.folder / "away", house.folder / "a")
    house.boot()
    assert legs(house) == {"a": "in_sync"}
    assert house.read(0) == "n"


# --- policies --------------------------------------------------------------------------------


def test_policies_are_changed_and_stay_so(house: House) -> None:
    made = house.subsystem.volume_set(
        "ledger", policy="copy", rights="save", mirror=3, replace_failed=True, replace_after=7
    )
    house.restart()
    for shape in (made, house.show()):
        told = [shape[k] for k in ("policy", "rights", "mirror", "replace_failed", "replace_after")]
        assert told == ["copy", "save", 3, True, 7]
    house.subsystem.volume_set("ledger", replace_failed=False)
    assert house.show()["replace_failed"] is False
    assert house.show()["replace_after"] == 7
    for wrong in ({"policy": "some"}, {"rights": "some"}, {"mirror": 9}, {"replace_after": -1}):
        reason = refusal(lambda wrong=wrong: house.subsystem.volume_set("ledger", **wrong)).reason
        assert reason is Reason.USAGE


class Clock:
    """Ours instead of the machine's, for how long a leg is away."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.now = 1000.0
        house.subsystem._replace._clock = lambda: self.now

    def look(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.house.subsystem._replace.look()
        self.house.finish()


def lose(house: House, name: str) -> None:
    house.engine.broken.add(house.floor.medium_row(name).uuid)
    house.write(0, "l")
    house.subsystem.settled()


@pytest.fixture
def clock(house: House) -> Clock:
    house.subsystem._comeback.stop()  # what comes back comes when a test says so
    house.subsystem._replace.stop()
    house.subsystem._replace.start = lambda: None  # type: ignore[method-assign]
    house.subsystem._replace.stop = lambda: None  # type: ignore[method-assign]
    house.subsystem._comeback.stop = lambda: None  # type: ignore[method-assign]
    return Clock(house)


def replaced(house: House) -> list[dict[str, Any]]:
    return [o for o in house.subsystem.operations() if o["verb"] == "replace leg"]


def test_a_leg_that_stays_away_is_replaced_by_a_spare(house: House, clock: Clock) -> None:
    house.subsystem.volume_set("ledger", replace_failed=True)
    house.write(3, "x")
    lose(house, "b")
    clock.look()
    clock.look(299)
    assert legs(house) == {"a": "in_sync", "b": "stale"}
    clock.look(2)
    assert legs(house) == {"a": "in_sync", "c": "in_sync"}
    (operation,) = replaced(house)
    assert (operation["door"], operation["state"]) == ("policy", "done")
    assert house.on_medium("c", 3) == "x"
    assert house.subsystem.media_list()[1]["state"] == "failed"
    assert house.show()["mirror"] == 2
    told = [event.what for event in house.catalog.events()]
    assert any("b failed and is replaced by c" in what for what in told)
    clock.look(1000)
    assert len(replaced(house)) == 1


def test_what_failed_is_no_spare_until_it_is_given_anew(house: House, clock: Clock) -> None:
    house.subsystem.volume_set("ledger", replace_failed=True, replace_after=0)
    lose(house, "b")
    clock.look(1)
    house.engine.broken.clear()
    assert refusal(lambda: house.subsystem.leg_add("ledger", medium="b")).reason is Reason.STATE
    house.subsystem.media_remove("b")
    house.subsystem.media_add(str(house.folder / "b"))
    house.subsystem.leg_add("ledger", medium="b")


def test_a_leg_that_comes_back_in_time_is_resynced(house: House, clock: Clock) -> None:
    house.subsystem.volume_set("ledger", replace_failed=True)
    lose(house, "b")
    clock.look(200)
    house.engine.broken.clear()
    house.subsystem._comeback.look()
    house.finish()
    clock.look(200)
    assert legs(house) == {"a": "in_sync", "b": "in_sync"}
    lose(house, "b")
    clock.look()
    clock.look(200)
    assert replaced(house) == []
    clock.look(101)
    assert len(replaced(house)) == 1


def test_without_the_policy_no_leg_is_replaced(house: House, clock: Clock) -> None:
    lose(house, "b")
    clock.look()
    clock.look(10000)
    assert replaced(house) == []
    assert house.states()["c"] == "free"


def test_a_medium_with_something_on_it_is_never_taken(house: House, clock: Clock) -> None:
    house.subsystem.volume_set("ledger", replace_failed=True, replace_after=0)
    house.subsystem.save("ledger", policy="copy", onto="c")
    house.finish()
    house.subsystem.media_remove("d")
    lose(house, "b")
    clock.look(1)
    clock.look(1)
    assert legs(house) == {"a": "in_sync", "b": "stale"}
    assert house.states()["c"] == "save ledger@1"
    told = [event.what for event in house.catalog.events() if "not replaced" in event.what]
    assert len(told) == 1
    house.media("e")
    clock.look(1)
    assert legs(house) == {"a": "in_sync", "e": "in_sync"}


def test_how_long_a_leg_was_away_survives_a_restart(house: House, clock: Clock) -> None:
    house.subsystem.volume_set("ledger", replace_failed=True, replace_after=60)
    lose(house, "b")
    clock.look()
    volume = house.floor.volume("ledger")
    long_ago = dict.fromkeys(volume.details["lost"], "2020-01-01T00:00:00.000Z")
    house.catalog.volume_set(volume.uuid, details={**volume.details, "lost": long_ago})
    clock.look()
    assert replaced(house) == []  # this daemon gives it some time too: disks come late at a boot
    clock.look(31)
    assert len(replaced(house)) == 1


def test_a_missing_leg_is_replaced(house: House, clock: Clock) -> None:
    house.subsystem.volume_set("ledger", replace_failed=True, replace_after=0)
    house.kill()
    os.unlink(house.folder / "b")
    house.boot()
    house.subsystem._comeback.stop()
    house.subsystem._replace.stop()
    house.subsystem._replace.look()
    house.finish()
    assert legs(house) == {"a": "in_sync", "c": "in_sync"}
    assert len(replaced(house)) == 1
    house.subsystem._replace.stop = lambda: None  # type: ignore[method-assign]
    house.subsystem._comeback.stop = lambda: None  # type: ignore[method-assign]


@pytest.mark.parametrize("verb", ["add_leg", "drop_leg"])
@pytest.mark.parametrize("when", ["before", "half", "after"])
def test_a_replacement_survives_a_kill_and_is_never_two(
    house: House, clock: Clock, verb: str, when: str
) -> None:
    house.subsystem.volume_set("ledger", replace_failed=True, replace_after=0)
    house.write(3, "x")
    lose(house, "b")
    kill_in(house, verb, when, lambda: clock.look(1))
    house.subsystem._replace.look()
    house.finish()
    house.subsystem._replace.look()
    house.finish()
    now = legs(house)
    if verb == "add_leg" and when == "before":
        # The leg was there again at the start, or the next look replaced it.
        assert now in ({"a": "in_sync", "b": "in_sync"}, {"a": "in_sync", "c": "in_sync"})
    else:
        assert now == {"a": "in_sync", "c": "in_sync"}
        assert [o["state"] for o in replaced(house)] == ["done"]
        assert house.on_medium("c", 3) == "x"
    assert house.states()["d"] == "free"


def test_a_replacement_that_fails_is_replaced_in_its_turn(house: House, clock: Clock) -> None:
    house.subsystem.volume_set("ledger", replace_failed=True, replace_after=0)
    lose(house, "b")
    house.engine.hold_copies = True
    house.subsystem._replace.look()
    assert legs(house) == {"a": "in_sync", "c": "syncing"}
    lose(house, "c")
    clock.look(1)
    assert legs(house) == {"a": "in_sync", "d": "in_sync"}
    assert [o["state"] for o in replaced(house)] == ["done", "failed"]
