"""What a daemon that was killed, or a medium that was away, leaves behind: nothing that needs a
hand.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import zlib
from typing import Any

import pytest
from msgspec.structs import replace

from targetplugin.errors import Reason, Refused
from targetplugin.media import uses
from targetplugin.media.medium import Medium
from targetplugin.media.trailer import Role
from targetplugin.subsystem.start import bring_up as start
from tests.unit.fake_engine import PowerCut
from tests.unit.house import House


def test_everything_is_there_again_after_a_clean_end(house: House) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger", label="night")
    house.write(3, "y")
    before = house.show()
    house.end()
    house.boot()
    # What hosts have done is counted from a start on.
    assert {**house.show(), "counters": None} == {**before, "counters": None}
    assert house.read(3) == "y"
    house.subsystem.recover("ledger@night")
    house.finish()
    assert house.read(3) == "x"


def test_everything_is_there_again_after_a_kill(house: House) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger")
    house.write(3, "y")
    house.restart()
    house.finish()
    assert house.read(3) == "y"
    assert house.saves() == ["ledger@1"]
    assert house.subsystem.diff("ledger")["list"][0]["offset"] == 0  # the whole region of the log
    house.subsystem.recover("ledger")
    house.finish()
    assert house.read(3) == "x"


@pytest.mark.parametrize("policy", ["split", "copy"])
@pytest.mark.parametrize("in_force", [True, False])
def test_a_save_cut_short_is_there_or_has_no_trace(
    house: House, policy: str, in_force: bool
) -> None:
    house.write(3, "x")
    house.killed_in(
        policy,
        in_force=in_force,
        run=lambda: house.subsystem.save("ledger", label="night", policy=policy),
    )
    house.finish()
    operation = house.subsystem.operations("ledger")[0]
    if not in_force:
        assert house.saves() == []
        assert house.states()["c"] == "free"
        assert operation["state"] == "failed"
        assert house.show()["generation"] == 1
        house.subsystem.save("ledger", label="night")
        return
    assert house.saves() == ["ledger@1"]
    assert operation["state"] == "done"
    save = house.show()["saves"][0]
    assert save["fill"] == "whole"
    assert house.on_medium(save["media"][0], 3) == "x"
    house.write(3, "y")
    assert house.subsystem.diff("ledger@night")["extents"] == 1
    house.subsystem.recover("ledger@night")
    house.finish()
    assert house.read(3) == "x"


def test_a_frozen_map_that_a_kill_kept_from_the_catalog_is_read_from_the_legs(house: House) -> None:
    house.subsystem.save("ledger")
    house.write(3, "x")
    house.write(5, "x")
    house.killed_in("copy", in_force=True, run=lambda: house.subsystem.save("ledger"))
    house.finish()
    told = house.subsystem.diff("ledger@1")
    assert told["extents"] == 2
    assert house.subsystem.diff("ledger@2")["extents"] == 0


def test_a_frozen_map_has_what_any_leg_has_of_it(house: House, monkeypatch: Any) -> None:
    """One that had left has a slot as new as the others', which lacks what came after it left."""
    house.media("more", "most")
    house.subsystem.save("ledger", policy="copy")
    house.finish()
    house.write(3, "x")
    left = house.floor.medium_row("a").uuid
    works = Medium.read_map_slots

    def read(medium: Medium, *area: Any, **options: Any) -> list[bytes]:
        blocks = works(medium, *area, **options)
        assert medium.trailer is not None
        return [emptied(b) for b in blocks] if area and medium.trailer.uuid == left else blocks

    monkeypatch.setattr(Medium, "read_map_slots", read)
    house.killed_in(
        "copy", in_force=True, run=lambda: house.subsystem.save("ledger", policy="copy")
    )
    house.finish()
    assert house.subsystem.diff("ledger@1")["extents"] == 1


def emptied(block: bytes) -> bytes:
    """A map slot with none of its bits."""
    whole = bytearray(block)
    whole[4:8], whole[32:] = bytes(4), bytes(len(block) - 32)
    whole[4:8] = zlib.crc32(whole).to_bytes(4, "little")
    return bytes(whole)


@pytest.mark.parametrize("in_force", [True, False])
def test_a_recover_cut_short_goes_on_or_has_no_trace(house: House, in_force: bool) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger")
    house.write(3, "y")
    house.engine.hold_copies = True
    house.killed_in("recover", in_force=in_force, run=lambda: house.subsystem.recover("ledger"))
    house.finish()
    assert house.read(3) == ("x" if in_force else "y")
    operation = house.subsystem.operations("ledger")[0]
    assert operation["state"] == ("done" if in_force else "failed")
    assert house.show()["state"] == "serving"
    assert house.show()["generation"] == (3 if in_force else 2)


def test_a_recover_that_ran_when_the_daemon_died_goes_on(house: House) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger")
    house.write(3, "y")
    house.engine.hold_copies = True
    answer = house.subsystem.recover("ledger")
    house.restart()
    assert house.read(3) == "x"
    house.finish()
    assert house.subsystem.operation(answer["operation"]["id"])["state"] == "done"
    assert house.on_medium("a", 3) == "x"


@pytest.mark.parametrize("in_force", [True, False])
def test_a_swap_cut_short_is_done_or_has_no_trace(house: House, in_force: bool) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger", policy="copy")
    house.finish()
    house.write(3, "y")
    house.killed_in("swap", in_force=in_force, run=lambda: house.subsystem.swap("ledger"))
    house.finish()
    assert house.read(3) == ("x" if in_force else "y")
    assert house.saves() == ["ledger@2" if in_force else "ledger@1"]
    assert house.states()["c"] == ("leg of ledger" if in_force else "save ledger@1")
    house.subsystem.swap("ledger")
    assert house.read(3) == ("y" if in_force else "x")


def test_a_save_that_filled_when_the_daemon_died_fills_on(house: House) -> None:
    house.write(3, "x")
    house.engine.hold_copies = True
    answer = house.subsystem.save("ledger", policy="copy")
    house.write(3, "y")
    house.restart()
    house.finish()
    assert house.subsystem.operation(answer["operation"]["id"])["state"] == "done"
    assert house.on_medium("c", 3) == "x"


def test_a_point_that_the_catalog_could_not_take_is_finished_by_a_start(
    house: House, monkeypatch: Any
) -> None:
    house.write(3, "x")
    full = Refused(Reason.ENVIRONMENT, "the disk is full")
    monkeypatch.setattr(house.catalog.maps, "write", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(Refused):
        house.subsystem.save("ledger", label="night")
    house.write(3, "y")
    with pytest.raises(Refused) as refused:
        house.subsystem.save("ledger")
    assert "could not be recorded" in refused.value.message
    house.restart()
    house.finish()
    house.subsystem.recover("ledger@night")
    house.finish()
    assert house.read(3) == "x"


def test_a_medium_claimed_for_a_save_that_never_was_is_free(house: House) -> None:
    house.killed_in(
        "copy", in_force=False, run=lambda: house.subsystem.save("ledger", policy="copy")
    )
    trailer = house.floor.media[house.floor.medium_row("c").uuid].trailer
    assert trailer is not None
    assert trailer.role is Role.FREE


def test_a_volume_that_was_not_made_to_the_end_has_no_trace(house: House, monkeypatch: Any) -> None:
    def killed(*_: object) -> int:
        raise SystemExit

    monkeypatch.setattr(house.engine, "add_volume", killed)
    with pytest.raises(SystemExit):
        house.volume("half")
    house.restart()
    assert [volume["name"] for volume in house.subsystem.volume_list()] == ["ledger"]
    assert house.states()["c"] == house.states()["d"] == "free"
    house.volume("half")


def test_a_leg_that_was_away_gets_what_it_missed_alone(house: House) -> None:
    house.write(3, "x")
    house.kill()
    (house.folder / "b").rename(house.folder / "away")
    house.boot()
    assert [leg["state"] for leg in house.show()["legs"]] == ["in_sync", "missing"]
    assert house.states()["b"] == "leg of ledger"
    house.write(70, "y")
    (house.folder / "away").rename(house.folder / "b")
    house.engine.hold_copies = True
    house.subsystem._comeback.look()
    legs = house.show()["legs"]
    assert legs[1]["state"] == "syncing"
    assert legs[1]["missed_extents"] < 128
    house.finish()
    assert [leg["state"] for leg in house.show()["legs"]] == ["in_sync", "in_sync"]
    assert house.on_medium("b", 70) == "y"


def test_a_leg_that_fails_is_shown_and_taken_back_when_it_works(house: House) -> None:
    uuid = house.floor.medium_row("b").uuid
    house.engine.broken.add(uuid)
    house.write(3, "x")
    house.subsystem.settled()
    assert house.show()["state"] == "degraded"
    assert [leg["state"] for leg in house.show()["legs"]] == ["in_sync", "stale"]
    assert house.read(3) == "x"
    house.engine.broken.clear()
    house.subsystem._comeback.look()
    house.finish()
    assert house.show()["state"] == "serving"
    assert house.on_medium("b", 3) == "x"


def test_a_leg_that_does_not_answer_is_left_alone(house: House) -> None:
    uuid = house.floor.medium_row("b").uuid
    house.engine.broken.add(uuid)
    house.write(3, "x")
    house.subsystem.settled()
    house.engine.broken.clear()
    house.engine.mute.add(uuid)
    touched = house.floor.media[uuid].read_trailer
    house.floor.media[uuid].read_trailer = None  # type: ignore[method-assign, assignment]
    assert not house.subsystem._comeback.look()
    assert [(leg["state"], leg["silent"]) for leg in house.show()["legs"]] == [
        ("in_sync", False),
        ("stale", True),
    ]
    for verb in (
        lambda: house.subsystem.volume_delete("ledger", force=True),
        lambda: house.floor.check_over([uuid]),
    ):
        with pytest.raises(Refused) as refused:
            verb()
        assert refused.value.reason is Reason.BUSY
    house.floor.media[uuid].read_trailer = touched  # type: ignore[method-assign]
    house.engine.mute.clear()
    house.subsystem._comeback.look()
    house.finish()
    assert house.show()["state"] == "serving"
    assert house.on_medium("b", 3) == "x"


def test_a_free_medium_that_does_not_answer_is_not_taken(house: House) -> None:
    house.media("silent")
    house.engine.mute.add(house.floor.medium_row("silent").uuid)
    assert "silent" not in [row.name for row in house.subsystem._pool.free()]
    with pytest.raises(Refused) as refused:
        house.subsystem.media_remove("silent")
    assert refused.value.reason is Reason.BUSY


def test_a_volume_is_down_while_only_an_older_leg_is_there(house: House) -> None:
    house.engine.broken.add(house.floor.medium_row("b").uuid)
    house.write(3, "x")
    house.subsystem.settled()
    house.kill()
    (house.folder / "a").rename(house.folder / "away")
    house.boot()
    shown = house.show()
    assert shown["state"] == "down"
    assert "a" in shown["why"]
    with pytest.raises(Refused) as refused:
        house.subsystem.save("ledger")
    assert refused.value.reason is Reason.STATE
    (house.folder / "away").rename(house.folder / "a")
    house.subsystem._comeback.look()
    house.finish()
    assert house.read(3) == "x"


def test_a_volume_is_down_while_the_source_of_its_recover_is_away(house: House) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger")
    house.write(3, "y")
    house.engine.hold_copies = True
    house.subsystem.recover("ledger")
    house.kill()
    (house.folder / "b").rename(house.folder / "away")
    house.boot()
    assert house.show()["state"] == "down"
    (house.folder / "away").rename(house.folder / "b")
    house.subsystem._comeback.look()
    house.finish()
    assert house.read(3) == "x"
    assert house.subsystem.operations()[0]["state"] == "done"


def test_media_that_know_more_than_an_older_catalog_are_believed(house: House) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger")
    house.end()
    shutil.copytree(house.folder / "state", house.folder / "older")
    house.boot()
    house.write(3, "y")
    house.subsystem.save("ledger", policy="copy")
    house.finish()
    house.end()
    shutil.rmtree(house.folder / "state")
    (house.folder / "older").rename(house.folder / "state")
    house.boot()
    house.finish()
    assert house.read(3) == "y"
    assert house.show()["generation"] == 3
    assert house.subsystem.diff("ledger@1")["extents"] == 128
    house.subsystem.recover("ledger@1")
    house.finish()
    assert house.read(3) == "x"


def test_a_save_whose_release_was_cut_short_is_not_taken_for_whole(
    house: House, monkeypatch: Any
) -> None:
    house.write(3, "x")
    house.engine.hold_copies = True
    house.subsystem.save("ledger", policy="copy")
    monkeypatch.setattr(house.subsystem._settle, "free", killed)
    with pytest.raises(PowerCut):
        house.subsystem.release("ledger")
    house.restart()
    house.finish()
    assert house.saves() == []
    assert house.states()["c"] == "free"
    assert house.subsystem.operations("ledger")[0]["state"] == "done"


def test_a_save_whose_abort_was_cut_short_is_not_taken_for_whole(
    house: House, monkeypatch: Any
) -> None:
    house.write(3, "x")
    house.engine.hold_copies = True
    answer = house.subsystem.save("ledger", policy="copy")
    monkeypatch.setattr(house.catalog, "save_remove", killed)
    with pytest.raises(PowerCut):
        house.subsystem.abort(answer["operation"]["id"])
    house.restart()
    house.finish()
    assert house.show()["saves"][0]["fill"] == "broken"
    house.subsystem.release("ledger")


def killed(*_: object) -> None:
    raise PowerCut


@pytest.mark.parametrize("what", ["read_records", "read_map_slots"])
def test_a_leg_of_which_nothing_can_be_read_keeps_no_volume_down(
    house: House, monkeypatch: Any, what: str
) -> None:
    house.write(3, "x")
    house.finish()
    uuid = house.floor.medium_row("a").uuid
    house.kill()
    works = getattr(Medium, what)

    def read(medium: Medium, *words: Any, **options: Any) -> Any:
        if medium.trailer is not None and medium.trailer.uuid == uuid:
            raise Refused(Reason.ENVIRONMENT, "a bad sector")
        return works(medium, *words, **options)

    monkeypatch.setattr(Medium, what, read)
    house.boot()
    assert house.show()["state"] == "degraded", house.show()["why"]
    assert house.read(3) == "x"
    house.write(3, "y")
    house.kill()
    monkeypatch.setattr(Medium, what, works)
    house.boot()
    house.finish()
    assert [house.on_medium(leg, 3) for leg in "ab"] == ["y", "y"]


def test_what_can_not_be_read_may_know_more(house: House, monkeypatch: Any) -> None:
    house.engine.broken.add(house.floor.medium_row("b").uuid)
    house.write(3, "x")
    house.subsystem.settled()
    uuid = house.floor.medium_row("a").uuid
    house.kill()
    works = Medium.read_records

    def read(medium: Medium) -> list[bytes]:
        if medium.trailer is not None and medium.trailer.uuid == uuid:
            raise Refused(Reason.ENVIRONMENT, "a bad sector")
        return works(medium)

    monkeypatch.setattr(Medium, "read_records", read)
    house.boot()
    assert house.show()["state"] == "down"


def test_a_frozen_map_is_all_where_a_leg_that_may_have_it_is_away(
    house: House, monkeypatch: Any
) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger", policy="copy")
    house.finish()
    house.engine.broken.add(house.floor.medium_row("b").uuid)
    house.write(3, "y")
    house.subsystem.settled()
    full = Refused(Reason.ENVIRONMENT, "the disk is full")
    monkeypatch.setattr(house.catalog.maps, "write", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(Refused):
        house.subsystem.save("ledger", policy="copy")
    house.engine.broken.clear()
    house.subsystem._comeback.look()
    house.finish()
    house.kill()
    (house.folder / "a").rename(house.folder / "away")
    house.boot()
    assert house.read(3) == "y"
    house.subsystem.recover("ledger@1")
    house.finish()
    assert house.read(3) == "x"
    assert house.on_medium("b", 3) == "x"


def test_a_volume_that_is_down_keeps_its_media(house: House) -> None:
    house.write(3, "x")
    house.engine.hold_copies = True
    house.engine.cut_after = "copy"
    with pytest.raises(PowerCut):
        house.subsystem.save("ledger", policy="copy")
    house.write(3, "y")
    house.kill()
    for leg in "ab":
        (house.folder / leg).rename(house.folder / f"away-{leg}")
    house.boot()
    assert house.show()["state"] == "down"
    for leg in "ab":
        (house.folder / f"away-{leg}").rename(house.folder / leg)
    house.subsystem._comeback.look()
    house.finish()
    assert house.saves() == ["ledger@1"]
    assert house.on_medium("c", 3) == "x"


def test_a_save_that_the_catalog_could_not_take_keeps_its_medium(
    house: House, monkeypatch: Any
) -> None:
    house.kill()
    (house.folder / "d").rename(house.folder / "away")
    house.boot()
    full = Refused(Reason.ENVIRONMENT, "the disk is full")
    monkeypatch.setattr(house.catalog.maps, "write", lambda *_: (_ for _ in ()).throw(full))
    house.engine.hold_copies = True
    with pytest.raises(Refused):
        house.subsystem.save("ledger", policy="copy")
    (house.folder / "away").rename(house.folder / "d")
    house.subsystem._comeback.look()
    assert house.states()["d"] == "free"
    assert house.states()["c"] != "free"


def test_a_leg_that_could_not_be_taken_back_is_looked_for_again(
    house: House, monkeypatch: Any
) -> None:
    house.engine.broken.add(house.floor.medium_row("b").uuid)
    house.write(3, "x")
    house.subsystem.settled()
    shutil.copy(house.folder / "b", house.folder / "new")
    (house.folder / "new").rename(house.folder / "b")  # a disk that was pulled and is back
    works = house.engine.add_leg
    busy = Refused(Reason.BUSY, "its last requests are not over")
    monkeypatch.setattr(house.engine, "add_leg", lambda *_: (_ for _ in ()).throw(busy))
    house.subsystem._comeback.look()
    monkeypatch.setattr(house.engine, "add_leg", works)
    house.engine.broken.clear()
    house.subsystem._comeback.look()
    house.finish()
    assert house.show()["state"] == "serving"
    assert os.pread(os.open(house.folder / "b", os.O_RDONLY), 1, 3 * 65536) == b"x"


def test_a_medium_that_is_another_volumes_by_now_is_no_save_of_this(house: House) -> None:
    house.write(3, "x")
    house.engine.hold_copies = True
    house.subsystem.save("ledger", policy="copy")
    medium = house.floor.media[house.floor.medium_row("c").uuid]
    assert medium.trailer is not None
    medium.write_trailer(replace(medium.trailer, volume=bytes(range(16))))
    house.restart()
    house.finish()
    assert house.on_medium("c", 3) == ""
    assert house.show()["saves"][0]["fill"] == "broken"


def test_a_save_that_the_catalog_could_not_take_is_known_as_broken(
    house: House, monkeypatch: Any
) -> None:
    house.write(3, "x")
    full = Refused(Reason.ENVIRONMENT, "the disk is full")
    with monkeypatch.context() as patch:
        patch.setattr(house.catalog.maps, "write", lambda *_: (_ for _ in ()).throw(full))
        house.engine.hold_copies = True
        with pytest.raises(Refused):
            house.subsystem.save("ledger", policy="copy")
    house.engine.broken.add(house.floor.medium_row("c").uuid)
    house.write(3, "y")
    house.subsystem.settled()
    house.restart()
    house.finish()
    assert house.show()["saves"][0]["fill"] == "broken"


def test_a_resync_whose_abort_was_cut_short_is_aborted(house: House) -> None:
    house.subsystem.save("ledger")
    house.write(3, "y")
    house.engine.hold_copies = True
    resync = house.subsystem.resync("ledger@1")["operation"]["id"]
    (volume,) = house.catalog.volumes()
    leaving = next(leg.medium for leg in house.catalog.legs(volume.uuid)[1:])
    house.engine.drop_leg(house.floor.handle(volume), leaving)
    house.restart()
    house.finish()
    assert house.subsystem.operation(resync)["state"] == "aborted"
    assert [leg["medium"] for leg in house.show()["legs"]] == ["a"]
    assert house.states()["b"] == "free"
    assert house.read(3) == "y"


def test_a_volume_waits_while_a_dead_daemon_s_requests_are_not_over(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "LATE_WRITES", 0.1)
    house.write(3, "x")
    house.kill()
    with open(house.folder / "b", "rb") as late:  # their descriptor stays open
        fcntl.flock(late, fcntl.LOCK_EX)
        house.boot()
        shown = house.show()
        assert shown["state"] == "down"
        assert "requests of a daemon that ended are not over on b" in shown["why"]
        assert not house.subsystem._comeback.look()
    house.subsystem._comeback.look()
    assert [leg["state"] for leg in house.show()["legs"]] == ["in_sync", "in_sync"]
    assert house.read(3) == "x"


def test_a_volume_does_without_a_medium_that_is_seen_to_be_in_use(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "LATE_WRITES", 0.1)
    monkeypatch.setattr(uses, "uses", lambda path: [uses.Finding("it is mounted")])
    house.write(3, "x")
    house.kill()
    with open(house.folder / "b", "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        house.boot()
        assert [leg["state"] for leg in house.show()["legs"]] == ["in_sync", "missing"]
        assert house.read(3) == "x"


def test_a_medium_that_has_another_s_name_now_is_no_dead_daemon_s(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start, "LATE_WRITES", 0.1)
    house.write(3, "x")
    house.end()
    os.unlink(house.folder / "b")
    os.symlink(house.folder / "a", house.folder / "b")  # what was b's name is a's
    house.boot()
    assert [leg["state"] for leg in house.show()["legs"]] == ["in_sync", "missing"]
