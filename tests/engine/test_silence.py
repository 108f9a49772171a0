"""A medium that neither answers nor fails: its descriptor becomes a terminal, where reads wait until
something is typed, or a pipe that is full, where writes wait until something is taken.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from targetplugin.engine import Engine, LegState, VolumeSpec
from targetplugin.errors import Reason, Refused
from tests.engine.conftest import SIZE, UUID, Rig
from tests.engine.fake_ring import DATA_OFFSET
from tests.waiting import until

SILENT = 0.3
BLOCK = 4096
READ_ERROR = (2, 3, 0x11)


class Quiet(Rig):
    """A rig whose media can be silenced. `freed` are the commands whose buffers the kernel may have
    back.
    """

    def __init__(self, folder: Path) -> None:
        self.freed: list[tuple[int, int]] = []
        self.ends: list[int] = []
        super().__init__(folder)

    def make(self) -> Engine:
        engine = Engine(
            1,
            self.on_command,
            self.on_event,
            on_kept=lambda *kept: self.freed.append(kept),
            silent=SILENT,
        )
        engine.start()
        return engine

    def mute_reads(self, name: str) -> int:
        """From now on the medium answers no read. Returns a descriptor: what is written there it
        reads, and when that is closed its reads fail.
        """
        here, there = os.openpty()
        tty.setraw(there)
        self.ends += [here, there]
        self.set_fd(name, there)
        return here

    def mute_writes(self, name: str) -> int:
        """The same of writes. They end when drain() takes them from what is returned."""
        self.set_fd(name, self.full())
        return self.ends[-2]

    def full(self) -> int:
        """A pipe that takes no more."""
        path = self.folder / f"pipe-{len(self.ends)}"
        os.mkfifo(path)
        there = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(there, bytes(4096))
        os.set_blocking(there, True)
        here = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.ends += [here, there]
        return there

    def drain(self, here: int) -> bytes:
        """Takes all that was written, until nothing is late. Returns it."""
        taken = b""
        end = time.monotonic() + 5
        over = False
        while not over:
            assert time.monotonic() < end
            over = not self.engine.silent()
            with contextlib.suppress(BlockingIOError):
                taken += os.read(here, 1 << 20)
        return taken

    def hang_up(self, here: int) -> None:
        self.ends.remove(here)
        os.close(here)
        until(lambda: not self.engine.silent())

    def set_fd(self, name: str, fd: int) -> None:
        served = self.engine._volumes[self.handle]
        index = next(i for i, m in served.media.items() if m.uuid == self.media[name].uuid)
        with served:
            served.reactor.set_fd(served.number, index, fd)

    def legs(self) -> dict[str, str]:
        legs = self.engine.status(self.handle)["legs"]
        return {name: legs[m.uuid]["state"] for name, m in self.media.items() if m.uuid in legs}

    def close(self) -> None:
        for end in self.ends:
            os.close(end)
        super().close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Quiet]:
    rig = Quiet(tmp_path)
    yield rig
    rig.close()


def read(lba: int = 0, blocks: int = BLOCK // 512) -> bytes:
    return struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0)


def write(lba: int, blocks: int = BLOCK // 512) -> bytes:
    return struct.pack(">BBIBHB", 0x2A, 0, lba, 0, blocks, 0)


def test_a_read_is_answered_from_the_other_leg_and_its_buffers_are_kept(rig: Quiet) -> None:
    rig.create("a", "b")
    data = os.urandom(BLOCK)
    assert rig.ring.write(0, data).status == 0
    here = rig.mute_reads("a")
    begin = time.monotonic()
    number = rig.ring.send(read(), data_in=BLOCK)
    result = rig.ring.wait(number)
    assert SILENT < time.monotonic() - begin < 4 * SILENT
    assert (result.status, result.data) == (0, data)
    assert result.kept, "the kernel must not give its buffers to another command"
    rig.wait_event("leg_stale", "a")
    assert rig.legs() == {"a": "stale", "b": "in_sync"}
    assert rig.engine.silent() == {rig.media["a"].uuid}
    assert not rig.freed

    os.write(here, b"L" * 512)
    until(lambda: rig.freed == [(rig.handle, number)])
    assert b"L" * 512 in rig.ring.map[DATA_OFFSET:], "it came into the buffers of that command"
    rig.wait_event("answers_again", "a")
    assert rig.ring.read(0, 8).data == data
    assert not rig.engine.silent()


def test_a_read_is_waited_for_where_the_kernel_keeps_no_buffers(rig: Quiet) -> None:
    struct.pack_into("<H", rig.ring.map, 2, 7)
    rig.create("a", "b")
    assert rig.ring.write(0, bytes(BLOCK)).status == 0
    here = rig.mute_reads("a")
    number = rig.ring.send(read(blocks=1), data_in=512)
    rig.wait_event("leg_stale", "a")
    time.sleep(SILENT)
    rig.ring.reap()
    assert number in rig.ring.under_way
    assert rig.ring.write(0, b"w" * BLOCK).status == 0, "other commands go on"
    os.write(here, b"L" * 512)
    result = rig.ring.wait(number)
    assert (result.status, result.data, result.kept) == (0, b"L" * 512, False)


def test_a_write_is_answered_and_the_leg_is_stale_on_disk(rig: Quiet) -> None:
    rig.create("a", "b")
    assert rig.ring.write(0, bytes(BLOCK)).status == 0
    here = rig.mute_writes("a")
    data = os.urandom(BLOCK)
    number = rig.ring.send(write(8), data)
    result = rig.ring.wait(number)
    assert (result.status, result.kept) == (0, True)
    assert rig.content("b", BLOCK, BLOCK) == data
    assert rig.legs() == {"a": "stale", "b": "in_sync"}
    states = {leg.uuid: leg.state for leg in rig.record("b").legs}
    assert states[rig.media["a"].uuid] is LegState.STALE
    begin = time.monotonic()
    for at in range(16):
        assert rig.ring.write(8 * at, os.urandom(BLOCK), fua=True).status == 0
    assert time.monotonic() - begin < SILENT, "nobody waits for it again"
    written = rig.drain(here)[-BLOCK:]
    assert written == data, "its buffers were not another's"
    until(lambda: rig.freed == [(rig.handle, number)])


def test_it_comes_back_only_when_its_last_request_is_over(rig: Quiet) -> None:
    rig.create("a", "b")
    here = rig.mute_writes("a")
    assert rig.ring.write(0, b"1" * BLOCK).status == 0
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            rig.engine.add_leg(rig.handle, rig.media["a"], None)
        assert refused.value.reason is Reason.BUSY
    other = VolumeSpec(UUID[::-1], SIZE, 16, None, [rig.media["a"]], [], True)
    with pytest.raises(Refused):
        rig.engine.add_volume(other)
    rig.drain(here)
    rig.engine.add_leg(rig.handle, rig.media["a"], None)
    rig.wait_event("leg_in_sync", "a")
    assert rig.content("a", 0, BLOCK) == b"1" * BLOCK


def test_the_last_leg_is_waited_for(rig: Quiet) -> None:
    rig.create("a")
    assert rig.ring.write(0, bytes(BLOCK)).status == 0
    here = rig.mute_reads("a")
    number = rig.ring.send(read(blocks=1), data_in=512)
    time.sleep(4 * SILENT)
    rig.ring.reap()
    assert number in rig.ring.under_way
    assert not rig.engine.silent()
    os.write(here, b"L" * 512)
    result = rig.ring.wait(number)
    assert (result.status, result.data, result.kept) == (0, b"L" * 512, False)
    assert rig.legs() == {"a": "in_sync"}


def test_of_two_silent_legs_the_last_is_waited_for(rig: Quiet) -> None:
    rig.create("a", "b")
    assert rig.ring.write(0, bytes(BLOCK)).status == 0
    ends = [rig.mute_reads("a"), rig.mute_reads("b")]
    number = rig.ring.send(read(), data_in=BLOCK)
    time.sleep(4 * SILENT)
    rig.ring.reap()
    assert number in rig.ring.under_way
    assert sorted(rig.legs().values()) == ["in_sync", "stale"]
    for end in ends:
        rig.ends.remove(end)
        os.close(end)
    result = rig.ring.wait(number)
    assert (result.status, result.sense[2], result.sense[12]) == READ_ERROR
    assert sorted(rig.legs().values()) == ["in_sync", "stale"]


def test_a_leg_that_is_slow_but_answers_is_not_given_up(rig: Quiet) -> None:
    rig.create("a", "b")
    assert rig.ring.write(0, bytes(512)).status == 0
    here = rig.mute_reads("a")
    for _ in range(3):
        number = rig.ring.send(read(blocks=1), data_in=512)
        time.sleep(SILENT / 2)
        os.write(here, b"s" * 512)
        assert rig.ring.wait(number).data == b"s" * 512
    assert rig.legs() == {"a": "in_sync", "b": "in_sync"}


def test_many_reads_are_given_up_at_once(rig: Quiet) -> None:
    rig.create("a", "b")
    data = {lba: os.urandom(BLOCK) for lba in range(0, 1024, 8)}
    for lba, one in data.items():
        assert rig.ring.write(lba, one).status == 0
    here = rig.mute_reads("a")
    sent = {rig.ring.send(read(lba), data_in=BLOCK, kick=False): lba for lba in data}
    rig.ring.kick()
    for number, lba in sent.items():
        assert rig.ring.wait(number).data == data[lba]
    assert 32 < len(rig.ring.kept) < 128, "those that went to it"
    rig.hang_up(here)
    until(lambda: {number for _, number in rig.freed} == rig.ring.kept)
    assert len(rig.freed) == len(rig.ring.kept)
    for lba, one in data.items():
        assert rig.ring.read(lba, 8).data == one


def test_many_writes_are_given_up_at_once(rig: Quiet) -> None:
    rig.create("a", "b")
    assert rig.ring.write(0, bytes(BLOCK)).status == 0
    here = rig.mute_writes("a")
    data = {lba: os.urandom(BLOCK) for lba in range(0, 4096, 8)}
    begin = time.monotonic()
    sent = [rig.ring.send(write(lba), one, kick=False) for lba, one in data.items()]
    rig.ring.kick()
    assert all(rig.ring.wait(number).status == 0 for number in sent)
    assert time.monotonic() - begin < 4 * SILENT
    assert rig.ring.kept == set(sent)
    for lba, one in data.items():
        assert rig.ring.read(lba, 8).data == one
    rig.drain(here)
    until(lambda: {number for _, number in rig.freed} == rig.ring.kept)
    rig.engine.add_leg(rig.handle, rig.media["a"], None)
    rig.wait_event("leg_in_sync", "a")
    for lba, one in data.items():
        assert rig.content("a", lba * 512, BLOCK) == one


def test_a_save_that_fills_is_broken_and_hosts_go_on(rig: Quiet) -> None:
    rig.create("a", "b")
    rig.medium("c")
    assert rig.ring.write(0, b"1" * BLOCK).status == 0
    rig.engine.save_copy(rig.handle, replace(rig.media["c"], fd=rig.full()), 7)
    here = rig.ends[-2]
    result = rig.ring.wait(rig.ring.send(write(0), b"2" * BLOCK))
    assert (result.status, result.kept) == (0, False)
    rig.wait_event("save_broken", "c")
    rig.engine.detach_save(rig.handle, rig.media["c"].uuid)
    with pytest.raises(Refused):
        rig.engine.save_copy(rig.handle, rig.media["c"], 8)
    assert rig.legs() == {"a": "in_sync", "b": "in_sync"}
    rig.drain(here)
    rig.engine.save_copy(rig.handle, rig.media["c"], 9)
    rig.wait_event("save_whole", "c")
    assert rig.content("c", 0, BLOCK) == b"2" * BLOCK


def test_copies_go_on_in_other_memory_than_what_late_ones_still_use(rig: Quiet) -> None:
    """A leg is brought in to the end although what it is read from falls silent."""
    rig.create("a", "b")
    data = os.urandom(1 << 20)
    for at in range(16):
        assert rig.ring.write(at * 2048, data).status == 0
    rig.medium("c")
    here = rig.mute_reads("a")
    rig.engine.add_leg(rig.handle, rig.media["c"], None)
    rig.wait_event("leg_stale", "a")
    os.write(here, b"L" * 2048)
    rig.wait_event("leg_in_sync", "c")
    rig.hang_up(here)
    for at in range(16):
        assert rig.content("c", at << 20, 1 << 20) == data


def test_the_ring_and_the_volume_go_while_requests_are_late(rig: Quiet) -> None:
    rig.create("a", "b")
    assert rig.ring.write(0, bytes(BLOCK)).status == 0
    here = rig.mute_writes("a")
    assert rig.ring.write(8, bytes(BLOCK)).status == 0
    rig.engine.detach_ring(rig.handle)
    rig.serve()
    assert rig.ring.read(0, 8).status == 0
    rig.engine.remove_volume(rig.handle)
    assert rig.engine.silent() == {rig.media["a"].uuid}
    rig.drain(here)
    time.sleep(0.05)
    assert not rig.freed, "its ring was let go, and another may have that number"


def test_the_engine_stops_while_requests_are_late(rig: Quiet) -> None:
    rig.create("a", "b")
    rig.mute_writes("a")
    assert rig.ring.write(0, b"x" * BLOCK).status == 0
    begin = time.monotonic()
    rig.engine.stop()
    assert time.monotonic() - begin < 5
    assert rig.content("b", 0, BLOCK) == b"x" * BLOCK
