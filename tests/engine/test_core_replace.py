"""The core's rules of order for a medium that holds an older save, and for a recover that keeps what it
replaces, each at the step where it matters.
"""

from __future__ import annotations

import pytest

from targetplugin.engine import SaveState
from tests.engine.steps import ACT_READ, EIO, Steps, Where, neither

EXTENTS = 128
NOTHING = bytes(EXTENTS // 8)
ALL = b"\xff" * (EXTENTS // 8)


def older(steps: Steps) -> int:
    """C is attached, with a whole save of generation 1: 10 in extent 1, where the volume has 11."""
    steps.write(0, 1, 10)
    steps.finish()
    steps.ask("copy", 1, medium=steps.attach("C"))
    steps.finish()
    steps.ask("drop", 2, medium=1)
    steps.finish()
    steps.write(1, 1, 11)
    steps.finish()
    return steps.attach("C")


def has(steps: Steps, name: str) -> int:
    return int(steps.core.status()["saves"][steps.disks[name].uuid]["has"])


def fills(steps: Steps) -> Where:
    return steps.data("A", ACT_READ)


def test_what_a_medium_has_of_a_save_is_on_it_before_the_record_that_says_so() -> None:
    steps = Steps("A")
    assert steps.ask("copy", 3, medium=older(steps), lacks=NOTHING) == 0
    steps.finish(neither(steps.slot("C")))
    assert 3 not in steps.done
    assert steps.newest("A")[1].saves == []
    steps.finish(neither(fills(steps)))
    assert steps.done[3] == 0
    (save,) = steps.newest("A")[1].saves
    assert (save.generation, save.state) == (2, SaveState.FILLING)
    steps.kill("AC")
    steps.finish(neither(fills(steps)))
    assert has(steps, "C") == EXTENTS - 1
    steps.finish()
    assert steps.block("C", 1) == 11


def test_a_host_s_write_in_the_midst_of_the_point_is_lacking_too() -> None:
    steps = Steps("A")
    steps.ask("copy", 3, medium=older(steps), lacks=NOTHING)
    held = steps.slot("C")
    steps.finish(neither(held))  # its map was made, and is being written
    steps.write(2, 7, 12)
    steps.finish(neither(held))
    assert steps.answers[2] == 0
    steps.finish(neither(fills(steps)))
    assert has(steps, "C") == EXTENTS - 2
    steps.finish()
    assert [steps.block("C", extent) for extent in (1, 7)] == [11, 12]


@pytest.mark.parametrize("crash", [True, False])
def test_an_attempt_that_came_to_nothing_leaves_nothing_for_the_next(crash: bool) -> None:
    steps = Steps("A")
    media = older(steps)
    steps.ask("copy", 3, medium=media, lacks=NOTHING)
    if crash:
        while not steps.find(steps.record("A")) or not steps.core.status()["paused"]:
            steps.perform(steps.under_way[0])
        steps.kill("A")
        steps.finish()
        media = steps.attach("C")
    else:
        steps.finish(neither(steps.slot("C")))
        steps.finish(steps.slot("C"), EIO)
        steps.finish()
        assert steps.done[3] != 0
    assert steps.newest("A")[1].saves == []
    assert steps.ask("copy", 4, medium=media, lacks=ALL) == 0
    steps.finish(neither(fills(steps)))
    assert steps.done[4] == 0
    steps.kill("AC")
    steps.finish(neither(fills(steps)))
    assert has(steps, "C") == 0


def test_such_an_attempt_s_map_counts_for_no_save_on_another_medium() -> None:
    steps = Steps("A")
    steps.ask("copy", 3, medium=older(steps), lacks=NOTHING)
    while not steps.find(steps.record("A")) or not steps.core.status()["paused"]:
        steps.perform(steps.under_way[0])
    steps.kill("A")
    steps.finish()
    steps.ask("sync", 4, medium=steps.attach("C"))
    steps.finish()
    assert steps.core.status()["legs"][steps.disks["C"].uuid]["state"] == "in_sync"
    steps.ask("copy", 5, medium=steps.attach("D"))
    held = neither(steps.data("D"))
    steps.finish(held)
    assert steps.done[5] == 0
    steps.kill("ACD")
    steps.finish(held)
    assert has(steps, "D") == 0


@pytest.mark.parametrize("in_force", [True, False])
def test_a_recover_and_its_undo_save_are_one_record(in_force: bool) -> None:
    steps = Steps("A")
    source = older(steps)
    undo = steps.attach("D")
    held = neither(steps.data("A", ACT_READ), steps.data("C", ACT_READ))
    assert steps.ask("recover", 3, medium=source, generation=1, base=NOTHING, save=undo) == 0
    if in_force:
        steps.finish(held)
        assert steps.done[3] == 0
    else:
        while not steps.find(steps.record("A")) or not steps.core.status()["paused"]:
            steps.perform(steps.under_way[0])
    record = steps.newest("A")[1]
    assert (record.recover is not None) == in_force
    assert [save.uuid for save in record.saves] == ([steps.disks["D"].uuid] if in_force else [])
    steps.kill("ACD" if in_force else "A")
    steps.finish()
    assert steps.block("A", 1) == (10 if in_force else 11)
    if in_force:
        assert steps.block("D", 1) == 11


def test_an_extent_is_on_the_undo_save_before_the_recover_overwrites_it() -> None:
    steps = Steps("A")
    source = older(steps)
    undo = steps.attach("D")
    steps.ask("recover", 3, medium=source, generation=1, base=NOTHING, save=undo)
    steps.finish(neither(steps.data("D"), steps.slot("D")))
    assert steps.done[3] == 0
    assert steps.block("A", 1) == 11
    steps.finish(neither(steps.slot("D")))
    assert steps.block("D", 1) == 11
    assert steps.block("A", 1) == 11, "that it is there is not durable yet"
    steps.finish()
    assert (steps.block("A", 1), steps.block("D", 1)) == (10, 11)
    assert {kind for kind, _ in steps.events} >= {3, 5}
