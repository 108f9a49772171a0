"""COMPARE AND WRITE that is done, and not answered when the daemon is killed: the kernel answers it BUSY,
so the host sends it again. It is not to be told MISCOMPARE for what it wrote itself, nor to write a
second time.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.conftest import SIZE
from tests.engine.fake_ring import FakeRing, Result
from tests.waiting import until

GOOD, CHECK_CONDITION, BUSY = 0, 2, 8
MISCOMPARE = 0xE
AT, BLOCKS = 40, 3
OLD, NEW, OTHER = (letter * 512 * BLOCKS for letter in (b"o", b"n", b"x"))
KEPT = 5.0  # seconds for it to come again


def compare_and_write(lba: int = AT, blocks: int = BLOCKS) -> bytes:
    return struct.pack(">BBQ3xBxx", 0x89, 0, lba, blocks)


class Target:
    """An engine in a process that can be killed, with the kernel's end of its ring here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in "ab":
            with (folder / name).open("wb") as file:
                file.truncate(SIZE + (2 << 20))
        self.ring = FakeRing()
        self.start()

    def start(self) -> None:
        ring = [str(self.ring.engine_fd), str(self.ring.map_fd), str(self.ring.length)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.engine.killed", str(self.folder), *ring],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=(self.ring.engine_fd, self.ring.map_fd),
        )
        self.wait_for("serves")

    def wait_for(self, line: str) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline().strip() == line

    def mute(self) -> None:
        """What is written to `b` from now on is not answered by it."""
        assert self.process.stdin
        self.process.stdin.write("mute\n")
        self.process.stdin.flush()
        self.wait_for("is mute")

    def kill(self) -> None:
        """And start again, on a ring of which the kernel has answered all."""
        self.process.kill()
        self.process.communicate()
        self.ring.close()
        self.ring = FakeRing()
        self.start()

    def content(self, leg: str = "a") -> bytes:
        with (self.folder / leg).open("rb") as file:
            file.seek(AT * 512)
            return file.read(512 * BLOCKS)

    def done_but_not_answered(self) -> None:
        """Replaces OLD by NEW, which one leg has, when the daemon is killed."""
        assert self.ring.write(AT, OLD).status == GOOD
        self.mute()
        number = self.ring.send(compare_and_write(), OLD + NEW)
        until(lambda: self.content() == NEW)
        self.ring.reap()
        assert number in self.ring.under_way, "it was answered"
        self.kill()

    def again(self) -> Result:
        return self.ring.run(compare_and_write(), OLD + NEW)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.ring.close()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    target = Target(tmp_path)
    yield target
    target.close()


def test_one_that_comes_again_is_good_once(target: Target) -> None:
    target.done_but_not_answered()
    assert target.again().status == GOOD
    assert target.content("a") == target.content("b") == NEW
    late = target.again()
    assert (late.status, late.sense[2]) == (CHECK_CONDITION, MISCOMPARE), "another host lost"
    assert target.ring.write(AT, OTHER).status == GOOD
    target.kill()
    assert target.ring.read(AT, BLOCKS).data == OTHER, "nothing is left of it"


def test_others_wait_for_it_and_none_comes_in_between(target: Target) -> None:
    target.done_but_not_answered()
    assert target.ring.write(AT + BLOCKS, OTHER).status == GOOD, "other blocks are free"
    assert target.ring.read(AT, 1).status == BUSY
    assert target.ring.write(AT + 2, OTHER).status == BUSY
    other = target.ring.run(compare_and_write(), OLD + OTHER)
    assert other.status == BUSY
    unmap = struct.pack(">HHIQII", 22, 16, 0, AT - 8, 16, 0)
    assert target.ring.run(struct.pack(">BB5xHB", 0x42, 0, len(unmap), 0), unmap).status == BUSY
    same = target.ring.run(struct.pack(">BBQIBB", 0x93, 1, 0, 64, 0, 0))
    assert same.status == BUSY
    assert target.again().status == GOOD
    assert target.ring.read(AT, BLOCKS).data == NEW


def test_it_is_known_again_after_a_second_kill(target: Target) -> None:
    target.done_but_not_answered()
    target.kill()
    target.mute()
    target.ring.send(compare_and_write(), OLD + NEW)
    time.sleep(0.3)
    target.kill()
    assert target.ring.read(AT, 1).status == BUSY
    assert target.again().status == GOOD
    assert target.content("a") == target.content("b") == NEW


def test_after_its_time_it_is_as_any_other_and_writes_over_nobody(target: Target) -> None:
    target.done_but_not_answered()
    time.sleep(KEPT + 0.2)
    assert target.ring.read(AT, BLOCKS).data in (OLD, NEW)
    assert target.ring.write(AT, OTHER).status == GOOD
    assert target.again().sense[2] == MISCOMPARE
    assert target.ring.read(AT, BLOCKS).data == OTHER


def test_one_that_was_answered_is_kept_for_nobody(target: Target) -> None:
    assert target.ring.write(AT, OLD).status == GOOD
    assert target.again().status == GOOD
    target.kill()
    assert target.ring.read(AT, BLOCKS).data == NEW
    assert target.again().sense[2] == MISCOMPARE


def test_one_that_does_not_match_leaves_no_note(target: Target) -> None:
    assert target.ring.write(AT, OTHER).status == GOOD
    assert target.again().sense[2] == MISCOMPARE
    note = target.folder / "notes" / os.listdir(target.folder / "notes")[0]
    assert note.read_bytes().strip(b"\0") == b""
    target.kill()
    assert target.ring.read(AT, BLOCKS).data == OTHER
