"""The picture of where a volume changed."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targetplugin.terminal.picture import COLUMNS, MOST_ROWS, SHADES, shade, shares, svg

UNIT = 65536


def run(extent: int, number: int) -> dict[str, int]:
    return {"offset": extent * UNIT, "length": number * UNIT}


def test_a_small_volume_has_a_square_for_each_extent() -> None:
    square, found = shares(16 * UNIT, UNIT, [run(3, 2)])
    assert square == UNIT
    assert found == [0, 0, 0, 1, 1, *[0] * 11]


def test_a_large_one_has_no_more_squares_than_fit() -> None:
    square, found = shares(1 << 40, UNIT, [run(0, 1), run((1 << 24) - 1, 1)])
    assert len(found) == COLUMNS * MOST_ROWS
    assert square * len(found) == 1 << 40
    assert found[0] == found[-1] == UNIT / square
    assert not any(found[1:-1])


@given(
    st.integers(1, 10**7),
    st.lists(st.tuples(st.integers(0, 10**7), st.integers(1, 10**6)), max_size=5),
)
def test_no_byte_is_lost_or_counted_twice(extents: int, raw: list[tuple[int, int]]) -> None:
    size, runs, end = extents * UNIT - 4096, [], 0
    for gap, number in raw:  # runs of a differential are in order and do not touch
        if end + gap + number < extents:
            runs.append(run(end + gap, number))
            end += gap + number + 1
    square, found = shares(size, UNIT, runs)
    sizes = [min(square, size - place * square) for place in range(len(found))]
    assert sum(sizes) == size
    assert all(0 <= share <= 1 for share in found)
    told = sum(share * part for share, part in zip(found, sizes, strict=True))
    assert told == pytest.approx(sum(one["length"] for one in runs))


def test_a_shade_never_says_nothing_or_all_where_that_is_not_so() -> None:
    assert shade(0) == SHADES[0]
    assert shade(1e-9) == SHADES[1]
    assert shade(1 - 1e-9) == SHADES[-2]
    assert shade(1) == SHADES[-1]


def test_the_picture_is_a_document_that_says_what_it_shows() -> None:
    text = svg("a < b", 100 * UNIT, UNIT, [run(70, 1)])
    root = ElementTree.fromstring(text)
    space = "{http://www.w3.org/2000/svg}"
    told = [title.text for title in root.iter(f"{space}title")]
    assert len(told) == 100
    assert [one for one in told if not str(one).endswith("0% changed")] == []
    assert sum(str(one).endswith(" 100% changed") for one in told) == 1
    assert any(line.text == "a < b" for line in root.iter(f"{space}text"))
    assert any("64 KiB" in str(line.text) for line in root.iter(f"{space}text"))
    for one in root.iter(f"{space}rect"):
        assert float(one.get("x", 0)) + float(one.get("width", 0)) <= float(root.get("width", 0))
        assert float(one.get("y", 0)) + float(one.get("height", 0)) <= float(root.get("height", 0))
