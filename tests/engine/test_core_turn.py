"""A recover that still copies is taken back, in the core: when the one map counts, and when the other."""

from __future__ import annotations

import pytest

from tests.engine.steps import (
    ACT_WRITE,
    COPY,
    EIO,
    LEG_STALE,
    READ,
    SAVE_WHOLE,
    Action,
    Steps,
    either,
    neither,
)

ALL = bytes([0xFF]) * 16
EXTENT = 65536
SAVED, REPLACED = {1: 11, 2: 12, 3: 13}, {1: 21, 2: 22, 3: 23}


def index(steps: Steps, name: str) -> int:
    return next(i for i, disk in steps.media.items() if disk.name == name)


def put(steps: Steps, tag: int, extent: int, stamp: int) -> None:
    steps.write(tag, extent, stamp, extents=1)
    steps.finish()
    assert steps.answers[tag] == 0


def read(steps: Steps, tag: int) -> dict[int, int]:
    """What a host reads at the start of each extent."""
    found = {}
    for extent in SAVED:
        steps.core.command(tag, READ, extent * EXTENT, 4096)
        steps.take()
        steps.finish()
        assert steps.answers.pop(tag) == 0
        found[extent] = steps.read.pop(tag)
    return found


@pytest.fixture
def steps() -> Steps:
    """Legs A and B. Save 1, on C, is being recovered from, and its undo save fills on D; nothing is copied,
    but for extent 1, which a host has written again with 31.
    """
    made = Steps("AB")
    for extent, stamp in SAVED.items():
        put(made, extent, extent, stamp)
    assert made.ask("copy", 1, medium=made.attach("C")) == 0
    made.finish()
    assert (SAVE_WHOLE, "C") in made.events
    for extent, stamp in REPLACED.items():
        put(made, extent, extent, stamp)
    made.core.allowed(0)
    more = {"generation": 1, "base": ALL, "save": made.attach("D")}
    assert made.ask("recover", 2, medium=index(made, "C"), **more) == 0
    made.finish()
    assert made.done[2] == 0
    put(made, 5, 1, 31)
    assert read(made, 6) == {**SAVED, 1: 31}
    return made


def undo(steps: Steps) -> int:
    return steps.ask("recover", 3, medium=index(steps, "D"), generation=2, base=ALL)


def copies(action: Action) -> bool:
    return action["kind"] == ACT_WRITE and action["buffer"] == COPY


def test_what_was_replaced_is_there_at_once_and_only_what_was_overwritten_is_copied(
    steps: Steps,
) -> None:
    assert undo(steps) == 0
    steps.finish()
    assert steps.done[3] == 0
    assert steps.core.status()["recover"]["pending"] == 1
    assert read(steps, 7) == REPLACED
    steps.core.allowed(2)
    assert steps.ask("checkpoint", 4) == 0
    steps.finish()
    assert steps.core.status()["recover"] is None
    assert [steps.block(name, 1) for name in "AB"] == [21, 21]
    assert read(steps, 7) == REPLACED


def test_copies_that_are_under_way_end_first(steps: Steps) -> None:
    steps.core.allowed(2)
    assert steps.ask("checkpoint", 4) == 0
    steps.finish(neither(steps.data("A"), steps.data("B")))
    assert steps.find(copies), "the recover writes what it has read to the legs"
    assert undo(steps) == 0
    steps.finish(neither(copies))
    assert 3 not in steps.done
    steps.finish()
    assert steps.done[3] == 0
    assert read(steps, 7) == REPLACED


@pytest.mark.parametrize("attached", ["ABCD", "ACD", "BCD"])
def test_until_the_record_says_so_the_recover_counts(steps: Steps, attached: str) -> None:
    assert undo(steps) == 0
    records = either(steps.record("A"), steps.record("B"))
    steps.finish(records)  # the tag is never used again
    steps.finish(neither(records))
    assert steps.find(records), "all is prepared but for the record"
    steps.kill(attached)
    steps.finish()
    assert read(steps, 7) == {**SAVED, 1: 31}


def test_a_record_that_comes_in_between_names_the_recover_s_map(steps: Steps) -> None:
    assert undo(steps) == 0
    while not (steps.core.paused and steps.find(steps.slot("B"))):  # those of the undo's map
        steps.perform(steps.under_way[0])
    steps.finish(steps.slot("B"), EIO)
    assert (LEG_STALE, "B") in steps.events
    (record,) = steps.find(steps.record("A"))  # which says that B is stale
    steps.perform(record)
    steps.kill("ACD")
    steps.finish()
    assert steps.core.generation == 3
    assert read(steps, 7) == {**SAVED, 1: 31}


def test_where_no_record_can_be_written_the_recover_goes_on_and_can_be_taken_back_later(
    steps: Steps,
) -> None:
    assert undo(steps) == 0
    records = either(steps.record("A"), steps.record("B"))
    steps.finish(records)  # the tag is never used again
    steps.finish(neither(records))
    for record in steps.find(records):
        steps.perform(record, EIO)
    steps.finish()
    assert steps.done[3] == EIO
    assert read(steps, 7) == {**SAVED, 1: 31}
    assert steps.ask("recover", 4, medium=index(steps, "D"), generation=2, base=ALL) == 0
    steps.finish()
    assert steps.done[4] == 0
    steps.kill("ABCD")
    steps.finish()
    assert read(steps, 7) == REPLACED


def test_it_takes_no_undo_save_and_waits_for_no_other_volume(steps: Steps) -> None:
    busy = -16
    more = {"generation": 2, "base": ALL}
    medium = index(steps, "D")
    assert steps.ask("recover", 3, medium=medium, **more, waits=True) == busy
    assert steps.ask("recover", 3, medium=index(steps, "C"), generation=1, base=ALL) == busy
    assert steps.ask("split", 3, mask=1) == busy
    steps.finish()
    assert read(steps, 7) == {**SAVED, 1: 31}
