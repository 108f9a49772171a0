"""Legs on the real engine while a host writes: brought in, replaced, compared; and a disk adopted."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from targetplugin.errors import Refused
from targetplugin.media.medium import Medium
from tests.engine.test_subsystem_engine import EXTENT, MIB, SIZE, Site, fill
from tests.waiting import until


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site.with_ledger(tmp_path, "abcd")
    yield made
    made.end()


@contextmanager
def busy(site: Site) -> Iterator[None]:
    """A host writes all the time."""
    ended = threading.Event()

    def host() -> None:
        seed = 10
        while not ended.is_set():
            fill(site, seed, 5)
            seed += 1

    writer = threading.Thread(target=host)
    writer.start()
    try:
        yield
    finally:
        ended.set()
        writer.join()


def legs(site: Site) -> dict[str, str]:
    return {leg["medium"]: leg["state"] for leg in site.subsystem.volume_show("ledger")["legs"]}


def test_legs_come_and_go_and_are_equal_while_a_host_writes(site: Site) -> None:
    with busy(site):
        site.subsystem.save("ledger")
        site.over(site.subsystem.leg_add("ledger"))
        site.over(site.subsystem.leg_add("ledger"))
        assert legs(site) == dict.fromkeys("acd", "in_sync")
        scrubbed = site.over(site.subsystem.scrub("ledger", rate=1 << 40))
        assert scrubbed["result"] == {
            "compared": 2 * SIZE,  # the save too
            "different": 0,
            "unreadable": 0,
            "list": [],
        }
        site.subsystem.leg_remove("ledger", "a")
    after = site.content()
    site.end()
    one, other = ((site.folder / name).read_bytes()[:SIZE] for name in "cd")
    assert one == other == b"".join(after)
    site.boot()
    assert legs(site) == dict.fromkeys("cd", "in_sync")


def test_what_a_disk_changes_by_itself_is_told(site: Site) -> None:
    fill(site, 1)
    with (site.folder / "b").open("r+b") as file:
        file.seek(37 * EXTENT + 12345)
        byte = file.read(1)
        file.seek(37 * EXTENT + 12345)
        file.write(bytes([byte[0] ^ 4]))
    with busy(site):
        found = site.over(site.subsystem.scrub("ledger", rate=1 << 40))["result"]
    if found["list"]:  # else a host has written it anew, which is as it should be
        assert [(r["offset"], r["media"]) for r in found["list"]] == [(37 * EXTENT, ["a", "b"])]


def test_a_leg_that_is_gone_is_replaced_by_itself(site: Site) -> None:
    site.subsystem.volume_set("ledger", replace_failed=True, replace_after=0)
    fill(site, 1)
    site.end()
    (site.folder / "b").unlink()
    site.boot()
    with busy(site):
        until(lambda: legs(site) == {"a": "in_sync", "c": "in_sync"})
    (replaced,) = [o for o in site.subsystem.operations() if o["verb"] == "replace leg"]
    assert replaced["door"] == "policy"
    site.over({"operation": replaced})
    after = site.content()
    site.end()
    one, other = ((site.folder / name).read_bytes()[:SIZE] for name in "ac")
    assert one == other == b"".join(after)
    site.boot()


def test_a_volume_whose_disks_are_all_pulled_is_down_until_they_are_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(site, 1)
    before = site.content()
    site.over(site.subsystem.save("ledger", policy="copy", onto="c"))
    nothing = os.open(os.devnull, os.O_RDONLY)  # no write to it succeeds, and no lock is held
    for medium in list(site.subsystem._floor.media.values()):
        if medium.name in ("a", "b"):
            os.rename(medium.path, f"{medium.path}-away")
            os.dup2(nothing, medium.fd)
    monkeypatch.setattr(
        Medium, "is_gone", lambda medium: os.path.samestat(os.fstat(medium.fd), os.stat(os.devnull))
    )
    assert site.subsystem.volume_show("ledger")["state"] == "degraded"
    site.subsystem.disks_changed()
    until(lambda: site.subsystem.volume_show("ledger")["state"] == "down")
    with pytest.raises(Refused, match="ledger is down"):
        site.subsystem.save("ledger")
    os.close(nothing)
    site.ring.close()
    for name in "ab":
        (site.folder / f"{name}-away").rename(site.folder / name)
        site.subsystem.disks_changed()
    until(lambda: site.subsystem.volume_show("ledger")["state"] == "serving")
    site.serve()
    assert site.content() == before
    fill(site, 2)
    site.over(site.subsystem.recover("ledger"))
    assert site.content() == before


def test_a_file_with_data_is_adopted_and_mirrored(site: Site) -> None:
    old = random.Random(1).randbytes(3 * MIB)
    path = site.folder / "old"
    path.write_bytes(old)
    site.subsystem.volume_adopt("old", str(path))
    site.over(site.subsystem.leg_add("old", medium="c"))
    assert (site.folder / "c").read_bytes()[: 3 * MIB] == old
    site.end()
    site.boot()
    assert [leg["state"] for leg in site.subsystem.volume_show("old")["legs"]] == ["in_sync"] * 2
    assert path.read_bytes()[: 3 * MIB] == old
