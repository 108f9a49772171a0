"""Shortens the history of a run that fails: leaves out what it fails without."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tests.sim.oracle import Wrong
from tests.sim.world import World


def fails(seed: int, steps: Sequence[int]) -> int | None:
    """The step at which the run fails, or None where it does not."""
    world = World(seed)
    try:
        world.run(steps)
    except Wrong:
        return world.now
    return None


def shorten(seed: int, steps: int, seconds: float) -> list[str]:
    """The history of as few steps as `seconds` suffice to find, and what goes wrong after them."""
    end = time.monotonic() + seconds
    kept = list(range(steps))
    last = fails(seed, kept)
    if last is None:
        return ["it does not fail again"]
    kept = [step for step in kept if step <= last]
    size = len(kept) // 2
    while size and time.monotonic() < end:
        at = 0
        while at < len(kept) and time.monotonic() < end:
            shorter = kept[:at] + kept[at + size :]
            if fails(seed, shorter) is not None:
                kept = shorter
            else:
                at += size
        size //= 2
    lines: list[str] = []
    world = World(seed, trace=lines.append)
    try:
        world.run(kept)
    except Wrong as wrong:
        lines.append(str(wrong))
    return [line for line in lines if " act " not in line][-60:]
