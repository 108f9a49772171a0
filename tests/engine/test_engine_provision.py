"""UNMAP and WRITE SAME: zeros on every leg, space given back, marks, and parameters that make no sense."""

from __future__ import annotations

import os
import struct

import pytest

from tests.engine.conftest import SIZE, Rig
from tests.engine.fake_ring import Result

BLOCKS = SIZE // 512
MOST = 32768
ZEROS = bytes(1 << 20)


def sense(result: Result) -> tuple[int, int]:
    return result.sense[2], result.sense[12] << 8 | result.sense[13]


def unmap(rig: Rig, *ranges: tuple[int, int], anchor: int = 0, length: int | None = None) -> Result:
    descriptors = b"".join(struct.pack(">QII", lba, count, 0) for lba, count in ranges)
    data = struct.pack(">HHI", len(descriptors) + 6, len(descriptors), 0) + descriptors
    size = len(data) if length is None else length
    return rig.ring.run(struct.pack(">BB5xHB", 0x42, anchor, size, 0), data)


def write_same(rig: Rig, lba: int, count: int, block: bytes, flags: int = 0) -> Result:
    return rig.ring.run(struct.pack(">BBQIBB", 0x93, flags, lba, count, 0, 0), block)


def filled(rig: Rig, *legs: str) -> None:
    rig.create(*legs)
    for lba in range(0, 4096, 1024):
        assert rig.ring.write(lba, os.urandom(512 * 1024)).status == 0


def test_unmap_makes_zeros_on_every_leg_and_gives_space_back(rig: Rig) -> None:
    filled(rig, "a", "b")
    before = os.stat(rig.folder / "a").st_blocks
    assert unmap(rig, (0, 1024), (2048, 1024)).status == 0
    for leg in "ab":
        assert rig.content(leg, 0, 512 * 1024) == ZEROS[: 512 * 1024]
        assert rig.content(leg, 1 << 20, 512 * 1024) == ZEROS[: 512 * 1024]
        assert rig.content(leg, 512 * 1024, 4096) != ZEROS[:4096]
    assert rig.ring.read(0, 1024).data == ZEROS[: 512 * 1024]
    assert before - os.stat(rig.folder / "a").st_blocks >= 2000


def test_unmap_counts_as_a_change(rig: Rig) -> None:
    rig.create("a", "b")
    assert rig.engine.status(rig.handle)["changed"] == 0
    assert unmap(rig, (256, 128)).status == 0
    assert rig.engine.status(rig.handle)["changed"] == 1


@pytest.mark.parametrize("ranges", [(), ((5, 0),), ((BLOCKS, 0),)])
def test_unmap_of_nothing_is_good_and_changes_nothing(rig: Rig, ranges) -> None:
    rig.create("a")
    assert unmap(rig, *ranges).status == 0
    assert rig.ring.run(struct.pack(">BB5xHB", 0x42, 0, 0, 0)).status == 0
    assert rig.engine.status(rig.handle)["changed"] == 0


@pytest.mark.parametrize(
    ("ranges", "more", "code"),
    [
        (((0, 8), (BLOCKS - 1, 2)), {}, 0x2100),
        (((0, 8), (2**64 - 1, 2)), {}, 0x2100),
        (((0, MOST), (0, 1)), {}, 0x2600),
        (((0, 1),) * 17, {}, 0x2600),
        (((0, 1),), {"anchor": 1}, 0x2400),
        (((0, 1),), {"length": 7}, 0x1A00),
    ],
)
def test_an_unmap_that_can_t_be_done_whole_changes_nothing(rig: Rig, ranges, more, code) -> None:
    filled(rig, "a")
    before = rig.content("a", 0, 4096 * 512)
    result = unmap(rig, *ranges, **more)
    assert result.status == 2
    assert sense(result) == (5, code)
    assert rig.content("a", 0, 4096 * 512) == before


def test_an_unmap_that_brings_less_than_it_says_is_refused(rig: Rig) -> None:
    rig.create("a")
    data = struct.pack(">HHI", 38, 32, 0) + struct.pack(">QII", 0, 1, 0)
    result = rig.ring.run(struct.pack(">BB5xHB", 0x42, 0, 40, 0), data)
    assert (result.status, sense(result)) == (2, (5, 0x1A00))


@pytest.mark.parametrize("flags", [0, 8])
def test_write_same_of_zeros(rig: Rig, flags: int) -> None:
    filled(rig, "a", "b")
    assert write_same(rig, 8, 1000, bytes(512), flags).status == 0
    for leg in "ab":
        assert rig.content(leg, 4096, 512 * 1000) == ZEROS[: 512 * 1000]
        assert rig.content(leg, 0, 4096) != ZEROS[:4096]
        assert rig.content(leg, 4096 + 512000, 4096) != ZEROS[:4096]


def test_write_same_of_a_pattern(rig: Rig) -> None:
    filled(rig, "a", "b")
    block = os.urandom(512)
    assert write_same(rig, 3, 1025, block, 8).status == 0
    for leg in "ab":
        assert rig.content(leg, 3 * 512, 1025 * 512) == block * 1025
    ten = struct.pack(">BBIBHB", 0x41, 0, 8192, 0, MOST - 8192, 0)
    assert rig.ring.run(ten, block).status == 0
    assert rig.content("b", 8192 * 512, (MOST - 8192) * 512) == block * (MOST - 8192)


def test_write_same_with_no_data_out_writes_zeros(rig: Rig) -> None:
    filled(rig, "a")
    assert write_same(rig, 0, 2048, b"", 1).status == 0
    assert rig.content("a", 0, 1 << 20) == ZEROS


@pytest.mark.parametrize(
    ("lba", "count", "flags", "block", "code"),
    [
        (0, 0, 0, bytes(512), 0x2400),
        (0, MOST + 1, 0, bytes(512), 0x2100),
        (BLOCKS - 1, 2, 0, bytes(512), 0x2100),
        (2**63, 2, 0, bytes(512), 0x2100),
        (0, 1, 0x10, bytes(512), 0x2400),
        (0, 1, 0x20, bytes(512), 0x2400),
        (0, 1, 0, b"", 0x2400),
        (0, 1, 0, bytes(511), 0x2400),
    ],
)
def test_a_write_same_that_makes_no_sense(rig: Rig, lba, count, flags, block, code) -> None:
    filled(rig, "a")
    before = rig.content("a", 0, 4096)
    result = write_same(rig, lba, count, block, flags)
    assert (result.status, sense(result)) == (2, (5, code))
    assert rig.content("a", 0, 4096) == before
