"""Times as they are read. How they are typed is in the tests of the verbs."""

from __future__ import annotations

import pytest

from targetplugin.terminal.times import format_duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "an unknown time"),
        (0, "0 s"),
        (0.04, "0 s"),
        (4.21, "4.2 s"),
        (9.97, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (125.2, "2 min 5 s"),
        (3599.7, "1 h"),
        (7500, "2 h 5 min"),
        (360000, "100 h"),
    ],
)
def test_a_duration_is_told(seconds: float | None, text: str) -> None:
    assert format_duration(seconds) == text
