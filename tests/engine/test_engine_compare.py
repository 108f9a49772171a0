"""Legs compared by the real engine."""

from __future__ import annotations

import os
import random
import threading

import pytest

from targetplugin.errors import Refused
from tests.engine.conftest import SIZE, Rig

EXTENT = 65536
MIB = 1 << 20


def rot(rig: Rig, name: str, at: int) -> None:
    with (rig.folder / name).open("r+b") as file:
        file.seek(at)
        file.write(b"!")
        os.fsync(file.fileno())


def test_every_extent_that_differs_is_found_and_no_other(rig: Rig) -> None:
    rig.create("one", "two", "three")
    assert rig.engine.compare(rig.handle, 0, MIB).different == {}
    for extent, at in ((0, 0), (1, EXTENT - 1), (2, 511), (15, 512)):
        rot(rig, "two", extent * EXTENT + at)
    rot(rig, "three", 2 * EXTENT + 5000)
    rot(rig, "three", MIB)
    found = rig.engine.compare(rig.handle, 0, MIB)
    one, two, three = (rig.media[name].uuid for name in ("one", "two", "three"))
    assert found.first == one
    assert found.different == {0: [two], 1: [two], 2: [two, three], 15: [two]}
    assert found.unreadable == []
    assert rig.engine.compare(rig.handle, MIB, EXTENT).different == {0: [three]}


@pytest.mark.parametrize(
    ("offset", "length"), [(1, 4096), (0, 2 * MIB), (SIZE, EXTENT), (SIZE - EXTENT, MIB), (0, 0)]
)
def test_what_is_no_run_is_refused(rig: Rig, offset: int, length: int) -> None:
    rig.create("one", "two")
    with pytest.raises(Refused):
        rig.engine.compare(rig.handle, offset, length)
    assert rig.engine.compare(rig.handle, 0, EXTENT).different == {}


def test_one_leg_has_none_to_be_compared_with(rig: Rig) -> None:
    rig.create("one")
    with pytest.raises(Refused):
        rig.engine.compare(rig.handle, 0, EXTENT)


def test_hosts_that_write_make_no_difference(rig: Rig) -> None:
    rig.create("one", "two")
    ended = threading.Event()
    chance = random.Random(1)

    def host() -> None:
        while not ended.is_set():
            block = chance.randrange(0, 2 * MIB // 512 - 64)
            rig.ring.write(block, chance.randbytes(512 * chance.randrange(1, 64)))

    writer = threading.Thread(target=host)
    writer.start()
    try:
        for _ in range(100):
            for offset in (0, MIB):
                assert rig.engine.compare(rig.handle, offset, MIB).different == {}
    finally:
        ended.set()
        writer.join()
