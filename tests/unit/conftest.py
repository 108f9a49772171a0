"""A house for each test of the subsystem: four media of 12 MiB and the volume `ledger` of 8 MiB on
two of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    made.media("a", "b", "c", "d")
    made.volume()
    yield made
    made.end()
