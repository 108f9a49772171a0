"""Saves that are cloned, and the media that hold them, on the real engine while hosts write."""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from targetplugin.catalog import Export, Shown
from targetplugin.engine import ViewSpec
from targetplugin.subsystem.hosts.shown import picture
from tests.engine.fake_ring import FakeRing
from tests.engine.test_engine_undo import load
from tests.engine.test_subsystem_engine import BLOCKS, EXTENT, MIB, SIZE, Site

EXTENTS = SIZE // EXTENT


class Disk:
    """A ring in front of a volume, or of anything that the engine serves, as a host has it."""

    def __init__(self, site: Site, handle: int) -> None:
        self.ring = FakeRing()
        engine = site.subsystem._floor.engine
        engine.attach_ring(  # type: ignore[call-arg]
            handle, self.ring.engine_fd, self.ring.length, map_fd=self.ring.map_fd
        )
        self.let_go = lambda: engine.detach_ring(handle)

    def write(self, extent: int, data: bytes, at: int = 0) -> None:
        assert self.ring.write(extent * BLOCKS + at, data).status == 0

    def read(self, extent: int) -> bytes:
        answer = self.ring.read(extent * BLOCKS, BLOCKS)
        assert answer.status == 0
        return answer.data

    def content(self) -> list[bytes]:
        return [self.read(extent) for extent in range(EXTENTS)]

    def close(self) -> None:
        self.let_go()
        self.ring.close()


def disk(site: Site, name: str) -> Disk:
    floor = site.subsystem._floor
    return Disk(site, floor.handle(floor.volume(name)))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A volume with a save, `night`, of other content than it has now."""
    made = Site(tmp_path)
    for name in "abcd":
        made.subsystem.media_add(str(tmp_path / name), size=SIZE + 4 * MIB)
    made.subsystem.volume_create("ledger", SIZE)
    made.serve()
    chance = random.Random(1)
    for extent in range(EXTENTS):
        made.write(extent, chance.randbytes(EXTENT))
    made.subsystem.save("ledger", label="night")
    yield made
    made.end()


def scribble(write: object, seed: int, ended: threading.Event, wrote: dict[int, bytes]) -> None:
    """A host that writes whole extents and parts of some until it is ended."""
    chance = random.Random(seed)
    while not ended.is_set():
        extent = chance.randrange(EXTENTS)
        wrote[extent] = chance.randbytes(EXTENT)
        write(extent, wrote[extent])  # type: ignore[operator]


def test_a_clone_is_written_while_it_is_copied_and_its_volume_too(site: Site) -> None:
    saved = site.content()
    view = ViewSpec(b"v" * 16, SIZE, [site.subsystem._floor.medium(medium_of(site, "b")).spec()])
    handle = site.subsystem._floor.engine.add_view(view)
    shown = Disk(site, handle)
    answer = site.subsystem.clone("ledger@night", "test")
    clone = disk(site, "test")
    ended = threading.Event()
    wrote: list[dict[int, bytes]] = [{}, {}]
    hosts = [
        threading.Thread(target=scribble, args=(clone.write, 7, ended, wrote[0])),
        threading.Thread(target=scribble, args=(site.write, 8, ended, wrote[1])),
    ]
    for host in hosts:
        host.start()
    try:
        site.over(answer)
    finally:
        ended.set()
        for host in hosts:
            host.join()
    assert wrote[0]
    assert wrote[1]
    assert clone.content() == [wrote[0].get(e, saved[e]) for e in range(EXTENTS)]
    assert site.content() == [wrote[1].get(e, saved[e]) for e in range(EXTENTS)]
    assert shown.content() == saved
    assert (site.folder / "b").read_bytes()[:SIZE] == b"".join(saved)
    shown.close()
    site.subsystem._floor.engine.remove_volume(handle)
    site.subsystem.release("ledger@night")
    assert clone.content() == [wrote[0].get(e, saved[e]) for e in range(EXTENTS)]
    clone.close()


def medium_of(site: Site, name: str) -> bytes:
    return site.subsystem._floor.medium_row(name).uuid


def test_the_save_is_recovered_from_while_a_clone_is_copied_from_it(site: Site) -> None:
    saved = site.content()
    for extent in range(0, EXTENTS, 3):
        site.write(extent, bytes(EXTENT))
    cloned = site.subsystem.clone("ledger@night", "test")
    recovered = site.subsystem.recover("ledger@night")
    clone = disk(site, "test")
    clone.write(5, b"c" * 4096, at=8)
    site.read(5)  # takes the unit attention of the recover
    site.write(5, b"l" * 4096)
    site.over(recovered)
    site.over(cloned)
    mine, its = list(saved), list(saved)
    mine[5] = b"l" * 4096 + saved[5][4096:]
    its[5] = saved[5][:4096] + b"c" * 4096 + saved[5][8192:]
    assert site.content() == mine
    assert clone.content() == its
    clone.close()
    assert (site.folder / "b").read_bytes()[:SIZE] == b"".join(saved)


def test_a_clone_goes_on_after_a_restart(site: Site) -> None:
    saved = site.content()
    answer = site.subsystem.clone("ledger@night", "test")
    clone = disk(site, "test")
    clone.write(3, b"c" * EXTENT)
    clone.close()
    site.end()
    site.boot()
    clone = disk(site, "test")
    site.over(answer)
    assert clone.content() == [b"c" * EXTENT if e == 3 else saved[e] for e in range(EXTENTS)]
    clone.close()
    site.subsystem.resync("ledger@night")
    site.subsystem.save("test")


# --- saves that are not whole ---------------------------------------------------------------------


def export(site: Site, name: str) -> Disk:
    """A shown save as a host has it; there is no kernel here."""
    floor, shown = site.subsystem._floor, site.subsystem._shown
    volume, save = floor.save(name)
    one = picture(volume, save)
    site.catalog.shown_put(
        Shown(volume.uuid, save.generation, Export(one.uuid, f"iqn.x:{save.generation}", (), 0, ()))
    )
    assert shown.begin_all(volume, set())
    return Disk(site, floor.runtime(one.uuid).handle or 0)


def until_it_is_served_anew(shown: Disk, extent: int, extents: int) -> bytes | None:
    """What a host reads; None: the save became whole meanwhile, and no longer is this its ring."""
    cdb = struct.pack(">BxIxHx6x", 0x28, extent * BLOCKS, extents * BLOCKS)
    number = shown.ring.send(cdb, data_in=extents * EXTENT)
    try:
        got = shown.ring.wait(number, 3.0)
    except AssertionError:  # it was not even taken
        return None
    return None if got.status else got.data


@pytest.mark.parametrize("policy", ["copy", "sparse"])
def test_a_save_that_is_not_whole_is_read_while_hosts_write_and_until_it_is_whole(
    site: Site, policy: str
) -> None:
    site.subsystem.release("ledger@night")
    saved = site.content()
    answer = site.subsystem.save("ledger", label="late", policy=policy)
    shown = export(site, "ledger@late")
    with load(site):
        for at in range(0, EXTENTS, 8):
            data = until_it_is_served_anew(shown, at, 8)
            if data is None:
                break
            assert data == b"".join(saved[at : at + 8])
        if policy == "sparse":
            assert shown.ring.write(0, bytes(512)).status == 2
            answer = site.subsystem.fill("ledger@late")
    site.over(answer)
    site.subsystem.settled()
    shown.ring.close()
    volume, save = site.subsystem._floor.save("ledger@late")
    again = Disk(site, site.subsystem._floor.runtime(picture(volume, save).uuid).handle or 0)
    assert again.content() == saved
    counted = site.subsystem._floor.engine.status(
        site.subsystem._floor.runtime(picture(volume, save).uuid).handle or 0
    )["ring"]
    assert counted["reads"] >= EXTENTS, "the engine answers them by itself now"
    again.close()
