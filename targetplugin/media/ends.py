"""Where what is on a disk ends, as far as can be told: file systems and partition tables that say it.

Reads only; decides nothing.
"""

from __future__ import annotations

import json
import os
import struct

from msgspec import Struct

from targetplugin.errors import Refused
from targetplugin.media import device, probe
from targetplugin.media.by_path import by_path
from targetplugin.qemu import running

_PATIENCE = 60  # seconds for sfdisk on a slow disk
_EXT_AT, _EXT_MAGIC, _EXT_64BIT = 1024, 0xEF53, 0x80  # Linux, fs/ext4/ext4.h
_XFS_MAGIC = b"XFSB"  # Linux, fs/xfs/libxfs/xfs_format.h
_SWAP_MAGIC = b"SWAPSPACE2"
_PAGE = 4096


class End(Struct, frozen=True):
    """The end of what is on a disk.

    Attributes:
        what: it is an "ext4", "xfs", "dos" partition table, ...; "" where nothing is known of it.
        at: bytes from the disk's begin; None: nobody can tell.
        shrink: the command that makes it end earlier, with {kib} for where; "": there is none.
        signatures: what else is known to lie there: (kind, offset).
    """

    what: str = ""
    at: int | None = None
    shrink: str = ""
    signatures: tuple[tuple[str, int], ...] = ()


def end_of(path: str) -> End:
    """Looks at a file or block device.

    Raises:
        Refused: ENVIRONMENT, wipefs is not there or fails. OSError: it can't be read.
    """
    found = tuple((kind, int(at, 0)) for kind, at in probe.signatures(path))
    fd = by_path().read(path, direct=False)
    try:
        size = device.size(fd)
        head = os.pread(fd, 2 * _PAGE, 0)
        kinds = [kind for kind, _ in found]
        if "gpt" in kinds:
            return End("a GPT partition table, with its copy in the last block", size, "", found)
        known = _file_system(path, head)
        if "dos" in kinds and not known:
            return End("a partition table", _partitions_end(fd), "", found)
    finally:
        os.close(fd)
    if known is None:
        return End(kinds[0] if kinds else "", None, "", found)
    what, at, shrink = known
    return End(what, at, shrink, found)


def _file_system(path: str, head: bytes) -> tuple[str, int, str] | None:
    """(what, end, how to shrink it) of one whose superblock says how long it is."""
    if len(head) < 2 * _PAGE:
        return None
    ext = head[_EXT_AT : _EXT_AT + 1024]
    if struct.unpack_from("<H", ext, 56)[0] == _EXT_MAGIC:
        blocks = struct.unpack_from("<I", ext, 4)[0]
        if struct.unpack_from("<I", ext, 96)[0] & _EXT_64BIT:
            blocks |= struct.unpack_from("<I", ext, 0x150)[0] << 32
        size = blocks * (1024 << struct.unpack_from("<I", ext, 24)[0])
        return "an ext file system", size, f"e2fsck -f {path} && resize2fs {path} {{kib}}K"
    if head.startswith(_XFS_MAGIC):
        block_size, blocks = struct.unpack_from(">IQ", head, 4)
        return "an XFS file system", block_size * blocks, ""
    if head[_PAGE - 10 : _PAGE] == _SWAP_MAGIC:
        last = struct.unpack_from("<I", head, 1024 + 4)[0]
        return "swap space", (last + 1) * _PAGE, ""
    return None


def _partitions_end(fd: int) -> int | None:
    """Where the last partition of a table ends."""
    try:
        done = running.ended(["sfdisk", "--json", running.place(fd)], fd, seconds=_PATIENCE)
        table = json.loads(done.output)["partitiontable"]
        ends = [p["start"] + p["size"] for p in table.get("partitions", [])]
        return max(ends, default=1) * int(table.get("sectorsize", 512))
    except (Refused, OSError, ValueError, KeyError, TypeError):
        return None
