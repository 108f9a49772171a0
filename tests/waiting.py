"""How a test waits for what another thread or process brings about."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def until(reached: Callable[[], Any], seconds: float = 20, awaited: str = "it") -> None:
    """Waits until something is so.

    Args:
        seconds: after so long it fails: far more than it takes, as the machine may be busy.
        awaited: what the failure says does not come.
    """
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, f"{awaited} does not come"
        time.sleep(0.005)
