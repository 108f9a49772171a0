"""A volume that grows, from the subsystem down to files, on the real engine."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.test_subsystem_engine import BLOCKS, EXTENT, MIB, SIZE, Site, fill

NEW = SIZE + 2 * MIB
LAST = NEW // EXTENT - 1
SLOT_EXTENTS = 32512  # of one map slot


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site.with_ledger(tmp_path, "abcd")
    yield made
    made.end()


def grow(site: Site, size: int) -> None:
    site.over(site.subsystem.volume_resize("ledger", size))
    site.ring.close()
    site.serve()


def capacity(site: Site) -> int:
    """Bytes, as READ CAPACITY (10) has it."""
    last, block = struct.unpack(">II", site.ring.run(bytes([0x25]), data_in=8).data)
    return int((last + 1) * block)


@pytest.mark.parametrize("policy", ["split", "copy", "sparse"])
def test_hosts_get_what_is_new_and_saves_have_zeros_there(site: Site, policy: str) -> None:
    fill(site, 1)
    for name in "ab":
        with open(site.folder / name, "r+b") as file:
            file.seek(SIZE)
            file.write(b"\xee" * (NEW - SIZE))
    held = site.content()
    saved = site.subsystem.save("ledger", label="noon", policy=policy)
    site.subsystem.operation_wait(saved["operation"]["id"], 20)
    fill(site, 2)
    last = site.content()
    refused = site.ring.write((SIZE // EXTENT) * BLOCKS, b"n" * EXTENT)
    assert (refused.status, refused.sense[2] & 15, refused.sense[12]) == (2, 5, 0x21)
    assert capacity(site) == SIZE
    grow(site, NEW)
    assert capacity(site) == NEW
    assert site.content() == last
    assert site.read(SIZE // EXTENT) == site.read(LAST) == bytes(EXTENT)
    site.write(LAST, b"n" * EXTENT)
    site.end()
    site.boot()
    assert site.read(LAST) == b"n" * EXTENT
    site.over(site.subsystem.recover("ledger@noon"))
    assert site.content() == held
    assert site.read(SIZE // EXTENT) == site.read(LAST) == bytes(EXTENT)
    site.over(site.subsystem.undo("ledger"))
    assert site.content() == last
    assert site.read(LAST) == b"n" * EXTENT
    assert capacity(site) == NEW


def test_maps_that_need_more_slots_than_before_have_them(tmp_path: Path) -> None:
    site = Site(tmp_path)
    for name in "abc":
        site.subsystem.media_add(str(tmp_path / name), size=200 * MIB)
    site.subsystem.volume_create("ledger", 64 * MIB, extent_size=4096)
    site.serve()
    old, new = 64 * MIB // 4096 - 1, SLOT_EXTENTS + 100
    site.ring.write(old * 8, b"o" * 4096)
    site.subsystem.save("ledger", label="noon")
    grow(site, 160 * MIB)
    site.ring.write(new * 8, b"n" * 4096)
    for _ in range(2):
        found = site.subsystem.diff("ledger@noon")["list"]
        assert {"offset": new * 4096, "length": 4096} in found
        assert site.ring.read(new * 8, 8).data == b"n" * 4096
        assert site.ring.read(old * 8, 8).data == b"o" * 4096
        site.end()
        site.boot()
    site.over(site.subsystem.recover("ledger@noon"))
    assert site.read(new * 4096 // EXTENT) == bytes(EXTENT)
    site.end()
