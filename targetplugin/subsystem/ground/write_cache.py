"""Whether hosts of a volume have a write cache: what they set with MODE SELECT (WCE, SBC-3 6.5.5), and what
they want it to be when the machine starts again. Owns where that is kept; knows no mode page.

A daemon that starts again is nothing that hosts are told of: what they set is still so. It ends, as a disk's
current values do when it loses its power, with the machine's run.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from targetplugin.catalog import Volume
from targetplugin.subsystem.ground.clock import Clock

DETAIL = "write_cache"


class WriteCache(Struct, frozen=True):
    """Whether there is one now, and when the machine has started again; without a word from hosts there
    is.
    """

    now: bool = True
    saved: bool = True


def of(clock: Clock, volume: Volume) -> WriteCache:
    kept = volume.details.get(DETAIL)
    if kept is None:
        return WriteCache()
    return WriteCache(kept["now" if kept["boot"] == clock.boot() else "saved"], kept["saved"])


def detail(clock: Clock, cache: WriteCache) -> dict[str, Any]:
    """As a volume's row has it."""
    return {"now": cache.now, "saved": cache.saved, "boot": clock.boot()}
