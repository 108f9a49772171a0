"""What the core says of a medium that does not answer: whether it can be done without, and that it is not
believed from then on.
"""

from __future__ import annotations

from tests.engine.steps import Steps

TIMED_OUT = -110


def index(steps: Steps, name: str) -> int:
    return next(index for index, disk in steps.media.items() if disk.name == name)


def give_up(steps: Steps, name: str) -> bool:
    """As the executor does it: the core first, then every request of the medium."""
    if not steps.core.gave_up(index(steps, name)):
        return False
    for action in steps.find(steps.on(name)):
        steps.under_way.remove(action)
        steps.core.completed(action["tag"], TIMED_OUT)
    steps.take()
    return True


def states(steps: Steps) -> dict[str, str]:
    legs = steps.core.status()["legs"]
    return {d.name: legs[d.uuid]["state"] for d in steps.media.values() if d.uuid in legs}


def test_the_last_leg_in_sync_is_never_given_up() -> None:
    steps = Steps("AB")
    assert give_up(steps, "A")
    assert not give_up(steps, "B")
    assert states(steps) == {"A": "stale", "B": "in_sync"}
    assert give_up(steps, "A"), "once more, for what could not be given up then"


def test_a_write_is_answered_when_the_record_says_so() -> None:
    steps = Steps("AB")
    steps.write(0, 1, 7)
    steps.finish(steps.on("B"))
    assert 0 not in steps.answers
    give_up(steps, "A")
    while 0 not in steps.answers:
        steps.perform(steps.find(steps.on("B"))[0])
    assert steps.answers[0] == 0
    _, record = steps.newest("B")
    assert {leg.uuid[:1]: leg.state.name for leg in record.legs} == {b"A": "STALE", b"B": "IN_SYNC"}


def test_it_is_not_the_last_where_the_other_fails_just_then() -> None:
    steps = Steps("AB")
    steps.write(0, 1, 7)
    steps.finish(steps.record("A"))
    steps.finish(steps.record("B"))
    [there] = steps.find(steps.data("B"))
    assert steps.core.gave_up(index(steps, "A"))
    steps.under_way.remove(there)
    steps.core.completed(there["tag"], -5)
    [here] = steps.find(steps.data("A"))
    steps.under_way.remove(here)
    steps.core.completed(here["tag"], TIMED_OUT)
    steps.take()
    assert states(steps) == {"A": "stale", "B": "in_sync"}


def test_a_point_that_is_undone_does_not_bring_it_back() -> None:
    steps = Steps("ABC")
    assert steps.ask("split", 5, mask=1 << index(steps, "C")) == 0
    before = steps.core.generation
    while steps.core.generation == before:
        steps.perform(steps.under_way[0])
    assert give_up(steps, "A")
    steps.finish(lambda action: steps.core.generation != before, -5)
    steps.finish()
    assert steps.done[5] != 0
    assert states(steps)["A"] == "stale"


def test_what_a_recover_reads_is_waited_for() -> None:
    steps = Steps("AB")
    steps.ask("split", 5, mask=1 << index(steps, "B"))
    steps.finish()
    steps.write(0, 3, 7)
    steps.finish()
    steps.ask("recover", 6, medium=index(steps, "B"), generation=1, base=bytes(16))
    steps.finish(lambda action: 6 not in steps.done)
    assert not give_up(steps, "B")
