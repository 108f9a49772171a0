"""The log of Linux' log-writes target (drivers/md/dm-log-writes.c): reading it, and replaying it into an
image up to any entry. Knows nothing of what was written.

Each entry takes one sector of the log, its data the sectors behind it. Linux puts a write there when a
flush that began after its completion has ended, or with FUA when it has ended itself: what stands before
an entry is what a power cut at that point must have left, whatever else was in a cache.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntFlag
from pathlib import Path

MAGIC = 0x6A736677736872
VERSION = 1
SECTOR = (
    512  # what an entry counts in on disks of 512-byte logical blocks, the only ones taken here
)
_SUPER = struct.Struct("<QQQI")
_ENTRY = struct.Struct("<QQQQ")


class Flag(IntFlag):
    """What an entry is."""

    FLUSH = 1
    FUA = 2
    DISCARD = 4
    MARK = 8
    METADATA = 16


@dataclass(frozen=True)
class Entry:
    """One entry: bytes that were written at an offset, a flush, a discarded range, or a mark.

    Attributes:
        length: bytes written or discarded.
        data_at: where they are in the log; nowhere for a discard.
        mark: a mark's text.
    """

    flags: Flag
    offset: int
    length: int
    data_at: int
    mark: str = ""

    @property
    def is_point(self) -> bool:
        """Whether somebody may rely on what is durable now."""
        return bool(self.flags & (Flag.FLUSH | Flag.FUA))


class Log:
    """A log that was ended (its table was replaced). As a context manager it closes itself."""

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        magic, version, self.count, sector = _SUPER.unpack_from(self._map)
        if (magic, version, sector) != (MAGIC, VERSION, SECTOR):
            raise ValueError(f"{path} holds no log of log-writes with sectors of {SECTOR} bytes")

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self._map.close()

    def entries(self) -> Iterator[Entry]:
        """All of them, in their order."""
        at = SECTOR
        for _ in range(self.count):
            sector, count, flags, text = _ENTRY.unpack_from(self._map, at)
            flag = Flag(flags)
            data = at + SECTOR
            mark = ""
            if flag & Flag.MARK:
                begin = at + _ENTRY.size
                mark = self._map[begin : begin + text].rstrip(b"\0").decode()
            yield Entry(flag, sector * SECTOR, count * SECTOR, data, mark)
            at = data if flag & Flag.DISCARD else data + count * SECTOR

    def data(self, entry: Entry) -> bytes:
        """What an entry wrote; zeros for what it discarded."""
        if entry.flags & Flag.DISCARD:
            return bytes(entry.length)
        return self._map[entry.data_at : entry.data_at + entry.length]


class Image:
    """What is on the disk after the entries that were applied, from zeros on; kept in a sparse file."""

    def __init__(self, path: Path, size: int) -> None:
        with open(path, "w+b") as file:
            file.truncate(size)
            self._map = mmap.mmap(file.fileno(), size)

    def close(self) -> None:
        self._map.close()

    def apply(self, entry: Entry, data: bytes) -> None:
        self.put(entry.offset, data)

    def put(self, offset: int, data: bytes) -> None:
        self._map[offset : offset + len(data)] = data

    def read(self, offset: int, length: int) -> bytes:
        return self._map[offset : offset + length]


def replay(log: Log, path: Path, size: int, count: int) -> None:
    """Makes the image as it was after the first `count` entries."""
    image = Image(path, size)
    for number, entry in enumerate(log.entries()):
        if number == count:
            break
        if entry.length:
            image.apply(entry, log.data(entry))
    image.close()
