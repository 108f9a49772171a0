"""Save, diff, recover and swap, as an operator sees them."""

from __future__ import annotations

import errno
import os

import pytest

from targetplugin.errors import Reason, Refused
from tests.unit.house import EXTENT, MIB, House


def test_a_save_splits_the_last_leg_in_sync_at_once(house: House) -> None:
    house.write(3, "x")
    answer = house.subsystem.save("ledger", label="night")
    assert answer["operation"]["state"] == "done"
    assert answer["operation"]["seconds_in_force"] < 1
    assert answer["save"]["name"] == "ledger@1"
    assert answer["save"]["fill"] == "whole"
    assert answer["save"]["media"] == ["b"]
    assert house.states() == {"a": "leg of ledger", "b": "save ledger@1", "c": "free", "d": "free"}
    assert house.on_medium("b", 3) == "x"


def test_a_save_takes_the_smallest_spare_when_no_leg_can_be_split(house: House) -> None:
    house.subsystem.media_add(str(house.folder / "small"), size=10 * MIB)
    house.write(3, "x")
    house.subsystem.save("ledger")
    house.engine.hold_copies = True
    answer = house.subsystem.save("ledger")
    assert answer["operation"]["state"] == "running"
    assert answer["save"]["fill"] == "filling"
    assert answer["save"]["media"] == ["small"]
    house.finish()
    assert house.subsystem.operation(answer["operation"]["id"])["state"] == "done"
    assert house.show()["saves"][1]["fill"] == "whole"
    assert house.on_medium("small", 3) == "x"


def test_a_save_by_copy_keeps_old_extents_from_hosts_writes(house: House) -> None:
    house.write(3, "x")
    house.engine.hold_copies = True
    house.subsystem.save("ledger", policy="copy")
    house.write(3, "y")
    house.finish()
    assert house.read(3) == "y"
    assert house.on_medium("c", 3) == "x"
    assert [leg["state"] for leg in house.show()["legs"]] == ["in_sync", "in_sync"]


def test_a_save_without_a_medium_is_refused_and_leaves_no_trace(house: House) -> None:
    for name in "cd":
        house.subsystem.media_remove(name)
    house.subsystem.save("ledger")
    with pytest.raises(Refused) as refused:
        house.subsystem.save("ledger")
    assert refused.value.reason is Reason.NO_MEDIUM
    assert house.saves() == ["ledger@1"]
    assert house.show()["generation"] == 2


def test_onto_names_a_free_medium_or_a_leg(house: House) -> None:
    assert house.subsystem.save("ledger", onto="a")["save"]["media"] == ["a"]
    assert house.subsystem.save("ledger", onto="d")["save"]["media"] == ["d"]
    with pytest.raises(Refused) as refused:
        house.subsystem.save("ledger", onto="b")
    assert "the last leg in sync" in refused.value.message
    with pytest.raises(Refused) as refused:
        house.subsystem.save("ledger", onto="a")
    assert "not free: save ledger@1" in refused.value.message


def test_a_label_names_one_save_of_a_volume(house: House) -> None:
    house.subsystem.save("ledger", label="night")
    with pytest.raises(Refused) as refused:
        house.subsystem.save("ledger", label="night")
    assert refused.value.reason is Reason.EXISTS
    with pytest.raises(Refused) as refused:
        house.subsystem.save("ledger", label="1234")
    assert refused.value.reason is Reason.USAGE


def test_diff_lists_what_changed_since_a_save_and_nothing_else(house: House) -> None:
    house.write(1, "x")
    house.subsystem.save("ledger", label="night")
    house.write(3, "y")
    house.write(4, "y")
    house.write(9, "y")
    told = house.subsystem.diff("ledger@night")
    assert told["extents"] == 3
    assert told["bytes"] == 3 * EXTENT
    assert told["list"] == [
        {"offset": 3 * EXTENT, "length": 2 * EXTENT},
        {"offset": 9 * EXTENT, "length": EXTENT},
    ]
    assert house.subsystem.diff("ledger") == told
    assert house.subsystem.diff("ledger@1") == told


def test_a_differential_spans_later_saves(house: House) -> None:
    house.subsystem.save("ledger")
    house.write(3, "x")
    house.subsystem.save("ledger")
    house.finish()
    house.write(5, "y")
    assert house.subsystem.diff("ledger@1")["extents"] == 2
    assert house.subsystem.diff("ledger@2")["extents"] == 1


def test_recover_takes_back_only_what_changed(house: House) -> None:
    house.write(1, "a")
    house.write(3, "x")
    house.subsystem.save("ledger")
    house.write(3, "y")
    house.write(7, "y")
    answer = house.subsystem.recover("ledger")
    house.finish()
    done = house.subsystem.operation(answer["operation"]["id"])
    assert done["state"] == "done"
    assert (done["extents_changed"], done["extents_copied"]) == (2, 2)
    assert done["bytes_copied"] == 2 * EXTENT
    assert [house.read(extent) for extent in (1, 3, 7)] == ["a", "x", ""]


def test_recover_is_in_force_before_anything_is_copied(house: House) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger")
    house.write(3, "y")
    house.engine.hold_copies = True
    answer = house.subsystem.recover("ledger")
    assert answer["operation"]["state"] == "running"
    assert house.show()["state"] == "recovering"
    assert house.on_medium("a", 3) == "y"
    assert house.read(3) == "x"
    house.finish()
    assert house.on_medium("a", 3) == "x"


def test_recover_keeps_the_save_and_newer_saves(house: House) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger")
    house.write(3, "y")
    house.subsystem.save("ledger")
    house.finish()
    house.write(3, "z")
    for name, letter in (("ledger@1", "x"), ("ledger@2", "y"), ("ledger@1", "x")):
        house.subsystem.recover(name)
        house.finish()
        assert house.read(3) == letter
    assert house.saves() == ["ledger@1", "ledger@2", "ledger@5"]
    assert house.subsystem.diff("ledger@1")["extents"] == 0
    assert house.subsystem.diff("ledger@2")["extents"] == 1


def test_hosts_are_told_after_a_recover_and_a_swap(house: House) -> None:
    house.subsystem.save("ledger")
    house.subsystem.recover("ledger")
    house.finish()
    house.subsystem.swap("ledger")
    assert house.engine.volumes[house.handle()].attentions == [(0x28, 0), (0x28, 0)]


def test_while_a_recover_runs_save_recover_and_swap_are_refused_with_its_progress(
    house: House,
) -> None:
    house.subsystem.save("ledger")
    house.write(3, "y")
    house.engine.hold_copies = True
    house.subsystem.recover("ledger")
    for verb in (
        house.subsystem.save,
        house.subsystem.recover,
        house.subsystem.swap,
        house.subsystem.release,
        house.subsystem.resync,
    ):
        with pytest.raises(Refused) as refused:
            verb("ledger")
        assert refused.value.reason is Reason.BUSY, verb
        assert refused.value.progress == 0.0
    house.finish()
    house.subsystem.save("ledger")


def test_swap_makes_the_save_the_volume_and_a_second_swap_undoes_it(house: House) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger", policy="copy")
    house.finish()
    house.write(3, "y")
    before = house.show()
    answer = house.subsystem.swap("ledger")
    assert answer["save"]["media"] == ["a", "b"]
    assert house.read(3) == "x"
    assert house.states()["c"] == "leg of ledger"
    assert house.states()["a"] == house.states()["b"] == "save ledger@2"
    after = house.show()
    assert (after["naa"], after["id"]) == (before["naa"], before["id"])
    house.write(5, "n")
    house.subsystem.swap("ledger")
    assert [house.read(extent) for extent in (3, 5)] == ["y", ""]
    assert house.states()["a"] == house.states()["b"] == "leg of ledger"
    assert house.states()["c"] == "save ledger@3"
    assert house.subsystem.diff("ledger@3")["extents"] == 2


def test_swap_waits_for_a_save_that_fills(house: House) -> None:
    house.subsystem.save("ledger")
    house.engine.hold_copies = True
    house.subsystem.save("ledger")
    for name in ("ledger@1", "ledger@2"):
        with pytest.raises(Refused) as refused:
            house.subsystem.swap(name)
        assert refused.value.reason is Reason.BUSY


def test_a_recover_from_a_save_that_still_fills_takes_what_is_there(house: House) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger", policy="split")
    house.engine.hold_copies = True
    house.subsystem.save("ledger")
    house.write(3, "y")
    house.engine.hold_copies = True
    house.subsystem.recover("ledger@2")
    house.finish()
    assert house.read(3) == "x"
    assert house.on_medium("c", 3) == "x"
    assert [save["fill"] for save in house.show()["saves"]] == ["whole"] * 3


def test_a_save_that_is_gone_is_refused_and_nothing_changes(house: House) -> None:
    house.subsystem.save("ledger")
    before = house.show()
    for name in ("ledger@7", "ledger@no-such"):
        for verb in (house.subsystem.recover, house.subsystem.swap, house.subsystem.release):
            with pytest.raises(Refused) as refused:
                verb(name)
            assert refused.value.reason is Reason.NOT_FOUND
    assert house.show() == before


def test_preview_answers_and_does_nothing(house: House) -> None:
    house.subsystem.save("ledger")
    house.write(3, "y")
    before = house.show(), house.subsystem.operations()
    assert house.subsystem.recover("ledger", preview=True)["operation"]["extents_changed"] == 1
    assert house.subsystem.save("ledger", preview=True)["onto"] == "c"
    house.subsystem.swap("ledger", preview=True)
    house.subsystem.release("ledger", preview=True)
    house.subsystem.resync("ledger", preview=True)
    assert (house.show(), house.subsystem.operations()) == before


def test_a_failed_engine_leaves_no_trace(house: House) -> None:
    house.subsystem.save("ledger")
    house.engine.broken |= set(house.floor.media)
    with pytest.raises(Refused):
        house.subsystem.save("ledger")
    house.engine.broken.clear()
    assert house.saves() == ["ledger@1"]
    assert house.states()["c"] == "free"
    assert house.subsystem.operations()[0]["state"] == "failed"


@pytest.mark.parametrize("verb", ["save", "restore"])
def test_a_spare_that_can_not_be_written_leaves_no_operation(
    house: House, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    house.subsystem.save("ledger")
    (house.folder / "image").write_bytes(bytes(MIB))

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for medium in house.subsystem._floor.media.values():
        monkeypatch.setattr(medium, "write", broken)
    asked = {} if verb == "save" else {"image": str(house.folder / "image")}
    with pytest.raises(Refused) as refused:
        getattr(house.subsystem, verb)("ledger", onto="c", **asked)
    assert refused.value.reason is Reason.ENVIRONMENT
    assert "c can't be written: Input/output error" in refused.value.message
    assert {one["state"] for one in house.subsystem.operations()} <= {"done", "failed"}
    monkeypatch.undo()
    assert house.states()["c"] == "free"
    assert len(house.saves()) == 1
    house.subsystem.save("ledger", onto="c")
