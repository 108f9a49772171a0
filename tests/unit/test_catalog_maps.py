"""Frozen maps: whole or absent, and never larger or smaller by a mistake of arithmetic."""

import os
import random
import stat
import time
import zlib
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targetplugin.catalog import maps
from targetplugin.catalog.maps import Maps
from targetplugin.errors import Reason, Refused

VOLUME = bytes.fromhex("00112233445566778899aabbccddeeff")
BITS = st.binary(max_size=80) | st.lists(
    st.sampled_from([b"\0", b"\xff", b"\0" * 9, b"\xff" * 9, b"\x81", b"\x7e"]), max_size=20
).map(b"".join)


def positions(bits: bytes) -> list[int]:
    return [i for i in range(len(bits) * 8) if bits[i // 8] >> i % 8 & 1]


@given(BITS)
def test_runs_are_the_set_extents_merged_and_ascending(bits):
    runs = maps.runs(bits)
    assert [i for first, count in runs for i in range(first, first + count)] == positions(bits)
    assert all(one[0] + one[1] < two[0] for one, two in pairwise(runs))
    assert maps.count(bits) == sum(count for _, count in runs)


@given(BITS, BITS)
def test_or_and_and_not(one, other):
    a, b = set(positions(one)), set(positions(other))
    extents = 8 * max(len(one), len(other))
    assert set(positions(maps.either([one, other], extents))) == a | b
    assert set(positions(maps.both(one, other))) == a & b
    assert set(positions(maps.without(one, other))) == a - b


@given(st.integers(1, 100))
def test_a_full_map_has_no_bit_beyond_the_last_extent(extents):
    assert maps.runs(maps.full(extents)) == [(0, extents)]
    assert maps.either([b"\xff" * 20], extents) == maps.full(extents)
    assert len(maps.full(extents)) == maps.map_bytes(extents)


def test_a_map_put_together_from_slots_takes_the_newest_copy_of_each():
    one, two = b"\1" + bytes(4063), b"\2" + bytes(4063)
    bits = maps.slots_map([(0, 4, one), (0, 5, two), (2, 1, one)], 3 * 32512)
    assert positions(bits) == [1, 2 * 32512]
    assert positions(maps.slots_map([(0, 6, two), (0, 5, one)], 8)) == [1]
    assert maps.slots_map([], 12) == bytes(2)


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    return Maps(tmp_path / "maps")


def test_what_is_written_is_read_and_small(folder):
    bits = bytes(2 << 20)
    name = folder.write(VOLUME, 7, bits)
    assert name == "00112233445566778899aabbccddeeff-7.map"
    assert folder.read(name) == bits
    assert os.path.getsize(f"{folder.directory}/{name}") < 20_000


@given(bits=st.binary(max_size=200))
def test_any_map_comes_back(tmp_path_factory, bits):
    folder = Maps(tmp_path_factory.getbasetemp() / "any")
    assert folder.read(folder.write(VOLUME, 1, bits)) == bits


def test_only_the_owner_may_read(folder):
    name = folder.write(VOLUME, 1, b"\1")
    assert stat.S_IMODE(os.stat(folder.directory).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(f"{folder.directory}/{name}").st_mode) == 0o600


def test_a_damaged_map_is_refused_wherever_the_damage_is(folder):
    name = folder.write(VOLUME, 1, random.Random(1).randbytes(300))
    path = f"{folder.directory}/{name}"
    whole = Path(path).read_bytes()
    for at in range(len(whole)):
        if 8 <= at < 12:
            continue  # version and the unused field have tests of their own
        damaged = bytearray(whole)
        damaged[at] ^= 0x10
        with open(path, "wb") as file:
            file.write(damaged)
        with pytest.raises(Refused, match="damaged") as refused:
            folder.read(name)
        assert refused.value.reason is Reason.ENVIRONMENT
    for length in (0, 10, len(whole) - 1):
        with open(path, "wb") as file:
            file.write(whole[:length])
        with pytest.raises(Refused, match="damaged"):
            folder.read(name)


def test_a_map_of_a_later_version_is_refused(folder):
    name = folder.write(VOLUME, 1, b"\1")
    path = f"{folder.directory}/{name}"
    data = bytearray(Path(path).read_bytes())
    data[8] = 2
    with open(path, "wb") as file:
        file.write(data)
    with pytest.raises(Refused, match="later version"):
        folder.read(name)


def test_a_map_under_another_ones_name_is_refused(folder):
    one, two = folder.write(VOLUME, 1, b"\1"), folder.write(VOLUME, 2, b"\2")
    os.rename(f"{folder.directory}/{one}", f"{folder.directory}/{two}")
    with pytest.raises(Refused, match="damaged"):
        folder.read(two)
    with pytest.raises(Refused):
        folder.read(one)


def test_a_failed_write_leaves_what_was_there(folder, monkeypatch):
    name = folder.write(VOLUME, 1, b"old")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Refused, match="No space left") as refused:
        folder.write(VOLUME, 1, b"new")
    assert refused.value.reason is Reason.ENVIRONMENT
    assert refused.value.hint
    assert folder.read(name) == b"old"
    assert os.listdir(folder.directory) == [name]


def test_sweep_removes_what_no_row_names_and_what_a_crash_left(folder, tmp_path):
    kept, lost = folder.write(VOLUME, 1, b"\1"), folder.write(VOLUME, 2, b"\2")
    for other in (f"{VOLUME.hex()}-3.map.new", "notes.txt"):
        with open(f"{folder.directory}/{other}", "w"):
            pass
    assert folder.sweep([kept]) == [lost, f"{VOLUME.hex()}-3.map.new"]
    assert sorted(os.listdir(folder.directory)) == [kept, "notes.txt"]
    folder.remove(kept)
    folder.remove(kept)


def test_a_name_that_leads_out_of_the_folder_is_a_bug(folder):
    with pytest.raises(ValueError, match="no name of a map"):
        folder.read("../catalog.db")


def test_a_map_of_a_terabyte_is_worked_on_in_seconds():
    bits = random.Random(7).randbytes(2 << 20)
    start = time.monotonic()
    assert maps.count(maps.either([bits, bits], 1 << 24)) == maps.count(bits)
    assert maps.runs(bits)[0][0] >= 0
    assert time.monotonic() - start < 15


def test_the_checksum_is_over_all_that_follows(folder):
    name = folder.write(VOLUME, 1, b"\1")
    data = Path(folder.directory, name).read_bytes()
    assert int.from_bytes(data[12:16], "little") == zlib.crc32(data[16:])
