"""Writing an increment: a qcow2 image that has only what differs, and stands on an older backup.

Clusters are appended in the order of the disk, and the header comes last: until then the file is no
image. Knows a descriptor and numbers; opens nothing and knows no volume.

Source: docs/interop/qcow2.txt of QEMU.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator

from msgspec.structs import replace

from targetplugin.subsystem.images.qcow2 import COPIED, ZERO, Stamp, encode

_LARGEST, _SMALLEST = 1 << 16, 1 << 12  # bytes of a cluster
_ROOM = 16 << 20  # bytes that the table of tables may have
_PIECE = 1 << 20  # bytes that are read at once


def cluster_of(size: int, extent_size: int) -> int:
    """How large the clusters of an increment are: an extent, where the tables stay small."""
    cluster = max(_SMALLEST, min(_LARGEST, extent_size))
    while -(-size // (cluster * (cluster // 8))) * 8 > _ROOM:
        cluster *= 2
    return cluster


def pieces(runs: Iterable[dict[str, int]], size: int, cluster: int) -> Iterator[tuple[int, int]]:
    """Runs of bytes widened to whole clusters and cut to what is read at once: (offset, length),
    ascending, none twice; the last may end with the disk in the midst of a cluster.
    """
    at = 0
    most = max(_PIECE, cluster)
    for run in runs:
        at = max(at, run["offset"] // cluster * cluster)
        end = min(-(-(run["offset"] + run["length"]) // cluster) * cluster, size)
        while at < end:
            length = min(most, end - at)
            yield at, length
            at += length


class Increment:
    """An image that is being written to a new file, by put() in ascending order and end().

    Args:
        descriptor: of an empty file, open for writing.
        size: of the disk, bytes.
    """

    def __init__(self, descriptor: int, size: int, cluster: int) -> None:
        self._descriptor = descriptor
        self._size = size
        self._cluster = cluster
        self._zeros = bytes(cluster)
        self._per_table = cluster // 8
        self._l1 = [0] * -(-size // (cluster * self._per_table))
        self._table: list[int] = []  # the L2 table that is being filled, and its place in the L1
        self._index = -1
        self._next = 1  # cluster of the file; the header has the first

    def put(self, offset: int, data: bytes) -> None:
        """What the disk holds at an offset, whole clusters; only the disk's end may be shorter.

        Zeros take no room, and hide what the backing file has there.
        """
        data += bytes(-len(data) % self._cluster)
        kept: list[bytes] = []
        for at in range(0, len(data), self._cluster):
            index, entry = divmod((offset + at) // self._cluster, self._per_table)
            if index != self._index:
                self._append(b"".join(kept))
                kept = []
                self._end_table()
                self._index, self._table = index, [0] * self._per_table
            piece = data[at : at + self._cluster]
            if piece == self._zeros:
                self._table[entry] = ZERO
            else:
                place = self._next + len(kept)
                self._table[entry] = place * self._cluster | COPIED
                kept.append(piece)
        self._append(b"".join(kept))

    def end(self, backing: tuple[str, str], stamp: Stamp) -> None:
        """Writes the tables and the header; on stable storage when it returns.

        Args:
            backing: name and format of the file that it stands on.
        """
        self._end_table()
        l1 = self._append(struct.pack(f">{len(self._l1)}Q", *self._l1))
        per_block = self._cluster // 2  # counts of 16 bits
        blocks = tables = 0
        while True:  # the counts count themselves too
            total = self._next + blocks + tables
            need = -(-total // per_block)
            need_tables = -(-need * 8 // self._cluster)
            if (need, need_tables) == (blocks, tables):
                break
            blocks, tables = need, need_tables
        first = self._next
        for block in range(blocks):
            used = min(per_block, total - block * per_block)
            self._append(b"\0\1" * used)
        places = [(first + block) * self._cluster for block in range(blocks)]
        counts = self._append(struct.pack(f">{blocks}Q", *places))
        stamp = replace(stamp, length=self._next * self._cluster)
        header = encode(
            self._size,
            self._cluster,
            (l1, len(self._l1)),
            (counts, tables),
            backing,
            stamp,
        )
        os.fsync(self._descriptor)
        self._write(0, header)
        os.fsync(self._descriptor)

    def _end_table(self) -> None:
        if self._index >= 0:
            table = struct.pack(f">{self._per_table}Q", *self._table)
            self._l1[self._index] = self._append(table) | COPIED

    def _append(self, data: bytes) -> int:
        """Writes whole clusters behind what is there; returns where."""
        at = self._next * self._cluster
        data += bytes(-len(data) % self._cluster)
        self._write(at, data)
        self._next += len(data) // self._cluster
        return at

    def _write(self, at: int, data: bytes) -> None:
        left = memoryview(data)
        while left:
            done = os.pwrite(self._descriptor, left, at)
            left, at = left[done:], at + done


def write(
    increment: Increment,
    spans: Iterable[tuple[int, int]],
    read: Callable[[int, int], bytes],
    moved: Callable[[int], None],
) -> None:
    """Brings what `pieces` names from `read` to the increment.

    Args:
        read: bytes at an offset.
        moved: is told how many bytes were moved; may wait, and may raise to stop it.
    """
    for offset, length in spans:
        increment.put(offset, read(offset, length))
        moved(length)
