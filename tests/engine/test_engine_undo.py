"""Recover from any save, undo, and saves onto older ones' media, on the real engine under a host's load."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.engine.test_subsystem_engine import EXTENT, SIZE, Site, fill
from tests.waiting import until


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site.with_ledger(tmp_path, "abcdefgh")
    yield made
    made.end()


@contextmanager
def load(site: Site) -> Iterator[None]:
    """A host that writes all the time."""
    ended = threading.Event()
    failed: list[BaseException] = []

    def host() -> None:
        chance = random.Random(99)
        try:
            while not ended.is_set():
                site.write(chance.randrange(SIZE // EXTENT), chance.randbytes(EXTENT))
        except BaseException as error:
            failed.append(error)

    writer = threading.Thread(target=host)
    writer.start()
    try:
        yield
    finally:
        ended.set()
        writer.join()
    assert not failed


def until_whole(site: Site, save: str) -> None:
    def whole() -> bool:
        saves = site.subsystem.volume_show("ledger")["saves"]
        return next(one for one in saves if one["name"] == save)["fill"] == "whole"

    until(whole, awaited=f"{save}'s end")


def on_medium(site: Site, save: str) -> list[bytes]:
    """What a save's medium holds, beside the daemon."""
    kept = next(s for s in site.subsystem.volume_show("ledger")["saves"] if s["name"] == save)
    assert kept["fill"] == "whole"
    data = (site.folder / kept["media"][0]).read_bytes()[:SIZE]
    return [data[at : at + EXTENT] for at in range(0, SIZE, EXTENT)]


def test_recover_from_newest_middle_and_oldest_harms_no_other_save(site: Site) -> None:
    held: dict[str, list[bytes]] = {}
    for seed in range(3):
        fill(site, seed)
        answer = site.subsystem.save("ledger", policy="copy")
        held[answer["save"]["name"]] = site.content()
        site.over(answer)
    names = list(held)
    for seed, name in enumerate([names[2], names[1], names[0], names[1], names[2]], 10):
        fill(site, seed, 10)
        before = site.content()
        answer = site.subsystem.recover(name)
        assert site.content() == held[name]
        site.over(answer)
        assert site.content() == held[name]
        for other in names:
            assert on_medium(site, other) == held[other], (name, other)
        undo = answer["undo"]["name"]
        until_whole(site, undo)
        assert on_medium(site, undo) == before


def test_recover_while_saves_fill_and_hosts_write_harms_none(site: Site) -> None:
    fill(site, 1)
    first = site.content()
    one = site.subsystem.save("ledger", policy="copy")["save"]["name"]
    fill(site, 2, 10)
    second = site.content()
    two = site.subsystem.save("ledger", policy="copy")["save"]["name"]
    fill(site, 3, 10)
    third = site.content()
    # From one that fills still, while another does, and a third begins.
    answer = site.subsystem.recover(one)
    assert site.content() == first
    with load(site):
        site.over(answer)
    for name, content in ((one, first), (two, second), (answer["undo"]["name"], third)):
        until_whole(site, name)
        assert on_medium(site, name) == content, name


def test_undo_under_load_gives_back_what_was_and_an_undo_of_it_too(site: Site) -> None:
    fill(site, 1)
    saved = site.content()
    site.over(site.subsystem.save("ledger", policy="copy", label="night"))
    fill(site, 2)
    replaced = site.content()
    recovered = site.subsystem.recover("ledger@night")
    assert site.content() == saved
    with load(site):
        site.over(recovered)
    after = site.content()
    assert after != saved
    undone = site.subsystem.undo("ledger", op=recovered["operation"]["id"])
    assert site.content() == replaced
    site.over(undone)
    assert site.content() == replaced
    redone = site.subsystem.undo("ledger")
    assert site.content() == after
    site.over(redone)
    assert site.content() == after
    assert on_medium(site, "ledger@1") == saved
    undo = redone["undo"]["name"]
    until_whole(site, undo)
    assert on_medium(site, undo) == replaced
    # The spares of the undo saves before are free again.
    until(
        lambda: [row["state"] for row in site.subsystem.media_list()].count("free") == 4,
        awaited="their freedom",
    )


def test_an_undo_goes_on_after_a_restart(site: Site) -> None:
    fill(site, 1)
    site.over(site.subsystem.save("ledger", policy="copy"))
    fill(site, 2)
    replaced = site.content()
    site.over(site.subsystem.recover("ledger"))
    site.subsystem.undo("ledger")
    site.end()
    site.boot()
    assert site.content() == replaced


def test_a_save_onto_an_older_one_s_medium_under_load_holds_its_point(site: Site) -> None:
    fill(site, 1)
    site.over(site.subsystem.save("ledger", policy="copy", label="night"))
    fill(site, 2, 8)
    content = site.content()
    answer = site.subsystem.save("ledger", replace="ledger@night")
    with load(site):
        done = site.over(answer)
    assert 0 < done["extents_copied"] <= 8
    assert on_medium(site, answer["save"]["name"]) == content
    assert [save["label"] for save in site.subsystem.volume_show("ledger")["saves"]] == ["night"]


def test_a_recover_is_taken_back_right_after_it_began(site: Site) -> None:
    fill(site, 1)
    site.over(site.subsystem.save("ledger", label="night", policy="copy"))
    for seed in range(2, 6):
        fill(site, seed, 60)
        last = site.content()
        recover = site.subsystem.recover("ledger@night")
        assert recover["undo"] is not None
        undo = site.subsystem.undo("ledger")
        assert site.content() == last
        site.over(undo)
        assert site.content() == last
        told = site.subsystem.operation(recover["operation"]["id"])
        assert told["state"] in ("aborted", "done"), "it may have copied all by then"
        site.subsystem.settled()
        for save in site.subsystem.volume_show("ledger")["saves"]:
            if save["undo"]:
                site.subsystem.release(save["name"])
