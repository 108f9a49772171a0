"""What a ring that lies, a door that errs and buffers with others' data in them must not bring about."""

from __future__ import annotations

import os
import random
import struct
import threading
import time

import pytest

from targetplugin.engine import Command
from targetplugin.errors import Refused
from tests.engine.conftest import Rig
from tests.engine.fake_ring import CMD, DATA_OFFSET, PAD, RING_OFFSET, RING_SIZE, FakeRing
from tests.waiting import until

HEAD, TAIL = 3, 16  # words of the mailbox
STALE = b"S" * 8192


def lives(rig: Rig) -> dict:
    """The engine's thread still answers, and takes no processor time when there is nothing to do."""
    said: list[dict] = []
    thread = threading.Thread(
        target=lambda: said.append(rig.engine.status(rig.handle)), daemon=True
    )
    thread.start()
    thread.join(5)
    assert said, "the engine's thread is stuck"
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.15, "the engine's thread spins"
    return rig.engine.status(
        rig.handle
    )  # again: it may have been asked before it looked at the ring


def keep(rig: Rig) -> list[Command]:
    """Commands for Python are kept, not answered."""
    kept: list[Command] = []
    rig.engine.messages.on_command = kept.append
    return kept


@pytest.mark.parametrize("head", [4, RING_SIZE, 2**32 - 8])
def test_a_head_that_no_entry_ends_at_ends(rig: Rig, head: int) -> None:
    rig.create("a")
    for at in range(0, RING_SIZE, 64):
        struct.pack_into("<I", rig.ring.map, RING_OFFSET + at, 64 | PAD)
    rig.ring.words[HEAD] = head
    rig.ring.kick()
    assert lives(rig)["ring"]["ring_broken"]


@pytest.mark.parametrize("length_op", [0, CMD, 8 | PAD, 8 | CMD, 65528 | PAD, 0xFFFFFFF8 | CMD])
def test_an_entry_that_changes_after_it_was_taken_ends(rig: Rig, length_op: int) -> None:
    kept = keep(rig)
    rig.create("a")
    rig.ring.send(bytes([0xC0]), data_in=64)
    until(lambda: kept)
    struct.pack_into("<I", rig.ring.map, RING_OFFSET, length_op)
    kept[0].answer(0, b"late", b"")
    assert lives(rig)["ring"]["ring_broken"]


def test_the_tail_in_the_ring_is_not_believed(rig: Rig) -> None:
    kept = keep(rig)
    rig.create("a")
    number = rig.ring.send(bytes([0xC0]), data_in=64)
    until(lambda: kept)
    rig.ring.words[TAIL] = 0xFFFFFFF0
    kept[0].answer(0, b"right", b"")
    assert rig.ring.wait(number).data[:5] == b"right"


@pytest.mark.parametrize("seed", range(8))
def test_a_ring_scribbled_over_under_load_harms_neither_engine_nor_data(
    rig: Rig, seed: int
) -> None:
    rig.create("a", "b")
    good = os.urandom(1 << 16)
    assert rig.ring.write(16384, good).status == 0
    draw = random.Random(seed)
    for _ in range(200):
        lba = draw.randrange(0, 8192, 8)
        rig.ring.send(struct.pack(">BBIBHB", 0x2A, 0, lba, 0, 8, 0), bytes(4096), kick=False)
        at = RING_OFFSET + draw.randrange(0, RING_SIZE, 4)
        struct.pack_into(
            "<I", rig.ring.map, at, draw.choice([0, 1, 8, 9, 113, draw.getrandbits(32)])
        )
        if draw.random() < 0.05:
            word = draw.choice([HEAD, TAIL, 2])
            rig.ring.words[word] = draw.choice([3, RING_SIZE - 8, draw.getrandbits(32)])
            rig.ring.kick()
            break
        rig.ring.kick()
    lives(rig)
    rig.engine.detach_ring(rig.handle)
    rig.ring.close()
    rig.ring = FakeRing()
    rig.serve()
    assert rig.ring.read(16384, 128).data == good
    states = [leg["state"] for leg in rig.engine.status(rig.handle)["legs"].values()]
    assert states == ["in_sync", "in_sync"], "what a host sends says nothing of a disk"


def test_a_descriptor_whose_other_end_is_gone_is_not_polled_for_ever(rig: Rig) -> None:
    rig.create("a")
    assert rig.ring.write(0, bytes(4096)).status == 0
    time.sleep(2.5)
    rig.ring.kernel.close()
    time.sleep(0.1)
    lives(rig)


def test_a_short_read_shows_nothing_of_other_commands(rig: Rig) -> None:
    rig.create("a")
    assert rig.ring.write(0, b"v" * 512).status == 0
    for blocks in (0, 1):
        rig.ring.data_at = 0
        rig.ring.map[DATA_OFFSET : DATA_OFFSET + len(STALE)] = STALE
        cdb = struct.pack(">BBIBHB", 0x28, 0, 0, 0, blocks, 0)
        result = rig.ring.run(cdb, data_in=4096)
        assert result.status == 0
        assert result.data == (b"v" * 512 * blocks).ljust(4096, b"\0")
        assert result.read_length == (512 if blocks else None)


def test_a_misaligned_buffer_is_the_hosts_error_and_no_disks(rig: Rig) -> None:
    rig.create("a", "b")
    ring = rig.ring
    cdb_at = ring.length - 4096
    ring.map[cdb_at : cdb_at + 16] = struct.pack(">BBIBHB", 0x2A, 0, 0, 0, 1, 0).ljust(16, b"\0")
    body = struct.pack("<HBBIIIIQQQ", 9, 0, 0, 1, 0, 0, 0, cdb_at, 0, 0)
    ring.under_way[9] = ([], 0)
    ring.entry(CMD, 112, body + struct.pack("<QQ", DATA_OFFSET + 3, 512))
    ring.kick()
    result = ring.wait(9)
    assert (result.status, result.sense[2], result.sense[12]) == (2, 5, 0x24)


def test_a_flush_beyond_the_end_is_lba_out_of_range(rig: Rig) -> None:
    rig.create("a")
    result = rig.ring.run(struct.pack(">BBIBHB", 0x35, 0, 32767, 0, 2, 0))
    assert (result.status, result.sense[2], result.sense[12]) == (2, 5, 0x21)
    assert rig.ring.run(struct.pack(">BBIBHB", 0x35, 0, 32766, 0, 2, 0)).status == 0


def test_a_second_answer_is_not_another_commands(rig: Rig) -> None:
    kept = keep(rig)
    rig.create("a")
    first = rig.ring.send(bytes([0xC0]), data_in=64)
    until(lambda: kept)
    kept[0].answer(0, b"first", b"")
    assert rig.ring.wait(first).data[:5] == b"first"
    second = rig.ring.send(bytes([0xC1]), data_in=64)
    until(lambda: len(kept) == 2)
    kept[0].answer(0, b"first again", b"")
    kept[1].answer(0, b"second", b"")
    assert rig.ring.wait(second).data[:6] == b"second"


def test_a_door_that_fails_after_its_answer_changes_nothing(rig: Rig) -> None:
    def fails(command: Command) -> None:
        if command.cdb[1]:
            command.answer(0, b"well", b"")
        raise RuntimeError("on purpose")

    rig.engine.messages.on_command = fails
    rig.create("a")
    for _ in range(8):  # more than there are threads for commands
        assert rig.ring.run(bytes([0xC0, 1]), data_in=64).data[:4] == b"well"
    result = rig.ring.run(bytes([0xC0, 0]), data_in=64)
    assert (result.status, result.sense[2], result.sense[12]) == (2, 4, 0x44)


def test_a_verb_on_a_volume_that_was_removed_meanwhile_is_refused(rig: Rig) -> None:
    rig.create("a", "b")
    served = rig.engine._volumes[rig.handle]
    rig.engine.remove_volume(rig.handle)
    rig.engine._volumes[rig.handle] = served  # as one sees it who looked it up before
    for verb in (rig.engine.checkpoint, rig.engine.status, rig.engine.live_map):
        with pytest.raises(Refused):
            verb(rig.handle)
    del rig.engine._volumes[rig.handle]


def test_counters_count(rig: Rig) -> None:
    rig.create("a")
    rig.ring.write(0, bytes(8192))
    rig.ring.read(0, 8)
    rig.ring.run(bytes([0x35]).ljust(10, b"\0"))
    said = rig.engine.status(rig.handle)["ring"]
    names = ("reads", "writes", "flushes", "bytes_read", "bytes_written")
    assert [said[name] for name in names] == [1, 1, 1, 4096, 8192]


def test_the_time_that_commands_take_is_counted(rig: Rig) -> None:
    rig.create("a")
    begin = time.monotonic()
    for at in range(50):
        rig.ring.write(8 * at, bytes(4096), fua=True)
    took = time.monotonic() - begin
    said = rig.engine.status(rig.handle)["ring"]
    assert 0 < said["write_us"] <= took * 1e6
    assert said["read_us"] == 0
    rig.ring.read(0, 8)
    assert rig.engine.status(rig.handle)["ring"]["read_us"] > 0
