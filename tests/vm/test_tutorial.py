"""The tutorial does what it says, typed word for word."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import tutorial
from .lab import Lab
from .long import long

pytestmark = long

LOOK = "cat /mnt/ledger/balance"


@pytest.fixture
def no_lab(booted_lab: Lab) -> Iterator[None]:
    """The tutorial makes the lab itself, and takes it down."""
    booted_lab.down()
    yield
    booted_lab.up()


def test_the_tutorial_typed_word_for_word_ends_as_it_says(no_lab: None) -> None:
    said = list(tutorial.session(tutorial.TUTORIAL.read_text()))
    looks = [what for line, what in said if line.endswith(LOOK)]
    assert looks == ["100 euros\n"] * 3, "after the job, after the swap, after the power cut"
    assert "the job ended with 3" in "".join(what for _, what in said)
    *_, (last, shown), _ = said
    assert last.endswith("targetplugin status ledger")
    assert "ledger  serving" in shown
    kept = tutorial.recorded(tutorial.RECORDING.read_text())
    assert looks == [what for line, what in kept if line.endswith(LOOK)], "as it was recorded"
