"""The reference is what the code says."""

from __future__ import annotations

from pathlib import Path

from tools.reference import reference


def test_the_reference_is_made_from_the_code() -> None:
    written = Path(__file__).parents[2] / "docs" / "reference.md"
    assert written.read_text() == reference(), "python3 -m tools.reference > docs/reference.md"
