"""The core's rules of order where two things meet that seldom do, each at the step where it matters."""

from __future__ import annotations

from targetplugin.engine import LegState
from tests.engine.steps import (
    ACT_FLUSH,
    ACT_READ,
    EIO,
    EXTENT,
    LEG_IN_SYNC,
    LEG_STALE,
    READ,
    RECOVERED,
    SAVE_BROKEN,
    SAVE_WHOLE,
    Steps,
    either,
    neither,
)


def test_a_write_that_a_leg_missed_by_leaving_waits_for_the_record() -> None:
    steps = Steps("AB")
    steps.write(0, 1, 10)
    steps.finish()  # the region is in the log
    assert steps.ask("drop", 1, medium=0) == 0
    steps.write(1, 1, 11)
    steps.finish(neither(steps.record("A"), steps.record("B")))
    assert 1 not in steps.answers, "a start would believe the leg that has left"
    steps.finish()
    assert steps.answers[1] == 0
    assert steps.done[1] == 0


def test_a_write_after_a_save_was_let_go_waits_for_the_record() -> None:
    steps = Steps("A")
    steps.write(0, 1, 10)
    steps.finish()
    save = steps.attach("C")
    steps.ask("copy", 1, medium=save)
    steps.finish(neither(steps.data("C")))
    assert steps.done[1] == 0
    steps.write(1, 120, 12)
    held = lambda a: steps.data("C")(a) and a["offset"] < 120 * EXTENT  # noqa: E731
    steps.finish(neither(held))
    assert steps.answers[1] == 0, "its region is in the log"
    assert steps.ask("drop", 2, medium=save) == 0
    steps.finish(neither(steps.record("A"), held))
    steps.write(2, 100, 13)
    steps.finish(neither(steps.record("A"), held))
    assert steps.block("A", 100) == 0, "a start would copy it to the save"
    steps.finish()
    assert steps.answers[2] == 0


def test_a_recover_overwrites_nothing_before_a_save_that_lacks_it_is_known_as_broken() -> None:
    steps = Steps("AB")
    steps.write(0, 1, 10)
    steps.finish()
    steps.ask("split", 1, mask=2)
    steps.finish()
    steps.ask("drop", 2, medium=1)
    steps.finish()
    steps.write(1, 1, 11)
    steps.finish()
    steps.ask("copy", 3, medium=steps.attach("C"))
    steps.finish(neither(steps.data("C")))
    assert (
        steps.ask("recover", 4, medium=steps.attach("B"), generation=1, base=bytes([2] + [0] * 15))
        == 0
    )
    steps.finish(neither(steps.data("C")))
    assert steps.done[4] == 0
    steps.perform(steps.find(steps.data("C"))[0], EIO)
    assert (SAVE_BROKEN, "C") in steps.events
    steps.finish(neither(steps.record("A")))
    assert steps.block("A", 1) == 11, "a start would copy the recovered content to the save"
    steps.finish()
    assert (RECOVERED, "B") in steps.events
    assert steps.block("A", 1) == 10


def test_a_save_is_whole_only_when_every_mark_of_it_is_durable() -> None:
    steps = Steps("A", size=34 * EXTENT)
    for tag, extent in enumerate((32, 33)):
        steps.write(tag, extent, 10)
    steps.finish()
    steps.ask("copy", 1, medium=steps.attach("C"))
    save = either(steps.data("C"), lambda a: steps.on("C")(a) and a["kind"] == ACT_FLUSH)
    reads = steps.data("A", ACT_READ)
    steps.finish(neither(reads, save, steps.slot("C")))
    # Three rounds: of 33's copy, of the background's, and of 32's.
    steps.write(2, 33, 11)
    steps.write(3, 32, 11)
    steps.finish(lambda a: reads(a) and a["offset"] == 33 * EXTENT)
    steps.finish(save)
    steps.finish(lambda a: reads(a) and a["offset"] < 32 * EXTENT)
    steps.finish(save)
    steps.perform(steps.find(steps.slot("C"))[0])
    steps.finish(either(steps.record("A"), steps.data("A")))
    assert steps.answers[2] == 0, "its region is in the log"
    steps.finish(reads)
    steps.finish(save)
    steps.perform(steps.find(steps.slot("C"))[0])
    # The background is done, and 32 is marked in memory.
    steps.finish(neither(steps.record("A"), steps.slot("C")))
    steps.kill("AC")
    steps.finish()
    assert (SAVE_WHOLE, "C") in steps.events
    assert steps.block("C", 32) == 10


def test_a_copy_that_is_not_wanted_any_more_passes_its_turn_on() -> None:
    steps = Steps("A", size=32 << 20)
    steps.write(0, 0, 10, extents=1)
    steps.finish()
    steps.ask("copy", 1, medium=steps.attach("C"))
    steps.finish(neither(steps.data("C")))
    for tag in range(1, 25):
        steps.write(tag, 100 + 10 * tag, 11)
    steps.perform(steps.find(steps.data("C"))[0], EIO)
    steps.finish()
    assert (SAVE_BROKEN, "C") in steps.events
    assert sorted(steps.answers) == list(range(25)), "no save stops a host"


def test_no_host_reads_before_a_start_is_durable() -> None:
    steps = Steps("BA")
    steps.write(0, 1, 10)
    steps.finish()
    steps.write(1, 1, 11)
    steps.finish(steps.data("A"))
    steps.kill("A")  # which has the write that nobody was told of
    steps.perform(steps.find(steps.record("A"))[0], EIO)
    steps.core.command(2, READ, EXTENT, 4096)
    steps.take()
    steps.finish(neither(steps.record("A")))
    assert 2 not in steps.answers, (
        "a start would believe the leg that was away, and show what was before"
    )
    steps.finish()
    assert (steps.answers[2], steps.read[2]) == (0, 11)
    steps.kill("AB")
    steps.finish()
    assert (steps.block("A", 1), steps.block("B", 1)) == (11, 11)


def test_a_swap_tells_the_old_legs_though_a_record_is_under_way() -> None:
    steps = Steps("AB")
    steps.write(0, 1, 10)
    steps.finish()
    steps.ask("split", 1, mask=2)
    steps.finish()
    steps.ask("drop", 2, medium=1)
    steps.finish()
    records = either(steps.record("A"), steps.record("B"))
    steps.ask("checkpoint", 3)
    steps.finish(neither(records))
    steps.ask("swap", 4, mask=1 << steps.attach("B"), generation=1)
    steps.finish(neither(records))
    steps.finish(steps.record("A"))
    assert not steps.find(steps.record("A"))
    assert steps.newest("A")[1].op == 4, "the old leg knows that it is the save"
    steps.finish()
    assert steps.done == {1: 0, 2: 0, 3: 0, 4: 0}


def test_what_one_cleaning_saw_written_another_does_not_take_for_flushed() -> None:
    steps = Steps("AB", size=16 << 20)
    steps.write(0, 1, 10)
    steps.finish()
    flushes = lambda a: a["kind"] == ACT_FLUSH  # noqa: E731
    steps.ask("checkpoint", 1)
    first = steps.find(flushes)
    steps.write(1, 2, 11)
    steps.finish(neither(flushes))
    assert steps.answers[1] == 0
    steps.ask("checkpoint", 2)
    for flush in first:
        steps.perform(flush)
    steps.finish(neither(flushes))
    assert steps.done == {1: 0}
    assert steps.newest("AB")[1].regions == [0], (
        "what was written last is in no cache of a disk alone"
    )
    steps.finish()
    assert steps.done == {1: 0, 2: 0}
    assert steps.newest("AB")[1].regions == []


def test_no_host_is_answered_before_a_start_is_durable() -> None:
    steps = Steps("BA")
    steps.write(0, 1, 10)
    steps.finish()
    steps.kill("A")
    steps.perform(steps.find(steps.record("A"))[0], EIO)
    steps.write(1, 1, 11)
    steps.finish(neither(steps.record("A")))
    assert 1 not in steps.answers, "a start would believe the leg that was away"
    steps.finish()
    assert steps.answers[1] == 0
    steps.kill("AB")
    steps.finish()
    assert (steps.block("A", 1), steps.block("B", 1)) == (11, 11)


def test_an_attempt_to_bring_a_leg_in_ends_no_other() -> None:
    steps = Steps("ABC")
    steps.write(0, 1, 10)
    steps.finish()
    steps.write(1, 1, 11)
    steps.perform(steps.find(steps.data("C"))[0], EIO)
    steps.finish()
    steps.ask("sync", 1, medium=2)
    slots = steps.slot("B")
    steps.finish(neither(either(slots, steps.slot("C"))))
    assert steps.find(steps.slot("C")), "its maps are being written"
    steps.perform(steps.find(steps.slot("C"))[0], EIO)
    steps.finish(neither(slots))
    assert steps.events[-1][1] == "C"
    steps.ask("sync", 2, medium=2)
    steps.finish(neither(slots))
    late = steps.find(slots)
    while late:
        steps.perform(late.pop())
    steps.finish(neither(slots, steps.slot("C")))
    in_sync = [leg.state is LegState.IN_SYNC for leg in steps.newest("AB")[1].legs]
    assert not in_sync[2], "it does not have all maps yet"
    steps.finish()
    assert steps.events[-1] == (LEG_IN_SYNC, "C")


def test_a_leg_whose_record_failed_is_a_save_still() -> None:
    steps = Steps("AB")
    steps.write(0, 1, 10)
    steps.finish()
    steps.ask("split", 1, mask=2)
    steps.finish()
    steps.ask("drop", 2, medium=1)
    steps.finish()
    index = steps.attach("B")
    steps.ask("sync", 3, medium=index, base=bytes(16))
    steps.finish(neither(steps.record("A")))
    steps.perform(steps.find(steps.record("A"))[0], EIO)
    assert steps.done[3] != 0
    steps.write(1, 1, 11)
    steps.finish()
    assert steps.answers[1] == 0
    assert len(steps.core.status()["legs"]) == 1
    steps.kill("AB")
    steps.finish()
    assert (steps.block("A", 1), steps.block("B", 1)) == (11, 10)


def test_what_failed_is_written_again_to_the_same_place() -> None:
    steps = Steps("A", size=16 << 20)
    steps.write(0, 1, 10)
    steps.perform(steps.find(steps.record("A"))[0])
    place = steps.newest("A")[1].sequence & 1
    steps.finish()
    steps.write(1, 64, 11)  # of the second region
    failed = steps.find(steps.record("A"))[0]
    steps.perform(failed, EIO)
    assert steps.answers[1] != 0
    steps.write(1, 64, 11)
    again = steps.find(steps.record("A"))[0]
    assert again["offset"] == failed["offset"] != steps.disks["A"].record_offset + 4096 * place
    steps.finish()
    assert steps.answers[1] == 0
    steps.ask("checkpoint", 1)
    steps.finish(neither(steps.slot("A")))
    failed = steps.find(steps.slot("A"))[0]
    steps.perform(failed, EIO)
    steps.finish()
    steps.ask("checkpoint", 2)
    steps.finish(neither(steps.slot("A")))
    assert steps.find(steps.slot("A"))[0]["offset"] == failed["offset"]


def test_a_void_slot_that_counts_higher_puts_no_write_over_the_valid_one() -> None:
    for writes in (7, 8):
        steps = Steps("A")
        for number in range(writes):
            steps.write(0, number, 10)
            steps.ask("checkpoint", 1)
            steps.finish()
        steps.ask("copy", 2, medium=steps.attach("C"))
        steps.finish()
        steps.ask("drop", 3, medium=1)
        steps.finish()
        # There, where slots count from one again, and back.
        steps.ask("swap", 4, mask=1 << steps.attach("C"), generation=1)
        steps.finish()
        steps.kill("C")
        steps.finish()
        steps.ask("swap", 5, mask=1 << steps.attach("A"), generation=2)
        steps.finish()
        steps.write(0, 1, 10)
        steps.ask("checkpoint", 6)
        steps.finish(neither(steps.slot("A")))
        valid = steps.find(steps.slot("A"))[0]["offset"]
        steps.finish()
        steps.kill("A")
        steps.finish(neither(steps.slot("A")))
        steps.write(0, 20, 10)
        steps.ask("checkpoint", 7)
        steps.finish(neither(steps.slot("A")))
        assert steps.find(steps.slot("A"))[0]["offset"] != valid, "torn, it would take all marks"


def test_a_read_that_failed_on_a_leg_that_leaves_is_read_from_another() -> None:
    steps = Steps("AB")
    steps.write(0, 1, 10)
    steps.finish()
    steps.core.command(1, 1, EXTENT, 4096)
    steps.take()
    assert steps.ask("drop", 1, medium=0) == 0
    steps.perform(steps.find(steps.data("A", ACT_READ))[0], EIO)
    steps.finish()
    assert steps.answers[1] == 0
    assert steps.read[1] == 10


def test_a_flush_counts_on_a_leg_that_came_in_sync_meanwhile() -> None:
    steps = Steps("A")
    steps.write(0, 1, 10)
    steps.finish()
    b = steps.attach("B")
    assert steps.ask("sync", 1, medium=b) == 0
    steps.finish(neither(steps.flush("A"), steps.flush("B")))
    steps.core.command(1, 3, 0, 0, 0)
    steps.finish(neither(steps.flush("A")))
    assert 1 not in steps.answers
    assert steps.core.status()["legs"][steps.disks["B"].uuid]["state"] == "in_sync"
    assert steps.ask("drop", 2, medium=0) == 0
    steps.finish()
    assert steps.answers[1] == 0


def test_a_leg_is_brought_in_though_the_last_one_slipped_at_its_end() -> None:
    for failing in ("slot", "record"):
        steps = Steps("AB")
        steps.write(0, 1, 10)
        steps.finish()
        steps.write(1, 1, 11)
        steps.perform(steps.find(steps.data("A"))[0], EIO)
        steps.finish()
        steps.ask("sync", 1, medium=0)
        where = getattr(steps, failing)
        steps.finish(neither(either(steps.slot("B"), steps.record("B"))))
        steps.finish(steps.record("B"))
        steps.finish(neither(either(steps.slot("B"), steps.record("B"))))
        if failing == "record":
            steps.finish(steps.slot("B"))
        failed = steps.find(where("B"))
        assert failed, failing
        steps.perform(failed[0], EIO)
        steps.finish()
        states = steps.core.status()["legs"]
        assert "syncing" not in [leg["state"] for leg in states.values()], failing
        if failing == "slot":
            assert steps.events[-1] == (LEG_STALE, "A")
            steps.ask("sync", 2, medium=0)
            steps.finish()
        assert steps.events[-1] == (LEG_IN_SYNC, "A"), failing
        assert steps.block("A", 1) == 11


def test_a_write_that_failed_on_the_last_leg_is_taken_back_on_one_that_was_brought_in() -> None:
    steps = Steps("AB")
    steps.write(0, 1, 10)
    steps.finish()
    steps.write(1, 1, 11)
    steps.perform(steps.find(steps.data("B"))[0], EIO)
    steps.finish()
    steps.ask("sync", 1, medium=1)
    steps.write(2, 100, 12)  # of another region
    steps.finish(neither(steps.slot("A"), steps.slot("B"), steps.data("A"), steps.data("B")))
    steps.finish(steps.data("B"))
    steps.perform(steps.find(steps.data("A"))[0], EIO)
    steps.finish(neither(steps.data("B"), steps.record("B")))
    assert steps.answers[2] != 0
    steps.ask("checkpoint", 3)
    steps.finish(neither(steps.data("B")))
    assert steps.newest("A")[1].regions == []
    steps.kill("AB")
    steps.finish()
    assert steps.block("A", 100) == steps.block("B", 100)
