"""Save, recover, swap and legs through the engine, on real files."""

from __future__ import annotations

import os
import threading

import pytest
from msgspec.structs import replace

from targetplugin.engine import LegState, decode_record
from targetplugin.errors import Refused
from tests.engine.conftest import SIZE, Rig
from tests.waiting import until

EXTENT = 65536
NOTHING = bytes(SIZE // EXTENT // 8)


def bits(data: bytes) -> list[int]:
    return [i for i in range(len(data) * 8) if data[i // 8] >> (i % 8) & 1]


def test_a_split_leg_holds_the_point_and_recover_puts_back_only_what_differs(rig: Rig) -> None:
    rig.create("a", "b")
    old = os.urandom(EXTENT * 4)
    assert rig.ring.write(0, old).status == 0
    point = rig.engine.save_split(rig.handle, [rig.media["b"].uuid], 1)
    assert (point.frozen, point.generation, bits(point.frozen_map)) == (1, 2, [0, 1, 2, 3])
    assert point.left == [rig.media["b"].uuid]
    assert rig.ring.write(2 * 128, bytes(EXTENT)).status == 0
    assert rig.content("b", 0, len(old)) == old
    assert bits(rig.engine.live_map(rig.handle)) == [2]
    back = rig.engine.recover(rig.handle, rig.media["b"], 1, NOTHING, 2)
    assert back.pending == 1
    assert rig.ring.read(2 * 128, 128).data == old[2 * EXTENT : 3 * EXTENT]
    rig.wait_event("recovered", "b")
    assert rig.content("a", 0, len(old)) == old
    assert rig.engine.status(rig.handle)["recovered"] == 1


def test_a_write_over_what_a_recover_has_pending_keeps_the_saves_content_around_it(
    rig: Rig,
) -> None:
    rig.create("a", "b")
    old = os.urandom(SIZE)
    for at in range(0, SIZE, 1 << 19):
        assert rig.ring.write(at // 512, old[at : at + (1 << 19)]).status == 0
    rig.engine.save_split(rig.handle, [rig.media["b"].uuid], 1)
    for at in range(0, SIZE, 1 << 19):
        assert rig.ring.write(at // 512, bytes(1 << 19)).status == 0
    rig.engine.recover(rig.handle, rig.media["b"], 1, NOTHING, 2)
    expected = bytearray(old)
    # From the end, as the copier begins at the other: inside of an extent, over a border, whole ones.
    for at, length in ((SIZE - 512, 512), (-EXTENT * 3 // 2, EXTENT), (-EXTENT * 6, EXTENT * 3)):
        at %= SIZE
        expected[at : at + length] = data = os.urandom(length)
        assert rig.ring.write(at // 512, data).status == 0
        assert rig.ring.read(at // 512, length // 512).data == data
    rig.wait_event("recovered", "b")
    assert rig.content("a", 0, SIZE) == expected
    assert rig.content("b", 0, SIZE) == old


def test_a_save_by_copy_keeps_the_old_content_while_hosts_write(rig: Rig) -> None:
    rig.create("a")
    old = os.urandom(8 << 20)
    for at in range(0, len(old), 1 << 19):
        assert rig.ring.write(at // 512, old[at : at + (1 << 19)]).status == 0
    rig.engine.save_copy(rig.handle, rig.medium("c"), 1)
    for at in range(0, len(old), 1 << 18):
        assert rig.ring.write(at // 512, bytes(4096)).status == 0
    rig.wait_event("save_whole", "c")
    assert rig.content("c", 0, len(old)) == old
    rig.engine.detach_save(rig.handle, rig.media["c"].uuid)
    rig.engine.recover(rig.handle, rig.media["c"], 1, NOTHING, 2)
    for at in range(0, len(old), 1 << 19):
        assert rig.ring.read(at // 512, 1024).data == old[at : at + (1 << 19)]
    rig.wait_event("recovered", "c")
    assert rig.content("a", 0, len(old)) == old


def test_swap_there_and_back(rig: Rig) -> None:
    rig.create("a", "b")
    assert rig.ring.write(0, b"1" * 4096).status == 0
    rig.engine.save_split(rig.handle, [rig.media["b"].uuid], 1)
    assert rig.ring.write(0, b"2" * 4096).status == 0
    point = rig.engine.swap(rig.handle, [rig.media["b"]], 1, 2)
    assert point.left == [rig.media["a"].uuid]
    assert rig.ring.read(0, 8).data == b"1" * 4096
    assert rig.ring.write(0, b"3" * 4096).status == 0
    assert rig.content("a", 0, 4096) == b"2" * 4096
    rig.engine.swap(rig.handle, [rig.media["a"]], 2, 3)
    assert rig.ring.read(0, 8).data == b"2" * 4096


def test_a_leg_comes_back_by_what_it_lacks_alone(rig: Rig) -> None:
    rig.create("a", "b")
    rig.engine.save_split(rig.handle, [rig.media["b"].uuid], 1)
    assert rig.ring.write(128 * 7, b"n" * 4096).status == 0
    rig.engine.add_leg(rig.handle, rig.media["b"], NOTHING)
    rig.wait_event("leg_in_sync", "b")
    assert rig.content("b", EXTENT * 7, 4096) == b"n" * 4096
    assert rig.engine.status(rig.handle)["synced"] == 1


def test_a_new_leg_is_filled_while_a_host_writes(rig: Rig) -> None:
    rig.create("a")
    stop = threading.Event()
    wrote = 0
    rig.engine.add_leg(rig.handle, rig.medium("c"), None)
    while not stop.is_set():
        assert rig.ring.write(wrote * 37 % 30000, os.urandom(4096)).status == 0
        wrote += 1
        if any(e.kind == "leg_in_sync" for e in rig.events) and wrote > 200:
            stop.set()
    assert rig.content("a", 0, SIZE) == rig.content("c", 0, SIZE)


def test_a_leg_that_fails_is_stale_on_the_other_before_the_host_is_answered(rig: Rig) -> None:
    rig.create("a", "b")
    assert rig.ring.write(0, b"x" * 4096).status == 0
    fd = os.open("/dev/full", os.O_RDWR)
    rig.engine._volumes[rig.handle].reactor.park()
    served = rig.engine._volumes[rig.handle]
    served.reactor.set_fd(served.number, 1, fd)
    served.reactor.unpark()
    assert rig.ring.write(8, b"y" * 4096).status == 0
    raw = rig.content("a", SIZE + 4096, 8192)
    newest = max(
        (r for b in (raw[:4096], raw[4096:]) if (r := decode_record(b))), key=lambda r: r.sequence
    )
    assert {leg.uuid: leg.state for leg in newest.legs}[rig.media["b"].uuid] is LegState.STALE
    rig.wait_event("leg_stale", "b")
    rig.engine.add_leg(rig.handle, rig.media["b"], None)
    rig.wait_event("leg_in_sync", "b")
    assert rig.content("b", 0, 8192) == b"x" * 4096 + b"y" * 4096
    os.close(fd)


def test_what_was_answered_is_there_after_a_kill(rig: Rig) -> None:
    rig.create("a", "b")
    data = os.urandom(1 << 18)
    assert rig.ring.write(64, data).status == 0
    old = rig.engine  # it is left as it is, with its log not cleaned
    rig.start_again("a", "b")
    assert rig.ring.read(64, 512).data == data
    rig.wait_event("leg_in_sync", "b")
    old.stop()


def test_a_clean_stop_needs_no_resync(rig: Rig) -> None:
    rig.create("a", "b")
    assert rig.ring.write(64, b"z" * 4096).status == 0
    rig.engine.stop()
    rig.start_again("a", "b")
    status = rig.engine.status(rig.handle)
    assert [leg["state"] for leg in status["legs"].values()] == ["in_sync", "in_sync"]
    assert status["changed"] == 1


def test_the_log_empties_when_hosts_are_idle(rig: Rig) -> None:
    rig.create("a", "b")
    assert rig.ring.write(64, b"z" * 4096).status == 0
    assert rig.engine.status(rig.handle)["regions"] == 1
    until(lambda: rig.engine.status(rig.handle)["regions"] == 0)


def test_the_last_leg_is_not_split(rig: Rig) -> None:
    rig.create("a")
    with pytest.raises(Refused, match="media are not in a state"):
        rig.engine.save_split(rig.handle, [rig.media["a"].uuid], 1)


def test_a_leg_that_is_not_taken_back_keeps_its_descriptor(rig: Rig) -> None:
    rig.create("a", "b")
    other = os.open("/dev/full", os.O_RDWR)
    with pytest.raises(Refused):
        rig.engine.add_leg(rig.handle, replace(rig.media["b"], fd=other), None)  # it is in sync
    os.close(other)
    assert rig.ring.write(8, b"y" * 4096).status == 0
    assert rig.content("b", 8 * 512, 4096) == b"y" * 4096


def test_a_leg_that_was_away_at_the_start_comes_back_whole(rig: Rig) -> None:
    rig.create("a", "b")
    rig.ring.write(0, b"a" * 4096)
    rig.ring.write(4096, b"b" * 4096)
    rig.engine.stop()
    rig.start_again("a")
    rig.ring.write(8192, b"c" * 4096)
    assert rig.engine.status(rig.handle)["legs"][rig.media["b"].uuid]["state"] == "missing"
    rig.engine.add_leg(rig.handle, rig.media["b"], None)
    rig.wait_event("leg_in_sync", "b")
    rig.ring.write(12288, b"d" * 4096)
    assert rig.content("b", 0, SIZE) == rig.content("a", 0, SIZE)
    assert rig.record("b") == rig.record("a")
