"""What runs side by side: the lab's tests never do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scheduling import LAB, WITH_THE_LAB, OneLab

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("path", sorted((TESTS / "vm").glob("test_*.py")), ids=lambda p: p.stem)
def test_all_of_the_lab_s_are_one_turn(path: Path) -> None:
    scheduling = OneLab.__new__(OneLab)
    nodeid = f"{path.relative_to(TESTS.parent)}::test_something[a::b]"
    assert scheduling._split_scope(nodeid) == LAB


def test_who_asks_for_the_slice_comes_after_them_and_other_files_are_turns_of_their_own() -> None:
    scheduling = OneLab.__new__(OneLab)
    assert (TESTS.parent / WITH_THE_LAB).exists()
    assert scheduling._split_scope(f"{WITH_THE_LAB}::test_it") == LAB
    assert scheduling._split_scope("tests/unit/test_a.py::test_it") == "tests/unit/test_a.py"
