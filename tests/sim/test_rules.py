"""The simulator can fail: with any rule of order left out of the core, it finds what is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.sim.left_out import build, run
from tests.sim.rules import FENCE, NEWEST, RULES

SECONDS = 600  # a limit: nearly all are found in 10
NAMES = [*(rule.name for rule in RULES), FENCE, NEWEST]

Run = tuple[bool, str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("left_out")
    build(folder)
    return folder


@pytest.fixture(scope="module")
def runs(folder: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Run]]]:
    """The runs of all rules that this session's tests ask for, so many at once as there are processors."""
    callspecs = [getattr(item, "callspec", None) for item in request.session.items]
    asked = {spec.params.get("name") for spec in callspecs if spec is not None}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {n: pool.submit(run, folder, n, SECONDS) for n in NAMES if n in asked}


def test_with_all_rules_kept_nothing_is_wrong(folder: Path) -> None:
    found, said = run(folder, "", SECONDS, seeds=4)
    assert not found, said
    assert "nothing wrong" in said, said


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_that_is_left_out_is_noticed(name: str, runs: dict[str, Future[Run]]) -> None:
    found, said = runs[name].result()
    assert found, said
