"""Release, resync and abort, and the identifiers of hosts' requests."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from targetplugin.engine import Event
from targetplugin.errors import Reason, Refused
from targetplugin.media.trailer import Role
from targetplugin.subsystem.ground.states import TABLE, Activity, Outcome, Verb
from tests.unit.house import House

ONE = bytes(range(16))


def test_a_released_save_is_gone_and_its_medium_free(house: House) -> None:
    house.subsystem.save("ledger", label="night")
    answer = house.subsystem.release("ledger@night")
    assert answer["operation"]["state"] == "done"
    assert house.saves() == []
    assert house.states()["b"] == "free"
    trailer = house.floor.media[house.floor.medium_row("b").uuid].trailer
    assert trailer is not None
    assert trailer.role is Role.FREE


def test_releasing_a_save_that_fills_ends_its_filling(house: House) -> None:
    house.engine.hold_copies = True
    answer = house.subsystem.save("ledger", policy="copy")
    house.subsystem.release("ledger")
    assert house.subsystem.operation(answer["operation"]["id"])["state"] == "aborted"
    assert house.states()["c"] == "free"
    house.finish()


def test_a_resynced_save_is_a_leg_again_and_only_what_differs_is_copied(house: House) -> None:
    house.write(1, "x")
    house.subsystem.save("ledger")
    house.write(3, "y")
    answer = house.subsystem.resync("ledger")
    house.finish()
    done = house.subsystem.operation(answer["operation"]["id"])
    assert done["state"] == "done"
    assert done["extents_copied"] == 1
    assert house.saves() == []
    assert [leg["state"] for leg in house.show()["legs"]] == ["in_sync", "in_sync"]
    assert [house.on_medium("b", extent) for extent in (1, 3)] == ["x", "y"]
    house.subsystem.save("ledger")


def test_writes_during_a_resync_reach_the_new_leg(house: House) -> None:
    house.subsystem.save("ledger")
    house.write(3, "y")
    house.engine.hold_copies = True
    house.subsystem.resync("ledger")
    assert house.show()["state"] == "degraded"
    house.write(5, "z")
    house.finish()
    assert [house.on_medium("b", extent) for extent in (3, 5)] == ["y", "z"]


def test_a_resync_after_a_recover_copies_what_differs_by_the_tree(house: House) -> None:
    house.write(1, "a")
    house.subsystem.save("ledger")  # b
    house.write(1, "b")
    house.subsystem.save("ledger")  # c
    house.finish()
    house.write(1, "c")
    house.subsystem.recover("ledger@1")
    house.finish()
    house.subsystem.resync("ledger@2")
    house.finish()
    assert house.on_medium("c", 1) == "a"
    assert house.read(1) == "a"


def test_an_aborted_save_and_an_aborted_resync_free_their_media(house: House) -> None:
    house.subsystem.save("ledger")
    house.engine.hold_copies = True
    filling = house.subsystem.save("ledger")
    assert house.subsystem.abort(filling["operation"]["id"])["operation"]["state"] == "aborted"
    assert house.states()["c"] == "free"
    house.write(3, "y")
    joining = house.subsystem.resync("ledger@1")
    assert house.subsystem.abort(joining["operation"]["id"])["operation"]["state"] == "aborted"
    house.finish()
    assert house.states()["b"] == "free"
    assert [leg["medium"] for leg in house.show()["legs"]] == ["a"]


def test_a_recover_can_not_be_aborted_and_what_is_over_stays_as_it_is(house: House) -> None:
    save = house.subsystem.save("ledger")
    assert house.subsystem.abort(save["operation"]["id"])["operation"]["state"] == "done"
    house.write(3, "y")
    house.engine.hold_copies = True
    recover = house.subsystem.recover("ledger")
    with pytest.raises(Refused) as refused:
        house.subsystem.abort(recover["operation"]["id"])
    assert refused.value.reason is Reason.STATE


def test_a_save_whose_medium_fails_is_broken_and_stops_no_host(house: House) -> None:
    house.engine.hold_copies = True
    answer = house.subsystem.save("ledger", policy="copy")
    house.engine.broken.add(house.floor.medium_row("c").uuid)
    house.write(3, "y")
    house.finish()
    assert house.read(3) == "y"
    assert house.show()["saves"][0]["fill"] == "broken"
    assert house.subsystem.operation(answer["operation"]["id"])["state"] == "failed"
    with pytest.raises(Refused) as refused:
        house.subsystem.recover("ledger")
    assert refused.value.reason is Reason.STATE
    house.subsystem.release("ledger")
    assert house.saves() == []


# --- requests and rights -------------------------------------------------------------------


def test_the_same_request_twice_is_one_request(house: House) -> None:
    first = house.subsystem.save("ledger", label="night", door="in-band", request=ONE)
    again = house.subsystem.save("ledger", label="night", door="in-band", request=ONE)
    assert again == first
    assert house.saves() == ["ledger@1"]
    house.restart()
    house.finish()
    again = house.subsystem.save("ledger", label="night", door="in-band", request=ONE)
    assert again["save"] == first["save"]
    assert house.saves() == ["ledger@1"]


@pytest.mark.parametrize("verb", ["release", "resync", "swap", "recover"])
def test_a_request_that_ended_its_save_comes_again_and_gets_its_result(
    house: House, verb: str
) -> None:
    house.subsystem.save("ledger")
    ask = getattr(house.subsystem, verb)
    first = ask("ledger@1", door="in-band", request=ONE)
    house.finish()
    again = ask("ledger@1", door="in-band", request=ONE)
    assert again["operation"]["id"] == first["operation"]["id"]
    assert again["save"] == first["save"]
    assert len(house.subsystem.operations()) == 2


def test_the_same_identifier_with_another_body_is_refused(house: House) -> None:
    house.subsystem.save("ledger", label="night", request=ONE)
    for ask in (
        lambda: house.subsystem.save("ledger", label="day", request=ONE),
        lambda: house.subsystem.recover("ledger@1", request=ONE),
    ):
        with pytest.raises(Refused) as refused:
            ask()
        assert refused.value.reason is Reason.REQUEST_MISMATCH


def test_a_request_that_was_refused_may_come_again(house: House) -> None:
    with pytest.raises(Refused):
        house.subsystem.recover("ledger@1", door="in-band", request=ONE)
    house.subsystem.save("ledger")
    house.subsystem.recover("ledger@1", door="in-band", request=ONE)


def test_a_request_cut_short_gets_its_result_or_may_come_again(house: House) -> None:
    for in_force in (False, True):
        house.killed_in(
            "split",
            in_force=in_force,
            run=lambda: house.subsystem.save("ledger", request=ONE),
        )
        house.finish()
    assert house.subsystem.save("ledger", request=ONE)["operation"]["state"] == "done"
    assert house.saves() == ["ledger@1"]


@pytest.mark.parametrize(
    ("right", "allowed"),
    [
        ("none", []),
        ("status", ["diff"]),
        ("save", ["diff", "save"]),
        ("all", ["diff", "save", "recover"]),
    ],
)
def test_rights_bind_hosts_and_not_the_operator(
    house: House, right: str, allowed: list[str]
) -> None:
    house.catalog.volume_set(house.floor.volume("ledger").uuid, rights=right)
    house.subsystem.save("ledger")
    done = []
    for verb in ("diff", "save", "recover"):
        try:
            getattr(house.subsystem, verb)("ledger", door="in-band")
            done.append(verb)
        except Refused as refused:
            assert refused.reason is Reason.RIGHTS  # noqa: PT017
        house.finish()
    assert done == allowed


def test_a_host_can_not_force(house: House) -> None:
    house.subsystem.save("ledger")
    with pytest.raises(Refused) as refused:
        house.subsystem.recover("ledger", door="in-band", force=True)
    assert refused.value.reason is Reason.RIGHTS


def test_every_refusal_of_the_table_says_why_and_what_to_do() -> None:
    for rule in TABLE.values():
        assert (rule.outcome is Outcome.REFUSED) == bool(rule.why) == bool(rule.next)
    assert TABLE[Activity.RESTORING, Verb.SWAP].reason is Reason.BUSY


def test_an_event_of_an_earlier_save_changes_nothing_of_a_later_one(house: House) -> None:
    house.engine.hold_copies = True
    house.subsystem.save("ledger", policy="copy")
    (volume,) = house.catalog.volumes()
    (save,) = house.catalog.saves(volume.uuid)
    for kind in ("save_whole", "save_broken"):
        late = Event(house.floor.handle(volume), kind, save.media[0])
        house.subsystem._transfers._handle(late)
        assert house.show()["saves"][0]["fill"] == "filling"
    assert save.media[0] in house.floor.engine.status(house.floor.handle(volume))["saves"]
    house.finish()
    assert house.show()["saves"][0]["fill"] == "whole"


def test_the_end_of_an_earlier_recover_is_not_a_later_one_s(house: House) -> None:
    house.subsystem.save("ledger")
    house.write(3, "y")
    (volume,) = house.catalog.volumes()
    (save,) = house.catalog.saves(volume.uuid)
    house.engine.hold_copies = True
    recover = house.subsystem.recover("ledger")["operation"]["id"]
    late = Event(house.floor.handle(volume), "recovered", save.media[0])
    house.subsystem._transfers._handle(late)
    assert house.subsystem.operation(recover)["state"] == "running"
    house.finish()
    assert house.subsystem.operation(recover)["state"] == "done"


def test_whoever_waits_for_an_operation_does_not_stop_the_one_who_ends_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.engine.hold_copies = True
    op = house.subsystem.save("ledger", policy="copy")["operation"]["id"]
    looking, ended = threading.Event(), threading.Event()
    operation_get = house.catalog.operation_get

    def slow(id: int) -> Any:  # as the catalog is while the other is in a transaction
        if threading.current_thread().name == "waits":
            looking.set()
            assert ended.wait(10)
        return operation_get(id)

    monkeypatch.setattr(house.catalog, "operation_get", slow)
    waits = threading.Thread(target=house.subsystem.operation_wait, args=(op, 30.0), name="waits")
    waits.start()
    assert looking.wait(10)
    ends = threading.Thread(target=house.floor.tell)
    ends.start()
    ends.join(5)
    held_up = ends.is_alive()
    ended.set()
    ends.join()
    house.finish()
    waits.join(30)
    assert not waits.is_alive()
    assert not held_up
