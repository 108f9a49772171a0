"""A power cut at every point of a log of a leg's writes, with a save and a recover among them; and that
the judge of that log would notice.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from . import disks, power_points
from .crash_points import Book, Checker, Report
from .lab import Lab
from .log_writes import Entry, Image, Log

ENTRIES = 700  # python3 -m tests.vm.power_points has no limit


@pytest.fixture(scope="module")
def book(booted_lab: Lab) -> Book:
    return power_points.record(booted_lab, ENTRIES, seed=7)


class LossyLog(Log):
    """Loses the data of some entries, as a disk would whose flush was never sent."""

    lost: Callable[[Entry], bool]

    def entries(self) -> Iterator[Entry]:
        for entry in super().entries():
            gone = self.lost(entry) and entry.length
            yield Entry(entry.flags, entry.offset, 0, entry.data_at) if gone else entry


def judged(book: Book, lost: Callable[[Entry], bool]) -> Report:
    with tempfile.NamedTemporaryFile() as scratch:
        image = Image(Path(scratch.name), power_points.SIZE)
        with LossyLog(disks.disk_dir() / f"{power_points.LOG}.raw") as log:
            log.lost = lost
            checker = Checker(image, power_points.SIZE, power_points.VOLUME, book)
            return checker.run(log)


def nth(wanted: int, kind: Callable[[Entry], bool]) -> Callable[[Entry], bool]:
    """Loses one of the entries of a kind, and none else."""
    seen = 0

    def lost(entry: Entry) -> bool:
        nonlocal seen
        seen += kind(entry)
        return kind(entry) and seen == wanted

    return lost


def data(entry: Entry) -> bool:
    return entry.offset < power_points.VOLUME and 0 < entry.length <= 16384


def trailer(entry: Entry) -> bool:
    return entry.offset >= power_points.VOLUME


def test_every_point_of_a_run_leaves_what_the_host_was_told(
    book: Book, told: Callable[[str], None]
) -> None:
    report = power_points.judge(book)
    told(f"power cuts: {report}")
    assert not report.found, str(report)
    assert report.entries >= ENTRIES
    assert report.points >= ENTRIES // 5
    assert report.filling
    assert report.recovering


@pytest.mark.parametrize("number", [50, 150])
def test_a_write_that_was_lost_is_found(book: Book, number: int) -> None:
    found = judged(book, nth(number, data)).found
    assert any("told to be durable" in what for what in found), found


@pytest.mark.parametrize(
    ("since", "what"),
    [("saved", "neither marked nor logged"), ("recover", "the record does not have it")],
)
def test_records_and_marks_that_were_lost_are_found(book: Book, since: str, what: str) -> None:
    begun = False

    def lost(entry: Entry) -> bool:
        nonlocal begun
        begun = begun or entry.mark == since
        return begun and trailer(entry)

    assert any(what in found for found in judged(book, lost).found)
