"""How long saves are kept, on a machine whose clock is turned, and with a host that wants them gone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from .lab import Lab
from .ledger import MIB, Ledger


@pytest.fixture(scope="module")
def ledger(booted_lab: Lab) -> Iterator[Ledger]:
    ledger = Ledger(booted_lab, "abcd", "128M")
    yield ledger
    ledger.target("unhold", "ledger@night", "--force", check=False)
    ledger.close()


def turn(ledger: Ledger, how: str) -> None:
    """Sets the target's clock."""
    ledger.lab.exec("target", ["date", "--set", how], timeout=30)


def test_a_clock_set_forward_gives_a_host_no_held_save(ledger: Ledger) -> None:
    ledger.target("save", "ledger", "--label", "night")
    ledger.fill(8, 2)
    ledger.target("hold", "ledger@night", "--for", "1d")
    turn(ledger, "+3 days")
    try:
        for verb in ("release", "resync", "swap"):
            said = ledger.run(f"pitcopy {verb} {ledger.disk} --save night")
            assert said.returncode == 1, verb
        ledger.lab.exec("target", ["systemctl", "restart", "targetplugind"], timeout=60)
        assert [save["label"] for save in ledger.status()["saves"]] == ["night"]
        assert "HELD UNTIL" in ledger.initiator(f"pitcopy status {ledger.disk}")
        ledger.target("volume", "delete", "ledger", "--force", check=False)
        ledger.target("release", "ledger@night", "--force", check=False)
        assert ledger.status()["saves"][0]["held_until"]
    finally:
        turn(ledger, "-3 days")


def test_a_differential_between_two_saves_is_what_was_written_between(ledger: Ledger) -> None:
    ledger.target("save", "ledger", "--label", "later", "--policy", "copy", "--wait")
    ledger.fill(40, 1)
    told = json.loads(ledger.target("diff", "ledger", "--from", "night", "--to", "later", "--json"))
    (run,) = told  # the daemon was restarted since, so it may be as large as a region
    assert run["exists"] == "true"
    assert run["offset"] == 8 * MIB
    assert 10 * MIB <= run["offset"] + run["length"] <= 12 * MIB
    told = json.loads(ledger.target("diff", "ledger", "--from", "later", "--to", "now", "--json"))
    assert told == [{"offset": 40 * MIB, "length": MIB, "exists": "true"}]


def test_a_preview_tells_how_long_the_last_copies_took(ledger: Ledger) -> None:
    words = ("recover", "ledger@later", "--preview", "--json")
    estimate = json.loads(ledger.target(*words))["estimate"]
    assert estimate["verb"] == "save", "128 MiB were copied"
    assert 0 < estimate["seconds"] < 10


def test_a_host_s_save_makes_the_rules_release_what_they_do_not_keep(ledger: Ledger) -> None:
    ledger.target("release", "ledger@later")
    for label in ("one", "two"):
        ledger.target("save", "ledger", "--label", label, "--wait")
    ledger.target("retain", "ledger", "--last", "1")
    ledger.target("release", "ledger@one")
    ledger.initiator(f"pitcopy save {ledger.disk} --label three")

    def left() -> set[str]:
        return {save["label"] for save in ledger.status()["saves"]}

    ledger.wait(lambda: left() == {"night", "three"})
    assert ledger.operation("release")["door"] == "policy"
    ledger.target("retain", "ledger", "--off")
