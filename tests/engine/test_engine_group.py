"""Two volumes on two native threads, saved as one while a host writes to both."""

from __future__ import annotations

import os
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from targetplugin.engine import CalledOff, Engine, Point, RecoverMember, SaveMember, SwapMember
from targetplugin.engine.group import Group
from targetplugin.errors import Reason, Refused
from tests.engine.conftest import SIZE, Rig
from tests.waiting import until

NOTHING = bytes(SIZE // 65536 // 8)
BLOCK = 4096


class Other(Rig):
    """A second volume on the engine of a first one."""

    def __init__(self, folder: Path, first: Rig) -> None:
        self.first = first
        super().__init__(folder)

    def make(self) -> Engine:
        return self.first.engine


class Two(Rig):
    def make(self) -> Engine:
        engine = Engine(2, self.on_command, self.on_event)
        engine.start()
        return engine


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Rig, Rig]]:
    data = Two(tmp_path)
    log = Other(tmp_path, data)
    data.create("a", "b")
    log.create("c", "d")
    yield data, log
    data.close()
    log.close()


def save(pair: tuple[Rig, Rig], op: int, deadline: int = 2000) -> list[Point | Refused]:
    data, log = pair
    members = [
        SaveMember(data.handle, op, leaving=(data.media["b"].uuid,)),
        SaveMember(log.handle, op + 1, leaving=(log.media["d"].uuid,)),
    ]
    return data.engine.save_group(members, deadline)


class Writer:
    """A host that writes a number to the first volume, then the same to the second, and so on."""

    def __init__(self, pair: tuple[Rig, Rig]) -> None:
        self.pair = pair
        self.number = 0
        self.longest = 0.0  # seconds for one write
        self.ended = False
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while not self.ended:
            self.number += 1
            block = self.number.to_bytes(8, "big") * (BLOCK // 8)
            for rig in self.pair:
                begin = time.monotonic()
                assert rig.ring.write(self.number % 64 * 8, block).status == 0
                self.longest = max(self.longest, time.monotonic() - begin)

    def __enter__(self) -> Writer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True
        self.thread.join()


def newest(rig: Rig, medium: str) -> int:
    raw = rig.content(medium, 0, 64 * BLOCK)
    return max(int.from_bytes(raw[at : at + 8], "big") for at in range(0, len(raw), BLOCK))


def whole(rig: Rig) -> bool:
    saves = rig.engine.status(rig.handle)["saves"].values()
    return all(save["state"] == "whole" for save in saves)


def again(rig: Rig, medium: str) -> None:
    """The save's medium becomes a leg again."""
    rig.events.clear()
    rig.engine.add_leg(rig.handle, rig.media[medium], NOTHING)


def test_a_hundred_saves_of_two_volumes_are_each_one_instant(pair: tuple[Rig, Rig]) -> None:
    data, log = pair
    with Writer(pair) as writer:
        for round in range(100):
            points = save(pair, 2 * round + 1, 5000)
            assert all(isinstance(point, Point) for point in points), points
            first, second = newest(data, "b"), newest(log, "d")
            assert first - second in (0, 1), f"round {round}: {first} and {second}"
            again(data, "b")
            again(log, "d")
            data.wait_event("leg_in_sync", "b")
            until(lambda: len(log.engine.status(log.handle)["legs"]) == 2)
            until(
                lambda: all(
                    leg["state"] == "in_sync"
                    for leg in log.engine.status(log.handle)["legs"].values()
                )
            )
    assert writer.number > 100


def test_a_group_may_split_one_volume_and_copy_another(pair: tuple[Rig, Rig]) -> None:
    data, log = pair
    data.ring.write(0, b"d" * BLOCK)
    log.ring.write(0, b"l" * BLOCK)
    members = [
        SaveMember(log.handle, 1, save=log.medium("e")),
        SaveMember(data.handle, 2, leaving=(data.media["b"].uuid,)),
    ]
    first, second = data.engine.save_group(members, 2000)
    assert isinstance(first, Point)
    assert isinstance(second, Point)
    assert (first.left, second.left) == ([], [data.media["b"].uuid])
    log.ring.write(0, b"x" * BLOCK)
    until(lambda: "save_whole" in [event.kind for event in data.events])
    assert log.content("e", 0, BLOCK) == b"l" * BLOCK
    assert data.content("b", 0, BLOCK) == b"d" * BLOCK
    assert log.record("c").op == 1
    assert data.record("a").op == 2


@pytest.fixture
def stuck(pair: tuple[Rig, Rig]) -> Iterator[None]:
    """A read of the second volume that does not end until the test does."""
    _, log = pair
    here, there = os.openpty()
    tty.setraw(there)
    log.engine.drop_leg(log.handle, log.media["d"].uuid)
    served = log.engine._volumes[log.handle]
    with served:
        served.reactor.set_fd(served.number, 0, there)
    number = log.ring.send(bytes([0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0]), data_in=BLOCK)
    until(lambda: bool(served.reactor.counters(served.number)["io"]))
    with served:
        served.reactor.set_fd(served.number, 0, log.media["c"].fd)
    yield
    os.write(here, b"t" * BLOCK)
    assert log.ring.wait(number).data == b"t" * BLOCK
    for end in (here, there):
        os.close(end)


def test_what_does_not_drain_calls_all_off_at_the_deadline(
    pair: tuple[Rig, Rig], stuck: None
) -> None:
    data, log = pair
    before = [rig.engine.status(rig.handle)["generation"] for rig in pair]
    members = [
        SaveMember(data.handle, 1, leaving=(data.media["b"].uuid,)),
        SaveMember(log.handle, 2, save=log.medium("e")),
    ]
    results: list[Point | Refused] = []
    asked = threading.Thread(target=lambda: results.extend(data.engine.save_group(members, 200)))
    asked.start()
    until(lambda: data.engine.status(data.handle)["paused"])
    begin = time.monotonic()
    assert data.ring.write(0, b"w" * BLOCK).status == 0  # which waits for it
    assert 0.05 < time.monotonic() - begin < 1.0
    asked.join()
    first, second = results
    assert isinstance(first, CalledOff)
    assert isinstance(second, Refused)
    assert second.reason is Reason.BUSY
    assert "not over within 200 ms" in second.message
    assert [rig.engine.status(rig.handle)["generation"] for rig in pair] == before
    assert data.engine.status(data.handle)["ring"]["pause_us"] < 400_000
    assert log.ring.write(8, b"w" * BLOCK).status == 0
    assert isinstance(save_first(pair), Point)


def save_first(pair: tuple[Rig, Rig]) -> Point:
    """One of a single volume is as always."""
    data, _ = pair
    return data.engine.save_split(data.handle, [data.media["b"].uuid], 9)


def test_hosts_go_on_at_the_deadline_though_whoever_asked_stands_still(
    pair: tuple[Rig, Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, log = pair
    held = threading.Event()
    look = Group._all

    def stands(group: Group, stage: str) -> bool:
        reached = look(group, stage)
        if stage == "held":
            held.set()
            time.sleep(1.5)
        return reached

    monkeypatch.setattr(Group, "_all", stands)
    results: list[Point | Refused] = []
    asked = threading.Thread(target=lambda: results.extend(save(pair, 1, 200)))
    asked.start()
    assert held.wait(5)
    begin = time.monotonic()
    for rig in pair:
        assert rig.ring.write(0, b"w" * BLOCK).status == 0
    assert time.monotonic() - begin < 1.0
    asked.join()
    assert all(isinstance(one, Refused) for one in results)
    assert data.engine.status(data.handle)["generation"] == 1
    assert all(leg["state"] == "in_sync" for leg in log.engine.status(log.handle)["legs"].values())


def test_a_member_that_can_not_be_saved_leaves_the_others_as_they_are(
    pair: tuple[Rig, Rig],
) -> None:
    data, log = pair
    log.engine.drop_leg(log.handle, log.media["d"].uuid)
    members = [
        SaveMember(data.handle, 1, leaving=(data.media["b"].uuid,)),
        SaveMember(log.handle, 2, leaving=(log.media["c"].uuid,)),
    ]
    first, second = data.engine.save_group(members, 500)
    assert isinstance(first, CalledOff)
    assert isinstance(second, Refused)
    assert "media are not in a state" in second.message
    assert len(data.engine.status(data.handle)["legs"]) == 2


def test_two_groups_of_the_same_volumes_come_one_after_the_other(pair: tuple[Rig, Rig]) -> None:
    data, log = pair
    results: list[Point | Refused] = []

    def ask(first: Rig, second: Rig, op: int) -> None:
        members = [
            SaveMember(rig.handle, op, save=rig.medium(f"{op}{rig.handle}"))
            for rig in (first, second)
        ]
        results.extend(data.engine.save_group(members, 2000))

    threads = [
        threading.Thread(target=ask, args=(data, log, 1)),
        threading.Thread(target=ask, args=(log, data, 2)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert all(isinstance(one, Point) for one in results), results


def test_two_volumes_are_recovered_at_one_instant_while_a_host_writes(
    pair: tuple[Rig, Rig],
) -> None:
    data, log = pair
    with Writer(pair) as writer:
        for point in save(pair, 1, 5000):
            assert isinstance(point, Point)
        kept = newest(data, "b"), newest(log, "d")
        time.sleep(0.1)
        committed = []
        members = [
            RecoverMember(rig.handle, 3, rig.media[medium], 1, NOTHING)
            for rig, medium in ((data, "b"), (log, "d"))
        ]

        def commit() -> None:
            committed.append([rig.engine.status(rig.handle)["paused"] for rig in pair])

        points = data.engine.recover_group(members, 5000, commit)
        assert all(isinstance(point, Point) for point in points), points
        assert committed == [[True, True]]
        reached = writer.number
        until(lambda: writer.number > reached + 2)
    assert 0 <= kept[0] - kept[1] <= 1
    # From there the host's numbers went on, in the same order.
    found = [
        {int.from_bytes(rig.ring.read(at * 8, 8).data[:8], "big") for at in range(64)}
        for rig in pair
    ]
    assert all(max(one) > max(kept) for one in found)
    assert max(found[0]) - max(found[1]) in (0, 1)


def test_a_recover_that_can_not_be_committed_is_called_off(pair: tuple[Rig, Rig]) -> None:
    data, log = pair
    save(pair, 1)
    for rig in pair:
        assert rig.ring.write(0, b"n" * BLOCK).status == 0
    members = [
        RecoverMember(rig.handle, 3, rig.media[medium], 1, NOTHING)
        for rig, medium in ((data, "b"), (log, "d"))
    ]

    def commit() -> None:
        raise Refused(Reason.ENVIRONMENT, "the catalog's disk is full")

    with pytest.raises(Refused, match="disk is full"):
        data.engine.recover_group(members, 2000, commit)
    for rig in pair:
        assert rig.ring.read(0, 8).data == b"n" * BLOCK
        assert rig.engine.status(rig.handle)["generation"] == 2
        assert rig.engine.status(rig.handle)["recover"] is None
    points = data.engine.recover_group(members, 2000, lambda: None)
    assert all(isinstance(point, Point) for point in points)
    for rig in pair:
        assert rig.ring.read(0, 8).data == bytes(BLOCK)


def test_what_is_recovered_together_is_kept_as_of_one_instant(pair: tuple[Rig, Rig]) -> None:
    data, log = pair
    with Writer(pair):
        for point in save(pair, 1, 5000):
            assert isinstance(point, Point)
        time.sleep(0.1)
        members = [
            RecoverMember(
                rig.handle, 3, rig.media[medium], 1, NOTHING, undo=rig.medium(f"undo-{medium}")
            )
            for rig, medium in ((data, "b"), (log, "d"))
        ]
        points = data.engine.recover_group(members, 5000, lambda: None)
        assert all(isinstance(point, Point) for point in points), points
        for rig in pair:
            until(lambda rig=rig: whole(rig))
    kept = newest(data, "undo-b"), newest(log, "undo-d")
    assert kept[0] - kept[1] in (0, 1), kept
    assert kept[0] > newest(data, "b")


def test_an_undo_medium_that_can_not_be_had_leaves_all_as_they_are(pair: tuple[Rig, Rig]) -> None:
    data, log = pair
    save(pair, 1)
    small = log.medium("e")
    members = [
        RecoverMember(data.handle, 3, data.media["b"], 1, NOTHING, undo=data.medium("f")),
        RecoverMember(
            log.handle, 4, log.media["d"], 1, NOTHING, undo=replace(small, data_size=BLOCK)
        ),
    ]
    first, second = data.engine.recover_group(members, 500, lambda: None)
    assert isinstance(first, CalledOff)
    assert isinstance(second, Refused)
    for rig in pair:
        assert rig.engine.status(rig.handle)["recover"] is None
        assert list(rig.engine.status(rig.handle)["saves"]) == []
    plain = [replace(member, undo=None) for member in members]
    points = data.engine.recover_group(plain, 2000, lambda: None)
    assert all(isinstance(point, Point) for point in points), points


def test_two_volumes_are_swapped_at_one_instant_while_a_host_writes(pair: tuple[Rig, Rig]) -> None:
    data, log = pair
    with Writer(pair) as writer:
        for point in save(pair, 1, 5000):
            assert isinstance(point, Point)
        time.sleep(0.1)
        members = [
            SwapMember(rig.handle, 3, (rig.media[medium],), 1)
            for rig, medium in ((data, "b"), (log, "d"))
        ]
        committed = []

        def commit() -> None:
            committed.append([rig.engine.status(rig.handle)["paused"] for rig in pair])

        points = data.engine.swap_group(members, 5000, commit)
        assert committed == [[True, True]]
        for rig, medium, point in zip(pair, "ac", points, strict=True):
            assert isinstance(point, Point)
            assert point.left == [rig.media[medium].uuid]
        reached = writer.number
        until(lambda: writer.number > reached + 2)
    # What they were is of one instant, and the host's writes go to what they are.
    left = newest(data, "a"), newest(log, "c")
    assert left[0] - left[1] in (0, 1), left
    assert newest(data, "b") == newest(log, "d") == writer.number
    for rig, medium in zip(pair, "bd", strict=True):
        assert list(rig.engine.status(rig.handle)["legs"]) == [rig.media[medium].uuid]


def test_a_swap_that_can_not_be_of_all_is_of_none(pair: tuple[Rig, Rig]) -> None:
    data, log = pair
    save(pair, 1)
    members = [
        SwapMember(data.handle, 4, (data.media["b"],), 1),
        SwapMember(log.handle, 5, (), 1),
    ]
    first, second = data.engine.swap_group(members, 500, lambda: None)
    assert isinstance(first, CalledOff)
    assert isinstance(second, Refused)
    assert list(data.engine.status(data.handle)["legs"]) == [data.media["a"].uuid]
    assert data.ring.write(0, b"w" * BLOCK).status == 0
    assert data.content("a", 0, BLOCK) == b"w" * BLOCK


def test_sixty_four_volumes_are_saved_as_one(tmp_path: Path) -> None:
    first = Two(tmp_path)
    rigs = [first, *(Other(tmp_path, first) for _ in range(63))]
    try:
        for number, rig in enumerate(rigs):
            rig.create(f"m{number}")
            assert rig.ring.write(0, bytes([number]) * BLOCK).status == 0
        members = [
            SaveMember(rig.handle, 1, save=rig.medium(f"s{number}"))
            for number, rig in enumerate(rigs)
        ]
        points = first.engine.save_group(members, 5000)
        assert all(isinstance(point, Point) for point in points), points
        for rig in rigs:
            assert rig.ring.write(0, b"x" * BLOCK).status == 0
        for number, rig in enumerate(rigs):
            assert rig.content(f"s{number}", 0, BLOCK) == bytes([number]) * BLOCK
    finally:
        for rig in rigs:
            rig.close()
