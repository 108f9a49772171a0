"""Saves without fill in the core, each where two things meet that seldom do at the step where it matters."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise

from tests.engine.steps import (
    ACT_READ,
    EIO,
    EXTENT,
    PAGE,
    SPARSE_LOST,
    STORE_BROKEN,
    STORE_LOW,
    Action,
    Steps,
    Where,
    neither,
)

GROUP = 2 * 4096 + PAGE * EXTENT


def with_store(legs: str = "AB", groups: int = 1) -> Steps:
    """A volume with an empty store of two slots a group."""
    steps = Steps(legs, groups=groups)
    store = steps.attach("S")
    assert steps.ask("store", 900, medium=store) == 0
    steps.finish()
    assert steps.done[900] == 0
    return steps


def save(steps: Steps, number: int) -> int:
    """Makes a save without fill. Returns its generation."""
    store = next(i for i, disk in steps.media.items() if disk.name == "S")
    generation = steps.core.generation
    assert steps.ask("copy", number, medium=store) == 0
    steps.finish()
    assert steps.done[number] == 0
    return generation


def put(steps: Steps, tag: int, extent: int, stamp: int) -> None:
    steps.write(tag, extent, stamp)
    steps.finish()
    assert steps.answers[tag] == 0


def shown(steps: Steps, number: int, generation: int, extent: int) -> int | bytes:
    """What a save has at the start of an extent."""
    assert (
        steps.ask("look", number, generation=generation, offset=extent * EXTENT, length=4096) == 0
    )
    steps.finish()
    assert steps.done[number] == 0
    return steps.given[0]


def states(steps: Steps) -> dict[int, str]:
    store = steps.core.status()["store"]
    return {generation: one["state"] for generation, one in store["saves"].items()}


def test_several_saves_share_one_copy_and_each_shows_its_own() -> None:
    steps = with_store(groups=4)
    put(steps, 1, 5, 10)
    first = save(steps, 1)
    second = save(steps, 2)
    put(steps, 2, 5, 20)
    third = save(steps, 3)
    put(steps, 3, 5, 30)
    assert steps.core.status()["store"]["used"] == 2, "one copy for the first two"
    assert [shown(steps, 10 + g, g, 5) for g in (first, second, third)] == [10, 10, 20]
    assert steps.ask("forget", 20, generation=second) == 0  # the middle one
    steps.finish()
    steps.kill("ABS")
    steps.finish()
    assert [shown(steps, 10 + g, g, 5) for g in (first, third)] == [10, 20]
    assert states(steps) == {first: "sparse", third: "sparse"}


def test_a_host_waits_for_the_copy_its_flush_and_its_entry() -> None:
    steps = with_store()
    put(steps, 1, 5, 10)
    save(steps, 1)
    steps.write(2, 5, 20)
    for what in (steps.data("A", ACT_READ), steps.data("S"), steps.flush("S"), steps.page):
        steps.finish(neither(steps.on("S")))
        assert steps.block("A", 5) == 10
        assert 2 not in steps.answers
        steps.finish(what)
    steps.finish()
    assert steps.block("A", 5) == 20


def test_heads_and_pages_are_each_written_to_two_places_in_turn() -> None:
    steps = with_store(groups=4)
    heads: list[int] = []
    pages: list[int] = []

    def noted(places: list[int], where: Where) -> Where:
        def note(action: Action) -> bool:
            if where(action):
                places.append(action["offset"])
            return False

        return note

    for turn in range(1, 4):
        save(steps, turn)
        steps.write(turn, 5, turn)
        while steps.under_way:
            action = steps.under_way[0]
            noted(heads, steps.head())(action)
            noted(pages, steps.page)(action)
            steps.perform(action)
    assert all(one != other for one, other in pairwise(pages))
    steps.core.request("hold", 50, generation=1)
    steps.take()
    (held,) = steps.find(steps.head())
    steps.finish()
    steps.core.request("unhold", 51, generation=1)
    steps.take()
    (unheld,) = steps.find(steps.head())
    assert held["offset"] != unheld["offset"]


def test_room_is_used_again_only_when_nobody_reads_it() -> None:
    steps = with_store()
    put(steps, 1, 5, 10)
    first = save(steps, 1)
    put(steps, 2, 5, 20)
    put(steps, 3, 6, 21)  # both slots are taken
    steps.ask("look", 10, generation=first, offset=5 * EXTENT, length=4096)
    reading = steps.data("S", ACT_READ)
    assert steps.find(reading)
    second = save_while(steps, 2, reading)
    steps.ask("forget", 3, generation=first)
    steps.finish(neither(reading))
    assert steps.done[3] == 0
    steps.write(4, 5, 30)
    steps.finish(neither(reading))
    assert 4 not in steps.answers, "the only slots are being read"
    steps.finish()
    assert steps.answers[4] == 0
    assert shown(steps, 20, second, 5) == 20
    assert steps.done[10] == -2, "what it read is no save's any more"


def save_while(steps: Steps, number: int, held: Where) -> int:
    store = next(i for i, disk in steps.media.items() if disk.name == "S")
    generation = steps.core.generation
    assert steps.ask("copy", number, medium=store) == 0
    steps.finish(neither(held))
    assert steps.done[number] == 0
    return generation


def test_what_is_looked_at_in_a_leg_is_not_overwritten_meanwhile() -> None:
    steps = with_store()
    put(steps, 1, 5, 10)
    first = save(steps, 1)
    steps.ask("look", 10, generation=first, offset=5 * EXTENT, length=4096)
    reading = steps.find(lambda a: a["kind"] == ACT_READ)
    steps.write(2, 5, 20)
    steps.finish(lambda action: action not in reading)
    assert 2 not in steps.answers
    steps.finish()
    assert steps.given[0] == 10
    assert steps.answers[2] == 0


def test_the_oldest_that_nobody_holds_is_lost_and_known_as_lost_before_the_write() -> None:
    steps = with_store()
    first = save(steps, 1)
    put(steps, 1, 1, 10)
    second = save(steps, 2)
    put(steps, 2, 1, 20)
    assert (STORE_LOW, "S") in steps.events
    steps.ask("hold", 3, generation=first)
    steps.finish()
    third = save(steps, 4)
    steps.write(3, 3, 30)
    steps.finish(neither(steps.head()))
    assert 3 not in steps.answers
    assert steps.block("A", 3) == 0
    steps.finish()
    assert steps.answers[3] == 0, "no save stops a host"
    assert (SPARSE_LOST, "S") in steps.events
    assert states(steps)[second] == "broken"
    assert states(steps)[first] == "sparse"
    assert shown(steps, 10, first, 1) == 0
    assert shown(steps, 11, third, 3) == 0


def test_entries_of_a_lost_save_stay_until_it_is_known_as_lost() -> None:
    steps = with_store(groups=1)
    first = save(steps, 1)
    put(steps, 1, 1, 10)
    second = save(steps, 2)
    put(steps, 2, 2, 20)
    third = save(steps, 3)
    steps.write(3, 3, 30)  # no room: the first is lost
    steps.finish(neither(steps.head()))
    assert states(steps)[first] == "broken"
    steps.ask("forget", 4, generation=second)  # which looks through the entries, too
    steps.finish(neither(steps.head()))
    steps.kill("ABS")  # nothing of both is known
    steps.finish()
    assert states(steps) == {first: "sparse", second: "sparse", third: "sparse"}
    assert shown(steps, 10, first, 1) == 0
    assert shown(steps, 11, second, 2) == 0


def test_a_store_that_fails_breaks_its_saves_and_stops_no_host() -> None:
    steps = with_store()
    first = save(steps, 1)
    steps.write(1, 1, 10)
    steps.finish(lambda a: steps.on("A")(a) or steps.on("B")(a))
    steps.finish(steps.data("S"))
    steps.finish(steps.flush("S"), EIO)
    steps.finish(neither(steps.record("A"), steps.record("B")))
    assert steps.block("A", 1) == 0, "its saves are not known as broken yet"
    steps.finish()
    assert steps.answers[1] == 0
    assert (STORE_BROKEN, "S") in steps.events
    steps.kill("ABS")
    steps.finish()
    store = steps.core.status()["store"]
    assert store["state"] == "broken"
    assert states(steps) == {first: "broken"}


def test_a_file_system_that_is_full_makes_the_store_smaller_and_breaks_no_disk() -> None:
    steps = with_store(groups=4)
    first = save(steps, 1)
    put(steps, 1, 1, 10)
    steps.write(2, 2, 20)
    while steps.under_way:
        action = steps.under_way[0]
        full = steps.data("S")(action) and not steps.page(action)
        steps.perform(action, -28 if full else 0)
    assert steps.answers[2] == 0
    assert states(steps)[first] == "broken"
    assert steps.core.status()["store"]["state"] == "ready"
    second = save(steps, 2)
    put(steps, 3, 1, 11)
    assert shown(steps, 10, second, 1) == 10, (
        "its slot was written before, so it can be written again"
    )


def test_a_recover_of_a_middle_save_keeps_the_others_and_can_be_undone() -> None:
    steps = with_store(groups=8)
    put(steps, 1, 5, 10)
    first = save(steps, 1)
    put(steps, 2, 5, 20)
    second = save(steps, 2)
    put(steps, 3, 5, 30)
    third = save(steps, 3)
    put(steps, 4, 5, 40)
    store = next(i for i, disk in steps.media.items() if disk.name == "S")
    undo = steps.core.generation
    nothing = bytes(16)
    steps.ask("recover", 4, medium=store, generation=second, base=nothing, save=store)
    steps.finish()
    assert steps.done[4] == 0
    assert steps.block("A", 5) == steps.block("B", 5) == 20
    found = [shown(steps, 10 + g, g, 5) for g in (first, second, third, undo)]
    assert found == [10, 20, 30, 40]


def test_what_must_stay_is_refused() -> None:
    steps = with_store()
    store = next(i for i, disk in steps.media.items() if disk.name == "S")
    first = save(steps, 1)
    spare = steps.attach("C")
    assert steps.ask("drop", 2, medium=store) == -16, "a save is looked up in it"
    assert steps.ask("swap", 3, mask=1 << spare) == -16, "what it looks up would not be in the legs"
    assert steps.ask("store", 4, medium=spare) == -16, "there is one"
    assert steps.ask("sync", 5, medium=store) in (-16, -28)
    assert steps.ask("split", 6, mask=1 << store) == -22
    assert steps.ask("forget", 7, generation=99) == -2
    assert steps.ask("look", 8, generation=99, offset=0, length=4096) == -2
    assert steps.ask("look", 9, generation=first, offset=1, length=4096) == -34
    steps.ask("forget", 10, generation=first)
    steps.finish()
    assert steps.ask("drop", 11, medium=store) == 0
    steps.finish()
    assert steps.core.status()["store"] is None


def index(steps: Steps) -> int:
    return next(i for i, disk in steps.media.items() if disk.name == "S")


def test_a_store_is_not_dropped_with_a_head_under_way() -> None:
    steps = with_store(groups=4)
    first = save(steps, 1)

    def of_the_next_group(action: Action) -> bool:
        return steps.page(action) and action["offset"] >= GROUP

    steps.write(1, 5, 10)  # a slot of two is taken: another group is made, and its pages are slow
    steps.finish(neither(of_the_next_group))
    assert len(steps.find(of_the_next_group)) == 2
    steps.ask("forget", 2, generation=first)
    steps.finish(neither(of_the_next_group))
    assert steps.done[2] == 0
    assert steps.ask("drop", 3, medium=index(steps)) == 0
    steps.finish(neither(of_the_next_group))
    assert 3 not in steps.done
    steps.finish(of_the_next_group)
    left = steps.find(steps.on("S"))
    assert 3 not in steps.done or not left, (
        "it is dropped, and its descriptor goes, with a head on its way to it"
    )


def test_a_held_save_is_not_lost_while_another_is_being_released() -> None:
    steps = with_store()
    first = save(steps, 1)
    put(steps, 1, 1, 10)
    second = save(steps, 2)
    put(steps, 2, 1, 20)  # no slot is left
    steps.ask("hold", 3, generation=first)
    steps.finish()
    steps.ask("forget", 4, generation=second)  # which makes room, when its head is durable
    heads = steps.find(steps.head())
    assert heads
    steps.write(3, 3, 30)
    steps.finish(lambda action: action not in heads)
    steps.finish()
    assert steps.answers[3] == 0
    assert states(steps)[first] == "sparse", "it is held, and there was room a moment later"


def test_groups_beyond_the_medium_are_not_taken_up() -> None:
    """A head that tells of more groups than there is room for."""
    steps = with_store(groups=2)
    save(steps, 1)
    put(steps, 1, 1, 10)
    disk = steps.disks["S"]
    head = max(
        (block for block in disk.records() if block[:8] == b"TPLGSTO1"), key=lambda b: b[40:48]
    )
    pages = [block for block in disk.slots() if block[:4] == b"TPE1"]
    nonce = head[16:24]
    many = 4000  # far behind the memory of two
    head = sealed(head[:48] + struct.pack("<I", many) + head[52:], 8)
    more = [page(number, 9, nonce, [(1, 1), (2, 1)]) for number in range(2, many)]
    block, _ = steps.newest("AB")
    steps.boot("ABS", block, [head, *pages, *more])
    steps.finish()
    store = steps.core.status()["store"]
    assert store["state"] == "broken", "it was written behind page_dirty and page_sequence"


def sealed(block: bytes, at: int) -> bytes:
    block = block[:at] + bytes(4) + block[at + 4 :]
    return block[:at] + struct.pack("<I", zlib.crc32(block)) + block[at + 4 :]


def page(number: int, sequence: int, nonce: bytes, entries: list[tuple[int, int]]) -> bytes:
    block = b"TPE1" + bytes(8) + struct.pack("<IIII", number, 0, sequence, 0)[:12] + nonce
    block += b"".join(struct.pack("<II", *entry) for entry in entries)
    return sealed(block.ljust(4096, b"\0"), 4)


def test_a_save_asked_for_while_its_store_is_made_survives_that_failing() -> None:
    steps = Steps("A", groups=4)
    store = steps.attach("S")
    assert steps.ask("store", 900, medium=store) == 0
    steps.finish(neither(steps.record("A")))
    if steps.ask("copy", 1, medium=store):
        return  # refused, as it may be
    steps.finish(neither(steps.record("A")))
    for record in steps.find(steps.record("A")):
        steps.perform(record, EIO)
    steps.finish()
    assert steps.done[900] != 0
    assert 1 in steps.done
    if steps.done[1] == 0:
        steps.write(1, 5, 10)
        steps.finish()
        assert steps.answers[1] == 0
        assert not steps.core.status()["saves"], "the store became a save that fills"
        assert steps.core.status()["store"] is not None, "a save is told as made that is nowhere"


def test_what_a_broken_store_s_head_had_before_its_point_failed_is_no_save_later() -> None:
    steps = with_store()
    first = save(steps, 1)
    second = steps.core.generation
    assert steps.ask("copy", 2, medium=index(steps)) == 0
    steps.finish(neither(steps.record("A"), steps.record("B")))
    steps.kill("ABS")  # before the record: the head names a save that is none
    steps.write(1, 1, 10)
    while steps.under_way:
        action = steps.under_way[0]
        steps.perform(action, EIO if steps.on("S")(action) else 0)
    assert (STORE_BROKEN, "S") in steps.events
    assert steps.core.generation == second
    assert steps.ask("split", 3, mask=2) == 0  # freezes that generation
    steps.finish()
    assert steps.done[3] == 0
    steps.kill("AS")
    steps.finish()
    assert states(steps) == {first: "broken"}
