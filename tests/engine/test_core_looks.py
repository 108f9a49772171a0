"""A look at a save that fills, in the core: what it has comes from its medium, the rest from a leg."""

from __future__ import annotations

import pytest

from tests.engine.steps import (
    ACT_READ,
    ACT_WRITE,
    EIO,
    EXTENT,
    LEG_STALE,
    SAVE_BROKEN,
    SAVE_WHOLE,
    Steps,
    either,
    neither,
)

ENOENT = -2


@pytest.fixture
def steps() -> Steps:
    """Legs A and B with 11 to 13 in extents 1 to 3; save 1 of that fills on C, and nothing is copied yet. A
    host writes 22 to extent 2.
    """
    made = Steps("AB")
    for extent in (1, 2, 3):
        made.write(extent, extent, 10 + extent)
    made.finish()
    assert made.ask("copy", 1, medium=made.attach("C")) == 0
    made.core.allowed(0)  # no copies but those that hosts ask for
    made.finish()
    assert made.done[1] == 0
    made.write(5, 2, 22)
    made.finish()
    assert made.answers[5] == 0
    return made


def ask(steps: Steps, number: int, *, extents: int = 3) -> None:
    """Looks at extents from the first on."""
    length = extents * EXTENT
    assert steps.ask("look", number, generation=1, offset=EXTENT, length=length) == 0


def seen(steps: Steps) -> list[int | bytes]:
    """What it was given at the start of each extent."""
    return steps.given[:: EXTENT // 4096]


def test_what_it_has_is_read_from_its_medium_and_the_rest_from_a_leg(steps: Steps) -> None:
    ask(steps, 9)
    reads = [
        (steps.media[action["medium"]].name, action["offset"] // EXTENT)
        for action in steps.find(lambda action: action["kind"] == ACT_READ)
    ]
    assert [(name == "C", extent) for name, extent in reads] == [
        (False, 1),
        (True, 2),
        (False, 3),
    ]
    steps.finish()
    assert steps.done[9] == 0
    assert seen(steps) == [11, 12, 13]


def test_what_is_looked_at_in_a_leg_is_not_overwritten_meanwhile(steps: Steps) -> None:
    ask(steps, 9)
    reading = steps.find(lambda action: action["kind"] == ACT_READ)
    steps.write(6, 3, 33)
    steps.finish(lambda action: action not in reading)
    assert 6 not in steps.answers
    steps.finish()
    assert steps.answers[6] == 0
    assert seen(steps) == [11, 12, 13]
    ask(steps, 10)
    steps.finish()
    assert seen(steps) == [11, 12, 13], "it was copied first"


def test_a_leg_that_cant_be_read_is_stale_and_another_is_asked(steps: Steps) -> None:
    ask(steps, 9)
    (first, *_) = steps.find(neither(steps.on("C")))
    name = steps.media[first["medium"]].name
    steps.perform(first, EIO)
    steps.finish(steps.data(name, ACT_READ), EIO)
    steps.finish()
    assert steps.done[9] == 0
    assert seen(steps) == [11, 12, 13]
    assert (LEG_STALE, name) in steps.events


def test_where_its_medium_cant_be_read_whoever_looks_is_told(steps: Steps) -> None:
    ask(steps, 9)
    steps.finish(steps.data("C", ACT_READ), EIO)
    steps.finish()
    assert steps.done[9] == EIO
    ask(steps, 10, extents=1)
    steps.finish()
    assert steps.done[10] == 0


def test_it_is_looked_at_until_it_is_let_go_as_whole(steps: Steps) -> None:
    steps.core.allowed(2)
    assert steps.ask("checkpoint", 2) == 0
    steps.finish()
    assert (SAVE_WHOLE, "C") in steps.events
    ask(steps, 9)
    assert not steps.find(either(steps.data("A", ACT_READ), steps.data("B", ACT_READ)))
    steps.finish()
    assert seen(steps) == [11, 12, 13]
    assert (
        steps.ask("drop", 3, medium=next(i for i, disk in steps.media.items() if disk.name == "C"))
        == 0
    )
    steps.finish()
    assert steps.ask("look", 10, generation=1, offset=EXTENT, length=4096) == ENOENT


def test_one_that_breaks_meanwhile_is_not_shown(steps: Steps) -> None:
    ask(steps, 9)
    reading = steps.find(lambda action: action["kind"] == ACT_READ)
    steps.write(6, 5, 55)  # outside of what is looked at
    steps.finish(steps.data("C", ACT_WRITE), EIO)
    steps.finish(lambda action: action not in reading and not steps.data("C", ACT_WRITE)(action))
    steps.finish(steps.data("C", ACT_WRITE), EIO)
    assert (SAVE_BROKEN, "C") in steps.events
    steps.finish()
    assert steps.done[9] == ENOENT
    assert steps.ask("look", 10, generation=1, offset=EXTENT, length=4096) == ENOENT


def test_what_is_no_save_is_not_looked_at(steps: Steps) -> None:
    assert steps.ask("look", 9, generation=7, offset=0, length=4096) == ENOENT
    assert steps.ask("look", 9, generation=1, offset=0, length=4 << 20) == -34
