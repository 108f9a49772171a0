"""Limits and estimates, by a clock of the test's own."""

from __future__ import annotations

import pytest

from targetplugin.subsystem.images.pace import Estimate, Pace


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_was_moved_is_paid_for_in_time() -> None:
    clock = Clock()
    pace = Pace(1000, clock)
    assert pace.took(500) == pytest.approx(0.5)
    assert pace.took(500) == pytest.approx(1.0)
    clock.now += 0.75
    assert pace.owed() == pytest.approx(0.25)
    clock.now += 1
    assert pace.owed() == 0.0


def test_a_long_pause_is_no_credit() -> None:
    clock = Clock()
    pace = Pace(1000, clock)
    clock.now += 60
    assert pace.took(1000) == pytest.approx(0.95)


def test_what_is_owed_is_owed_at_a_new_rate() -> None:
    clock = Clock()
    pace = Pace(1000, clock)
    pace.took(2000)
    pace.set(4000)
    assert pace.owed() == pytest.approx(0.5)
    pace.set(None)
    assert pace.owed() == 0.0
    assert pace.took(1 << 40) == 0.0
    pace.set(1000)
    assert pace.owed() == 0.0


def test_an_estimate_goes_by_the_last_seconds() -> None:
    clock = Clock()
    estimate = Estimate(clock)
    assert estimate.left() is None
    for second in range(1, 51):
        clock.now = 100 + second
        estimate.note(second / 100)
    assert estimate.left() == pytest.approx(50, rel=0.05)
    for second in range(51, 101):  # ten times slower from here
        clock.now = 100 + second
        estimate.note(0.5 + (second - 50) / 1000)
    assert estimate.left() == pytest.approx(450, rel=0.05)
    clock.now += 30  # and now it hangs
    assert estimate.left() > 700
