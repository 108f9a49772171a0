"""Differentials across a tree of generations: exact or larger, never smaller."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targetplugin.catalog.maps import full
from targetplugin.catalog.rows import ALL, LIVE, Generation
from targetplugin.catalog.tree import Tree, differential
from targetplugin.errors import Reason, Refused

VOLUME = b"V" * 16
EXTENTS = 16

#   1 -- 2 -- 3 -- 4 (left by a recover from 2)      each generation n wrote extent n
#         \-- 5 -- 6 (live)
#   1000000000 (a restored image)
EDGES = {1: 0, 2: 1, 3: 2, 4: 3, 5: 2, 6: 5}
TREE = Tree(
    [
        *(Generation(VOLUME, n, up, LIVE if n == 6 else f"{n}") for n, up in EDGES.items()),
        Generation(VOLUME, 1_000_000_000, 0, ALL),
    ]
)
MAPS = {f"{n}": (1 << n).to_bytes(2, "little") for n in EDGES}
NOW = {6: (1 << 6).to_bytes(2, "little")}


def extents(one, other):
    bits = differential(TREE, one, other, EXTENTS, MAPS.__getitem__, NOW)
    value = int.from_bytes(bits, "little")
    return [n for n in range(EXTENTS) if value >> n & 1]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (1, 2, [2]),
        (2, 1, [2]),
        (1, 6, [2, 5, 6]),
        (2, 6, [5, 6]),  # the live generation grew from 2
        (3, 6, [3, 5, 6]),  # across the branch
        (4, 5, [3, 4, 5]),
        (5, 4, [3, 4, 5]),
        (4, 4, []),
        (0, 2, [1, 2]),
    ],
)
def test_a_differential_is_the_or_along_the_path(one, other, expected):
    assert extents(one, other) == expected


def test_the_path_goes_up_to_where_both_meet_and_down():
    assert [edge.number for edge in TREE.path(4, 6)] == [4, 3, 5, 6]


def test_across_an_image_everything_differs():
    assert differential(TREE, 1_000_000_000, 2, EXTENTS, MAPS.__getitem__) == full(EXTENTS)


def test_a_live_map_that_is_not_given_counts_as_all():
    assert differential(TREE, 2, 6, EXTENTS, MAPS.__getitem__) == full(EXTENTS)


def test_a_map_that_cannot_be_read_counts_as_all():
    def damaged(name):
        raise Refused(Reason.ENVIRONMENT, f"{name} is damaged")

    assert differential(TREE, 1, 2, EXTENTS, damaged) == full(EXTENTS)


def test_what_is_needed_are_the_points_and_all_above_them():
    assert TREE.needed([4]) == {1, 2, 3, 4}
    assert TREE.needed([5, 3]) == {1, 2, 3, 5}
    assert TREE.needed([]) == set()


def test_a_point_that_is_not_known_is_refused():
    with pytest.raises(Refused, match="generation 9 is not known") as refused:
        TREE.path(9, 1)
    assert refused.value.reason is Reason.NOT_FOUND


def test_a_ring_of_generations_ends():
    ring = Tree([Generation(VOLUME, 1, 2, "1"), Generation(VOLUME, 2, 1, "2")])
    with pytest.raises(Refused):
        ring.path(1, 2)


# A volume's life without media: points are fixed, taken back and swapped in, and images come from
# outside. Beside it each point's content, as the number of each extent's last write.
LIFE = st.lists(
    st.tuples(st.sampled_from(["write", "write", "save", "back", "image"]), st.integers(0, 99)),
    max_size=60,
)


@given(LIFE)
def test_points_differ_at_most_where_their_maps_say_whatever_came_between(life):
    rows, maps, content = [], {}, {0: [0] * EXTENTS}
    live, parent, written, now = 1, 0, set(), [0] * EXTENTS
    for number, (what, which) in enumerate(life, start=1):
        if what == "write":
            written.add(which % EXTENTS)
            now[which % EXTENTS] = number
            continue
        if what == "image":
            rows.append(Generation(VOLUME, 1000 + number, 0, ALL))
            content[1000 + number] = [-number] * EXTENTS
            continue
        rows.append(Generation(VOLUME, live, parent, f"{live}"))
        maps[f"{live}"] = sum(1 << extent for extent in written).to_bytes(2, "little")
        content[live] = list(now)
        parent = live if what == "save" else sorted(content)[1:][which % (len(content) - 1)]
        now, written, live = list(content[parent]), set(), live + 1
    tree = Tree([*rows, Generation(VOLUME, live, parent, LIVE)])
    content[live] = now
    marks = {live: sum(1 << extent for extent in written).to_bytes(2, "little")}
    for one in content:
        for other in content:
            bits = differential(tree, one, other, EXTENTS, maps.__getitem__, marks)
            told = int.from_bytes(bits, "little")
            differ = sum(1 << e for e in range(EXTENTS) if content[one][e] != content[other][e])
            assert told & differ == differ
            assert one != other or not told
            if ALL not in [edge.map for edge in tree.path(one, other)]:
                assert told.bit_count() < EXTENTS or len(life) >= EXTENTS
