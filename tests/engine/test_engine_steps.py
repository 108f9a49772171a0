"""VERIFY, WRITE AND VERIFY, COMPARE AND WRITE, ORWRITE: what they answer and change, and that
nothing comes in between.
"""

from __future__ import annotations

import os
import struct
import threading
from pathlib import Path

import pytest

from tests.engine.conftest import SIZE, Rig
from tests.engine.fake_ring import Result
from tests.engine.test_subsystem_engine import MIB, Site
from tests.engine.test_subsystem_engine import SIZE as SITE_SIZE
from tests.waiting import until

BLOCKS = SIZE // 512
MISCOMPARE, FIELD, RANGE = (14, 0x1D00), (5, 0x2400), (5, 0x2100)


def sense(result: Result) -> tuple[int, int]:
    return result.sense[2], result.sense[12] << 8 | result.sense[13]


def offset(result: Result) -> int:
    assert result.sense[0] == 0xF0, "the information field is valid"
    return int.from_bytes(result.sense[3:7], "big")


def cdb_10(opcode: int, lba: int, blocks: int, flags: int = 0) -> bytes:
    return struct.pack(">BBIBHB", opcode, flags, lba, 0, blocks, 0)


def cdb_12(opcode: int, lba: int, blocks: int, flags: int = 0) -> bytes:
    return struct.pack(">BBIIBB", opcode, flags, lba, blocks, 0, 0)


def cdb_16(opcode: int, lba: int, blocks: int, flags: int = 0) -> bytes:
    return struct.pack(">BBQIBB", opcode, flags, lba, blocks, 0, 0)


def compare_and_write(lba: int, blocks: int, flags: int = 0) -> bytes:
    return struct.pack(">BBQ3xBBB", 0x89, flags, lba, blocks, 0, 0)


VERIFY = [(cdb_10, 0x2F), (cdb_12, 0xAF), (cdb_16, 0x8F)]
WRITE_AND_VERIFY = [(cdb_10, 0x2E), (cdb_12, 0xAE), (cdb_16, 0x8E)]


@pytest.mark.parametrize(("make", "opcode"), VERIFY)
def test_verify_tells_where_blocks_differ(rig: Rig, make, opcode: int) -> None:
    rig.create("a", "b")
    data = os.urandom(1024 * 512)
    assert rig.ring.write(8, data).status == 0
    assert rig.ring.run(make(opcode, 8, 1024, 2), data, pieces=3).status == 0
    wrong = bytearray(data)
    wrong[513_007 - 8] ^= 1
    result = rig.ring.run(make(opcode, 8, 1024, 2), bytes(wrong))
    assert (sense(result), offset(result)) == (MISCOMPARE, 513_007 - 8)
    assert rig.content("a", 4096, len(data)) == data


@pytest.mark.parametrize(("make", "opcode"), VERIFY)
def test_verify_of_many_blocks_against_one(rig: Rig, make, opcode: int) -> None:
    rig.create("a", "b")
    block = os.urandom(512)
    for lba in range(0, 3000, 1000):
        assert rig.ring.write(lba, block * 1000).status == 0
    assert rig.ring.run(make(opcode, 0, 3000, 6), block).status == 0
    assert rig.ring.run(make(opcode, 2999, 1, 6), block).status == 0
    result = rig.ring.run(make(opcode, 0, 3001, 6), block)
    assert sense(result) == MISCOMPARE, "the last of them"


def test_verify_without_data_reads_and_finds_what_can_t_be_read(rig: Rig) -> None:
    rig.create("a")
    assert rig.ring.run(cdb_10(0x2F, 0, BLOCKS - 1)).status == 0
    os.truncate(rig.folder / "a", SIZE // 2)
    assert rig.ring.run(cdb_10(0x2F, 0, BLOCKS // 2)).status == 0
    assert sense(rig.ring.run(cdb_10(0x2F, 8, BLOCKS // 2)))[0] == 3
    assert rig.engine.status(rig.handle)["ring"]["read_errors"] == 1


@pytest.mark.parametrize(("make", "opcode"), WRITE_AND_VERIFY)
@pytest.mark.parametrize("flags", [0, 2])
def test_write_and_verify_writes(rig: Rig, make, opcode: int, flags: int) -> None:
    rig.create("a", "b")
    data = os.urandom(100 * 512)
    assert rig.ring.run(make(opcode, 3, 100, flags), data, pieces=2).status == 0
    for leg in "ab":
        assert rig.content(leg, 3 * 512, len(data)) == data


@pytest.mark.parametrize("blocks", [1, 128])
def test_compare_and_write_changes_only_what_is_as_it_was_said(rig: Rig, blocks: int) -> None:
    rig.create("a", "b")
    before, after = os.urandom(blocks * 512), os.urandom(blocks * 512)
    assert rig.ring.write(64, before).status == 0
    assert rig.ring.run(compare_and_write(64, blocks), before + after, pieces=3).status == 0
    for leg in "ab":
        assert rig.content(leg, 64 * 512, len(after)) == after
    wrong = bytearray(after)
    wrong[-27] ^= 0x10
    result = rig.ring.run(compare_and_write(64, blocks), bytes(wrong) + before)
    assert (sense(result), offset(result)) == (MISCOMPARE, blocks * 512 - 27)
    assert rig.content("a", 64 * 512, len(after)) == after


def test_one_of_many_that_compare_the_same_wins(rig: Rig) -> None:
    """Every one takes what is there for the number before; each number is taken once."""
    rig.create("a", "b")
    for number in range(20):
        old = number.to_bytes(4, "big") * 128
        new = (number + 1).to_bytes(4, "big") * 128
        sent = [rig.ring.send(compare_and_write(9, 1), old + new, kick=False) for _ in range(16)]
        reads = [rig.ring.send(cdb_10(0x28, 9, 1), data_in=512, kick=False) for _ in range(4)]
        rig.ring.kick()
        results = [rig.ring.wait(one) for one in sent]
        assert sorted(result.status for result in results) == [0] + [2] * 15
        assert {sense(r) for r in results if r.status} == {MISCOMPARE}
        assert all(rig.ring.wait(one).data == new for one in reads), "they came after it"


def test_orwrite_sets_bits(rig: Rig) -> None:
    rig.create("a", "b")
    one, other = os.urandom(1024 * 512), os.urandom(1024 * 512)
    assert rig.ring.write(0, one).status == 0
    assert rig.ring.run(cdb_16(0x8B, 0, 1024), other).status == 0
    both = (int.from_bytes(one, "big") | int.from_bytes(other, "big")).to_bytes(len(one), "big")
    for leg in "ab":
        assert rig.content(leg, 0, len(both)) == both


def test_orwrites_at_the_same_time_lose_none_s_bits(rig: Rig) -> None:
    rig.create("a", "b")
    sent = []
    for bit in range(128):
        data = (1 << bit).to_bytes(512, "big")
        sent.append(rig.ring.send(cdb_16(0x8B, bit % 2, 1), data, kick=False))
    rig.ring.kick()
    assert {rig.ring.wait(one).status for one in sent} == {0}
    even = sum(1 << bit for bit in range(0, 128, 2))
    assert int.from_bytes(rig.ring.read(0, 1).data, "big") == even
    assert int.from_bytes(rig.ring.read(1, 1).data, "big") == even << 1


def test_points_come_between_commands_and_not_into_one(rig: Rig) -> None:
    """Counting up by COMPARE AND WRITE while saves are taken: none fails, none is lost."""
    rig.create("a", "b")
    ended = threading.Event()
    counted = [0]

    def count() -> None:
        while not ended.is_set():
            old, new = (n.to_bytes(4, "big") * 128 for n in (counted[0], counted[0] + 1))
            assert rig.ring.run(compare_and_write(9, 1), old + new).status == 0
            counted[0] += 1

    host = threading.Thread(target=count)
    host.start()
    for op, name in enumerate("cdef", 1):
        until(lambda at=counted[0]: counted[0] > at + 3)
        rig.engine.save_copy(rig.handle, rig.medium(name), op)
        rig.wait_event("save_whole", name)
    ended.set()
    host.join(10)
    assert rig.ring.read(9, 1).data == counted[0].to_bytes(4, "big") * 128


def test_prefetch_is_done_by_doing_nothing(rig: Rig) -> None:
    rig.create("a")
    assert rig.ring.run(cdb_10(0x34, 0, 9)).status == 0
    assert rig.ring.run(cdb_16(0x90, 0, 0)).status == 0
    assert sense(rig.ring.run(cdb_16(0x90, BLOCKS, 1))) == RANGE


@pytest.mark.parametrize(
    ("cdb", "size", "code"),
    [
        (cdb_10(0x2F, BLOCKS - 1, 2), 0, RANGE),
        (cdb_16(0x8F, 2**63, 0), 0, RANGE),
        (cdb_10(0x2F, 0, 1, 4), 512, FIELD),  # BYTCHK 10b
        (cdb_10(0x2F, 0, 1, 0x20), 0, FIELD),  # protection information
        (cdb_10(0x2F, 0, 2, 2), 512, FIELD),  # fewer blocks than it says
        (cdb_10(0x2F, 0, 1, 2), 1024, FIELD),
        (cdb_16(0x8F, 0, 1025, 2), 1025 * 512, FIELD),
        (cdb_10(0x2E, 0, 1, 6), 512, FIELD),
        (cdb_10(0x2E, 0, 1, 0x20), 512, FIELD),
        (cdb_10(0x2E, BLOCKS, 1), 512, RANGE),
        (cdb_16(0x8B, 0, 1, 0x20), 512, FIELD),
        (cdb_16(0x8B, 0, 2), 512, FIELD),
        (compare_and_write(0, 1), 512, FIELD),
        (compare_and_write(0, 1), 2048, FIELD),
        (compare_and_write(0, 129), 129 * 1024, FIELD),
        (compare_and_write(0, 0), 256 * 1024, FIELD),  # 256 blocks, which it can't say
        (compare_and_write(0, 1, 0x20), 1024, FIELD),
        (compare_and_write(BLOCKS, 1), 1024, RANGE),
    ],
)
def test_what_makes_no_sense_changes_nothing(rig: Rig, cdb: bytes, size: int, code) -> None:
    rig.create("a")
    assert rig.ring.write(0, b"x" * 4096).status == 0
    result = rig.ring.run(cdb, b"x" * size)
    assert (result.status, sense(result)) == (2, code)
    assert rig.ring.read(0, 8).data == b"x" * 4096


@pytest.mark.parametrize(
    "cdb",
    [cdb_10(0x2F, 5, 0, 2), cdb_10(0x2E, 5, 0), cdb_16(0x8B, 5, 0), compare_and_write(5, 0)],
)
def test_no_blocks_are_no_error(rig: Rig, cdb: bytes) -> None:
    rig.create("a")
    assert rig.ring.run(cdb).status == 0
    assert rig.engine.status(rig.handle)["changed"] == 0


def test_what_was_compared_before_a_recover_is_not_written_after_it(tmp_path: Path) -> None:
    """A host counts up by COMPARE AND WRITE; the save holds a lower number. After each recover it
    must find that out: had one compared before and written after, it would go on counting.
    """
    site = Site(tmp_path)
    for name in "abcd":
        site.subsystem.media_add(str(tmp_path / name), size=SITE_SIZE + 4 * MIB)
    site.subsystem.volume_create("ledger", SITE_SIZE)
    site.serve()
    ended = threading.Event()
    counted, taken_back = [0], [0]

    def ask(cdb: bytes, data: bytes = b"", room: int = 0) -> Result:
        result = site.ring.run(cdb, data, room)
        while result.status and result.sense[2] == 6:  # the medium may have changed
            result = site.ring.run(cdb, data, room)
        return result

    def count() -> None:
        while not ended.is_set():
            old, new = (n.to_bytes(4, "big") * 128 for n in (counted[0], counted[0] + 1))
            result = ask(compare_and_write(9, 1), old + new)
            if result.status == 0:
                counted[0] += 1
                continue
            assert sense(result) == MISCOMPARE
            counted[0] = int.from_bytes(ask(cdb_10(0x28, 9, 1), room=512).data[:4], "big")
            taken_back[0] += 1

    host = threading.Thread(target=count)
    try:
        host.start()
        site.subsystem.save("ledger", label="low")
        for times in range(1, 11):
            at = counted[0]
            until(lambda at=at: counted[0] > at + 20)
            site.over(site.subsystem.recover("ledger@low", no_undo=True))
            until(lambda times=times: taken_back[0] >= times)
            assert taken_back[0] == times
    finally:
        ended.set()
        host.join(10)
        site.end()
