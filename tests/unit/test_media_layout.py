"""Where things lie on a medium: nothing overlaps, nothing is wasted, at any size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targetplugin.errors import Reason, Refused
from targetplugin.media.layout import BLOCK, DATA_UNIT, Area, layout, slots_for, trailer_length

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
SIZES = st.integers(2 * MIB, 64 * TIB)


@given(SIZES)
def test_nothing_overlaps_and_all_fits(size):
    it = layout(size)
    end, start = it.superblocks
    assert it.data_size % DATA_UNIT == 0
    assert start == it.data_size
    assert it.record_offset >= start + BLOCK
    assert it.maps_offset >= it.record_offset + 2 * BLOCK
    assert it.slot_offset(Area.HAS, it.slots - 1, 1) + BLOCK <= end
    assert end + BLOCK == it.capacity <= size < it.capacity + BLOCK


@given(SIZES)
def test_another_unit_of_data_would_not_fit(size):
    it = layout(size)
    more = it.data_size + DATA_UNIT
    assert more + trailer_length(slots_for(more)) > it.capacity


@given(SIZES)
def test_the_maps_have_room_for_extents_of_4_kib(size):
    it = layout(size)
    assert it.slots * 32512 >= it.data_size // 4096
    assert (it.slots - 1) * 32512 < it.data_size // 4096


def test_areas_follow_one_another_in_the_order_that_the_engine_knows():
    it = layout(GIB)
    assert [area.name for area in Area] == ["LIVE_EVEN", "LIVE_ODD", "MISSED", "PENDING", "HAS"]
    for area in Area:
        # The core's own arithmetic (rules/rounds.pxi).
        for slot, copy in ((0, 0), (1, 1), (it.slots - 1, 0)):
            core = it.maps_offset + (area * it.slots * 2 + slot * 2 + copy) * 4096
            assert it.slot_offset(area, slot, copy) == core


@pytest.mark.parametrize(
    ("size", "data", "slots"),
    [(2 * MIB, MIB, 1), (64 * MIB, 63 * MIB, 1), (GIB, 1023 * MIB, 9), (TIB, 1048253 * MIB, 8254)],
)
def test_sizes_that_people_have(size, data, slots):
    it = layout(size)
    assert (it.data_size, it.slots) == (data, slots)


@pytest.mark.parametrize("size", [0, 1, 4096, MIB, MIB + 100_000])
def test_what_is_too_small_is_refused_by_name(size):
    with pytest.raises(Refused, match="/dev/tiny is too small") as refused:
        layout(size, name="/dev/tiny")
    assert refused.value.reason is Reason.USAGE
    assert "2 MiB" in refused.value.hint


def test_slots_of_a_volume_with_larger_extents():
    assert slots_for(TIB, 65536) == 517
    assert slots_for(1, 65536) == 1
