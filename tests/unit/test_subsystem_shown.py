"""Saves that hosts see: what of them the kernel is told, what is refused meanwhile, and what a start
makes of it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from targetplugin.errors import Reason, Refused
from targetplugin.scsi import sense
from targetplugin.scsi.logical_unit import LogicalUnit
from tests.unit.fake_kernel import HOST, OTHER, FakeKernel
from tests.unit.house import EXTENT, House, image, letter_of


@pytest.fixture
def house(tmp_path: Path, kernel: FakeKernel) -> Iterator[House]:
    """A volume with "x" in its first extent; its save `night`, on b, has it; then "y" was written."""
    made = House(tmp_path, kernel, kernel)
    made.media("a", "b", "c", "d")
    made.volume()
    made.write(0, "x")
    made.subsystem.save("ledger", label="night")
    made.write(0, "y")
    yield made
    made.end()


def view(house: House, name: str = "ledger@1") -> int:
    """The engine's handle of what is shown."""
    handles = [h for h in house.engine.volumes if house.subsystem.volume_of(h) == name]
    assert len(handles) == 1, f"{name} is not shown"
    return handles[0]


def seen(house: House, extent: int = 0) -> str:
    """The letter that hosts read in the shown save's extent."""
    return letter_of(house.engine.read(view(house), extent * EXTENT, EXTENT))


def refused(call: object, *args: object, **named: object) -> Refused:
    with pytest.raises(Refused) as caught:
        call(*args, **named)  # type: ignore[operator]
    return caught.value


def test_a_shown_save_has_a_storage_object_and_a_target_of_its_own(
    house: House, kernel: FakeKernel
) -> None:
    volume = house.subsystem.export("ledger", [HOST])
    chap = {"user": "u", "password": "secret-secret"}
    shape = house.subsystem.export("ledger@night", [OTHER], chap=chap)
    assert shape["volume"] == "ledger@1"
    assert shape["target"] != volume["target"]
    assert set(kernel.objects) == {"ledger", "ledger@1"}
    assert kernel.objects["ledger"] != kernel.objects["ledger@1"]
    assert kernel.targets[shape["target"]] == ("ledger@1", ["192.0.2.1:3260"], {OTHER: "u"})
    assert kernel.targets[volume["target"]][0] == "ledger"
    assert {**house.show()["saves"][0]["export"], "changed": True} == shape
    assert "secret" not in str(house.show())


def test_hosts_read_the_save_and_cant_write_it(house: House) -> None:
    house.subsystem.export("ledger@night", [HOST])
    house.write(1, "z")
    assert [seen(house, extent) for extent in (0, 1)] == ["x", ""]
    with pytest.raises(OSError, match="status 4"):
        house.engine.write(view(house), 0, b"w" * EXTENT)
    assert house.on_medium("b", 0) == "x"
    assert house.read(0) == "y"


def test_a_shown_save_has_an_identity_of_its_own_that_stays(house: House) -> None:
    def identity() -> bytes:
        unit = LogicalUnit(house.subsystem, "ledger@1")
        return unit.execute(bytes([0x12, 1, 0x83, 0, 255]).ljust(16, b"\0"), b"", 255).data

    first = identity()
    told = house.subsystem.export("ledger@night", [HOST])
    assert bytes.fromhex(told["naa"]) in first
    assert bytes.fromhex(house.show()["naa"]) not in identity()
    house.subsystem.unexport("ledger@night")
    house.restart()
    house.subsystem.save("ledger")
    house.finish()
    house.subsystem.export("ledger@night", [HOST])
    assert identity() == first
    assert (
        house.subsystem.save_shown("ledger@2")["naa"]
        != house.subsystem.save_shown("ledger@1")["naa"]
    )


def test_its_logical_unit_is_write_protected_and_takes_no_vendor_command(house: House) -> None:
    house.subsystem.export("ledger@night", [HOST])
    unit = LogicalUnit(house.subsystem, "ledger@1")

    def send(*cdb: int) -> tuple[int, bytes, bytes]:
        answer = unit.execute(bytes(cdb).ljust(16, b"\0"), b"", 4096)
        return answer.status, answer.data, answer.sense

    assert send(0x1A, 0, 0x3F, 0, 255)[1][2] == 0x90  # MODE SENSE: WP and DPOFUA
    assert send(0x5A, 0, 0x3F, 0, 0, 0, 0, 0, 255)[1][3] == 0x90
    assert send(0x12, 0, 0, 0, 96)[1][16:24] == b"PIT SAVE"
    assert not {0xB2, 0xC0} & set(send(0x12, 1, 0, 0, 255)[1][4:])
    assert send(0x12, 1, 0xC0, 0, 255)[0] == 2
    capacity = send(0x9E, 0x10, *bytes(8), 0, 0, 0, 32)[1]
    assert int.from_bytes(capacity[:8], "big") == (8 << 20) // 512 - 1
    assert capacity[14] == 0  # not thin: nothing can be unmapped
    for opcode in (0xC0, 0xC1):
        status, _, told = send(opcode, 1, 0, 0, 0, 0, 0, 0, 255)
        value = sense.decode(told)
        assert value is not None
        assert (status, value.key, value.asc) == (2, 5, 0x20)
    supported = send(0xA3, 0x0C, 0, 0, 0, 0, 0, 0, 16, 0)[1][4:]
    assert not {0xC0, 0xC1} & set(supported[::8])


@pytest.mark.parametrize("verb", ["release", "resync", "swap"])
def test_a_save_that_is_shown_is_not_taken_away(house: House, verb: str) -> None:
    house.subsystem.export("ledger@night", [HOST])
    error = refused(getattr(house.subsystem, verb), "ledger@night")
    assert error.reason is Reason.STATE
    assert "shown to hosts" in error.message
    assert "unexport" in error.hint
    assert house.saves() == ["ledger@1"]
    house.subsystem.unexport("ledger@night")
    getattr(house.subsystem, verb)("ledger@night")


def test_a_volume_with_a_save_that_is_shown_is_not_deleted(house: House) -> None:
    house.subsystem.export("ledger@night", [HOST])
    assert "unexport ledger@1" in refused(house.subsystem.volume_delete, "ledger", force=True).hint
    house.subsystem.unexport("ledger@1")
    house.subsystem.volume_delete("ledger", force=True)


def test_the_volume_recovers_from_it_while_it_is_shown(house: House) -> None:
    house.subsystem.export("ledger@night", [HOST])
    house.engine.hold_copies = True
    house.subsystem.recover("ledger@night")
    assert (house.read(0), seen(house)) == ("x", "x")
    house.write(0, "z")
    house.finish()
    assert (house.read(0), seen(house)) == ("z", "x")
    house.subsystem.save("ledger")
    house.finish()


# --- saves that are not whole ---------------------------------------------------------------------

PLACE = 100  # an extent


class Reader:
    """A host's commands to the save `ledger@2` as Python answers them."""

    def __init__(self, house: House) -> None:
        self.unit = LogicalUnit(house.subsystem, "ledger@2")

    def send(
        self, cdb: bytes, data: bytes = b"", room: int = 1 << 21
    ) -> tuple[int, bytes, int | None]:
        """Status, data, and the sense code."""
        answer = self.unit.execute(cdb.ljust(16, b"\0"), data, room)
        value = sense.decode(answer.sense)
        return answer.status, answer.data, value.asc << 8 | value.ascq if value else None

    def read(self, extent: int, extents: int = 1) -> str:
        cdb = struct.pack(">BxIxHx", 0x28, extent * 128, extents * 128)
        status, data, _ = self.send(cdb)
        assert status == 0
        assert len(data) == extents * EXTENT
        return "".join(letter_of(data[at : at + EXTENT]) for at in range(0, len(data), EXTENT))


def allow(house: House, copies: int) -> None:
    """How many copies may be under way that no host waits for."""
    house.engine.volumes[house.handle()].core.allowed(copies)
    if copies:
        house.engine.checkpoint(house.handle())  # so that they begin


@pytest.fixture(params=["copy", "sparse"])
def late(request: pytest.FixtureRequest, house: House) -> House:
    """`ledger@2` fills and has nothing yet, or is without fill; it has "p" in PLACE, which is "q" now."""
    house.subsystem.release("ledger@night")
    house.write(PLACE, "p")
    allow(house, 0)
    house.subsystem.save("ledger", label="late", policy=request.param)
    assert house.show()["saves"][0]["fill"] in ("filling", "unfilled")
    house.write(PLACE, "q")
    return house


def test_a_save_that_is_not_whole_is_shown_at_once(late: House) -> None:
    late.subsystem.export("ledger@late", [HOST])
    late.write(PLACE + 1, "r")
    assert late.show()["saves"][0]["percent"] < 2
    assert Reader(late).read(PLACE - 1, 3) == "p"
    with pytest.raises(OSError, match="status 4"):
        late.engine.write(view(late, "ledger@2"), 0, b"w" * EXTENT)
    assert refused(late.subsystem.release, "ledger@late").reason is Reason.STATE


def test_when_it_is_whole_the_engine_reads_its_medium(late: House, kernel: FakeKernel) -> None:
    late.subsystem.export("ledger@late", [HOST])
    first = view(late, "ledger@2")
    kernel.done.clear()
    if late.show()["saves"][0]["fill"] == "unfilled":
        late.wait(late.subsystem.fill("ledger@late"))
    allow(late, 2)
    late.finish()
    assert view(late, "ledger@2") != first
    assert kernel.done == ["open", "reset", "unblock"]
    assert letter_of(late.engine.read(view(late, "ledger@2"), PLACE * EXTENT, EXTENT)) == "p"
    assert Reader(late).read(PLACE) == "p", "a command that came before"
    late.subsystem.unexport("ledger@late")
    late.subsystem.release("ledger@late")


def test_after_a_kill_it_is_shown_again(late: House, kernel: FakeKernel) -> None:
    late.subsystem.export("ledger@late", [HOST])
    late.kill()
    kernel.done.clear()
    late.boot()
    assert kernel.done[:3] == ["open", "reset", "unblock"]
    late.finish()
    sparse = late.show()["saves"][0]["fill"] == "unfilled"
    if sparse:
        assert Reader(late).read(PLACE) == "p"
    else:
        assert letter_of(late.engine.read(view(late, "ledger@2"), PLACE * EXTENT, EXTENT)) == "p"


def test_while_its_volume_is_down_it_waits_as_the_volume_does(
    late: House, kernel: FakeKernel
) -> None:
    late.subsystem.export("ledger@late", [HOST])
    late.kill()
    for leg in "ab":
        (late.folder / leg).rename(late.folder / f"{leg}-away")
    late.boot()
    assert late.show()["state"] == "down"
    assert late.engine.volumes == {}
    assert Reader(late).send(struct.pack(">BxIxHx", 0x28, 0, 8))[0] == 8  # BUSY
    late.subsystem.unexport("ledger@late")
    assert "is down" in refused(late.subsystem.export, "ledger@late", [HOST]).message
    for leg in "ab":
        (late.folder / f"{leg}-away").rename(late.folder / leg)
    late.subsystem._comeback.look()
    late.subsystem.export("ledger@late", [HOST])
    late.finish()


def test_one_that_is_lost_while_it_is_shown_gives_read_errors(late: House) -> None:
    late.subsystem.export("ledger@late", [HOST])
    if late.stores:
        late.engine.fill_up(late.handle(), 2)
    else:
        late.engine.broken.add(late.floor.medium_row("b").uuid)
        late.write(7, "s")
    late.subsystem.settled()
    assert late.show()["saves"][0]["fill"] == "broken"
    assert Reader(late).send(struct.pack(">BxIxHx", 0x28, 0, 8)) == (2, b"", 0x1100)
    late.subsystem.unexport("ledger@late")
    late.subsystem.release("ledger@late")


def test_reads_of_all_kinds_are_answered_or_refused_as_the_engine_does(late: House) -> None:
    late.subsystem.export("ledger@late", [HOST])
    reader = Reader(late)
    lba, blocks = PLACE * 128, 8 << 11
    letters = b"p" * 4096
    assert reader.send(struct.pack(">BBHBx", 0x08, 0, lba, 8)) == (0, letters, None)
    assert reader.send(struct.pack(">BxQIxx", 0x88, lba, 8)) == (0, letters, None)
    assert reader.send(struct.pack(">BxIIxx", 0xA8, lba, 8)) == (0, letters, None)
    assert reader.send(struct.pack(">BBHBx", 0x08, 0, lba, 0))[1] == letters * 16 + bytes(65536)
    assert reader.send(struct.pack(">BxIxHx", 0x28, lba, 0)) == (0, b"", None)
    assert reader.send(struct.pack(">BxIxHx", 0x28, blocks - 1, 2))[2] == 0x2100
    assert reader.send(struct.pack(">BBIxHx", 0x28, 0x20, lba, 8))[2] == 0x2400
    assert reader.send(struct.pack(">BxIxHx", 0x28, lba, 8), room=4095)[2] == 0x2400
    assert reader.send(struct.pack(">BxIxHx", 0x2F, lba, 8)) == (0, b"", None)
    assert reader.send(struct.pack(">BBIxHx", 0x2F, 2, lba, 8), letters) == (0, b"", None)
    assert reader.send(struct.pack(">BBIxHx", 0x2F, 2, lba, 8), b"q" * 4096)[2] == 0x1D00
    assert reader.send(struct.pack(">BBIxHx", 0x2F, 6, lba, 8), b"p" * 512) == (0, b"", None)
    for compares, data in ((4, letters), (2, b"p"), (6, letters)):
        assert reader.send(struct.pack(">BBIxHx", 0x2F, compares, lba, 8), data)[2] == 0x2400


def test_a_broken_save_is_not_shown(house: House) -> None:
    house.subsystem.release("ledger@night")
    house.engine.hold_copies = True
    house.subsystem.save("ledger", label="late", policy="copy")
    house.catalog.save_set(house.floor.volume("ledger").uuid, 2, fill="broken")
    assert "broken" in refused(house.subsystem.export, "ledger@late", [HOST]).message
    house.catalog.save_set(house.floor.volume("ledger").uuid, 2, fill="filling")
    house.finish()


def test_a_restored_image_is_shown_before_it_is_swapped_in(house: House, tmp_path: Path) -> None:
    house.wait(house.subsystem.restore("ledger", image=image(tmp_path / "i", "pq")))
    name = next(n for n in house.saves() if n != "ledger@1")
    house.subsystem.export(name, [HOST])
    assert letter_of(house.engine.read(view(house, name), EXTENT, EXTENT)) == "q"
    assert "shown" in refused(house.subsystem.swap, name).message


def test_a_save_that_is_not_there_or_not_exported_is_told_so(house: House) -> None:
    assert refused(house.subsystem.export, "ledger@none", [HOST]).reason is Reason.NOT_FOUND
    assert refused(house.subsystem.unexport, "ledger@night").reason is Reason.STATE
    assert refused(house.subsystem.export, "ledger@night", []).reason is Reason.USAGE
    house.subsystem.export("ledger@night", [HOST])
    assert refused(house.subsystem.unexport, "ledger@night", [OTHER]).reason is Reason.NOT_FOUND


def test_what_the_kernel_refuses_leaves_nothing_shown(house: House, kernel: FakeKernel) -> None:
    before = set(house.engine.volumes)
    kernel.fails = True
    refused(house.subsystem.export, "ledger@night", [HOST])
    kernel.fails = False
    assert house.show()["saves"][0]["export"] is None
    assert house.catalog.shown() == []
    assert set(house.engine.volumes) == before
    house.subsystem.release("ledger@night")


def test_an_undo_save_that_is_shown_stays_until_it_is_withdrawn(house: House) -> None:
    house.subsystem.recover("ledger@night")
    house.finish()
    undo = next(save["name"] for save in house.show()["saves"] if save["undo"])
    house.subsystem.export(undo, [HOST])
    house.write(3, "w")
    house.subsystem.recover("ledger@night")
    house.finish()
    assert undo in house.saves()
    assert letter_of(house.engine.read(view(house, undo), 0, EXTENT)) == "y"
    house.subsystem.unexport(undo)
    house.subsystem.recover("ledger@night")
    house.finish()
    assert undo not in house.saves()


@pytest.mark.parametrize("tie", ["shown", "cloned"])
def test_no_save_goes_onto_the_medium_of_one_that_is_held(house: House, tie: str) -> None:
    house.engine.hold_copies = True
    if tie == "shown":
        house.subsystem.export("ledger@night", [HOST])
    else:
        house.subsystem.clone("ledger@night", "test")
    error = refused(house.subsystem.save, "ledger", replace="ledger@night")
    assert ("shown" if tie == "shown" else "clone") in error.message
    house.finish()


def test_nothing_is_shown_while_an_operation_is_not_recorded(house: House) -> None:
    """A swap that the disks have and the catalog has not may have made the medium a leg."""
    volume = house.floor.volume("ledger")
    row = house.catalog.operation_add("swap", volume=volume.uuid, volume_name="ledger", save=1)
    error = refused(house.subsystem.export, "ledger@night", [HOST])
    assert "could not be recorded" in error.message
    assert error.hint
    house.catalog.operation_set(row.id, state="failed")
    house.subsystem.export("ledger@night", [HOST])


def test_hosts_are_added_and_withdrawn_one_by_one(house: House, kernel: FakeKernel) -> None:
    target = house.subsystem.export("ledger@night", [HOST])["target"]
    shape = house.subsystem.export("ledger@night", [OTHER])
    assert shape["target"] == target
    assert [i["iqn"] for i in shape["initiators"]] == [HOST, OTHER]
    kernel.hosts = {HOST}
    assert refused(house.subsystem.unexport, "ledger@night").reason is Reason.HOSTS
    house.subsystem.unexport("ledger@night", [OTHER])
    assert kernel.targets[target][2] == {HOST: ""}
    assert seen(house) == "x"
    kernel.done.clear()
    house.subsystem.unexport("ledger@night", force=True)
    assert kernel.done == ["unexport", "remove"]
    assert len(house.engine.volumes) == 1
    assert house.catalog.shown() == []


def test_after_a_kill_it_is_shown_again_on_the_ring_that_is_there(
    house: House, kernel: FakeKernel
) -> None:
    house.subsystem.export("ledger@night", [HOST])
    kernel.done.clear()
    house.restart()
    assert kernel.done == ["open", "reset", "unblock"]
    assert house.subsystem.restore_exports()
    assert kernel.done == ["open", "reset", "unblock", "export"]
    assert seen(house) == "x"
    refused(house.subsystem.release, "ledger@night")


def test_after_a_reboot_it_is_made_again(house: House, kernel: FakeKernel) -> None:
    house.subsystem.export("ledger@night", [HOST])
    kernel.objects.clear()
    kernel.targets.clear()
    kernel.done.clear()
    house.restart()
    assert kernel.done == []
    kernel.fails = True
    assert not house.subsystem.restore_exports()
    kernel.fails = False
    assert house.subsystem.restore_exports()
    assert kernel.done == ["make", "open", "reset", "unblock", "export"]


def test_a_ring_that_someone_else_removed_and_made_again_is_served(
    house: House, kernel: FakeKernel
) -> None:
    house.subsystem.export("ledger@night", [HOST])
    kernel.done.clear()
    kernel.objects.clear()
    house.subsystem.ring_changed("ledger@1", False)
    kernel.objects["ledger@1"] = "targetplugin/x"
    house.subsystem.ring_changed("ledger@1", True)
    assert kernel.done == ["open", "reset", "unblock"]
    house.subsystem.ring_changed("ledger@9", True)
    house.subsystem.ring_changed("other@1", True)
    assert kernel.done == ["open", "reset", "unblock"]


def test_it_is_shown_though_the_volume_is_down(house: House, kernel: FakeKernel) -> None:
    house.subsystem.export("ledger@night", [HOST])
    house.kill()
    (house.folder / "a").rename(house.folder / "away")
    house.boot()
    assert house.show()["state"] == "down"
    assert seen(house) == "x"
    assert house.subsystem.restore_exports()
    (house.folder / "away").rename(house.folder / "a")
    house.subsystem._comeback.look()
    assert house.read(0) == "y"
    assert seen(house) == "x"


def test_a_medium_that_goes_and_comes_back_is_shown_again(house: House, kernel: FakeKernel) -> None:
    house.subsystem.export("ledger@night", [HOST])
    uuid = house.floor.medium_row("b").uuid
    before = house.floor.media[uuid]
    (house.folder / "b").rename(house.folder / "away")
    medium = house.floor.media[uuid]
    medium.read_trailer = lambda: None  # type: ignore[method-assign]  # as a disk that was pulled
    house.subsystem._comeback.look()
    assert uuid not in house.floor.media
    assert len(house.engine.volumes) == 1
    refused(house.subsystem.release, "ledger@night")
    (house.folder / "away").rename(house.folder / "b")
    kernel.done.clear()
    house.subsystem._comeback.look()
    assert house.floor.media[uuid] is not before
    assert seen(house) == "x"
    assert kernel.done == ["open", "reset", "unblock"]


def test_a_medium_that_is_missing_shows_nothing(house: House) -> None:
    house.kill()
    (house.folder / "b").rename(house.folder / "away")
    house.boot()
    error = refused(house.subsystem.export, "ledger@night", [HOST])
    assert (error.reason, "b is missing" in error.message) == (Reason.STATE, True)
    assert house.catalog.shown() == []
