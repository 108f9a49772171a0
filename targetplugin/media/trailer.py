"""The superblock, which says what a medium is: its shape and its bytes. Opens, reads and writes nothing.

One 4 KiB block, little-endian, in two copies. Of two that are whole, the one with the higher sequence counts.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

from targetplugin.errors import Reason, Refused
from targetplugin.media.layout import BLOCK

MAGIC = b"TPLGMED1"
VERSION = 1
KNOWN_FEATURES = 0  # bits that a reader must know, or leave the medium alone
NO_UUID = bytes(16)
NAME_BYTES = 64
LABEL_BYTES = 32

# magic, crc32, version, role, extent shift, features, sequence, medium uuid, capacity, data size,
# volume uuid, volume name, volume size, operation, generation, label
_FIELDS = struct.Struct("<8sIHBBQQ16sQQ16s64sQQQ32s")
_CRC_AT = 8


class Role(IntEnum):
    """What a medium is there for."""

    FREE = 0
    LEG = 1
    SAVE = 2
    RESTORING = 3  # an image fills it
    RESTORED = 4  # an image filled it


@dataclass(frozen=True)
class Trailer:
    """What a superblock says.

    Attributes:
        uuid: the medium's identity, 16 bytes.
        capacity, data_size: as in Layout, in bytes.
        volume: uuid of the volume that it serves; zeros where none.
        generation: the point that a save (or restored image) holds.
        op: the operation that gave it this role.
        sequence: counts the superblocks written; Medium.write_trailer sets it.
    """

    uuid: bytes
    capacity: int
    data_size: int
    role: Role = Role.FREE
    volume: bytes = NO_UUID
    volume_name: str = ""
    volume_size: int = 0
    extent_shift: int = 0
    generation: int = 0
    label: str = ""
    op: int = 0
    sequence: int = 0
    features: int = 0


def encode(trailer: Trailer) -> bytes:
    """The block of 4096 bytes. Raises Refused (USAGE): a name or label is too long."""
    raise NotImplementedError


def decode(block: bytes) -> Trailer | None:
    """What a block says; None where it is no superblock or is damaged.

    Raises:
        Refused: ENVIRONMENT, it is whole but of a later version or with features that are not known here.
    """
    raise NotImplementedError


def choose(copies: list[bytes]) -> tuple[Trailer | None, list[int]]:
    """The trailer that counts among raw copies, and the indices of the copies that are to be repaired."""
    raise NotImplementedError
