"""The subsystem's verbs on the real engine, while a host writes through a ring."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from targetplugin.catalog import Catalog
from targetplugin.engine import Command, Engine
from targetplugin.scsi.logical_unit import LogicalUnit
from targetplugin.subsystem import Subsystem
from tests.engine.fake_ring import FakeRing
from tests.waiting import until

MIB = 1 << 20
EXTENT = 65536
SIZE = 16 * MIB
BLOCKS = EXTENT // 512


class Site:
    """A daemon without a kernel: one volume, and a ring in front of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.boot()

    @classmethod
    def with_ledger(cls, folder: Path, disks: str) -> Site:
        """One that has these disks, each of room for the volume `ledger`, and serves that."""
        made = cls(folder)
        for name in disks:
            made.subsystem.media_add(str(folder / name), size=SIZE + 4 * MIB)
        made.subsystem.volume_create("ledger", SIZE)
        made.serve()
        return made

    def boot(self) -> None:
        self.catalog = Catalog(self.folder / "state")
        self.subsystem = Subsystem(self.catalog, lambda told: Engine(1, self.answer, told))
        self.subsystem.start()
        if self.subsystem.volume_list():
            self.serve()

    def answer(self, command: Command) -> None:
        """As the daemon does."""
        unit = LogicalUnit(self.subsystem, self.subsystem.volume_of(command.volume) or "")
        answer = unit.execute(command.cdb, command.data_out, command.data_in_length)
        command.answer(answer.status, answer.data, answer.sense)

    def serve(self) -> None:
        floor = self.subsystem._floor
        self.ring = FakeRing()
        handle = floor.handle(floor.volume("ledger"))
        floor.engine.attach_ring(  # type: ignore[call-arg]
            handle, self.ring.engine_fd, self.ring.length, map_fd=self.ring.map_fd
        )

    def end(self) -> None:
        self.subsystem.stop()
        self.ring.close()
        self.catalog.close()

    def write(self, extent: int, data: bytes) -> None:
        assert self.ring.write(extent * BLOCKS, data).status == 0

    def read(self, extent: int) -> bytes:
        answer = self.ring.read(extent * BLOCKS, BLOCKS)
        if answer.status:  # a recover or swap has a unit attention for the next command
            answer = self.ring.read(extent * BLOCKS, BLOCKS)
        assert answer.status == 0
        return answer.data

    def content(self) -> list[bytes]:
        return [self.read(extent) for extent in range(SIZE // EXTENT)]

    def over(self, answer: dict[str, Any]) -> dict[str, Any]:
        done = self.subsystem.operation_wait(answer["operation"]["id"], 20)
        assert done["state"] == "done", done
        return done


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site.with_ledger(tmp_path, "abcd")
    yield made
    made.end()


def fill(site: Site, seed: int, extents: int = 40) -> None:
    chance = random.Random(seed)
    for _ in range(extents):
        site.write(chance.randrange(SIZE // EXTENT), chance.randbytes(EXTENT))


def test_a_job_is_taken_back_and_only_its_extents_travel(site: Site) -> None:
    fill(site, 1)
    before = site.content()
    saved = site.subsystem.save("ledger", label="night")
    assert saved["operation"]["pause_ms"] < 100
    told = saved["operation"]
    assert 0 <= told["drain_ms"] <= told["pause_ms"]
    assert 0 < told["pause_work_ms"] <= told["pause_ms"] - told["drain_ms"]
    fill(site, 2)
    changed = site.subsystem.diff("ledger@night")["extents"]
    assert 0 < changed <= 40
    answer = site.subsystem.recover("ledger@night")
    assert answer["operation"]["seconds_in_force"] < 1
    assert site.content() == before
    done = site.over(answer)
    assert (done["extents_changed"], done["extents_copied"]) == (changed, changed)
    site.over(site.subsystem.resync("ledger@night"))
    assert [leg["state"] for leg in site.subsystem.volume_show("ledger")["legs"]] == ["in_sync"] * 2
    assert site.content() == before


def test_saves_by_copy_hold_what_was_there_while_a_host_writes_on(site: Site) -> None:
    fill(site, 1)
    before = site.content()
    ended = threading.Event()

    def host() -> None:
        seed = 10
        while not ended.is_set():
            fill(site, seed, 5)
            seed += 1

    saved = site.subsystem.save("ledger", policy="copy")
    writer = threading.Thread(target=host)
    writer.start()
    try:
        site.over(saved)
    finally:
        ended.set()
        writer.join()
    after = site.content()
    assert after != before
    site.subsystem.swap("ledger")
    assert site.content() == before
    site.subsystem.swap("ledger")
    assert site.content() == after


def test_a_clean_restart_loses_nothing(site: Site) -> None:
    fill(site, 1)
    before = site.content()
    site.subsystem.save("ledger")
    fill(site, 2, 5)
    after = site.content()
    told = site.subsystem.diff("ledger")
    site.end()
    site.boot()
    assert site.content() == after
    assert site.subsystem.diff("ledger") == told
    site.over(site.subsystem.recover("ledger"))
    assert site.content() == before


def test_a_medium_that_was_away_at_a_start_comes_back_as_it_was(site: Site) -> None:
    fill(site, 1)
    site.end()
    (site.folder / "b").rename(site.folder / "away")
    site.boot()
    fill(site, 2, 5)
    after = site.content()
    assert [leg["state"] for leg in site.subsystem.volume_show("ledger")["legs"]] == [
        "in_sync",
        "missing",
    ]
    (site.folder / "away").rename(site.folder / "b")
    site.subsystem.disks_changed()
    until(lambda: site.subsystem.volume_show("ledger")["state"] == "serving")
    assert site.content() == after
    site.end()
    one, other = ((site.folder / name).read_bytes()[:SIZE] for name in "ab")
    assert one == other == b"".join(after)
    site.boot()


def test_rules_and_a_hold_go_with_saves_that_fill_while_a_host_writes(site: Site) -> None:
    def kept() -> list[str]:
        return [save["label"] for save in site.subsystem.volume_show("ledger")["saves"]]

    site.subsystem.media_add(str(site.folder / "e"), size=SIZE + 4 * MIB)
    fill(site, 1)
    site.over(site.subsystem.save("ledger", label="first", policy="copy"))
    site.subsystem.hold("ledger@first", seconds=3600)
    site.subsystem.retain("ledger", last=1)
    for number, label in enumerate(("second", "third"), start=2):
        answer = site.subsystem.save("ledger", label=label, policy="copy")
        fill(site, number)
        site.over(answer)
        site.subsystem.settled()
    assert kept() == ["first", "third"]
    between = site.subsystem.diff("ledger", since="first", to="third")["list"]
    changed = {e for run in between for e in _extents(run)}
    chance = random.Random(2)
    written = set()
    for _ in range(40):
        written.add(chance.randrange(SIZE // EXTENT))
        chance.randbytes(EXTENT)
    assert changed == written, "what was written before the third save, and not what came after"
    site.end()
    site.boot()
    assert kept() == ["first", "third"]
    site.subsystem.unhold("ledger@first", force=True)
    assert [one["name"] for one in site.subsystem.retain("ledger", now=True)["released"]] == [
        "ledger@1"
    ]
    assert kept() == ["third"]


def _extents(run: dict[str, int]) -> range:
    return range(run["offset"] // EXTENT, (run["offset"] + run["length"]) // EXTENT)
