"""A volume that grows: its new part is zeros everywhere, its saves are as large, and it is done or not."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from targetplugin.errors import Reason, Refused
from targetplugin.media.medium import Medium
from targetplugin.subsystem.volumes import resize as resizing
from tests.unit.fake_engine import FakeEngine, PowerCut, buffered_read
from tests.unit.fake_kernel import HOST, FakeKernel
from tests.unit.house import EXTENT, MIB, House

OLD, NEW = 8 * MIB, 11 * MIB
FIRST_NEW, LAST = OLD // EXTENT, NEW // EXTENT - 1


def grown(house: House, size: int = NEW, name: str = "ledger", **options: Any) -> dict[str, Any]:
    return house.wait(house.subsystem.volume_resize(name, size, **options))


def refusal(run: Callable[[], Any]) -> Refused:
    with pytest.raises(Refused) as refused:
        run()
    return refused.value


def dirty(house: House, *media: str) -> None:
    """What another volume has left there, behind the data of this one."""
    for name in media:
        path = house.folder / name
        with open(path, "r+b") as file:
            file.seek(OLD)
            file.write(b"\xee" * (NEW - OLD))


@pytest.fixture
def exported(tmp_path: Path) -> Iterator[tuple[House, FakeKernel]]:
    kernel = FakeKernel()
    made = House(tmp_path, kernel, kernel)
    made.media("a", "b", "c", "d")
    made.volume()
    made.subsystem.export("ledger", [HOST])
    yield made, kernel
    made.end()


def test_a_volume_grows_and_what_is_new_is_zeros(house: House) -> None:
    dirty(house, "a", "b")
    house.write(3, "x")
    done = grown(house)
    assert (done["verb"], done["state"]) == ("volume resize", "done")
    assert done["bytes_total"] == done["bytes_copied"] == 2 * (NEW - OLD)
    assert done["pause_ms"] >= 0
    assert house.show()["size"] == NEW
    assert house.show()["state"] == "serving"
    assert house.engine.read(house.handle(), OLD, NEW - OLD) == bytes(NEW - OLD)
    assert house.read(3) == "x"
    for name in ("a", "b"):
        assert buffered_read(house.floor.media[house.floor.medium_row(name).uuid].fd, OLD, 4096)
        assert house.on_medium(name, LAST) == ""
    house.write(LAST, "y")
    house.restart()
    assert (house.read(3), house.read(LAST), house.read(FIRST_NEW)) == ("x", "y", "")


def test_a_preview_and_the_size_that_it_has_change_nothing(house: House) -> None:
    handle = house.handle()
    told = house.subsystem.volume_resize("ledger", NEW, preview=True)
    assert told["preview"]
    assert (told["before"], told["size"]) == (OLD, NEW)
    assert told["operation"]["bytes_total"] == 2 * (NEW - OLD)
    assert house.subsystem.volume_resize("ledger", OLD)["operation"] is None
    assert (house.show()["size"], house.handle()) == (OLD, handle)


def test_the_same_request_grows_it_once(house: House) -> None:
    one = house.subsystem.volume_resize("ledger", NEW, request=b"1" * 16)
    house.wait(one)
    two = house.subsystem.volume_resize("ledger", NEW, request=b"1" * 16)
    assert one["operation"]["id"] == two["operation"]["id"]


@pytest.mark.parametrize(
    ("size", "reason", "said"),
    [
        (NEW + 1, Reason.USAGE, "4096"),
        (0, Reason.USAGE, "4096"),
        (OLD - 4096, Reason.STATE, "smaller"),
        (OLD // 2, Reason.STATE, "smaller"),
        (12 * MIB, Reason.STATE, "a holds"),
    ],
)
def test_what_cant_be_is_refused_and_changes_nothing(
    house: House, size: int, reason: Reason, said: str
) -> None:
    handle = house.handle()
    refused = refusal(lambda: house.subsystem.volume_resize("ledger", size))
    assert refused.reason is reason
    assert said in refused.message
    assert (house.show()["size"], house.handle()) == (OLD, handle)


def test_a_leg_without_room_is_named_with_what_to_do(house: House) -> None:
    house.media("big", size=40 * MIB)
    refused = refusal(lambda: house.subsystem.volume_resize("ledger", 20 * MIB))
    assert refused.object == "a"
    assert "leg remove ledger a" in refused.hint
    for small in ("a", "b"):
        house.media(f"big-{small}", size=40 * MIB)
        house.subsystem.leg_add("ledger", medium=f"big-{small}")
        house.finish()
        house.subsystem.leg_remove("ledger", small)
    assert grown(house, 20 * MIB)["state"] == "done"
    house.write(20 * MIB // EXTENT - 1, "z")
    house.restart()
    assert house.read(20 * MIB // EXTENT - 1) == "z"


def test_a_save_without_room_is_named(house: House) -> None:
    house.media("big-a", "big-b", size=40 * MIB)
    house.volume("large", media=["big-a", "big-b"])
    house.subsystem.save("large", policy="copy", onto="c", label="night")
    house.finish()
    refused = refusal(lambda: house.subsystem.volume_resize("large", 20 * MIB))
    assert refused.object == "c"
    assert "release large@1" in refused.hint
    house.subsystem.release("large@night")
    assert grown(house, 20 * MIB, "large")["state"] == "done"


# --- saves -----------------------------------------------------------------------------------


def test_a_save_from_before_has_zeros_behind_its_end(house: House) -> None:
    dirty(house, "a", "b")
    house.write(3, "x")
    house.subsystem.save("ledger", label="night")
    house.write(3, "y")
    grown(house)
    house.write(LAST, "z")
    house.write(FIRST_NEW, "z")
    found = house.subsystem.diff("ledger@night")
    new = {"offset": FIRST_NEW * EXTENT, "length": EXTENT}
    assert new in found["list"]
    house.subsystem.recover("ledger@night")
    assert [house.read(at) for at in (3, FIRST_NEW, LAST)] == ["x", "", ""]
    house.finish()
    assert house.show()["size"] == NEW
    house.subsystem.undo("ledger")
    house.finish()
    assert [house.read(at) for at in (3, FIRST_NEW, LAST)] == ["y", "z", "z"]
    house.restart()
    assert [house.read(at) for at in (3, FIRST_NEW, LAST)] == ["y", "z", "z"]


def test_a_save_from_before_is_swapped_in_with_the_new_size(house: House) -> None:
    dirty(house, "a", "b")
    house.write(3, "x")
    house.subsystem.save("ledger", label="night")
    house.write(3, "y")
    grown(house)
    house.write(LAST, "z")
    house.subsystem.swap("ledger@night")
    assert [house.read(at) for at in (3, FIRST_NEW, LAST)] == ["x", "", ""]
    house.restart()
    assert house.engine.read(house.handle(), OLD, NEW - OLD) == bytes(NEW - OLD)


def test_a_save_s_medium_that_was_something_else_meanwhile_is_zeroed_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its superblock tells: no medium that had another role since counts as zeroed."""
    monkeypatch.setattr(resizing, "PIECE", MIB)
    plain, seen = Medium.write_zeros, []

    def write_zeros(medium: Medium, offset: int, length: int, *rest: Any) -> None:
        plain(medium, offset, length, *rest)
        seen.append((medium.path, offset))
        if len(seen) == 3:  # all of the first leg: now it is a save, and other things
            house.subsystem.save("ledger", label="split")
            house.subsystem.release("ledger@split")
            gone = next(n for n in ("a", "b") if house.states()[n] == "free")
            dirty(house, gone)
            house.subsystem.leg_add("ledger", medium=gone)
            house.engine.release_copies()

    monkeypatch.setattr(Medium, "write_zeros", write_zeros)
    done = grown(house)
    monkeypatch.undo()
    assert done["state"] == "done", done
    assert {house.on_medium(name, LAST) for name in ("a", "b")} == {""}
    house.write(LAST, "z")
    assert {house.on_medium(name, LAST) for name in ("a", "b")} == {"z"}


# --- what stands in its way ------------------------------------------------------------------


def test_a_recover_that_copies_is_waited_for(house: House) -> None:
    house.subsystem.save("ledger", label="night")
    house.write(3, "y")
    house.engine.hold_copies = True
    house.subsystem.recover("ledger@night", no_undo=True)
    refused = refusal(lambda: house.subsystem.volume_resize("ledger", NEW))
    assert refused.reason is Reason.BUSY
    house.engine.hold_copies = False
    house.finish()
    assert grown(house)["state"] == "done"


def test_a_save_that_fills_is_waited_for(house: House) -> None:
    house.engine.hold_copies = True
    house.subsystem.save("ledger", policy="copy", label="night")
    assert refusal(lambda: house.subsystem.volume_resize("ledger", NEW)).reason is Reason.BUSY
    house.engine.hold_copies = False
    house.finish()
    assert grown(house)["state"] == "done"


def test_a_leg_out_of_sync_is_waited_for(house: House) -> None:
    house.engine.broken.add(house.floor.medium_row("b").uuid)
    house.write(3, "x")
    house.subsystem.settled()
    refused = refusal(lambda: house.subsystem.volume_resize("ledger", NEW))
    assert refused.object == "b"
    assert "in sync" in refused.hint


def test_a_save_that_is_shown_is_not_changed_under_its_hosts(
    exported: tuple[House, FakeKernel],
) -> None:
    house, _ = exported
    house.subsystem.save("ledger", label="night")
    house.subsystem.export("ledger@night", [HOST])
    refused = refusal(lambda: house.subsystem.volume_resize("ledger", NEW))
    assert "shown" in refused.message
    house.subsystem.unexport("ledger@night", force=True)
    assert grown(house)["state"] == "done"


def test_one_that_is_asked_for_meanwhile_is_refused_and_an_abort_ends_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resizing, "PIECE", EXTENT)
    made = house.subsystem.volume_resize("ledger", NEW, rate=64 << 10)
    assert refusal(lambda: house.subsystem.volume_resize("ledger", NEW)).reason is Reason.BUSY
    assert house.subsystem.abort(made["operation"]["id"])["operation"]["state"] == "aborted"
    assert house.show()["size"] == OLD
    assert grown(house)["state"] == "done"


def test_hosts_verbs_go_on_while_it_is_zeroed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resizing, "PIECE", EXTENT)
    made = house.subsystem.volume_resize("ledger", NEW, rate=64 << 10)
    house.write(3, "x")
    house.subsystem.save("ledger", label="night")
    house.subsystem.operation_rate(made["operation"]["id"], rate=None)
    assert house.wait(made)["state"] == "done"
    assert (house.saves(), house.show()["size"]) == (["ledger@1"], NEW)


# --- hosts -----------------------------------------------------------------------------------


def test_hosts_are_held_then_told_of_the_new_size(exported: tuple[House, FakeKernel]) -> None:
    house, kernel = exported
    kernel.done.clear()
    grown(house)
    assert kernel.done == ["reset", "open", "reset", "unblock"]
    assert kernel.sizes == {"ledger": NEW}
    assert house.engine.volumes[house.handle()].attentions == [(0x2A, 0x09)]


def test_where_the_catalog_takes_nothing_it_serves_on_as_it_was(
    exported: tuple[House, FakeKernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    house, kernel = exported
    plain = house.catalog.volume_set

    def volume_set(uuid: bytes, **changes: Any) -> Any:
        if "size" in changes:
            raise Refused(Reason.ENVIRONMENT, "the disk is full")
        return plain(uuid, **changes)

    monkeypatch.setattr(house.catalog, "volume_set", volume_set)
    failed = grown(house)
    monkeypatch.undo()
    assert (failed["state"], failed["error"]) == ("failed", "the disk is full")
    assert (house.show()["size"], house.show()["state"]) == (OLD, "serving")
    assert kernel.done[-1] == "unblock"
    assert house.floor.runtime(house.floor.volume("ledger").uuid).ring is not None
    house.write(3, "x")


def test_where_hosts_cant_be_held_it_serves_on_as_it_was(
    exported: tuple[House, FakeKernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    house, kernel = exported
    plain, told = kernel.reset_ring, []

    def reset_ring(name: str) -> None:
        told.append(name)
        if len(told) == 1:
            raise Refused(Reason.ENVIRONMENT, "the kernel refused")
        plain(name)

    monkeypatch.setattr(kernel, "reset_ring", reset_ring)
    assert grown(house)["state"] == "failed"
    assert (house.show()["size"], house.show()["state"]) == (OLD, "serving")
    assert house.floor.runtime(house.floor.volume("ledger").uuid).ring is not None


def test_one_that_cant_be_served_again_has_its_new_size_and_is_tried_again(
    exported: tuple[House, FakeKernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    house, kernel = exported
    house.write(3, "x")

    def add_volume(engine: FakeEngine, spec: Any) -> int:
        raise Refused(Reason.ENVIRONMENT, "a leg failed just now")

    with monkeypatch.context() as failing:
        failing.setattr(FakeEngine, "add_volume", add_volume)
        assert grown(house)["state"] == "done"
    assert (house.show()["state"], house.show()["size"]) == ("down", NEW)
    assert kernel.done[-1] == "reset", "hosts wait"
    assert house.subsystem._comeback.look()
    assert (house.show()["state"], house.read(3)) == ("serving", "x")
    assert (kernel.done[-1], kernel.sizes) == ("unblock", {"ledger": NEW})


# --- the daemon dies -------------------------------------------------------------------------

PLACES: dict[str, tuple[Any, str]] = {
    "before it zeroes": (Medium, "write_zeros"),
    "before hosts are held": (FakeEngine, "remove_volume"),
    "before the catalog has it": (None, "volume_set"),
    "before it serves again": (FakeEngine, "add_volume"),
    "before it is told": (None, "operation_set"),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("where", PLACES)
def test_one_that_dies_leaves_the_old_size_or_the_new_one(
    house: House, where: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    dirty(house, "a", "b")
    house.write(3, "x")
    house.subsystem.save("ledger", label="night")
    house.write(3, "y")
    place, verb = PLACES[where]
    place = place or type(house.catalog)
    plain = getattr(place, verb)
    died = []

    def die(*positional: Any, **named: Any) -> Any:
        begun = verb != "volume_set" or "size" in named
        begun = begun and (verb != "operation_set" or "in_force" in named)
        if died or not begun:
            return plain(*positional, **named)
        result = plain(*positional, **named) if after else None
        died.append(result)
        raise PowerCut

    row = house.floor.volume("ledger")
    prepared = {"size": NEW, "before": OLD}
    operation = house.subsystem._operations.begin(
        resizing.Ask("volume resize"), row, None, prepared, bytes_total=1
    )
    operation = house.catalog.operation_set(operation.id, state="running")
    monkeypatch.setattr(place, verb, die)
    with pytest.raises(PowerCut):  # in this thread, so that nothing is ended cleanly
        house.subsystem._resize._grow(resizing.Run(), lambda progress: None, operation)
    assert died
    monkeypatch.undo()
    house.restart()
    size = house.show()["size"]
    committed = where == "before it serves again"
    assert size == (NEW if committed else OLD)
    told = house.subsystem.operation(operation.id)
    assert told["state"] == ("done" if committed else "failed")
    assert (house.read(3), house.show()["state"]) == ("y", "serving")
    if size == OLD:
        dirty(house, "a", "b")
        grown(house)
    assert house.engine.read(house.handle(), OLD, NEW - OLD) == bytes(NEW - OLD)
    house.write(LAST, "z")
    house.subsystem.recover("ledger@night")
    house.finish()
    assert [house.read(at) for at in (3, LAST)] == ["x", ""]


def test_a_catalog_from_before_takes_the_size_that_the_media_have(house: House) -> None:
    house.write(3, "x")
    grown(house)
    house.write(LAST, "z")
    uuid = house.floor.volume("ledger").uuid
    house.kill()
    house.catalog = type(house.catalog)(house.folder / "state")
    house.catalog.volume_set(uuid, size=OLD)  # its copy of the day before
    house.catalog.close()
    house.boot()
    assert house.show()["size"] == NEW
    assert (house.read(3), house.read(LAST)) == ("x", "z")


def test_a_volume_that_ends_within_an_extent_grows_in_it(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.media("a", "b", "c")
    for name in ("a", "b"):
        with open(house.folder / name, "r+b") as file:
            file.write(b"\xee" * 8 * MIB)
    house.volume(size=3 * MIB + 4096, extent_size=65536)
    handle = house.handle()
    house.engine.write(handle, 3 * MIB, b"e" * 4096)
    house.subsystem.save("ledger", label="night")
    grown(house, 3 * MIB + 4096 * 5)
    found = house.engine.read(house.handle(), 3 * MIB, 4096 * 5)
    assert found == b"e" * 4096 + bytes(4096 * 4)
    house.engine.write(house.handle(), 3 * MIB + 4096 * 4, b"f" * 4096)
    house.subsystem.recover("ledger@night")
    house.finish()
    assert house.engine.read(house.handle(), 3 * MIB, 4096 * 5) == b"e" * 4096 + bytes(4096 * 4)
    assert os.path.getsize(house.folder / "a") == 12 * MIB
    house.end()
