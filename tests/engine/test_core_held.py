"""A point that waits for others, at the steps where something else happens meanwhile."""

from __future__ import annotations

from errno import ECANCELED

import pytest

from tests.engine.steps import EIO, SAVE_WHOLE, Steps, neither


def held(verb: str = "split", legs: str = "AB") -> Steps:
    """A volume whose point waits, held, with a host's write behind it."""
    steps = Steps(legs)
    steps.write(0, 1, 10)
    steps.finish()
    which = {"mask": 2} if verb == "split" else {"medium": steps.attach("C")}
    assert steps.ask(verb, 1, waits=True, **which) == 0
    steps.finish()
    assert steps.core.stage() == "ready"
    assert not steps.core.go()
    assert steps.core.may_pause()
    steps.take()
    steps.finish()
    assert steps.core.stage() == "held"
    steps.write(1, 1, 11)
    steps.finish()
    assert 1 not in steps.answers
    return steps


def test_hosts_are_not_held_before_they_may_be() -> None:
    steps = Steps("AB")
    steps.ask("split", 1, mask=2, waits=True)
    steps.finish()
    steps.write(1, 1, 11)
    steps.finish()
    assert steps.answers[1] == 0
    assert not steps.core.paused


@pytest.mark.parametrize("verb", ["split", "copy"])
def test_it_is_in_force_when_it_may_go(verb: str) -> None:
    steps = held(verb)
    assert steps.core.go()
    assert not steps.core.call_off(), "it is decided"
    steps.take()
    steps.finish(neither(steps.record("A"), steps.record("B")))
    assert 1 not in steps.answers, "its record is the commit"
    steps.finish()
    assert (steps.done[1], steps.answers[1], steps.core.generation) == (0, 0, 2)
    assert steps.block("B" if verb == "split" else "C", 1) == 10
    assert verb == "split" or SAVE_WHOLE in [kind for kind, _ in steps.events]


@pytest.mark.parametrize("verb", ["split", "copy"])
def test_it_can_be_called_off_while_it_is_held(verb: str) -> None:
    steps = held(verb)
    assert steps.core.call_off()
    assert not steps.core.paused
    steps.take()
    steps.finish()
    assert (steps.done[1], steps.answers[1]) == (-ECANCELED, 0)
    assert (steps.core.generation, steps.core.op) == (1, 0)
    assert steps.block("B", 1) == 11
    assert not steps.core.go()
    assert steps.ask("split", 2, mask=2) == 0
    steps.finish()
    assert steps.done[2] == 0


def test_hosts_go_on_at_once_though_a_flush_for_it_does_not_end() -> None:
    steps = Steps("AB")
    steps.write(0, 1, 10)
    steps.finish()
    steps.ask("split", 1, mask=2, waits=True)
    steps.finish()
    assert steps.core.may_pause()
    steps.take()
    steps.finish(neither(steps.flush("B")))
    assert steps.core.stage() == "draining"
    assert steps.core.call_off()
    steps.take()
    steps.write(1, 1, 11)
    steps.finish(neither(steps.flush("B")))
    assert steps.answers[1] == 0
    assert 1 not in steps.done, "what it waits for is not over"
    steps.finish()
    assert (steps.done[1], steps.core.generation) == (-ECANCELED, 1)


def test_a_leg_that_fails_meanwhile_is_no_save() -> None:
    steps = held()
    assert steps.core.gave_up(1)
    steps.take()
    steps.finish()
    assert steps.core.stage() == "none"
    assert not steps.core.go()
    assert steps.core.call_off()
    steps.take()
    steps.finish()
    assert (steps.done[1], steps.answers[1], steps.core.generation) == (-ECANCELED, 0, 1)


def test_what_goes_on_without_a_leg_that_failed_meanwhile_is_whole() -> None:
    steps = held("copy")
    assert steps.core.gave_up(1)
    steps.take()
    steps.finish()
    assert steps.core.go()
    steps.take()
    steps.finish()
    assert (steps.done[1], steps.answers[1], steps.core.generation) == (0, 0, 2)
    assert steps.block("C", 1) == 10
    steps.kill("AC")
    steps.finish()
    assert steps.core.generation == 2


def test_a_kill_while_it_is_held_leaves_nothing_of_it() -> None:
    steps = held()
    steps.kill("AB")
    steps.finish()
    assert (steps.core.generation, steps.core.op) == (1, 0)
    assert {leg["state"] for leg in steps.core.status()["legs"].values()} == {"in_sync"}


def test_a_record_that_can_not_be_written_takes_it_back() -> None:
    steps = held("copy", "A")
    assert steps.core.go()
    steps.take()
    steps.finish(steps.record("A"), EIO)
    steps.finish()
    assert steps.done[1] == EIO
    assert steps.core.generation == 1
