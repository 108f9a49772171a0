"""What a host is told and counts in, on volumes of each format of blocks."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from targetplugin.engine import native
from targetplugin.host import device, pitcopy, sgio
from targetplugin.host.pitcopy import main
from targetplugin.scsi import inquiry, mode, sense
from targetplugin.scsi.logical_unit import LogicalUnit
from targetplugin.scsi.pitcopy import DifferentialExtents, InAction, InRequest
from targetplugin.subsystem.ground.views import COUNTERS
from tests.unit.house import EXTENT, MIB, House

SIZE = 8 * MIB
ROOM = 32768
# Format, bytes of a logical block, exponent of logical blocks in a physical one.
FORMATS = [("512n", 512, 0), ("512e", 512, 3), ("4kn", 4096, 0)]


class Unit:
    """A logical unit; `block` is the length of its logical blocks."""

    def __init__(self, house: House, block: int, exponent: int, name: str = "ledger") -> None:
        self.house, self.block, self.exponent = house, block, exponent
        self.unit = LogicalUnit(house.subsystem, name)

    def send(self, cdb: bytes, data: bytes = b"", room: int = ROOM) -> bytes:
        answer = self.unit.execute(cdb.ljust(16, b"\0"), data, room)
        assert answer.status == 0, sense.decode(answer.sense)
        return answer.data

    def refused(self, cdb: bytes, data: bytes = b"", room: int = ROOM) -> tuple[int, int]:
        answer = self.unit.execute(cdb.ljust(16, b"\0"), data, room)
        assert answer.status == 2
        value = sense.decode(answer.sense)
        assert value is not None
        return value.key, value.asc << 8 | value.ascq


@pytest.fixture(params=FORMATS, ids=lambda one: one[0])
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Unit]:
    name, block, exponent = request.param
    house = House(tmp_path)
    house.media("a", "b", "c")
    house.volume(blocks=name)
    yield Unit(house, block, exponent)
    house.end()


def test_capacity_tells_both_lengths(unit: Unit) -> None:
    last = SIZE // unit.block - 1
    assert struct.unpack(">II", unit.send(bytes([0x25]))) == (last, unit.block)
    long = unit.send(bytes([0x9E, 0x10]) + bytes(8) + (32).to_bytes(4, "big"))
    assert struct.unpack(">QI", long[:12]) == (last, unit.block)
    assert long[13] & 0x0F == unit.exponent, "logical blocks per physical block exponent"
    assert int.from_bytes(long[14:16], "big") & 0x3FFF == 0, "lowest aligned LBA"


def test_block_limits_are_the_same_bytes_in_blocks(unit: Unit) -> None:
    page = unit.send(bytes([0x12, 1, 0xB0, 0, 64]))
    assert page[5] * unit.block == native.MAX_COMPARE
    grain, most, best = struct.unpack_from(">HII", page, 6)
    assert grain * unit.block == 4096
    assert most * unit.block == best * unit.block == inquiry.MAX_TRANSFER
    unmap, ranges, unmap_grain = struct.unpack_from(">III", page, 20)
    assert unmap * unit.block == native.MAX_UNMAP
    assert (ranges, unmap_grain * unit.block) == (inquiry.MAX_UNMAP_RANGES, 4096)
    assert struct.unpack_from(">Q", page, 36)[0] * unit.block == native.MAX_UNMAP


def test_lba_status_ends_with_the_last_block(unit: Unit) -> None:
    last = SIZE // unit.block - 1

    def ask(lba: int) -> bytes:
        return bytes([0x9E, 0x12]) + struct.pack(">QI", lba, 32)

    assert struct.unpack(">QI", unit.send(ask(last - 4))[8:20]) == (last - 4, 5)
    assert unit.refused(ask(last + 1)) == (5, 0x2100)


def test_mode_select_takes_the_block_descriptor_of_its_length_alone(unit: Unit) -> None:
    def select(length: int) -> tuple[bytes, bytes]:
        page = unit.send(bytes([0x1A, mode.DBD, mode.CACHING, 0, 255]))[4:]
        descriptor = bytes(5) + length.to_bytes(3, "big")
        data = bytes([0, 0, 0, 8]) + descriptor + bytes([page[0] & 0x7F]) + page[1:]
        return bytes([0x15, 0x10, 0, 0, len(data)]), data

    assert unit.send(*select(unit.block)) == b""
    assert unit.send(*select(0)) == b"", "as it is"
    assert unit.refused(*select(4096 if unit.block == 512 else 512)) == (5, 0x2600)


def test_statistics_count_logical_blocks(unit: Unit) -> None:
    volume = unit.house.engine.volumes[unit.house.handle()]
    volume.counters = {**dict.fromkeys(COUNTERS, 1), "bytes_read": 8192, "bytes_written": 4096}
    cdb = struct.pack(">BBBBBHHB", 0x4D, 0, 0x40 | 0x19, 0, 0, 0, 512, 0)
    written, read = struct.unpack_from(">QQ", unit.send(cdb), 24)
    assert (written * unit.block, read * unit.block) == (4096, 8192)


def test_a_differential_is_in_the_unit_s_logical_blocks(
    unit: Unit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    house = unit.house
    house.write(0, "x")
    house.subsystem.save("ledger", label="night")
    for extent in (3, 4, 9):
        house.write(extent, "y")
    slot = house.show()["saves"][0]["slot"]
    cdb = InRequest(InAction.DIFFERENTIAL_EXTENTS, 0, slot, ROOM).encode()
    runs = DifferentialExtents.decode(unit.send(cdb)).runs
    assert [(lba * unit.block, n * unit.block) for lba, n in runs] == [
        (3 * EXTENT, 2 * EXTENT),
        (9 * EXTENT, EXTENT),
    ]

    def execute(path: str, cdb: bytes, *, data_out: bytes = b"", data_in: int = 0) -> bytes:
        return unit.send(cdb, data_out, data_in)

    monkeypatch.setattr(sgio, "execute", execute)
    monkeypatch.setattr(device, "whole_disk", lambda path: path)
    monkeypatch.setattr(pitcopy, "whole_disk", lambda path: path)
    assert main(["diff", "/dev/sdz", "--save", "night"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [str(3 * EXTENT), str(2 * EXTENT)] in lines
    assert [str(9 * EXTENT), str(EXTENT)] in lines


def test_a_save_that_is_looked_up_is_read_and_verified_in_blocks(unit: Unit) -> None:
    house = unit.house
    house.write(0, "x")
    house.subsystem.save("ledger", policy="sparse", label="night")
    house.write(0, "y")
    save = Unit(house, unit.block, unit.exponent, "ledger@1")
    assert struct.unpack(">II", save.send(bytes([0x25])))[1] == unit.block
    last = SIZE // unit.block - 1
    assert save.send(struct.pack(">BBIBHB", 0x28, 0, 1, 0, 2, 0)) == b"x" * 2 * unit.block
    assert save.refused(struct.pack(">BBIBHB", 0x28, 0, last, 0, 2, 0)) == (5, 0x2100)
    short = save.refused(struct.pack(">BBIBHB", 0x28, 0, 0, 0, 1, 0), room=unit.block - 1)
    assert short == (5, 0x2400)
    verify = struct.pack(">BBQIBB", 0x8F, 6, 0, EXTENT // unit.block, 0, 0)
    assert save.send(verify, b"x" * unit.block) == b""
    assert save.refused(verify, b"y" * unit.block) == (14, 0x1D00)
    assert save.refused(verify, b"x" * (unit.block + 1)) == (5, 0x2400)
    most = struct.pack(">BBQIBB", 0x8F, 2, 0, native.MAX_STEPS // unit.block + 1, 0, 0)
    assert save.refused(most, b"x") == (5, 0x2400)
