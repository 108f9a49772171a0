"""Clones: a save as a volume of its own, while it is copied, after, and through kills."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from targetplugin.errors import Reason, Refused
from targetplugin.media.trailer import Role
from targetplugin.scsi.logical_unit import LogicalUnit
from targetplugin.scsi.pitcopy import InAction, InRequest
from tests.unit.fake_kernel import HOST, FakeKernel
from tests.unit.house import MIB, House, image

EXTENTS = 128


@pytest.fixture
def house(tmp_path: Path, kernel: FakeKernel) -> Iterator[House]:
    """A volume of "x" and "y"; its save `night`, on b, has them; then it was written over."""
    made = House(tmp_path, kernel, kernel)
    made.media("a", "b", "c", "d")
    made.volume()
    made.write(0, "x")
    made.write(1, "y")
    made.subsystem.save("ledger", label="night")
    made.write(0, "p")
    made.write(1, "q")
    yield made
    made.end()


def refused(call: Any, *args: Any, **named: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        call(*args, **named)
    return caught.value


def held_clone(house: House, name: str = "test") -> dict[str, Any]:
    """A clone of which nothing is copied yet."""
    house.engine.hold_copies = True
    return house.subsystem.clone("ledger@night", name)


def contents(house: House) -> dict[str, list[str]]:
    """Of the first three extents: what each volume reads, and what the save's medium has."""
    found = {
        v["name"]: [house.read(e, v["name"]) for e in range(3)]
        for v in house.subsystem.volume_list()
    }
    return {**found, "save": [house.on_medium("b", e) for e in range(3)]}


def test_a_clone_reads_and_writes_at_once_and_nobody_else_notices(house: House) -> None:
    answer = held_clone(house)
    made = answer["volume"]
    assert (made["name"], made["clone_of"], made["state"]) == ("test", "ledger@1", "cloning")
    assert [leg["medium"] for leg in made["legs"]] == ["c"]
    assert made["naa"] != house.show()["naa"]
    assert answer["operation"]["state"] == "running"
    assert contents(house)["test"] == ["x", "y", ""]
    house.write(1, "t", "test")
    house.write(2, "u", "test")
    house.write(0, "r")
    want = {"test": ["x", "t", "u"], "ledger": ["r", "q", ""], "save": ["x", "y", ""]}
    assert contents(house) == want
    house.finish()
    assert contents(house) == want
    assert [house.on_medium("c", extent) for extent in range(3)] == ["x", "t", "u"]
    assert house.show("test")["state"] == "serving"


def test_its_operation_tells_progress_and_ends(house: House) -> None:
    number = held_clone(house)["operation"]["id"]
    assert house.subsystem.operation(number)["progress"] == 0
    assert house.subsystem.operation(number)["bytes_total"] == 8 * MIB
    assert house.show("test")["operation"]["verb"] == "clone"
    house.finish()
    done = house.subsystem.operation(number)
    assert (done["state"], done["extents_copied"]) == ("done", EXTENTS)
    assert house.show("test")["clone_of"] == "ledger@1"


@pytest.mark.parametrize("verb", ["release", "resync", "swap"])
def test_the_save_stays_until_the_copy_is_done(house: House, verb: str) -> None:
    held_clone(house)
    assert house.show()["saves"][0]["clones"] == ["test"]
    error = refused(getattr(house.subsystem, verb), "ledger@night")
    assert error.reason is Reason.BUSY
    assert "clone" in error.message
    assert refused(house.subsystem.volume_delete, "ledger", force=True).reason is Reason.BUSY
    house.finish()
    assert house.show()["saves"][0]["clones"] == []
    getattr(house.subsystem, verb)("ledger@night")
    house.finish()
    assert [house.read(extent, "test") for extent in range(3)] == ["x", "y", ""]


def test_the_volume_recovers_from_the_save_and_it_is_shown_while_it_is_cloned(house: House) -> None:
    held_clone(house)
    house.subsystem.export("ledger@night", [HOST])
    house.subsystem.recover("ledger@night", no_undo=True)
    house.subsystem.clone("ledger@night", "other")
    house.write(0, "r")
    house.write(0, "s", "test")
    house.write(0, "o", "other")
    want = {
        "ledger": ["r", "y", ""],
        "test": ["s", "y", ""],
        "other": ["o", "y", ""],
        "save": ["x", "y", ""],
    }
    assert contents(house) == want
    house.finish()
    assert contents(house) == want
    house.subsystem.unexport("ledger@night")
    house.subsystem.release("ledger@night")
    assert house.read(1, "other") == "y"


@pytest.mark.parametrize("verb", ["save", "recover", "swap", "resync"])
def test_what_needs_a_settled_volume_waits_until_it_is_copied(house: House, verb: str) -> None:
    held_clone(house)
    if verb == "save":
        error = refused(house.subsystem.save, "test")
        assert error.reason is Reason.BUSY
        assert "still being copied" in error.message
        assert error.progress is not None
    else:
        assert refused(getattr(house.subsystem, verb), "test").reason is Reason.NOT_FOUND
    house.finish()
    house.subsystem.save("test", label="own")
    house.write(5, "v", "test")
    told = house.subsystem.diff("test@own")["list"]
    assert told == [{"offset": 5 * 65536, "length": 65536}]
    house.finish()
    house.subsystem.recover("test@own")
    house.finish()
    assert house.read(5, "test") == ""
    assert house.subsystem.volume_show("test")["saves"][0]["name"] == "test@2"


def test_a_clone_is_exported_while_it_is_copied(house: House, kernel: FakeKernel) -> None:
    held_clone(house)
    shape = house.subsystem.export("test", [HOST])
    assert kernel.targets[shape["target"]][0] == "test"
    house.restart()
    assert house.subsystem.restore_exports()
    assert "reset" in kernel.done
    house.subsystem.unexport("test")


def test_a_kill_while_it_is_copied_takes_nothing_back(house: House) -> None:
    answer = held_clone(house)
    house.write(1, "t", "test")
    for _ in range(2):
        house.kill()
        house.boot()
        assert contents(house)["test"] == ["x", "t", ""]
        assert contents(house)["ledger"] == ["p", "q", ""]
    house.finish()
    assert house.wait(answer)["state"] == "done"
    assert house.show()["saves"][0]["clones"] == []
    house.subsystem.release("ledger@night")
    assert contents(house)["test"] == ["x", "t", ""]


def test_a_kill_after_the_copy_and_before_the_catalog_knew_ends_it_at_the_start(
    house: House,
) -> None:
    answer = held_clone(house)
    house.floor.engine.on_event = lambda event: None  # type: ignore[attr-defined]
    house.finish()
    assert house.subsystem.operation(answer["operation"]["id"])["state"] == "running"
    house.restart()
    assert house.subsystem.operation(answer["operation"]["id"])["state"] == "done"
    house.subsystem.release("ledger@night")


@pytest.mark.parametrize("in_force", [False, True], ids=["before", "after"])
def test_a_kill_in_it_leaves_no_clone(house: House, in_force: bool) -> None:
    media = house.states()
    request = bytes(range(16))
    ask = lambda: house.subsystem.clone("ledger@night", "test", request=request)  # noqa: E731
    house.killed_in("recover", in_force=in_force, run=ask)
    assert [v["name"] for v in house.subsystem.volume_list()] == ["ledger"]
    assert house.states() == media
    assert house.subsystem.status()["operations"] == []
    trailer = house.floor.media[house.floor.medium_row("c").uuid].trailer
    assert trailer is not None
    assert trailer.role is Role.FREE
    house.subsystem.resync("ledger@night", preview=True)
    again = house.subsystem.clone("ledger@night", "test", request=request)
    house.finish()
    assert house.read(0, "test") == "x"
    assert (
        house.subsystem.clone("ledger@night", "test", request=request)["operation"]["id"]
        == (again["operation"]["id"])
    )


def test_what_the_engine_refuses_leaves_no_clone(house: House) -> None:
    media = house.states()
    house.engine.broken.add(house.floor.medium_row("c").uuid)
    with pytest.raises((Refused, OSError)):
        house.subsystem.clone("ledger@night", "test", onto="c")
    house.engine.broken.clear()
    assert house.states() == media
    assert house.subsystem.status()["operations"] == []
    assert len(house.engine.volumes) == 1
    house.subsystem.release("ledger@night")


def test_a_clone_whose_source_is_away_waits_for_it(house: House) -> None:
    held_clone(house)
    house.kill()
    (house.folder / "b").rename(house.folder / "away")
    house.boot()
    shown = house.show("test")
    assert (shown["state"], "b, which is missing" in shown["why"]) == ("down", True)
    assert house.show()["state"] == "serving"
    (house.folder / "away").rename(house.folder / "b")
    house.subsystem._comeback.look()
    house.finish()
    assert contents(house)["test"] == ["x", "y", ""]


def test_a_source_that_holds_the_save_no_more_is_not_read(house: House) -> None:
    held_clone(house)
    volume = house.floor.volume("test")
    source = {**volume.details["source"], "volume": "00" * 16}
    house.catalog.volume_set(volume.uuid, details={**volume.details, "source": source})
    house.restart()
    assert "ledger@1 no more" in house.show("test")["why"]
    house.subsystem.volume_delete("test", force=True)


def test_the_source_is_not_closed_while_a_clone_reads_it(house: House) -> None:
    held_clone(house)
    uuid = house.floor.medium_row("b").uuid
    medium = house.floor.media[uuid]
    medium.read_trailer = lambda: None  # type: ignore[method-assign]  # as a disk that was pulled
    house.subsystem._comeback.look()
    assert house.floor.media[uuid] is medium
    house.finish()
    house.subsystem._comeback.look()
    assert house.floor.media.get(uuid) is not medium


def test_deleting_a_clone_lets_the_save_go(house: House) -> None:
    held_clone(house)
    assert refused(house.subsystem.volume_delete, "test").reason is Reason.DATA
    house.subsystem.volume_delete("test", force=True)
    assert house.states()["c"] == "free"
    house.subsystem.release("ledger@night")


def test_a_clone_is_not_aborted(house: House) -> None:
    answer = held_clone(house)
    error = refused(house.subsystem.abort, answer["operation"]["id"])
    assert "volume delete test" in error.hint


def test_a_preview_says_where_it_would_be_and_does_nothing(house: House) -> None:
    answer = house.subsystem.clone("ledger@night", "test", preview=True)
    assert (answer["onto"], answer["operation"]["volume"]) == ("c", "test")
    assert [v["name"] for v in house.subsystem.volume_list()] == ["ledger"]
    assert house.subsystem.operations() == house.subsystem.operations("ledger")


def test_what_cant_be_cloned_is_refused_with_the_reason(house: House, tmp_path: Path) -> None:
    clone = house.subsystem.clone
    assert refused(clone, "ledger@none", "test").reason is Reason.NOT_FOUND
    assert refused(clone, "ledger@night", "ledger").reason is Reason.EXISTS
    assert refused(clone, "ledger@night", "no@name").reason is Reason.USAGE
    assert refused(clone, "ledger@night", "test", onto="a").reason is Reason.STATE
    house.wait(house.subsystem.restore("ledger", image=image(tmp_path / "i", "k"), onto="d"))
    house.subsystem.clone(house.saves()[-1], "restored")
    house.finish()
    assert house.read(0, "restored") == "k"
    error = refused(clone, "ledger@night", "test")
    assert (error.reason, bool(error.hint)) == (Reason.NO_MEDIUM, True)
    house.subsystem.volume_delete("restored", force=True)
    house.engine.hold_copies = True
    house.subsystem.save("ledger", label="late", policy="copy")
    assert refused(clone, "ledger@late", "test").reason is Reason.BUSY
    house.finish()


def test_a_host_of_the_clone_sees_how_it_stands(house: House) -> None:
    held_clone(house)
    unit = LogicalUnit(house.subsystem, "test")
    for action in (InAction.PAIR_STATUS, InAction.OPERATIONS, InAction.SAVES):
        cdb = InRequest(action, allocation_length=4096).encode().ljust(16, b"\0")
        assert unit.execute(cdb, b"", 4096).status == 0
