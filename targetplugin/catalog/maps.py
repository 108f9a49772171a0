"""Frozen extent maps: one file a generation, and arithmetic of bitmaps (lowest bit first).

Knows no save and no tree.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterable
from contextlib import suppress

from targetplugin.catalog.database import sync_folder, trouble
from targetplugin.errors import Reason, Refused

MAGIC = b"TPLGMAP1"
VERSION = 1
SLOT_BITS = 32512  # of a map slot on a medium, as the engine writes it

# magic, version, zero, crc32 of all that follows, length of the bits, volume, generation
_HEADER = struct.Struct("<8sHHIQ16sQ")
_CHECKED = 16  # what the checksum covers starts here
_NAME = re.compile(r"[0-9a-f]{32}-[0-9]+\.map")


class Maps:
    """The folder of map files, 0700; files are 0600, compressed, checksummed, whole or absent."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        """Raises Refused (ENVIRONMENT): the directory can't be made or used."""
        self.directory = os.fspath(directory)
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            os.listdir(self.directory)
        except OSError as error:
            raise trouble(self.directory, error) from error

    def write(self, volume: bytes, generation: int, bits: bytes) -> str:
        """Writes a map durably, over one that is there, and returns its name for Generation.map.

        Raises Refused (ENVIRONMENT): disk full, not writable; what was there still is.
        """
        name = f"{volume.hex()}-{generation}.map"
        path = os.path.join(self.directory, name)
        rest = struct.pack("<Q16sQ", len(bits), volume, generation) + zlib.compress(bits, 1)
        data = struct.pack("<8sHHI", MAGIC, VERSION, 0, zlib.crc32(rest)) + rest
        try:
            fd = os.open(f"{path}.new", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
            os.rename(f"{path}.new", path)
            sync_folder(self.directory)
        except OSError as error:
            with suppress(OSError):
                os.unlink(f"{path}.new")
            raise trouble(path, error) from error
        return name

    def read(self, name: str) -> bytes:
        """The bits of a map. Raises Refused (ENVIRONMENT): absent, damaged, of a later version."""
        path = self._path(name)
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            raise trouble(path, error) from error
        if len(data) < _HEADER.size or not data.startswith(MAGIC):
            raise _damaged(path)
        _, version, _, crc, length, volume, generation = _HEADER.unpack_from(data)
        if version > VERSION:
            raise Refused(
                Reason.ENVIRONMENT,
                f"{path} was written by a later version",
                object=path,
                hint="use the version of targetplugin that wrote it, or a later one",
            )
        if zlib.crc32(data[_CHECKED:]) != crc or name != f"{volume.hex()}-{generation}.map":
            raise _damaged(path)
        bits = zlib.decompress(data[_HEADER.size :], bufsize=length or 1)
        if len(bits) != length:
            raise _damaged(path)
        return bits

    def remove(self, name: str) -> None:
        """Removes a map; one that is not there is removed already."""
        path = self._path(name)
        try:
            with suppress(FileNotFoundError):
                os.unlink(path)
        except OSError as error:
            raise trouble(path, error) from error

    def sweep(self, names: Iterable[str]) -> list[str]:
        """Removes all maps but the named, as a crash leaves some that no row names.

        Returns:
            What was removed.
        """
        kept = set(names)
        removed = []
        for name in sorted(os.listdir(self.directory)):
            ours = _NAME.fullmatch(name.removesuffix(".new"))
            if ours and name not in kept:
                with suppress(FileNotFoundError):
                    os.unlink(os.path.join(self.directory, name))
                    removed.append(name)
        return removed

    def _path(self, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a map")
        return os.path.join(self.directory, name)


def _damaged(path: str) -> Refused:
    return Refused(
        Reason.ENVIRONMENT,
        f"{path} is damaged",
        object=path,
        hint="put a copy of it back; until then what differs across it counts as all",
    )


# --- bitmaps --------------------------------------------------------------------------------------

_SET = re.compile(rb"\xff+|[^\x00\xff]")


def _runs_of(byte: int) -> list[tuple[int, int]]:
    bits = f"{byte:08b}"[::-1]
    return [(found.start(), found.end()) for found in re.finditer("1+", bits)]


_RUNS_OF_BYTE = [_runs_of(byte) for byte in range(256)]


def map_bytes(extents: int) -> int:
    """Length of a map of so many extents."""
    return -(-extents // 8)


def full(extents: int) -> bytes:
    """The map in which every extent is set."""
    return ((1 << extents) - 1).to_bytes(map_bytes(extents), "little")


def count(bits: bytes) -> int:
    """How many extents are set."""
    return int.from_bytes(bits, "little").bit_count()


def either(maps: Iterable[bytes], extents: int) -> bytes:
    """What is set in any of the maps (OR), of the length of `extents`."""
    found = 0
    for bits in maps:
        found |= int.from_bytes(bits, "little")
    return (found & ((1 << extents) - 1)).to_bytes(map_bytes(extents), "little")


def both(one: bytes, other: bytes) -> bytes:
    """What is set in both (AND), of the length of the first."""
    found = int.from_bytes(one, "little") & int.from_bytes(other, "little")
    return found.to_bytes(len(one), "little")


def without(one: bytes, other: bytes) -> bytes:
    """What is set in the first and not in the second, of the length of the first."""
    found = int.from_bytes(one, "little") & ~int.from_bytes(other, "little")
    return found.to_bytes(len(one), "little")


def runs(bits: bytes) -> list[tuple[int, int]]:
    """The runs of set extents: (first, count), ascending."""
    found: list[tuple[int, int]] = []
    first = end = 0  # of the run that may still grow
    for match in _SET.finditer(bits):
        at = match.start() * 8
        byte = bits[match.start()]
        pieces = ((0, 8 * (match.end() - match.start())),) if byte == 255 else _RUNS_OF_BYTE[byte]
        for start, stop in pieces:
            if at + start != end or end == first:
                if end > first:
                    found.append((first, end - first))
                first = at + start
            end = at + stop
    if end > first:
        found.append((first, end - first))
    return found


def slots_map(slots: Iterable[tuple[int, int, bytes]], extents: int) -> bytes:
    """A map put together from map slots of one medium: (slot, sequence, payload of 4064 bytes).

    Of each slot the highest sequence counts; slots that are missing are clear.
    """
    newest: dict[int, tuple[int, bytes]] = {}
    for slot, sequence, payload in slots:
        if slot not in newest or sequence > newest[slot][0]:
            newest[slot] = (sequence, payload)
    length = SLOT_BITS // 8
    whole = bytearray(max(map_bytes(extents), (max(newest, default=0) + 1) * length))
    for slot, (_, payload) in newest.items():
        whole[slot * length : (slot + 1) * length] = payload[:length]
    return either([bytes(whole)], extents)
