"""The ring: what hosts' commands do, and what nonsense in it does not."""

from __future__ import annotations

import os
import random
import struct
import threading
import time

import pytest

from targetplugin.engine import Command
from tests.engine.conftest import SIZE, Rig
from tests.engine.fake_ring import CMD, RING_SIZE
from tests.waiting import until

MIB = 1 << 20


def sense(result) -> tuple[int, int]:
    return result.sense[2], result.sense[12] << 8 | result.sense[13]


def test_a_write_is_on_both_legs_and_is_read_back(rig: Rig) -> None:
    rig.create("a", "b")
    data = os.urandom(64 * 1024)
    assert rig.ring.write(100, data).status == 0
    assert rig.content("a", 51200, len(data)) == data
    assert rig.content("b", 51200, len(data)) == data
    assert rig.ring.read(100, 128).data == data


def test_buffers_in_pieces_are_put_together(rig: Rig) -> None:
    rig.create("a", "b")
    data = os.urandom(512 * 1024)
    assert rig.ring.write(8, data, pieces=37).status == 0
    assert rig.ring.read(8, 1024, pieces=19).data == data


def test_many_commands_are_under_way_at_once(rig: Rig) -> None:
    rig.create("a", "b")
    pieces = {lba: os.urandom(4096) for lba in range(0, 2048, 8)}
    sent = [
        rig.ring.send(struct.pack(">BBIBHB", 0x2A, 0, lba, 0, 8, 0), data, kick=False)
        for lba, data in pieces.items()
    ]
    rig.ring.kick()
    assert all(rig.ring.wait(number).status == 0 for number in sent)
    for lba, data in pieces.items():
        assert rig.ring.read(lba, 8).data == data


def test_the_ring_goes_round_many_times(rig: Rig) -> None:
    rig.create("a")
    for i in range(3 * RING_SIZE // 112):
        assert rig.ring.write(i % 1000, bytes([i % 251]) * 512).status == 0


def test_beyond_the_end_is_lba_out_of_range(rig: Rig) -> None:
    rig.create("a")
    result = rig.ring.read(SIZE // 512 - 1, 2)
    assert result.status == 2
    assert sense(result) == (5, 0x2100)


def test_a_buffer_shorter_than_the_transfer_is_refused(rig: Rig) -> None:
    rig.create("a")
    result = rig.ring.run(struct.pack(">BBIBHB", 0x2A, 0, 0, 0, 8, 0), bytes(512))
    assert sense(result) == (5, 0x2400)


def test_flush_fua_and_test_unit_ready_are_good(rig: Rig) -> None:
    rig.create("a", "b")
    assert rig.ring.write(0, bytes(4096), fua=True).status == 0
    assert rig.ring.run(bytes([0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0])).status == 0
    assert rig.ring.run(bytes(6)).status == 0


def test_other_commands_go_to_python_with_their_data(rig: Rig) -> None:
    rig.create("a")
    result = rig.ring.run(bytes([0xC0, 1]), data_in=64)
    assert result.data == b"answer to c0".ljust(64, b"\0")
    assert result.read_length == 12
    rig.ring.run(bytes([0xC1, 0]), data_out=b"request".ljust(40, b"\0"))
    assert rig.commands[1].data_out[:7] == b"request"


def test_unit_attention_comes_once_and_not_to_inquiry(rig: Rig) -> None:
    rig.create("a")
    rig.engine.set_sense_ua(rig.handle, 0x28, 0)
    assert rig.ring.run(bytes([0x12, 0, 0, 0, 36, 0]), data_in=36).status == 0
    result = rig.ring.read(0, 1)
    assert (result.status, sense(result)) == (2, (6, 0x2800))
    assert rig.ring.read(0, 1).status == 0


@pytest.mark.parametrize(
    ("flags", "room", "told"),
    [
        (0, 252, bytes([0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x2A, 9, 0, 0, 0, 0])),
        (1, 252, bytes([0x72, 6, 0x2A, 9, 0, 0, 0, 0])),
        (0, 8, bytes([0x70, 0, 6, 0, 0, 0, 0, 10])),
    ],
)
def test_request_sense_returns_a_unit_attention_which_is_told_with_that(
    rig: Rig, flags: int, room: int, told: bytes
) -> None:
    rig.create("a")
    rig.engine.set_sense_ua(rig.handle, 0x2A, 9)
    result = rig.ring.run(bytes([0x03, flags, 0, 0, room, 0]), data_in=252)
    assert (result.status, result.read_length) == (0, len(told))
    assert result.data == told.ljust(252, b"\0")
    assert rig.ring.read(0, 1).status == 0
    assert rig.commands == []


def test_request_sense_that_has_no_room_leaves_a_unit_attention(rig: Rig) -> None:
    rig.create("a")
    rig.engine.set_sense_ua(rig.handle, 0x2A, 9)
    rig.ring.run(bytes([0x03, 0, 0, 0, 7, 0]), data_in=252)
    assert len(rig.commands) == 1
    assert sense(rig.ring.read(0, 1)) == (6, 0x2A09)


@pytest.mark.parametrize(
    "cdb",
    [
        bytes([0x00, 0, 0, 0, 0, 4]),
        bytes([0x0A, 0, 0, 8, 1, 4]),
        bytes([0x2A, 0, 0, 0, 0, 8, 0, 0, 1, 4]),
        bytes([0x42, 0, 0, 0, 0, 0, 0, 0, 24, 4]),
        bytes([0xAA, 0, 0, 0, 0, 8, 0, 0, 0, 1, 0, 4]),
        bytes([0x8A, 0, *bytes(7), 8, 0, 0, 0, 1, 0, 4]),
    ],
)
def test_an_auto_contingent_allegiance_is_refused(rig: Rig, cdb: bytes) -> None:
    rig.create("a")
    result = rig.ring.run(cdb, b"x" * 512)
    assert (result.status, sense(result)) == (2, (5, 0x2400))
    assert rig.content("a", 8 * 512, 512) == bytes(512)


def test_a_ring_of_nonsense_harms_nothing_and_ends(rig: Rig) -> None:
    rig.create("a", "b")
    good = os.urandom(4096)
    assert rig.ring.write(0, good, fua=True).status == 0
    before = rig.content("a", SIZE, 4096)
    draw = random.Random(7)
    for _ in range(300):
        length = draw.choice([8, 16, 112, 120, 256])
        body = struct.pack(
            "<HBBIIIIQQQ",
            draw.randrange(65536),
            0,
            0,
            draw.choice([0, 1, 2, 5000, 2**32 - 1]),
            0,
            0,
            0,
            draw.choice([0, 1 << 20, 2**63, 2**64 - 1, draw.randrange(9 << 20)]),
            0,
            0,
        )
        body += draw.randbytes(max(0, length - 4 - len(body)))
        rig.ring.entry(draw.choice([CMD, CMD, 2, 7]), length, body[: length - 4])
        if draw.random() < 0.1:
            rig.ring.kick()
    rig.ring.kick()
    time.sleep(0.3)
    status = rig.engine.status(rig.handle)
    assert status["legs"]
    assert rig.content("a", SIZE, 4096) == before, "nothing is written outside the volume"


def test_parallel_senders_read_what_they_wrote(rig: Rig) -> None:
    rig.create("a", "b")
    draw = random.Random(3)
    want: dict[int, bytes] = {}
    for _ in range(60):
        numbers = {}
        for lba in draw.sample(range(0, 4096, 16), 24):
            want[lba] = draw.randbytes(8192)
            cdb = struct.pack(">BBIBHB", 0x2A, 0, lba, 0, 16, 0)
            numbers[rig.ring.send(cdb, want[lba], kick=False)] = lba
        rig.ring.kick()
        for number in numbers:
            assert rig.ring.wait(number).status == 0
    for lba, data in want.items():
        assert rig.ring.read(lba, 16).data == data
    assert threading.active_count() < 30


def test_a_ring_goes_while_python_has_a_command_that_waits_for_who_lets_it_go(rig: Rig) -> None:
    rig.create("a")
    lock = threading.Lock()
    kept = []

    def answer(command: Command) -> None:
        kept.append(command)
        with lock:
            command.answer(0, b"late", b"")

    rig.engine.messages.on_command = answer
    with lock:
        number = rig.ring.send(bytes([0xC0, 1]), data_in=64)
        until(lambda: bool(kept))
        rig.engine.detach_ring(rig.handle)
        assert rig.ring.wait(number).status == 8, "BUSY: hosts ask again"
        rig.serve()
        again = rig.ring.send(bytes([0xC1, 1]), data_in=64)
        until(lambda: len(kept) == 2)
        kept[0].answer(0, b"of another command", b"")
        time.sleep(0.1)
    assert rig.ring.wait(again).data[:4] == b"late"
