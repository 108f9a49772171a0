"""What is run when asked for alone (`./check --long`): what takes minutes, or shows with other figures
what another test shows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

long = pytest.mark.long


def all_but(kept: str, names: Iterable[str]) -> list[Any]:
    """Parameters of a test, of which those in `kept` ("one, another") are tried each time."""
    return [name if name in kept.split(", ") else pytest.param(name, marks=long) for name in names]
