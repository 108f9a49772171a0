"""Pairs of the table of states and verbs, asked for at the terminal and in-band on a real daemon.

Undo, whose save is another one, is asked for in test_undo.py and test_sparse.py.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import pytest

from targetplugin.errors import Reason
from targetplugin.scsi.vendor import SENSE
from targetplugin.subsystem.ground.states import (
    TABLE,
    Activity,
    Fill,
    Hold,
    Kept,
    Outcome,
    Rule,
    State,
    Store,
    Tie,
    Verb,
    Volume,
)

from .dm import Dm
from .lab import Lab
from .ledger import IQN, Ledger
from .long import all_but

IMAGE, OTHER = "/var/tmp/states.qcow2", "/var/tmp/other.qcow2"
SLOW = 4  # requests a second: what copies to or from such a disk is not over when it is looked at
DELAY = 800  # milliseconds of each request, likewise
LEGS = "ab"
PREVIEWS = "python3 -IB /opt/targetplugin/checkout/tests/vm/guest/previews.py"
# At the terminal; all are asked for with --preview, but for what changes nothing anyway.
WORDS: dict[Verb, Callable[[str], list[str]]] = {
    Verb.SAVE: lambda save: ["save", "ledger", "--preview"],
    Verb.DIFF: lambda save: ["diff", save],
    Verb.RECOVER: lambda save: ["recover", save, "--preview"],
    Verb.RESTORE: lambda save: ["restore", "ledger", "--from", IMAGE, "--preview"],
    Verb.SWAP: lambda save: ["swap", save, "--preview"],
    Verb.RESYNC: lambda save: ["resync", save, "--preview"],
    Verb.RELEASE: lambda save: ["release", save, "--preview"],
    Verb.FILL: lambda save: ["fill", save, "--preview"],
    Verb.BACKUP: lambda save: ["backup", save, "--to", OTHER, "--preview"],
    Verb.EXPORT: lambda save: ["export", save, "--initiator", IQN, "--preview"],
    Verb.CLONE: lambda save: ["clone", save, "--name", "another", "--preview"],
    Verb.REPLACE: lambda save: ["save", "ledger", "--replace", save, "--preview"],
    Verb.LEG_ADD: lambda save: ["leg", "add", "ledger", "--preview"],
    Verb.LEG_REMOVE: lambda save: ["leg", "remove", "ledger", "virtio-media-a", "--preview"],
    Verb.SCRUB: lambda save: ["scrub", "ledger", "--preview"],
}
# They concern no save that is there.
OF_THE_VOLUME = (Verb.SAVE, Verb.RESTORE, Verb.LEG_ADD, Verb.LEG_REMOVE, Verb.SCRUB)
IN_BAND = (
    Verb.SAVE, Verb.DIFF, Verb.RECOVER, Verb.RESTORE, Verb.SWAP, Verb.RESYNC, Verb.RELEASE,
)  # fmt: skip


@dataclass
class Place:
    """A ledger whose saves go to a disk that can fail, with spares beside it."""

    ledger: Ledger
    fragile: Dm
    backup: int

    @property
    def lab(self) -> Lab:
        return self.ledger.lab

    def ask(self, *words: str) -> Any:
        said = self.ledger.asked(*words, "--json", timeout=60)
        return json.loads(said.stdout)

    def save(self, *words: str) -> str:
        """A copied save on the fragile disk; its name."""
        onto = f"dm-name-{self.fragile.name}"
        made = self.ask("save", "ledger", "--policy", "copy", "--onto", onto, *words)
        return str(made["save"]["name"])

    @contextlib.contextmanager
    def slow(self, *letters: str) -> Iterator[None]:
        for letter in letters:
            self.lab.disk(f"media-{letter}", iops=SLOW)
        try:
            yield
        finally:
            for letter in letters:
                self.lab.disk(f"media-{letter}", iops=0)


@pytest.fixture(scope="module")
def place(booted_lab: Lab) -> Iterator[Place]:
    fragile = Dm(booted_lab, "fragile", "media-c")
    legs, spares = (
        [f"/dev/disk/by-id/virtio-media-{letter}" for letter in letters] for letters in (LEGS, "de")
    )
    ledger = Ledger(booted_lab, paths=legs)
    for path in (fragile.path, *spares):
        ledger.target("media", "add", path, "--force")
    made = Place(ledger, fragile, 0)
    ledger.fill(0, 32)
    save = made.save("--wait")
    ledger.target("backup", save, "--to", IMAGE, "--force", "--wait")
    made.backup = made.ask("backups", "list")[-1]["number"]
    ledger.target("release", save)
    yield made
    ledger.close()
    fragile.remove()


@pytest.fixture(autouse=True)
def tidy(place: Place) -> Iterator[None]:
    yield
    place.fragile.heal()
    for letter in LEGS:
        place.lab.disk(f"media-{letter}", attach=True)
    place.ledger.wait(lambda: place.ledger.status()["operation"] is None)
    place.ledger.tidy()


# --- how to come to each of them --------------------------------------------------------------------


@contextlib.contextmanager
def settled(place: Place) -> Iterator[str]:
    yield place.save("--wait")


@contextlib.contextmanager
def filling(place: Place) -> Iterator[str]:
    place.fragile.delay(DELAY)
    yield place.save("--no-wait")


@contextlib.contextmanager
def broken(place: Place) -> Iterator[str]:
    place.fragile.delay(DELAY)
    save = place.save("--no-wait")
    place.fragile.error()
    place.ledger.wait(lambda: place.ledger.status()["saves"][-1]["fill"] == "broken")
    yield save


@contextlib.contextmanager
def recovering(place: Place) -> Iterator[str]:
    save = place.save("--wait")
    place.ledger.scatter(64, 32)
    place.fragile.delay(DELAY)
    place.ledger.target("recover", save, "--no-undo", "--no-wait")
    yield save


@contextlib.contextmanager
def down(place: Place) -> Iterator[str]:
    save = place.save("--wait")
    for letter in LEGS:
        place.lab.disk(f"media-{letter}", attach=False)
    place.ledger.wait(lambda: place.ledger.status()["state"] == "down")
    yield save
    for letter in LEGS:
        place.lab.disk(f"media-{letter}", attach=True)
    place.ledger.wait(lambda: place.ledger.status()["state"] != "down")


@contextlib.contextmanager
def unfilled(place: Place) -> Iterator[str]:
    yield str(place.ask("save", "ledger", "--no-fill")["save"]["name"])


@contextlib.contextmanager
def being_filled(place: Place) -> Iterator[str]:
    save = str(place.ask("save", "ledger", "--no-fill")["save"]["name"])
    made = place.ask("fill", save, "--rate", "1M", "--no-wait")
    yield save
    place.ledger.target("abort", str(made["operation"]["id"]))


@contextlib.contextmanager
def backing_up(place: Place) -> Iterator[str]:
    save = place.save("--wait")
    with place.slow("c"):
        place.ledger.target("backup", save, "--to", OTHER, "--force", "--no-wait")
        yield save
        place.ledger.target("abort", str(place.ledger.status()["operation"]["id"]))


@contextlib.contextmanager
def restoring(place: Place) -> Iterator[str]:
    with place.slow("d"):
        onto = ["--onto", "virtio-media-d", "--no-wait"]
        made = place.ask("restore", "ledger", "--from", IMAGE, *onto)
        yield str(made["operation"]["save"])


@contextlib.contextmanager
def shown(place: Place) -> Iterator[str]:
    save = place.save("--wait")
    place.ledger.target("export", save, "--initiator", IQN)
    yield save
    place.ledger.target("unexport", save)


@contextlib.contextmanager
def held(place: Place) -> Iterator[str]:
    save = place.save("--wait")
    place.ledger.target("hold", save, "--for", "1d")
    yield save
    place.ledger.target("unhold", save, "--force")


@contextlib.contextmanager
def cloned(place: Place) -> Iterator[str]:
    save = place.save("--wait")
    try:
        with place.slow("c"):
            place.ledger.target("clone", save, "--name", "test")
            refused = place.ask("save", "test", "--preview")["error"]
            assert TABLE[Volume.CLONING, Verb.SAVE].why in refused["message"]
            yield save
    finally:
        place.ledger.target("volume", "delete", "test", "--force")


WAYS: dict[str, Callable[[Place], AbstractContextManager[str]]] = {
    way.__name__: way
    for way in (
        settled,
        filling,
        broken,
        recovering,
        down,
        unfilled,
        being_filled,
        backing_up,
        restoring,
        shown,
        held,
        cloned,
    )
}


# --- what is asked, and what must come of it ----------------------------------------------------------


def states(told: dict[str, Any], name: str) -> tuple[list[State], Volume]:
    """Those of the save and that of the volume, as status shows them."""
    save = next(save for save in told["saves"] if save["name"] == name)
    fills = any(s["fill"] == "filling" and s["origin"] == "host" for s in told["saves"])
    of_volume = {"recovering": Volume.RECOVERING, "down": Volume.DOWN}.get(
        told["state"], Volume.FILLING if fills else Volume.SETTLED
    )
    ties = [Tie.SHOWN] if save["export"] else []
    ties += [Tie.CLONED] if save["clones"] else []
    hold = Hold.HELD if save["held_until"] else Hold.NONE
    shared = save["kept_bytes"] is not None
    kept = Kept.IN_THE_STORE if shared else Kept.ON_A_MEDIUM
    store = Store.USED if told["store"] else Store.UNUSED
    found = [Activity(save["activity"]), Fill(save["fill"]), kept, *ties, hold, store]
    return found, of_volume


def refusals(verb: Verb, of_save: list[State], of_volume: Volume) -> list[Rule]:
    concerned = [of_volume] if verb in OF_THE_VOLUME else [*of_save, of_volume]
    rules = [TABLE[state, verb] for state in concerned]
    return [rule for rule in rules if rule.outcome is Outcome.REFUSED]


def is_told(rule: Rule, error: dict[str, Any]) -> bool:
    """Whether an error is what a field of the table says; of one that is down it names what is missing."""
    why, next = rule.why, rule.next
    if rule == TABLE[Volume.DOWN, Verb.SAVE]:
        why, next = "ledger is down: ", error["hint"]
    return why in error["message"] and (error["hint"], error["reason"]) == (next, rule.reason.value)


def sense(reason: Reason) -> str:
    value = SENSE[reason]
    return f"{value.key:x}/{value.asc:02x}/{value.ascq:02x}"


@pytest.mark.parametrize("way", all_but("settled, filling, down, unfilled", WAYS))
def test_every_verb_is_done_or_refused_as_the_table_says(place: Place, way: str) -> None:
    with WAYS[way](place) as name:
        before = place.ledger.status()
        of_save, of_volume = states(before, name)
        save = next(save for save in before["saves"] if save["name"] == name)
        told: dict[str, str] = {}
        if of_volume is not Volume.DOWN:  # which answers no host
            numbers = f"{save['generation']} {save['slot']} {place.backup}"
            told = json.loads(place.ledger.initiator(f"{PREVIEWS} {place.ledger.disk} {numbers}"))
        for verb, words in WORDS.items():
            expected = refusals(verb, of_save, of_volume)
            in_band = verb in IN_BAND and of_volume is not Volume.DOWN
            said = place.ask(*words(name))
            error = said.get("error") if isinstance(said, dict) else None
            if not expected:
                assert error is None, (verb, error)
                assert not in_band or told[verb.value] == "done", (verb, told)
                continue
            assert error is not None, (verb, said)
            assert any(is_told(rule, error) for rule in expected), (verb, error)
            assert not in_band or told[verb.value] in {sense(rule.reason) for rule in expected}, (
                verb,
                told,
            )
        after = place.ledger.status()
        assert [s["name"] for s in after["saves"]] == [s["name"] for s in before["saves"]]
        assert after["generation"] == before["generation"], "a preview does nothing"
