"""Saves without fill from the subsystem down to files: the verbs on the real engine, while a host writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from targetplugin.errors import Reason, Refused
from tests.engine.test_engine_undo import load
from tests.engine.test_subsystem_engine import EXTENT, MIB, SIZE, Site, fill


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site.with_ledger(tmp_path, "abcd")
    yield made
    made.end()


def save(site: Site, label: str) -> list[bytes]:
    """Saves without fill, and tells what is saved."""
    site.subsystem.save("ledger", label=label, policy="sparse")
    return site.content()


def shown(site: Site, name: str) -> dict[str, Any]:
    saves = site.subsystem.volume_show("ledger")["saves"]
    return next(one for one in saves if one["label"] == name)


def test_saves_without_fill_are_recovered_undone_and_outlive_a_restart(site: Site) -> None:
    held: dict[str, list[bytes]] = {}
    for seed, label in enumerate(("one", "two", "three")):
        fill(site, seed, 15)
        held[label] = save(site, label)
    fill(site, 9, 15)
    last = site.content()
    site.subsystem.release("ledger@two")
    answer = site.subsystem.recover("ledger@one")
    assert site.content() == held["one"]
    site.over(answer)
    site.end()
    site.boot()
    assert site.content() == held["one"]
    site.over(site.subsystem.undo("ledger"))
    assert site.content() == last
    site.over(site.subsystem.recover("ledger@three"))
    assert site.content() == held["three"]
    assert shown(site, "one")["fill"] == "unfilled"


def test_one_is_filled_while_a_host_writes_and_is_whole_without_the_store(site: Site) -> None:
    fill(site, 1)
    held = save(site, "night")
    fill(site, 2)
    with load(site):
        site.over(site.subsystem.fill("ledger@night"))
    kept = shown(site, "night")
    assert kept["fill"] == "whole"
    data = (site.folder / kept["media"][0]).read_bytes()[:SIZE]
    assert [data[at : at + EXTENT] for at in range(0, SIZE, EXTENT)] == held


@pytest.mark.parametrize("killed", [False, True])
def test_a_fill_goes_on_after_restarts_with_what_was_saved(site: Site, killed: bool) -> None:
    fill(site, 1)
    held = save(site, "night")
    fill(site, 2)
    answer = site.subsystem.fill("ledger@night", rate=8 * MIB)
    number = answer["operation"]["id"]
    for reached in (0.1, 0.3, 0.5):
        while site.subsystem.operation(number)["progress"] < reached:
            fill(site, 3, 1)
        if killed:
            site.subsystem._fills._note = lambda row, volume, end: None  # type: ignore[method-assign]
        site.end()
        site.boot()
        fill(site, 4, 10)
    site.subsystem.operation_rate(number, rate=None)
    site.over(answer)
    kept = shown(site, "night")
    assert (kept["fill"], site.subsystem.volume_show("ledger")["store"]) == ("whole", None)
    data = (site.folder / kept["media"][0]).read_bytes()[:SIZE]
    assert [data[at : at + EXTENT] for at in range(0, SIZE, EXTENT)] == held


def test_a_backup_of_one_is_what_was_saved(site: Site) -> None:
    fill(site, 1)
    held = save(site, "night")
    fill(site, 2)
    image = str(site.folder / "night.raw")
    with load(site):
        site.over(site.subsystem.backup("ledger@night", image, format="raw"))
    data = Path(image).read_bytes()
    assert [data[at : at + EXTENT] for at in range(0, SIZE, EXTENT)] == held


def test_a_swap_waits_until_none_is_left(site: Site) -> None:
    fill(site, 1)
    save(site, "night")
    whole = site.subsystem.save("ledger", label="whole", policy="split")
    assert whole["save"]["fill"] == "whole"
    with pytest.raises(Refused) as refused:
        site.subsystem.swap("ledger@whole")
    assert refused.value.reason in (Reason.BUSY, Reason.STATE)
    site.subsystem.release("ledger@night")
    site.subsystem.swap("ledger@whole")
