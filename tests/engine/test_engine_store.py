"""Saves without fill through the engine, on real files: a host's writes, looks, recovers, and a start."""

from __future__ import annotations

import os
import random
import threading

import pytest

from targetplugin.engine import SPARSE, MediumSpec, SaveMember, VolumeSpec
from targetplugin.engine.values import Point
from targetplugin.errors import Reason, Refused
from targetplugin.media.medium import Medium
from tests.engine.conftest import SIZE, UUID, Rig
from tests.engine.fake_ring import FakeRing
from tests.waiting import until

EXTENT = 65536
NOTHING = bytes(SIZE // EXTENT // 8)


def store_spec(rig: Rig, size: int = SIZE // 2) -> MediumSpec:
    """A medium of `size` bytes, as the media layer has them."""
    path = str(rig.folder / "store")
    with Medium.create(path, size + (1 << 20)) as medium:
        medium.write_trailer(medium.fresh_trailer())
    medium = Medium.open(path)
    rig.media["store"] = medium.spec()
    return medium.spec()


def content(rig: Rig, generation: int | None = None) -> bytes:
    """What the volume holds, or a save."""
    step = 1 << 19
    if generation is None:
        return b"".join(rig.ring.read(at // 512, step // 512).data for at in range(0, SIZE, step))
    return b"".join(
        rig.engine.look(rig.handle, generation, at, step) for at in range(0, SIZE, step)
    )


def fill(rig: Rig, seed: int, extents: int) -> None:
    chance = random.Random(seed)
    for _ in range(extents):
        at = chance.randrange(SIZE // EXTENT)
        assert rig.ring.write(at * 128, chance.randbytes(EXTENT)).status == 0


def test_saves_that_share_a_store_show_what_was_and_outlive_the_daemon(rig: Rig) -> None:
    rig.create("a", "b")
    rig.engine.add_store(rig.handle, store_spec(rig), 1)
    held: dict[int, bytes] = {}
    for seed in range(4):
        fill(rig, seed, 20)
        held[rig.engine.save_sparse(rig.handle, 2 + seed).frozen] = content(rig)
    fill(rig, 99, 20)
    middle = list(held)[1]
    rig.engine.release_sparse(rig.handle, middle)
    rig.engine.release_sparse(rig.handle, middle)  # twice is once
    del held[middle]
    assert {generation: content(rig, generation) for generation in held} == held
    with pytest.raises(Refused) as refused:
        rig.engine.look(rig.handle, middle, 0, 512)
    assert refused.value.reason is Reason.NOT_FOUND
    rig.engine.hold_sparse(rig.handle, next(iter(held)), True)
    before = rig.engine.status(rig.handle)["store"]
    rig.engine.stop()
    start_again(rig)
    assert rig.engine.status(rig.handle)["store"] == before
    assert {generation: content(rig, generation) for generation in held} == held


def start_again(rig: Rig) -> None:
    """As the daemon starts: with what the store's medium says."""
    from targetplugin.engine import decode_map_slot

    raw = [rig.content(name, SIZE + 65536, 5 * 8192) for name in "ab"]
    slots = [r[i : i + 4096] for r in raw for i in range(0, len(r), 4096)]
    slots = [slot for slot in slots if decode_map_slot(slot)]
    os.close(rig.media["store"].fd)
    medium = Medium.open(str(rig.folder / "store"))
    rig.media["store"] = medium.spec()
    slots += medium.read_store(EXTENT)
    record = max(found for name in "ab" for found in rig.records(name))[2]
    rig.ring = FakeRing()
    rig.engine = rig.make()
    media = [rig.media[name] for name in ("a", "b", "store")]
    rig.handle = rig.engine.add_volume(VolumeSpec(UUID, SIZE, 16, record, media, slots))
    rig.serve()


def test_a_recover_under_load_reads_as_the_save_at_once_and_is_undone(rig: Rig) -> None:
    rig.create("a", "b")
    rig.engine.add_store(rig.handle, store_spec(rig, 4 * SIZE), 1)
    fill(rig, 1, 60)
    old = content(rig)
    first = rig.engine.save_sparse(rig.handle, 2).frozen
    fill(rig, 2, 60)
    spoiled = content(rig)
    point = rig.engine.recover(rig.handle, SPARSE, first, NOTHING, 3, undo=SPARSE)
    assert content(rig) == old
    rig.wait_event("recovered", "store")
    back = rig.engine.recover(rig.handle, SPARSE, point.frozen, NOTHING, 4)
    assert content(rig) == spoiled
    assert back.pending <= point.pending
    until(lambda: rig.engine.status(rig.handle)["recover"] is None)
    assert content(rig, first) == old


def test_looks_are_right_while_a_host_writes_what_is_looked_at(rig: Rig) -> None:
    rig.create("a", "b")
    rig.engine.add_store(rig.handle, store_spec(rig, 2 * SIZE), 1)
    fill(rig, 1, 100)
    old = content(rig)
    first = rig.engine.save_sparse(rig.handle, 2).frozen
    seen: list[bytes] = []
    looker = threading.Thread(target=lambda: seen.extend(content(rig, first) for _ in range(8)))
    looker.start()
    seed = 2
    while looker.is_alive():
        fill(rig, seed, 10)
        seed += 1
    looker.join()
    assert seen == [old] * 8


def test_a_full_store_says_so_and_stops_no_host(rig: Rig) -> None:
    rig.create("a", "b")
    rig.engine.add_store(rig.handle, store_spec(rig, 1 << 20), 1)
    first = rig.engine.save_sparse(rig.handle, 2).frozen
    for extent in range(40):
        assert rig.ring.write(extent * 128, os.urandom(512)).status == 0
    rig.wait_event("store_low", "store")
    rig.wait_event("sparse_lost", "store")
    assert rig.engine.status(rig.handle)["store"]["saves"][first]["state"] == "broken"
    rig.engine.release_sparse(rig.handle, first)
    rig.engine.drop_leg(rig.handle, rig.media["store"].uuid)
    assert rig.engine.status(rig.handle)["store"] is None


def test_a_save_without_fill_goes_with_others_at_one_instant(rig: Rig) -> None:
    rig.create("a", "b")
    with pytest.raises(Refused, match="no store"):
        rig.engine.save_sparse(rig.handle, 1)
    rig.engine.add_store(rig.handle, store_spec(rig), 2)
    (point,) = rig.engine.save_group([SaveMember(rig.handle, 3, sparse=True)], 5000)
    assert isinstance(point, Point)
    assert list(rig.engine.status(rig.handle)["store"]["saves"]) == [point.frozen]
