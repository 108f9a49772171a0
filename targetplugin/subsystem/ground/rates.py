"""How long a copy may take, by how fast this volume's earlier copies were. Knows operations' rows alone.

A figure that was not measured is never made up: where nothing was measured there is none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from statistics import median
from typing import Any

from targetplugin.catalog import Operation

# What each copy may be likened to, what is most like it first: a recover and a resync copy what
# differs here and there, a save that fills copies all from one end to the other.
ALIKE = {
    "recover": ("recover", "undo", "resync", "save"),
    "undo": ("recover", "undo", "resync", "save"),
    "resync": ("resync", "recover", "undo", "save"),
}
LOOKED_AT = 200  # of a volume's newest operations
COUNTED = 5  # newest copies of a kind; the middle one's rate, so that one odd one is no matter
SHORTEST = 0.02  # seconds: rows' times are to the millisecond
INTERRUPTED = "interrupted"  # in `prepared`: the daemon was away while it ran


def estimate(rows: Iterable[Operation], verb: str, size: int) -> dict[str, Any] | None:
    """What copying `size` bytes may take: {seconds, rate in bytes a second, copies, verb}, the last
    two saying what was measured. None where nothing was.

    Args:
        rows: the volume's operations, newest first.
        verb: "recover", "undo" or "resync".
    """
    found = list(rows)
    for kind in ALIKE[verb]:
        rates = _rates(row for row in found if row.verb == kind)
        if rates:
            rate = median(rates)
            return {
                "seconds": round(size / rate, 3),
                "rate": round(rate),
                "copies": len(rates),
                "verb": kind,
            }
    return None


def _rates(rows: Iterable[Operation]) -> Sequence[float]:
    """Bytes a second of the newest that can be told."""
    found: list[float] = []
    for row in rows:
        seconds = _seconds(row)
        if row.bytes_copied > 0 and seconds >= SHORTEST and len(found) < COUNTED:
            found.append(row.bytes_copied / seconds)
    return found


def _seconds(row: Operation) -> float:
    """How long a copy went on; 0.0 where it did not end, or not in one go."""
    if row.state != "done" or not row.in_force or not row.ended or row.prepared.get(INTERRUPTED):
        return 0.0
    ended, begun = datetime.fromisoformat(row.ended), datetime.fromisoformat(row.in_force)
    return (ended - begun).total_seconds()
