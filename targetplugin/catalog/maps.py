"""Frozen extent maps: one file a generation, and the arithmetic of bitmaps (lowest bit first). Knows no save or tree."""

from __future__ import annotations

import os
from collections.abc import Iterable


class Maps:
    """The directory of map files, mode 0700; files are 0600, compressed, checksummed, and whole or not there."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        """Raises Refused (ENVIRONMENT): the directory can't be made or used."""
        raise NotImplementedError

    def write(self, volume: bytes, generation: int, bits: bytes) -> str:
        """Writes a map durably, over one that is there, and returns its name for Generation.map.

        Raises Refused (ENVIRONMENT): disk full, not writable.
        """
        raise NotImplementedError

    def read(self, name: str) -> bytes:
        """The bits of a map. Raises Refused (ENVIRONMENT): not there, damaged, or of a later version."""
        raise NotImplementedError

    def remove(self, name: str) -> None:
        """Removes a map; one that is not there is removed already."""
        raise NotImplementedError

    def sweep(self, names: Iterable[str]) -> list[str]:
        """Removes all but the named (a crash leaves maps that nothing names), and returns what it removed."""
        raise NotImplementedError


def map_bytes(extents: int) -> int:
    """Length of a map of so many extents."""
    raise NotImplementedError


def full(extents: int) -> bytes:
    """The map in which every extent is set."""
    raise NotImplementedError


def count(bits: bytes) -> int:
    """How many extents are set."""
    raise NotImplementedError


def either(maps: Iterable[bytes], extents: int) -> bytes:
    """What is set in any of the maps (OR)."""
    raise NotImplementedError


def both(one: bytes, other: bytes) -> bytes:
    """What is set in both (AND)."""
    raise NotImplementedError


def without(one: bytes, other: bytes) -> bytes:
    """What is set in the first and not in the second."""
    raise NotImplementedError


def runs(bits: bytes) -> list[tuple[int, int]]:
    """The runs of set extents: (first, count), ascending."""
    raise NotImplementedError


def slots_map(slots: Iterable[tuple[int, int, bytes]], extents: int) -> bytes:
    """A map put together from map slots as they are on disk: (slot, sequence, payload of 4064 bytes).

    Of each slot the highest sequence counts; slots that are missing are clear.
    """
    raise NotImplementedError
