"""The simulator can fail: with any rule of order left out of the core, it finds what is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sim.left_out import build, run
from tests.sim.rules import FENCE, NEWEST, RULES

SECONDS = 240


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("left_out")
    build(folder)
    return folder


def test_with_all_rules_kept_nothing_is_wrong(folder: Path) -> None:
    found, said = run(folder, "", seconds=2)
    assert not found, said
    assert "nothing wrong" in said, said


@pytest.mark.parametrize("name", [*(rule.name for rule in RULES if not rule.rare), FENCE, NEWEST])
def test_a_rule_that_is_left_out_is_noticed(folder: Path, name: str) -> None:
    found, said = run(folder, name, SECONDS)
    assert found, said
