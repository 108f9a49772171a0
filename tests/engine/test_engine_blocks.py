"""Volumes of logical blocks of 512 and of 4096 bytes, on media of both: what hosts count in, what reaches the
media, and what can't be.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from targetplugin.engine import VolumeSpec, native
from targetplugin.errors import Reason, Refused
from tests.engine.conftest import SIZE, UUID, Rig
from tests.engine.fake_ring import Result
from tests.storage.conftest import loop  # noqa: F401  (a fixture)

EXTENT = 65536
RANGE, FIELD, LIST, MISCOMPARE = (5, 0x2100), (5, 0x2400), (5, 0x2600), (14, 0x1D00)
# Bytes of a logical block: of the volume, of its media.
MATRIX = [(512, 512), (4096, 512), (4096, 4096)]


@pytest.fixture(params=MATRIX, ids=lambda one: "{}-on-{}".format(*one))
def rig(request: pytest.FixtureRequest, tmp_path: Path, loop: Callable[..., str]) -> Iterator[Rig]:  # noqa: F811
    block, sector = request.param
    device = None if sector == 512 else lambda path: loop(file=path, sector=sector)
    rig = Rig(tmp_path, block, device)
    yield rig
    rig.close()


def sense(result: Result) -> tuple[int, int]:
    return result.sense[2], result.sense[12] << 8 | result.sense[13]


def cdb_16(opcode: int, lba: int, blocks: int, flags: int = 0) -> bytes:
    return struct.pack(">BBQIBB", opcode, flags, lba, blocks, 0, 0)


def compare_and_write(lba: int, blocks: int) -> bytes:
    return struct.pack(">BBQ3xBBB", 0x89, 0, lba, blocks, 0, 0)


def test_an_address_counts_the_volume_s_blocks(rig: Rig) -> None:
    rig.create("a", "b")
    data = os.urandom(96 * rig.block)
    assert rig.ring.write(7, data, pieces=5).status == 0
    for leg in "ab":
        assert rig.content(leg, 7 * rig.block, len(data)) == data
    assert rig.ring.read(7, 96, pieces=3).data == data
    six = rig.ring.run(bytes([0x08, 0, 0, 8, 2, 0]), data_in=2 * rig.block)
    assert six.data == data[rig.block : 3 * rig.block]
    twelve = struct.pack(">BBIIBB", 0xA8, 0, 9, 1, 0, 0)
    assert rig.ring.run(twelve, data_in=rig.block).data == data[2 * rig.block : 3 * rig.block]
    counted = rig.engine.status(rig.handle)["ring"]
    assert counted["bytes_written"] == len(data)
    assert counted["bytes_read"] == len(data) + 3 * rig.block


def test_the_last_block_is_there_and_none_after_it(rig: Rig) -> None:
    rig.create("a", "b")
    last = SIZE // rig.block - 1
    assert rig.ring.write(last, b"z" * rig.block, fua=True).status == 0
    assert rig.content("b", SIZE - rig.block, rig.block) == b"z" * rig.block
    assert sense(rig.ring.read(last, 2)) == RANGE
    assert sense(rig.ring.read(last + 1, 1)) == RANGE
    assert rig.content("a", SIZE, 4096) == bytes(4096), "nothing is written behind it"


def test_a_buffer_for_a_part_of_a_block_is_refused(rig: Rig) -> None:
    rig.create("a")
    write = struct.pack(">BBIBHB", 0x2A, 0, 0, 0, 1, 0)
    assert sense(rig.ring.run(write, bytes(rig.block - 1))) == FIELD
    assert sense(rig.ring.run(cdb_16(0x88, 0, 2), data_in=2 * rig.block - 1)) == FIELD
    most = 0xFFFFFFFF // rig.block + 1  # more bytes than 32 bits count
    assert sense(rig.ring.run(cdb_16(0x88, 0, most), data_in=rig.block)) == RANGE
    assert rig.ring.read(0, 1).data == bytes(rig.block)


def test_unmap_and_write_same_count_in_blocks_and_are_limited_in_bytes(rig: Rig) -> None:
    rig.create("a", "b")
    blocks = SIZE // rig.block
    assert native.MAX_UNMAP == SIZE, "what follows needs a volume of the limit"
    block = os.urandom(rig.block)
    assert rig.ring.run(cdb_16(0x93, 0, blocks), block).status == 0
    for leg in "ab":
        assert rig.content(leg, 0, SIZE) == block * blocks
    few = struct.pack(">HHIQII", 22, 16, 0, 3, 5, 0)
    unmap = struct.pack(">BB5xHB", 0x42, 0, 24, 0)
    assert rig.ring.run(unmap, few).status == 0
    assert rig.ring.read(2, 7).data == block + bytes(5 * rig.block) + block
    assert rig.content("a", 2 * rig.block, 7 * rig.block) == block + bytes(5 * rig.block) + block
    two = struct.pack(">HHIQIIQII", 38, 32, 0, 0, blocks, 0, 0, 1, 0)
    assert sense(rig.ring.run(struct.pack(">BB5xHB", 0x42, 0, 40, 0), two)) == LIST
    assert sense(rig.ring.run(cdb_16(0x93, 0, 1), block[1:])) == FIELD
    assert rig.ring.run(cdb_16(0x93, 0, 9, 1)).status == 0, "without a block: zeros"
    assert rig.ring.read(0, 9).data == bytes(9 * rig.block)


@pytest.mark.parametrize("most", [False, True])
def test_compare_and_write_of_one_block_and_of_the_most(rig: Rig, most: bool) -> None:
    rig.create("a", "b")
    count = native.MAX_COMPARE // rig.block if most else 1
    size = count * rig.block
    before, after = os.urandom(size), os.urandom(size)
    assert rig.ring.write(5, before).status == 0
    assert rig.ring.run(compare_and_write(5, count), before + after, pieces=3).status == 0
    assert rig.content("b", 5 * rig.block, size) == after
    wrong = after[:-3] + bytes([after[-3] ^ 1]) + after[-2:]
    result = rig.ring.run(compare_and_write(5, count), wrong + before)
    assert sense(result) == MISCOMPARE
    assert int.from_bytes(result.sense[3:7], "big") == size - 3
    assert rig.content("a", 5 * rig.block, size) == after
    if most:
        more = os.urandom(2 * (size + rig.block))
        assert sense(rig.ring.run(compare_and_write(5, count + 1), more)) == FIELD


def test_verify_compares_with_all_or_with_one_block(rig: Rig) -> None:
    rig.create("a", "b")
    one = os.urandom(rig.block)
    count = native.MAX_STEPS // rig.block
    assert rig.ring.run(cdb_16(0x8E, 0, count, 2), one * count).status == 0, "WRITE AND VERIFY"
    assert rig.ring.run(cdb_16(0x8F, 0, count, 2), one * count).status == 0
    assert rig.ring.run(cdb_16(0x93, count, count), one).status == 0
    assert rig.ring.run(cdb_16(0x8F, 0, 2 * count, 6), one).status == 0, "more than is read at once"
    assert sense(rig.ring.run(cdb_16(0x8F, 0, 2 * count + 1, 6), one)) == MISCOMPARE
    assert sense(rig.ring.run(cdb_16(0x8F, 0, count + 1, 2), one * (count + 1))) == FIELD
    assert sense(rig.ring.run(cdb_16(0x8F, 0, 1, 6), one[:-1])) == FIELD
    assert rig.ring.run(cdb_16(0x8F, 0, SIZE // rig.block)).status == 0, "all of it is read"
    high, low = bytes([0xF0]) * rig.block, bytes([0x0F]) * rig.block
    assert rig.ring.run(cdb_16(0x8A, 4, 1), high).status == 0
    assert rig.ring.run(cdb_16(0x8B, 4, 1), low).status == 0, "ORWRITE"
    assert rig.content("a", 4 * rig.block, rig.block) == bytes([0xFF]) * rig.block


def scribble(rig: Rig, draw: random.Random, content: bytearray, times: int) -> None:
    """Writes of any number of blocks, also noted in what should be there."""
    for _ in range(times):
        count = draw.randrange(1, 3 * EXTENT // rig.block)
        lba = draw.randrange(SIZE // rig.block - count)
        data = draw.randbytes(count * rig.block)
        assert rig.ring.write(lba, data).status == 0
        content[lba * rig.block : (lba + count) * rig.block] = data


def read_all(rig: Rig) -> bytes:
    step = (1 << 20) // rig.block
    return b"".join(rig.ring.read(at, step).data for at in range(0, SIZE // rig.block, step))


def test_a_save_and_a_recover_that_hosts_write_into(rig: Rig) -> None:
    """Copies before writes, and writes that are joined with what the save has around them."""
    rig.create("a", "b")
    draw = random.Random(rig.block)
    content = bytearray(SIZE)
    scribble(rig, draw, content, 40)
    saved = bytes(content)
    point = rig.engine.save_copy(rig.handle, rig.medium("c"), 1)
    scribble(rig, draw, content, 60)
    rig.wait_event("save_whole", "c")
    assert rig.content("c", 0, SIZE) == saved
    assert read_all(rig) == content
    content[:] = saved
    rig.engine.detach_save(rig.handle, rig.media["c"].uuid)
    nothing = bytes(len(point.frozen_map))
    rig.engine.recover(rig.handle, rig.media["c"], point.frozen, nothing, 2)
    scribble(rig, draw, content, 60)
    rig.wait_event("recovered", "c")
    assert read_all(rig) == content
    assert rig.content("a", 0, SIZE) == rig.content("b", 0, SIZE) == content


def test_a_save_without_fill_is_looked_up_in_blocks(rig: Rig) -> None:
    rig.create("a", "b")
    draw = random.Random(rig.block + 1)
    content = bytearray(SIZE)
    scribble(rig, draw, content, 20)
    saved = bytes(content)
    rig.engine.add_store(rig.handle, rig.medium("s"), 1)
    point = rig.engine.save_sparse(rig.handle, 2)
    scribble(rig, draw, content, 30)
    for _ in range(50):
        at = draw.randrange(SIZE // rig.block) * rig.block
        length = min(rig.block * draw.randrange(1, 40), SIZE - at)
        found = rig.engine.look(rig.handle, point.frozen, at, length)
        assert found == saved[at : at + length]


def test_a_killed_engine_s_successor_serves_the_same_blocks(rig: Rig) -> None:
    rig.create("a", "b")
    data = os.urandom(rig.block)
    assert rig.ring.write(SIZE // rig.block - 1, data, fua=True).status == 0
    rig.engine.stop()
    rig.start_again("a", "b")
    assert rig.ring.read(SIZE // rig.block - 1, 1).data == data
    assert sense(rig.ring.read(SIZE // rig.block, 1)) == RANGE


def test_a_medium_of_larger_blocks_is_refused(tmp_path: Path, loop: Callable[..., str]) -> None:  # noqa: F811
    """It would take no part of one; to read, change and write back all of it is not safe in a power cut."""
    rig = Rig(tmp_path, 512)
    try:
        rig.create("a")
        rig.device = lambda path: loop(file=path, sector=4096)
        large = rig.medium("b")
        for ask in (
            lambda: rig.engine.add_leg(rig.handle, large, None),
            lambda: rig.engine.save_copy(rig.handle, large, 1),
            lambda: rig.engine.add_store(rig.handle, large, 1),
            lambda: rig.engine.add_volume(VolumeSpec(UUID, SIZE, 16, None, [large], [], True)),
        ):
            with pytest.raises(Refused) as refused:
                ask()
            assert refused.value.reason is Reason.STATE
            assert "4096" in refused.value.message
        assert rig.content("b", 0, SIZE) == bytes(SIZE)
        assert rig.ring.write(0, b"w" * 512).status == 0
        assert len(rig.engine.status(rig.handle)["legs"]) == 1
    finally:
        rig.close()
