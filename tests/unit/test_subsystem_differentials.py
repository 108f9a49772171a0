"""What differs between any two points. A model that knows no tree keeps each point's whole history:
two points differ in what was written since their histories part.
"""

from __future__ import annotations

import tempfile
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from targetplugin.errors import Reason, Refused
from tests.unit.house import EXTENT, MIB, House, image

EXTENTS = 32
History = list[frozenset[int]]  # the extents of each write; equal if the same object


class Model:
    """A house, and beside it the history of each of its points, "now" among them."""

    def __init__(self, folder: Path) -> None:
        self.house = House(folder)
        self.house.media(*"abcdefgh", size=4 * MIB)
        self.house.volume(size=EXTENTS * EXTENT)
        self.points: dict[str, History] = {"now": []}
        self.exact = True  # a kill makes marks coarser

    def saves(self) -> list[str]:
        return sorted(set(self.points) - {"now"})

    def write(self, extent: int) -> None:
        self.house.write(extent, "x")
        self.points["now"] = [*self.points["now"], frozenset([extent])]

    def save(self, policy: int) -> None:
        kind = ("split", "copy")[policy % 2]
        name = self.house.subsystem.save("ledger", policy=kind)["save"]["name"]
        self.points[name] = list(self.points["now"])

    def recover(self, which: int) -> None:
        name = self._chosen(which)
        self.house.subsystem.recover(name)
        self.points["now"] = list(self.points[name])

    def swap(self, which: int) -> None:
        name = self._chosen(which)
        kept = self.house.subsystem.swap(name)["save"]["name"]
        self.points[kept], self.points["now"] = self.points["now"], self.points.pop(name)

    def restore(self, which: int) -> None:
        path = image(self.house.folder / "image", "y" * (1 + which % EXTENTS))
        answer = self.house.subsystem.restore("ledger", image=path)
        self.house.wait(answer)
        self.points[answer["save"]["name"]] = [frozenset(range(EXTENTS))]  # an object of its own

    def release(self, which: int) -> None:
        name = self._chosen(which)
        self.house.subsystem.release(name)
        del self.points[name]

    def restart(self, how: int) -> None:
        if how % 2:
            self.house.end()
            self.house.boot()
        else:
            self.house.restart()
        self.exact = False

    def _chosen(self, which: int) -> str:
        if not self.saves():
            raise Refused(Reason.NOT_FOUND, "the model has no save")
        return self.saves()[which % len(self.saves())]

    def step(self, verb: str, number: int) -> None:
        try:
            getattr(self, verb)(number)
        except Refused as refused:
            expected = (Reason.NO_MEDIUM, Reason.NOT_FOUND)
            assert refused.reason in expected, refused.message  # noqa: PT017
        self.house.finish()

    def check(self) -> None:
        for one, other in combinations(sorted(self.points), 2):
            for since, to in ((one, other), (other, one)):
                found = self.told(since, to)
                expected = parted(self.points[one], self.points[other])
                assert found >= expected, (since, to)
                assert found == expected or not self.exact, (since, to)

    def told(self, since: str, to: str) -> frozenset[int]:
        told = self.house.subsystem.diff("ledger", since=since.removeprefix("ledger@"), to=to)
        found = [
            extent
            for run in told["list"]
            for extent in range(run["offset"] // EXTENT, (run["offset"] + run["length"]) // EXTENT)
        ]
        assert len(found) == told["extents"] == told["bytes"] // EXTENT
        return frozenset(found)


def parted(one: History, other: History) -> frozenset[int]:
    """What was written in either history since they part: entries are the same if one object."""
    common = 0
    while common < min(len(one), len(other)) and one[common] is other[common]:
        common += 1
    return frozenset().union(*one[common:], *other[common:])


VERBS = ["write"] * 6 + ["save", "save", "recover", "recover", "swap", "restore", "release"]
STEPS = st.lists(st.tuples(st.sampled_from(VERBS), st.integers(0, EXTENTS - 1)), max_size=25)


def follow(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = Model(Path(folder))
        for verb, number in steps:
            model.step(verb, number)
        model.check()
        model.house.end()


LIMITS: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


@settings(max_examples=12, **LIMITS)
@given(STEPS)
def test_any_two_points_differ_in_what_was_written_since_they_part(
    steps: list[tuple[str, int]],
) -> None:
    follow(steps)


@settings(max_examples=6, **LIMITS)
@given(STEPS, st.integers(0, 1), STEPS)
def test_across_a_restart_no_differential_is_smaller(
    before: list[tuple[str, int]], how: int, after: list[tuple[str, int]]
) -> None:
    follow([*before, ("restart", how), *after])


def test_a_branch_that_was_left_and_the_one_taken_are_both_on_the_path(house: House) -> None:
    house.subsystem.save("ledger", label="monday")
    house.write(3, "x")
    house.subsystem.save("ledger", label="tuesday")
    house.finish()
    house.write(4, "x")
    house.subsystem.recover("ledger@monday")
    house.finish()
    house.write(5, "x")

    def told(*points: str) -> list[int]:
        since, to = points
        found = house.subsystem.diff("ledger", since=since, to=to)
        return [run["offset"] // EXTENT for run in found["list"]]

    assert told("monday", "tuesday") == [3]
    assert told("tuesday", "monday") == [3]
    assert house.subsystem.diff("ledger", since="tuesday", to="now")["extents"] == 2  # 3, and 5
    assert told("now", "monday") == [5]
    assert told("1", "ledger@tuesday") == [3]
    assert house.subsystem.diff("ledger@monday", to="tuesday")["between"] == [
        "ledger@1",
        "ledger@2",
    ]


def test_the_live_generation_s_number_means_now(house: House) -> None:
    house.subsystem.save("ledger", label="monday")
    house.write(3, "x")
    by_number = house.subsystem.diff("ledger", since="monday", to="2")
    assert by_number == house.subsystem.diff("ledger@monday")
    assert by_number["between"] == ["ledger@1", "now"]


def test_the_last_extent_is_cut_at_the_volume_s_end(house: House) -> None:
    house.media("small", size=4 * MIB)
    house.volume("notes", size=EXTENT + 4096, media=["small"])
    house.subsystem.save("notes", label="a")
    house.engine.write(house.handle("notes"), EXTENT, b"x" * 4096)
    house.subsystem.save("notes", label="b")
    found = house.subsystem.diff("notes", since="a", to="b")
    assert found["list"] == [{"offset": EXTENT, "length": 4096}]
    assert found["bytes"] == 4096


@pytest.mark.parametrize(
    ("name", "points", "reason", "told"),
    [
        ("ledger@night", {"since": "night"}, Reason.USAGE, "begins at that save"),
        ("ledger", {"to": "night"}, Reason.USAGE, "begins was not said"),
        ("ledger", {"since": "notes@night"}, Reason.USAGE, "no save of ledger"),
        ("ledger", {"since": "day"}, Reason.NOT_FOUND, "no save ledger@day"),
        ("ledger", {"since": "night", "to": "99"}, Reason.NOT_FOUND, "no save ledger@99"),
        ("ledger", {"since": "night", "to": ""}, Reason.USAGE, "names no save"),
    ],
)
def test_ends_that_make_no_sense_are_refused(
    house: House, name: str, points: dict[str, str], reason: Reason, told: str
) -> None:
    house.subsystem.save("ledger", label="night")
    with pytest.raises(Refused, match=told) as refused:
        house.subsystem.diff(name, **points)
    assert refused.value.reason is reason
    assert refused.value.hint


def test_no_save_can_be_called_now(house: House) -> None:
    with pytest.raises(Refused, match="means the volume as it is"):
        house.subsystem.save("ledger", label="now")


def test_two_saves_are_compared_while_the_volume_is_down(house: House) -> None:
    house.subsystem.save("ledger", label="monday")
    house.write(3, "x")
    house.subsystem.save("ledger", label="tuesday")
    house.finish()
    handle = house.handle()
    runtime = house.floor.runtime(house.floor.volume("ledger").uuid)
    runtime.handle = None
    try:
        assert house.subsystem.diff("ledger", since="monday", to="tuesday")["extents"] == 1
        with pytest.raises(Refused, match="is down"):
            house.subsystem.diff("ledger", since="monday", to="now")
    finally:
        runtime.handle = handle
