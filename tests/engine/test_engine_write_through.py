"""Hosts that have switched the write cache off: what they are told is written is in no cache."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading

import pytest

from targetplugin.engine import VolumeSpec
from tests.engine.conftest import SIZE, UUID, Rig

CACHESTAT = 451  # its number, on all architectures
BLOCK = 512


def unwritten(fd: int) -> int:
    """Pages of the volume that are in the machine's cache and not on the disk."""
    libc = ctypes.CDLL(None, use_errno=True)
    of = struct.pack("QQ", 0, SIZE)
    counts = ctypes.create_string_buffer(40)
    if libc.syscall(CACHESTAT, fd, of, counts, 0):
        if ctypes.get_errno() == errno.ENOSYS:
            pytest.skip("cachestat(2) is of Linux 6.5")
        raise OSError(ctypes.get_errno(), "cachestat")
    _, dirty, writing, _, _ = struct.unpack("5Q", counts.raw)
    return int(dirty + writing)


@pytest.fixture
def cached(rig: Rig) -> Rig:
    """A volume on a file of which the machine keeps a cache: without O_DIRECT."""
    spec = rig.medium("a")
    os.close(spec.fd)
    assert os.open(rig.folder / "a", os.O_RDWR) == spec.fd
    os.fsync(spec.fd)
    rig.handle = rig.engine.add_volume(VolumeSpec(UUID, SIZE, 16, None, [spec], [], True))
    rig.serve()
    return rig


def ten(op: int, lba: int, count: int, flags: int = 0) -> bytes:
    return struct.pack(">BBIBHB", op, flags, lba, 0, count, 0)


def sixteen(op: int, lba: int, count: int, flags: int = 0) -> bytes:
    return struct.pack(">BBQIBB", op, flags, lba, count, 0, 0)


ONES = b"1" * BLOCK
CHANGES = {
    "WRITE (6)": (bytes([0x0A, 0, 0, 8, 1, 0]), ONES),
    "WRITE (10)": (ten(0x2A, 8, 8), ONES * 8),
    "WRITE (16)": (sixteen(0x8A, 8, 8), ONES * 8),
    "WRITE AND VERIFY (10)": (ten(0x2E, 8, 8), ONES * 8),
    "WRITE SAME (16)": (sixteen(0x93, 8, 64), ONES),
    "ORWRITE (16)": (sixteen(0x8B, 8, 8), ONES * 8),
    "COMPARE AND WRITE": (
        struct.pack(">BBQ3xBxx", 0x89, 0, 8, 1),
        bytes(BLOCK) + ONES,
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_nothing_is_in_a_cache_when_a_command_is_answered(cached: Rig, name: str) -> None:
    cdb, data = CHANGES[name]
    cached.engine.set_write_through(cached.handle, True)
    assert cached.ring.run(cdb, data).status == 0
    assert unwritten(cached.media["a"].fd) == 0
    assert cached.content("a", 8 * BLOCK, BLOCK) == ONES


def test_with_the_write_cache_an_answer_may_be_in_it(cached: Rig) -> None:
    assert cached.ring.write(8, ONES * 8).status == 0
    assert unwritten(cached.media["a"].fd)
    cached.engine.set_write_through(cached.handle, True)
    cached.engine.flush(cached.handle)
    assert unwritten(cached.media["a"].fd) == 0
    cached.engine.set_write_through(cached.handle, False)
    assert cached.ring.write(8, ONES * 8).status == 0
    assert unwritten(cached.media["a"].fd)


READS = {
    "READ (10)": ten(0x28, 8, 1, 0x08),
    "READ (16)": sixteen(0x88, 8, 1, 0x08),
    "VERIFY (10)": ten(0x2F, 8, 1),
    "VERIFY (16)": sixteen(0x8F, 8, 1),
}


@pytest.mark.parametrize("name", READS)
def test_what_a_read_with_fua_or_a_verify_finds_is_on_the_disk(cached: Rig, name: str) -> None:
    assert cached.ring.write(8, ONES).status == 0
    assert cached.ring.read(8, 1).data == ONES
    assert unwritten(cached.media["a"].fd)
    result = cached.ring.run(READS[name], data_in=BLOCK if name.startswith("READ") else 0)
    assert result.status == 0
    assert unwritten(cached.media["a"].fd) == 0
    if name.startswith("READ"):
        assert result.data == ONES


def test_it_is_switched_under_load(cached: Rig) -> None:
    over = threading.Event()

    def switch() -> None:
        for turn in range(200):
            cached.engine.set_write_through(cached.handle, bool(turn & 1))
            if turn & 1:
                cached.engine.flush(cached.handle)
        over.set()

    threading.Thread(target=switch).start()
    turns = 0
    while not over.is_set() or turns < 4:
        sent = [cached.ring.send(*one, kick=False) for one in list(CHANGES.values())[:6]]
        cached.ring.kick()
        assert [cached.ring.wait(one).status for one in sent] == [0] * 6
        turns += 1
    assert unwritten(cached.media["a"].fd) == 0
