"""What is judged of a database's copies by what its tellers know."""

from __future__ import annotations

import pytest

from tests.vm.pairs import out_of_place


@pytest.mark.parametrize(
    ("found", "tellers"),
    [([5, 9], []), ([7, 12], []), ([4, 9], [0]), ([5, 13], [1]), ([8, 0], [0, 1])],
)
def test_a_copy_holds_what_was_answered_before_it_and_nothing_that_began_after(
    found: list[int], tellers: list[int]
) -> None:
    told = out_of_place(found, [5, 9], [7, 12])
    assert [sentence.split()[1] for sentence in told] == [str(teller) for teller in tellers]
