"""The header of a qcow2 image: read and judged before qemu-img opens the file, so that nothing which
it names is ever opened unseen; and the stamp of a backup, which says of which volume and point it is.

Source: docs/interop/qcow2.txt of QEMU. The stamp is a header extension, which other readers ignore
and qemu-img keeps. Knows one file; opens no other.
"""

from __future__ import annotations

import json
import os
import struct
from array import array
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from targetplugin.errors import Reason, Refused

MAGIC = b"QFI\xfb"
OLD_HEADER, HEADER = 72, 104  # bytes of the headers of versions 2 and 3
END, BACKING_FORMAT, STAMP = 0, 0xE2792ACA, 0x54504C31  # types of header extensions
COPIED = 1 << 63  # in L1 and L2 entries: the cluster's reference count is exactly one
ZERO = 1  # in an L2 entry: the cluster reads as zeros, whatever the backing file has
OFFSET = 0x00FF_FFFF_FFFF_FE00  # of a cluster, in an L1 or L2 entry
MOST_NAME = 1023  # bytes of a backing file's name
MOST_L1 = 32 << 20  # bytes; qemu-img takes no more
STAMP_VERSION = 1

_DIRTY, _CORRUPT, _DATA_FILE, _COMPRESSION, _LONG_L2 = (1 << bit for bit in range(5))
_KNOWN = _DIRTY | _CORRUPT | _DATA_FILE | _COMPRESSION | _LONG_L2
_FIXED = struct.Struct(">4sIQIIQIIQQIIQ")  # both versions begin with it
_FEATURES = struct.Struct(">QQQII")  # and version 3 goes on with it
_PLAIN = "convert it with qemu-img to an image that stands for itself"
_RESIZED = "give it back its size with qemu-img resize, or convert it to an image without a stamp"
_CHECK = "look at it with qemu-img check, or use another copy of it"


class Stamp(Struct, frozen=True):
    """What a backup says of itself.

    Attributes:
        volume: uuid, and `generation` the point that it holds.
        image: 32 hex digits, of this image alone; copies of the file share them.
        base: the `image` of the one that it was written onto, "" for a whole one or a raw base.
        base_name: the name that its backing file had then.
        older: `base`, what that stood on, and so on: what it may be put onto by qemu-img rebase.
        size: of the disk in it; `length`: of the file when it was written, bytes.
    """

    volume: bytes
    generation: int
    image: str
    size: int
    created: str
    base: str = ""
    base_name: str = ""
    older: tuple[str, ...] = ()
    length: int = 0

    def encode(self) -> bytes:
        fields = {**asdict(self), "volume": self.volume.hex(), "version": STAMP_VERSION}
        return json.dumps(fields, separators=(",", ":")).encode()


class Header(Struct, frozen=True):
    """What counts of a header: `size` of the disk in bytes, the backing file as it is written."""

    size: int
    cluster: int
    backing: str | None = None
    backing_format: str | None = None
    stamp: Stamp | None = None


def refuse(path: str, why: str, hint: str = _CHECK, reason: Reason = Reason.DATA) -> Refused:
    """That an image is not taken."""
    return Refused(reason, f"the image {path} {why}", object=path, hint=hint)


def read(descriptor: int, path: str) -> Header:
    """Reads the header of an open file and judges it.

    Args:
        path: for what is said of it.
    Raises:
        Refused: DATA, no qcow2 image, damaged, truncated, encrypted, with features that are not
            known, or with its data in another file. OSError.
    """
    fixed = os.pread(descriptor, HEADER, 0)
    if len(fixed) < OLD_HEADER or not fixed.startswith(MAGIC):
        raise refuse(path, "is no qcow2 image", "name its format")
    (
        _,
        version,
        name_at,
        name_bytes,
        bits,
        size,
        crypt,
        l1_entries,
        l1_at,
        counts_at,
        counts,
        *_,
    ) = _FIXED.unpack_from(fixed)
    if version not in (2, 3) or (version == 3 and len(fixed) < HEADER):
        raise refuse(path, f"is qcow2 of version {version}, which is not known", _PLAIN)
    features, length = 0, OLD_HEADER
    if version == 3:
        features, _, _, order, length = _FEATURES.unpack_from(fixed, OLD_HEADER)
        if order > 6:
            raise refuse(path, "has a damaged header: its reference counts have no known width")
    if crypt:
        raise refuse(path, "is encrypted", _PLAIN)
    if features & _DATA_FILE:
        raise refuse(path, "keeps its data in another file", _PLAIN)
    if features & _CORRUPT:
        raise refuse(path, "is marked corrupt")
    if unknown := features & ~_KNOWN:
        raise refuse(path, f"needs features that are not known here ({unknown:#x})", _PLAIN)
    if not 9 <= bits <= 21:
        raise refuse(path, f"has a damaged header: clusters of 2^{bits} bytes")
    if size >> 63:
        raise refuse(path, f"has a damaged header: a disk of {size} bytes")
    cluster = 1 << bits
    first = os.pread(descriptor, cluster, 0)
    if length < (HEADER if version == 3 else OLD_HEADER) or length > len(first):
        raise refuse(path, f"has a damaged header: it says that it has {length} bytes")
    whole = os.fstat(descriptor).st_size
    if not counts_at or counts_at % cluster or l1_at % cluster:
        raise refuse(path, "has a damaged header: its tables do not lie on clusters")
    entry = 16 if features & _LONG_L2 else 8
    if l1_entries * 8 > MOST_L1 or l1_entries < -(-size // (cluster * (cluster // entry))):
        raise refuse(path, f"has a damaged header: {l1_entries} L1 entries for {size} bytes")
    if l1_at + l1_entries * 8 > whole or counts_at + counts * cluster > whole:
        raise refuse(path, "is truncated: its tables lie behind its end")
    _check_l1(path, os.pread(descriptor, l1_entries * 8, l1_at), cluster, whole)
    name = _name(path, first, name_at, name_bytes) if name_at else None
    found = _extensions(path, first, length, name_at or len(first))
    stamp = _stamp(path, found[STAMP]) if STAMP in found else None
    if stamp is not None and whole < stamp.length:
        raise refuse(
            path, f"is truncated: it was written with {stamp.length} bytes, and has {whole}"
        )
    if stamp is not None and size != stamp.size:
        raise refuse(
            path, f"was resized: its disk had {stamp.size} bytes, and has {size}", _RESIZED
        )
    format = found.get(BACKING_FORMAT)
    return Header(size, cluster, name, format.decode("latin-1") if format else None, stamp)


def _check_l1(path: str, table: bytes, cluster: int, whole: int) -> None:
    entries = array("Q", table)
    entries.byteswap()
    for entry in entries:
        at = entry & OFFSET
        if at + cluster > whole and at:
            raise refuse(path, "is truncated: an L2 table lies behind its end")
        if at % cluster:
            raise refuse(path, "is damaged: an L2 table does not lie on a cluster")


def _name(path: str, first: bytes, at: int, length: int) -> str:
    if not 0 < length <= MOST_NAME or at + length > len(first):
        raise refuse(path, "has a damaged header: its backing file's name lies outside of it")
    return os.fsdecode(first[at : at + length])


def _extensions(path: str, first: bytes, at: int, end: int) -> dict[int, bytes]:
    """The header extensions by type, those that no other needs included."""
    found: dict[int, bytes] = {}
    end = min(end, len(first))
    while at + 8 <= end:
        kind, length = struct.unpack_from(">II", first, at)
        if kind == END:
            break
        if at + 8 + length > end:
            raise refuse(path, "has a damaged header: an extension leads out of it")
        if kind in found:
            raise refuse(path, f"has a damaged header: extension {kind:#x} is there twice")
        found[kind] = first[at + 8 : at + 8 + length]
        at += 8 + -(-length // 8) * 8
    return found


def _stamp(path: str, payload: bytes) -> Stamp:
    try:
        fields: dict[str, Any] = json.loads(payload)
        version = fields.pop("version")
        if version != STAMP_VERSION:
            raise refuse(
                path,
                f"bears a stamp of version {version}: a later targetplugin wrote it",
                "use the version of targetplugin that wrote it, or a later one",
            )
        stamp = Stamp(
            bytes.fromhex(fields.pop("volume")), older=tuple(fields.pop("older")), **fields
        )
        numbers = (stamp.generation, stamp.size, stamp.length)
        texts = (stamp.image, stamp.created, stamp.base, stamp.base_name, *stamp.older)
        if not all(type(n) is int for n in numbers) or not all(type(t) is str for t in texts):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise refuse(path, "bears a damaged stamp") from error
    return stamp


def encode(
    size: int,
    cluster: int,
    l1: tuple[int, int],
    counts: tuple[int, int],
    backing: tuple[str, str],
    stamp: Stamp,
) -> bytes:
    """The first cluster of a new image of version 3.

    Args:
        l1: offset and entries; counts: offset and clusters of the table of reference counts.
        backing: name and format of the backing file.
    """
    name = os.fsencode(backing[0])
    rest = _extended({BACKING_FORMAT: backing[1].encode(), STAMP: stamp.encode()})
    at = HEADER + len(rest)
    bits = cluster.bit_length() - 1
    fixed = _FIXED.pack(
        MAGIC, 3, at, len(name), bits, size, 0, l1[1], l1[0], counts[0], counts[1], 0, 0
    )
    return _fitting(fixed + _FEATURES.pack(0, 0, 0, 4, HEADER) + rest + name, cluster)


def stamped(first: bytes, stamp: Stamp, path: str) -> bytes:
    """The first cluster of an image without a backing file, with the stamp added."""
    length = struct.unpack_from(">I", first, 100)[0]
    found = _extensions(path, first, length, len(first))
    return _fitting(first[:length] + _extended({**found, STAMP: stamp.encode()}), len(first))


def _extended(extensions: dict[int, bytes]) -> bytes:
    parts = []
    for kind, payload in [*extensions.items(), (END, b"")]:
        parts.append(struct.pack(">II", kind, len(payload)) + payload + bytes(-len(payload) % 8))
    return b"".join(parts)


def _fitting(header: bytes, cluster: int) -> bytes:
    if len(header) > cluster:
        raise Refused(
            Reason.ENVIRONMENT,
            f"a header of {len(header)} bytes does not fit into a cluster of {cluster}",
            hint="give the backup a shorter name, or write a whole one",
        )
    return header.ljust(cluster, b"\0")
