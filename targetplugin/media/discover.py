"""Finds media again at a start, wherever their paths are now. Opens them for reading only, and takes none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from targetplugin.media.trailer import Trailer


@dataclass(frozen=True)
class Wanted:
    """A medium that is known: its uuid and the path where it was last."""

    uuid: bytes
    path: str


@dataclass(frozen=True)
class Found:
    """Where a medium is. `path` is "" where it is nowhere, and `why` then says what was seen."""

    uuid: bytes
    path: str
    trailer: Trailer | None = None
    why: str = ""


def peek(path: str) -> Trailer | None:
    """The trailer of a file or device, read without taking or changing it; None: no superblock, or it can't be read."""
    raise NotImplementedError


def find(wanted: Iterable[Wanted], *, by_id: str = "/dev/disk/by-id") -> dict[bytes, Found]:
    """Looks for media by their superblocks' uuid: at the known path, then in by-id, then at all block devices.

    A path that holds another medium now is not taken, nor is one of two disks that claim the same uuid.
    """
    raise NotImplementedError
