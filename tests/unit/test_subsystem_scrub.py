"""Scrub: what it finds, what it does not, and that it goes on."""

from __future__ import annotations

import time
from typing import Any

import pytest

from targetplugin.errors import Reason, Refused
from tests.unit.fake_engine import FakeEngine, buffered_write
from tests.unit.house import EXTENT, MIB, House
from tests.waiting import until

FAST = 1 << 40  # bytes a second


def rot(house: House, medium: str, extent: int, letter: str = "!") -> None:
    """What a disk that fails quietly does."""
    uuid = house.floor.medium_row(medium).uuid
    buffered_write(house.floor.media[uuid].fd, extent * EXTENT + 4096, letter.encode())


def differences(house: House) -> list[dict[str, Any]]:
    return [e for e in house.subsystem.event_list() if e["kind"] == "scrub_difference"]


def kept_on(house: House) -> str:
    """The medium of the only save."""
    (save,) = house.show()["saves"]
    return str(save["media"][0])


def test_equal_legs_are_equal(house: House) -> None:
    house.write(3, "x")
    done = house.wait(house.subsystem.scrub("ledger", rate=FAST))
    assert (done["verb"], done["state"], done["progress"]) == ("scrub", "done", 1.0)
    nothing = {"different": 0, "unreadable": 0, "list": []}
    assert done["result"] == {"compared": 8 * MIB, **nothing}
    assert done["bytes_total"] == 8 * MIB
    assert differences(house) == []


def test_what_differs_is_told_with_its_place_and_left_as_it_is(house: House) -> None:
    house.write(3, "x")
    for extent in (3, 4, 17, 127):
        rot(house, "b", extent)
    done = house.wait(house.subsystem.scrub("ledger", rate=FAST))
    media = ["a", "b"]
    assert done["result"]["different"] == 4
    assert done["result"]["list"][0] == {
        "offset": 3 * EXTENT,
        "length": EXTENT,
        "what": "differs",
        "media": media,
    }
    places = [(r["offset"] // EXTENT, r["length"] // EXTENT) for r in done["result"]["list"]]
    assert places == [(3, 1), (4, 1), (17, 1), (127, 1)]
    told = differences(house)
    assert told[0]["details"]["extents"][0]["offset"] == 3 * EXTENT
    assert told[-1]["what"] == "scrub of ledger is done: 4 extents differ"
    assert told[-1]["operation"] == done["id"]
    again = house.wait(house.subsystem.scrub("ledger", rate=FAST))
    assert again["result"] == done["result"]


def test_of_three_legs_those_are_named_that_differ(house: House) -> None:
    house.subsystem.leg_add("ledger")
    house.finish()
    rot(house, "c", 5)
    rot(house, "b", 6, "1")
    rot(house, "c", 6, "2")
    done = house.wait(house.subsystem.scrub("ledger", rate=FAST))
    assert [r["media"] for r in done["result"]["list"]] == [["a", "c"], ["a", "b", "c"]]


def test_a_leg_that_cant_be_read_is_told_and_not_given_up(house: House) -> None:
    started = house.subsystem.scrub("ledger", rate=FAST, preview=True)
    house.engine.broken.add(house.floor.medium_row("b").uuid)
    started = house.subsystem.scrub("ledger", rate=FAST)
    done = house.wait(started)
    assert done["result"]["unreadable"] == 128
    assert {tuple(r["media"]) for r in done["result"]["list"]} == {("b",)}
    assert [leg["state"] for leg in house.show()["legs"]] == ["in_sync", "in_sync"]


def test_a_preview_says_how_long_and_does_nothing(house: House) -> None:
    told = house.subsystem.scrub("ledger", rate=MIB, preview=True)["operation"]
    assert (told["bytes_total"], told["seconds_left"]) == (8 * MIB, 8.0)
    assert house.subsystem.operations() == []


def test_a_single_leg_without_a_save_or_a_second_scrub_is_refused(house: House) -> None:
    started = house.subsystem.scrub("ledger", rate=EXTENT)
    with pytest.raises(Refused) as refused:
        house.subsystem.scrub("ledger")
    assert refused.value.reason is Reason.BUSY
    house.subsystem.abort(started["operation"]["id"])
    house.subsystem.save("ledger", label="night")
    house.subsystem.release("ledger@night")
    with pytest.raises(Refused) as refused:
        house.subsystem.scrub("ledger")
    assert refused.value.reason is Reason.STATE
    assert "leg add" in refused.value.hint


def test_it_is_as_slow_as_it_was_asked_to_be_and_can_be_stopped(house: House) -> None:
    began = time.monotonic()
    started = house.subsystem.scrub("ledger", rate=MIB)
    op = started["operation"]["id"]
    until(lambda: house.subsystem.operation(op)["progress"] > 0)
    time.sleep(max(0.0, 1.0 - (time.monotonic() - began)))
    shown = house.subsystem.operation(op)
    # A second ahead at most, which it may make up.
    assert shown["progress"] <= (time.monotonic() - began + 1.5) / 8
    assert shown["seconds_left"] > 3
    done = house.subsystem.abort(op)["operation"]
    assert done["state"] == "aborted"
    assert 0 < done["progress"] < 1
    assert house.show()["operation"] is None


def test_verbs_go_on_beside_it_and_it_waits_for_a_second_leg(house: House) -> None:
    started = house.subsystem.scrub("ledger", rate=4 * MIB)
    op = started["operation"]["id"]
    house.subsystem.save("ledger", label="night")
    house.write(5, "y")
    at = house.subsystem.operation(op)["progress"]
    time.sleep(0.2)
    assert house.subsystem.operation(op)["progress"] <= at + 0.05
    house.subsystem.resync("ledger@night")
    house.finish()
    done = house.wait(started)
    assert (done["state"], done["result"]["different"]) == ("done", 0)


@pytest.mark.parametrize("end", ["kill", "end"])
def test_it_goes_on_after_a_restart_with_what_it_found(house: House, end: str) -> None:
    rot(house, "b", 2)
    started = house.subsystem.scrub("ledger", rate=2 * MIB)
    op = started["operation"]["id"]
    until(lambda: house.subsystem.operation(op)["result"]["different"])
    offsets: list[int] = []
    real = FakeEngine.compare

    def compare(engine: FakeEngine, handle: int, offset: int, length: int) -> Any:
        offsets.append(offset)
        return real(engine, handle, offset, length)

    if end == "kill":
        house.restart()
    else:
        house.end()
        FakeEngine.compare = compare  # type: ignore[method-assign]
        house.boot()
    try:
        done = house.subsystem.operation_wait(op, 30)
    finally:
        FakeEngine.compare = real  # type: ignore[method-assign]
    assert done["state"] == "done"
    assert done["result"]["different"] == 1
    if end == "end":
        assert offsets
        assert offsets[0] > 0


def test_a_whole_save_is_compared_where_nothing_has_changed_since(house: House) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger", label="night")
    house.write(4, "y")
    done = house.wait(house.subsystem.scrub("ledger", rate=FAST))
    nothing = {"different": 0, "unreadable": 0, "list": []}
    assert done["result"] == {"compared": 8 * MIB, **nothing}, "one leg, and one save"
    kept = kept_on(house)
    for extent in (4, 9, 127):
        rot(house, kept, extent)
    done = house.wait(house.subsystem.scrub("ledger", rate=FAST))
    leg = house.show()["legs"][0]["medium"]
    told = {"length": EXTENT, "what": "differs", "media": [kept, leg], "save": "ledger@1"}
    assert done["result"]["list"] == [{"offset": at * EXTENT, **told} for at in (9, 127)]
    assert done["result"]["different"] == 2, "extent 4 has changed since"


def test_legs_and_saves_are_compared_one_after_the_other(house: House) -> None:
    house.subsystem.save("ledger", label="night")
    house.subsystem.leg_add("ledger", medium="c")
    house.finish()
    house.write(4, "y")
    preview = house.subsystem.scrub("ledger", rate=MIB, preview=True)["operation"]
    assert (preview["bytes_total"], preview["seconds_left"]) == (16 * MIB, 16.0)
    rot(house, "c", 9)
    done = house.wait(house.subsystem.scrub("ledger", rate=FAST))
    assert done["result"]["compared"] == 16 * MIB
    assert "save" not in done["result"]["list"][0]


def test_a_write_while_both_are_read_is_no_difference(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.subsystem.save("ledger", label="night")
    kept = house.subsystem._scrub._kept
    read, written = kept._read, []

    def late(medium: Any, first: int, count: int) -> Any:
        found = read(medium, first, count)
        if not written:
            written.append(first)
            house.write(first // EXTENT + 1, "w")
        return found

    monkeypatch.setattr(kept, "_read", late)
    done = house.wait(house.subsystem.scrub("ledger", rate=FAST))
    assert written
    assert done["result"]["different"] == 0


def test_a_save_that_is_released_meanwhile_is_left_out(house: House) -> None:
    house.subsystem.save("ledger", label="night")
    started = house.subsystem.scrub("ledger", rate=4 * MIB)
    op = started["operation"]["id"]
    until(lambda: house.subsystem.operation(op)["progress"] > 0)
    house.subsystem.release("ledger@night")
    done = house.subsystem.operation_wait(op, 30)
    assert (done["state"], done["progress"]) == ("done", 1.0)


def test_a_medium_of_a_save_that_cant_be_read_is_named(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.subsystem.save("ledger", label="night")
    name = kept_on(house)
    bad = house.floor.media[house.floor.medium_row(name).uuid]

    def fails(offset: int, length: int) -> bytes:
        raise Refused(Reason.ENVIRONMENT, f"{name} can't be read")

    monkeypatch.setattr(bad, "read", fails)
    done = house.wait(house.subsystem.scrub("ledger", rate=FAST))
    assert done["result"]["unreadable"] == 128
    assert {tuple(r["media"]) for r in done["result"]["list"]} == {(name,)}


def test_a_volume_that_is_deleted_ends_it(house: House) -> None:
    op = house.subsystem.scrub("ledger", rate=MIB)["operation"]["id"]
    house.subsystem.volume_delete("ledger", force=True)
    until(lambda: op not in house.subsystem._scrub._tasks)
    assert house.subsystem.operation(op)["state"] == "aborted"
