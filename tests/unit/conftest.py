"""A house for each test of the subsystem: four media of 12 MiB and the volume `ledger` of 8 MiB on
two of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.fake_kernel import FakeKernel
from tests.unit.house import MIB, House


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.media("a", "b", "c", "d")
    made.volume()
    yield made
    made.end()


@pytest.fixture
def saved(house: House) -> House:
    """Two volumes, `ledger` and `journal`, that were split into a save `night` and written since; c and d
    are free.
    """
    house.media("e", "f", size=12 * MIB)
    house.volume("journal", media=["e", "f"])
    house.write(3, "x")
    house.write(3, "j", "journal")
    house.subsystem.save_group(["ledger", "journal"], label="night")
    house.write(3, "y")
    house.write(3, "k", "journal")
    return house
