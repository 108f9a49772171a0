"""Holds: what no verb and no host takes away before its time, whatever happens to the clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from targetplugin.catalog.rows import text_of
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.ground.states import TABLE, Hold, Outcome, Verb
from tests.unit.fake_engine import PowerCut
from tests.unit.house import House

DAY = 86400
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


class Clock:
    """Clocks that a test turns."""

    def __init__(self) -> None:
        self.now, self.boots, self.seconds = NOON, 1, 1000.0

    def date(self) -> datetime:
        return self.now

    def boot(self) -> str:
        return f"boot {self.boots}"

    def counted(self) -> float:
        return self.seconds

    def pass_by(self, seconds: float) -> None:
        """Time goes on as it should."""
        self.now += timedelta(seconds=seconds)
        self.seconds += seconds

    def set(self, days: float) -> None:
        """Someone sets the date, ahead or back."""
        self.now += timedelta(days=days)

    def reboot(self, seconds: float) -> None:
        """The machine is off for so long."""
        self.boots += 1
        self.now += timedelta(seconds=seconds)
        self.seconds = 20.0


@pytest.fixture
def clock(house: House, monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("targetplugin.subsystem.ground.floor.Clock", lambda: made)
    house.restart()
    house.subsystem.save("ledger", label="night")
    return made


def held(house: House) -> str | None:
    found: str | None = house.show()["saves"][0]["held_until"]
    return found


AWAY: dict[str, Callable[[Any], Any]] = {
    "release": lambda s: s.release("ledger@night"),
    "release --force": lambda s: s.release("ledger@night", force=True),
    "resync": lambda s: s.resync("ledger@night"),
    "swap": lambda s: s.swap("ledger@night"),
    "swap --force": lambda s: s.swap("ledger@night", force=True),
    "a bare swap": lambda s: s.swap("ledger"),
    "a preview": lambda s: s.release("ledger@night", preview=True),
    "a host's release": lambda s: s.release("ledger@1", door="in-band"),
    "a host's resync": lambda s: s.resync("ledger@1", door="in-band"),
    "a host's swap": lambda s: s.swap("ledger@1", door="in-band"),
    "volume delete": lambda s: s.volume_delete("ledger"),
    "volume delete --force": lambda s: s.volume_delete("ledger", force=True),
    "media remove --force": lambda s: s.media_remove("b", force=True),
    "volume create": lambda s: s.volume_create("other", 8 << 20, mirror=1, media=["b"], force=True),
    "save onto": lambda s: s.save("ledger", onto="b"),
}


@pytest.mark.parametrize("verb", AWAY)
def test_nothing_takes_a_held_save_away(house: House, clock: Clock, verb: str) -> None:
    house.write(3, "x")
    house.subsystem.hold("ledger@night", seconds=14 * DAY)
    before, operations = house.show(), house.subsystem.operations()
    with pytest.raises(Refused) as refused:
        AWAY[verb](house.subsystem)
    assert refused.value.reason is Reason.STATE
    assert refused.value.hint
    if "media" not in verb and "create" not in verb and "onto" not in verb:
        assert "ledger@1 is held until 2026-12-08T12:00:00.000Z" in refused.value.message
    assert (house.show(), house.subsystem.operations()) == (before, operations)
    assert house.on_medium("b", 3) == ""


def test_a_held_save_is_used_as_any_other(house: House, clock: Clock) -> None:
    house.write(3, "x")
    house.subsystem.hold("ledger@night", seconds=DAY)
    assert house.subsystem.diff("ledger@night")["extents"] == 1
    house.subsystem.recover("ledger@night")
    house.finish()
    assert house.read(3) == ""
    path = str(house.folder / "image")
    assert house.wait(house.subsystem.backup("ledger@night", path))["state"] == "done"
    house.subsystem.save("ledger", label="other")
    house.finish()
    house.subsystem.swap("ledger@other")
    assert held(house)


def test_when_it_is_over_the_save_can_go(house: House, clock: Clock) -> None:
    house.subsystem.hold("ledger@night", until=NOON + timedelta(days=2))
    clock.pass_by(2 * DAY - 1)
    assert held(house) == text_of(NOON + timedelta(days=2))
    assert [save["name"] for save in house.subsystem.holds()] == ["ledger@1"]
    clock.pass_by(1)
    assert held(house) is None
    assert house.subsystem.holds("ledger") == []
    house.subsystem.release("ledger@night")


def test_a_save_that_fills_can_be_held_and_then_its_fill_is_not_aborted(
    house: House, clock: Clock
) -> None:
    house.engine.hold_copies = True
    op = house.subsystem.save("ledger", policy="copy", label="day")["operation"]["id"]
    house.subsystem.hold("ledger@day", seconds=DAY)
    with pytest.raises(Refused, match="ledger@2 is held"):
        house.subsystem.abort(op)
    house.finish()
    assert house.subsystem.operation(op)["state"] == "done"


def test_a_hold_survives_a_kill_and_ends_with_its_save(house: House, clock: Clock) -> None:
    house.subsystem.hold("ledger@night", seconds=DAY)
    house.restart()
    assert held(house)
    with pytest.raises(Refused, match="is held"):
        house.subsystem.release("ledger@night")
    house.subsystem.unhold("ledger@night", force=True)
    house.subsystem.release("ledger@night")
    assert house.catalog.holds() == []


# --- longer and shorter ----------------------------------------------------------------------


def test_longer_is_taken_and_shorter_only_by_force(house: House, clock: Clock) -> None:
    house.subsystem.hold("ledger@night", seconds=2 * DAY)
    for shorter in (
        lambda force: house.subsystem.hold("ledger@night", seconds=DAY, force=force),
        lambda force: house.subsystem.unhold("ledger@night", force=force),
    ):
        with pytest.raises(Refused, match="is held until 2026-11-2") as refused:
            shorter(False)
        assert refused.value.reason is Reason.STATE
        assert "--force" in refused.value.hint
        shorter(True)
    assert held(house) is None
    made = house.subsystem.hold("ledger@night", seconds=3 * DAY)
    assert made["save"]["held_until"] == text_of(NOON + timedelta(days=3))
    made = house.subsystem.hold("ledger@night", seconds=4 * DAY)
    assert made["save"]["held_until"] == text_of(NOON + timedelta(days=4))


def test_what_is_not_held_is_not_held_already(house: House, clock: Clock) -> None:
    assert house.subsystem.unhold("ledger@night")["save"]["held_until"] is None


@pytest.mark.parametrize(
    "time",
    [
        {},
        {"seconds": 60, "until": NOON + timedelta(days=1)},
        {"until": NOON},
        {"until": NOON - timedelta(days=1)},
        {"seconds": 101 * 366 * DAY},
        {"seconds": 1 << 62},
        {"until": datetime.max.replace(tzinfo=UTC)},
    ],
)
def test_a_time_that_makes_no_sense_is_refused(
    house: House, clock: Clock, time: dict[str, Any]
) -> None:
    with pytest.raises(Refused) as refused:
        house.subsystem.hold("ledger@night", **time)
    assert refused.value.reason is Reason.USAGE
    assert refused.value.hint
    assert held(house) is None


def test_a_broken_save_is_not_held(house: House, clock: Clock) -> None:
    (volume,) = house.catalog.volumes()
    house.catalog.save_set(volume.uuid, 1, fill="broken")
    with pytest.raises(Refused, match="hold is refused: ledger@1 is broken"):
        house.subsystem.hold("ledger@night", seconds=DAY)


def test_after_a_verb_that_could_not_be_recorded_nothing_is_held(
    house: House, clock: Clock
) -> None:
    (volume,) = house.catalog.volumes()
    house.catalog.operation_add("resync", volume=volume.uuid, volume_name="ledger", save=1)
    with pytest.raises(Refused, match="could not be recorded"):
        house.subsystem.hold("ledger@night", seconds=DAY)
    house.catalog.operation_set(house.catalog.operations()[0].id, state="failed")


# --- a save that is held from its first moment -----------------------------------------------


@pytest.mark.parametrize("policy", ["split", "copy", "sparse"])
def test_a_save_is_held_from_its_first_moment(house: House, clock: Clock, policy: str) -> None:
    house.subsystem.release("ledger@night")
    told = house.subsystem.save("ledger", policy=policy, preview=True, hold_seconds=DAY)
    assert told["held_until"] == text_of(NOON + timedelta(days=1))
    assert house.catalog.holds() == []
    made = house.subsystem.save("ledger", policy=policy, label="day", hold_seconds=DAY)
    assert made["save"]["held_until"] == text_of(NOON + timedelta(days=1))
    for store in house.stores.values():
        assert store.saves[2].held
    with pytest.raises(Refused, match="ledger@2 is held"):
        house.subsystem.release("ledger@day")
    house.restart()
    assert held(house) == text_of(NOON + timedelta(days=1))
    for store in house.stores.values():
        assert store.saves[2].held


@pytest.mark.parametrize("policy", ["split", "copy", "sparse"])
@pytest.mark.parametrize("in_force", [False, True])
def test_a_daemon_that_is_killed_leaves_no_save_that_is_not_held(
    house: House, clock: Clock, policy: str, in_force: bool
) -> None:
    house.subsystem.resync("ledger@night")
    house.finish()
    until = NOON + timedelta(days=2)
    house.engine.cut_group = int(in_force) if policy == "sparse" else -1
    house.killed_in(
        policy,
        in_force=in_force,
        run=lambda: house.subsystem.save("ledger", policy=policy, hold_until=until),
    )
    found = [(save["name"], save["held_until"]) for save in house.show()["saves"]]
    assert found == ([("ledger@2", text_of(until))] if in_force else [])
    assert len(house.catalog.holds()) == len(found)


def test_a_save_onto_an_older_one_is_held_as_its_own(house: House, clock: Clock) -> None:
    house.subsystem.save("ledger", replace="ledger@night", hold_seconds=DAY)
    assert [(save["name"], bool(save["held_until"])) for save in house.show()["saves"]] == [
        ("ledger@2", True)
    ]
    house.finish()
    with pytest.raises(Refused, match="ledger@2 is held"):
        house.subsystem.save("ledger", replace="ledger@2")


@pytest.mark.parametrize(
    "time",
    [
        {"hold_seconds": 60, "hold_until": NOON + timedelta(days=1)},
        {"hold_until": NOON},
        {"hold_seconds": 101 * 366 * DAY},
    ],
)
def test_a_hold_that_makes_no_sense_is_refused_and_nothing_is_saved(
    house: House, clock: Clock, time: dict[str, Any]
) -> None:
    before, operations = house.show(), house.subsystem.operations()
    for preview in (True, False):
        with pytest.raises(Refused) as refused:
            house.subsystem.save("ledger", preview=preview, **time)
        assert refused.value.reason is Reason.USAGE
        assert "the save of ledger can't be held" in refused.value.message or "60" in str(time)
    assert (house.show(), house.subsystem.operations()) == (before, operations)


def test_a_request_for_a_held_save_is_the_same_when_it_comes_again_later(
    house: House, clock: Clock
) -> None:
    until = NOON + timedelta(minutes=1)
    ask = {"request": bytes(range(16)), "hold_until": until}
    first = house.subsystem.save("ledger", policy="copy", **ask)
    clock.pass_by(DAY)
    again = house.subsystem.save("ledger", policy="copy", **ask)
    assert again["operation"]["id"] == first["operation"]["id"]
    with pytest.raises(Refused) as refused:
        house.subsystem.save("ledger", policy="copy", request=bytes(range(16)))
    assert refused.value.reason is Reason.REQUEST_MISMATCH


def test_several_volumes_are_saved_and_held(house: House, clock: Clock) -> None:
    house.media("e", "f", "g")
    house.volume("journal", mirror=1)
    told = house.subsystem.save_group(
        ["ledger", "journal"], policy="copy", hold_seconds=DAY, preview=True
    )
    assert told["held_until"] == text_of(NOON + timedelta(days=1))
    made = house.subsystem.save_group(["ledger", "journal"], policy="copy", hold_seconds=DAY)
    assert {save["held_until"] for save in made["saves"]} == {text_of(NOON + timedelta(days=1))}
    assert len(house.subsystem.holds()) == 2


@pytest.mark.parametrize("in_force", [0, 1, 2])
def test_of_several_all_are_held_or_given_up_after_a_kill(
    house: House, clock: Clock, in_force: int
) -> None:
    house.media("e", "f", "g")
    house.volume("journal", mirror=1)
    house.subsystem.release("ledger@night")
    house.engine.cut_group = in_force
    with pytest.raises(PowerCut):
        house.subsystem.save_group(["ledger", "journal"], policy="sparse", hold_seconds=DAY)
    house.restart()
    held = sorted(save["name"] for save in house.subsystem.holds())
    assert held == (["journal@1", "ledger@2"] if in_force == 2 else [])
    assert [*house.saves("journal"), *house.saves()] == held
    kept = [one.held for store in house.stores.values() for one in store.saves.values()]
    assert kept == [True] * len(held)


# --- clocks ----------------------------------------------------------------------------------


def test_a_clock_that_is_set_forward_ends_no_hold(house: House, clock: Clock) -> None:
    house.subsystem.hold("ledger@night", seconds=14 * DAY)
    clock.set(days=1000)
    assert held(house) == text_of(NOON + timedelta(days=1014))
    house.restart()  # of the daemon alone
    clock.pass_by(13 * DAY)
    with pytest.raises(Refused, match="is held"):
        house.subsystem.release("ledger@night")
    clock.pass_by(DAY)
    assert held(house) is None


def test_a_clock_that_is_set_back_makes_it_longer(house: House, clock: Clock) -> None:
    house.subsystem.hold("ledger@night", seconds=DAY)
    clock.set(days=-3)
    clock.pass_by(DAY)
    assert held(house) == text_of(NOON + timedelta(days=1))
    clock.pass_by(3 * DAY)
    assert held(house) is None


def test_after_a_reboot_the_date_counts_and_is_guarded_anew(house: House, clock: Clock) -> None:
    house.subsystem.hold("ledger@night", seconds=14 * DAY)
    clock.pass_by(4 * DAY)
    clock.reboot(3 * DAY)
    house.restart()
    clock.set(days=100)
    clock.pass_by(7 * DAY - 1)
    assert held(house)
    clock.pass_by(1)
    assert held(house) is None


def test_a_machine_that_boots_in_1970_counts_no_more_than_was_left(
    house: House, clock: Clock
) -> None:
    house.subsystem.hold("ledger@night", seconds=14 * DAY)
    clock.reboot(0)
    today = clock.now
    clock.now = datetime(1970, 1, 1, tzinfo=UTC)
    house.restart()
    clock.pass_by(60)
    clock.now = today + timedelta(seconds=60)  # the time server is there
    clock.pass_by(14 * DAY)
    assert held(house) is None


def test_a_hold_that_ended_while_the_machine_was_off_is_over(house: House, clock: Clock) -> None:
    house.subsystem.hold("ledger@night", seconds=DAY)
    clock.reboot(2 * DAY)
    house.restart()
    assert held(house) is None


def test_the_real_clock_counts(house: House) -> None:
    house.subsystem.save("ledger")
    house.subsystem.hold("ledger", seconds=3600)
    until = datetime.fromisoformat(held(house) or "")
    assert 3500 < (until - datetime.now(UTC)).total_seconds() <= 3600


# --- the journal and the table ---------------------------------------------------------------


def test_the_journal_has_who_held_and_unheld(house: House, clock: Clock) -> None:
    house.subsystem.hold("ledger@night", seconds=DAY)
    house.subsystem.unhold("ledger@night", force=True)
    told = [(event.door, event.what) for event in reversed(house.catalog.events())]
    until = "2026-11-25T12:00:00.000Z"
    assert told[-2:] == [
        ("terminal", f"ledger: ledger@1 is held until {until}"),
        ("terminal", f"ledger: ledger@1 is not held any more (it was held until {until})"),
    ]


def test_the_table_refuses_what_takes_a_held_save_away_and_nothing_else() -> None:
    refused = {verb for verb in Verb if TABLE[Hold.HELD, verb].outcome is Outcome.REFUSED}
    assert refused == {Verb.SWAP, Verb.RESYNC, Verb.RELEASE, Verb.REPLACE}
    assert all(TABLE[Hold.NONE, verb].outcome is Outcome.DONE for verb in Verb)
