"""The page that shows the status beside other tools' names columns that the status has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from targetplugin.terminal import results
from tests.unit.fake_subsystem import FakeSubsystem, a_save, a_volume, an_operation

PAGE = Path(__file__).parents[2] / "docs/status.md"


def columns(text: str) -> set[tuple[str, str]]:
    """(table, column) of what `status` printed."""
    found = re.findall(r"^(.+):\n(.+)$", text, re.MULTILINE)
    return {(name, head.lower()) for name, heads in found for head in re.split(r"  +", heads)}


def test_columns_that_the_page_names_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    saves = [a_save(held_until="2026-12-01T00:00:00.000Z", kept_bytes=1 << 20)]
    store = {"medium": "virtio-media-d", "state": "ready", "size": 1 << 30, "used": 3 << 20}
    status = FakeSubsystem().answers["status"]
    results.everything({
        **status,
        "volumes": [a_volume(saves=saves, store=store)],
        "groups": [{"name": "books", "volumes": ["ledger", "journal"], "why": ""}],
        "operations": [an_operation()],
    })  # fmt: skip
    shown = columns(capsys.readouterr().out)
    named = re.findall(r"`([A-Z][\w ]+): ([^`]+)`", PAGE.read_text())
    assert len(named) > 30
    assert set(named) <= shown


def test_what_differs_is_told_as_a_size_and_as_a_part_of_the_volume(
    capsys: pytest.CaptureFixture[str],
) -> None:
    results.saves([a_save()])
    assert "  2.5 MiB (0.49%)  " in capsys.readouterr().out
