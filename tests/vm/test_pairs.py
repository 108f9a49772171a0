"""A database whose data and journal are on two volumes: each save of both is one that it recovers from."""

from __future__ import annotations

from .lab import Lab
from .pairs import run


def test_a_database_on_two_volumes_recovers_from_each_save_and_from_no_torn_pair(lab: Lab) -> None:
    report = run(lab, 3, under_one_load=2)
    assert report.findings == []
    assert (report.shown, report.taken_back) == (2, 1)
    assert len(report.pauses) == 3
    assert all(0 < pause < 5000 for pause in report.pauses)
    assert "PostgreSQL does not start" in report.torn
