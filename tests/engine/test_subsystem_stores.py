"""The store of saves without fill on the real engine: many saves, several volumes, a start, and no room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.test_subsystem_engine import EXTENT, MIB, SIZE, Site, fill
from tests.waiting import until

PIECE = 1 << 20


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    for name in "abcd":
        made.subsystem.media_add(str(tmp_path / name), size=SIZE + 4 * MIB)
    made.subsystem.volume_create("ledger", SIZE)
    made.serve()
    fill(made, 1)
    yield made
    made.end()


def save(site: Site) -> tuple[str, list[bytes]]:
    """A save without fill: its name, and what the volume is then."""
    made = site.subsystem.save("ledger", policy="sparse")
    return str(made["save"]["name"]), site.content()


def saves(site: Site) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in site.subsystem.volume_show("ledger")["saves"]}


def looked_at(site: Site, generation: int) -> list[bytes]:
    """What a save holds, as the engine looks it up."""
    floor = site.subsystem._floor
    handle = floor.handle(floor.volume("ledger"))
    whole = b"".join(
        floor.engine.look(handle, generation, at, PIECE) for at in range(0, SIZE, PIECE)
    )
    return [whole[at : at + EXTENT] for at in range(0, SIZE, EXTENT)]


def boot_again(site: Site) -> None:
    site.end()
    site.boot()


def test_many_saves_share_a_store_and_any_is_recovered_from_and_undone(site: Site) -> None:
    kept = {}
    for seed in range(2, 6):
        name, content = save(site)
        kept[name] = content
        fill(site, seed, 10)
    now = site.content()
    copied = sum(one["kept_bytes"] for one in saves(site).values())
    assert 0 < copied <= 40 * EXTENT
    assert site.subsystem.volume_show("ledger")["store"]["used"] == copied
    for name, content in kept.items():
        assert looked_at(site, int(name.partition("@")[2])) == content
    names = list(kept)
    site.subsystem.release(names[1])  # one in the middle
    del kept[names[1]]
    answer = site.subsystem.recover(names[2])
    assert site.content() == kept[names[2]]
    site.over(answer)
    site.over(site.subsystem.recover(names[0], no_undo=True))
    assert site.content() == kept[names[0]]
    site.over(site.subsystem.recover(names[3], no_undo=True))
    assert site.content() == kept[names[3]]
    for name, content in kept.items():
        assert looked_at(site, int(name.partition("@")[2])) == content
    undo = next(one["name"] for one in saves(site).values() if one["undo"])
    site.over(site.subsystem.recover(undo, no_undo=True))
    assert site.content() == now


def test_they_are_there_after_a_restart_and_so_is_a_recover_that_runs(site: Site) -> None:
    name, content = save(site)
    site.subsystem.hold(name, seconds=3600)
    fill(site, 2)
    later, after = save(site)
    fill(site, 3)
    before = saves(site)
    boot_again(site)
    assert saves(site) == before
    assert (looked_at(site, 1), looked_at(site, 2)) == (content, after)
    site.subsystem.recover(name, no_undo=True)
    boot_again(site)
    assert site.content() == content
    assert looked_at(site, 2) == after
    site.subsystem.release(later)
    site.subsystem.unhold(name, force=True)
    until(lambda: saves(site)[name]["activity"] == "idle")
    site.subsystem.release(name)
    assert site.subsystem.volume_show("ledger")["store"] is None
    assert site.content() == content
    states = {one["name"]: one["state"] for one in site.subsystem.media_list()}
    assert (states["c"], states["d"]) == ("free", "free")


def test_a_full_store_loses_the_oldest_that_is_not_held_and_never_a_write(
    site: Site, tmp_path: Path
) -> None:
    site.subsystem.media_add(str(tmp_path / "small"), size=3 * MIB)
    site.subsystem.save("ledger", policy="sparse", onto="small")
    held = site.subsystem.save("ledger", policy="sparse")["save"]["name"]
    site.subsystem.hold(held, seconds=3600)
    kept = site.content()
    site.write(0, b"1" * EXTENT)
    third = site.subsystem.save("ledger", policy="sparse")["save"]["name"]
    size = site.subsystem.volume_show("ledger")["store"]["size"]
    assert 0 < size < 3 * MIB
    for extent in range(size // EXTENT + 4):
        site.write(extent + 1, b"2" * EXTENT)
    until(lambda: saves(site)["ledger@1"]["fill"] == "broken")
    site.subsystem.settled()
    fills = {name: one["fill"] for name, one in saves(site).items()}
    kinds = [event["kind"] for event in site.subsystem.event_list(volume="ledger")]
    assert kinds.index("store_low") < kinds.index("sparse_lost")
    lost = [e["what"] for e in site.subsystem.event_list() if e["kind"] == "sparse_lost"]
    assert "ledger@1" in lost[0]
    if fills[held] == "unfilled":
        assert looked_at(site, 2) == kept
    assert fills[third] in ("unfilled", "broken")
    assert site.read(1) == b"2" * EXTENT


def test_two_volumes_are_saved_at_one_instant_and_taken_back(site: Site, tmp_path: Path) -> None:
    for name in "ef":
        site.subsystem.media_add(str(tmp_path / name), size=SIZE + 4 * MIB)
    site.subsystem.volume_create("journal", SIZE, media=["e", "f"])
    site.subsystem.save_group(["ledger", "journal"], policy="sparse", label="night")
    before = site.content()
    fill(site, 2)
    after = site.content()
    answer = site.subsystem.recover_group(["ledger@night", "journal@night"])
    assert {one["fill"] for one in answer["undos"]} == {"unfilled"}
    assert site.content() == before
    site.over(answer)
    site.over(site.subsystem.undo_group(["ledger", "journal"]))
    assert site.content() == after
