"""The superblock, which says what a medium is: its shape and its bytes. Reads and writes nothing.

One 4 KiB block, little-endian, in two copies. Of two that are whole, the higher sequence counts.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum

from msgspec import Struct

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
    STORE = 5  # it has what a volume's saves without fill share


class Trailer(Struct, frozen=True):
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
    fields = _FIELDS.pack(
        MAGIC,
        0,
        VERSION,
        trailer.role,
        trailer.extent_shift,
        trailer.features,
        trailer.sequence,
        trailer.uuid,
        trailer.capacity,
        trailer.data_size,
        trailer.volume,
        _text(trailer.volume_name, NAME_BYTES, "volume name"),
        trailer.volume_size,
        trailer.op,
        trailer.generation,
        _text(trailer.label, LABEL_BYTES, "label"),
    )
    block = bytearray(fields.ljust(BLOCK, b"\0"))
    block[_CRC_AT : _CRC_AT + 4] = zlib.crc32(block).to_bytes(4, "little")
    return bytes(block)


def decode(block: bytes) -> Trailer | None:
    """What a block says; None where it is no superblock or is damaged.

    Raises:
        Refused: ENVIRONMENT, it is whole but of a later version or has features not known here.
    """
    if len(block) != BLOCK or not block.startswith(MAGIC):
        return None
    blank = bytearray(block)
    blank[_CRC_AT : _CRC_AT + 4] = bytes(4)
    fields = _FIELDS.unpack_from(block)
    if zlib.crc32(blank) != fields[1]:
        return None
    _, _, version, role, shift, features, sequence, uuid, capacity, data_size = fields[:10]
    volume, name, volume_size, op, generation, label = fields[10:]
    unknown = features & ~KNOWN_FEATURES
    if version != VERSION or unknown or role not in set(Role):
        what = f"features {unknown:#x}" if unknown else f"format {version}, role {role}"
        raise Refused(
            Reason.ENVIRONMENT,
            f"medium {uuid.hex()} was written by a later version ({what})",
            object=uuid.hex(),
            hint="use the version of targetplugin that wrote it, or a later one",
        )
    return Trailer(
        uuid=uuid,
        capacity=capacity,
        data_size=data_size,
        role=Role(role),
        volume=volume,
        volume_name=name.rstrip(b"\0").decode(errors="replace"),
        volume_size=volume_size,
        extent_shift=shift,
        generation=generation,
        label=label.rstrip(b"\0").decode(errors="replace"),
        op=op,
        sequence=sequence,
        features=features,
    )


def choose(copies: list[bytes]) -> tuple[Trailer | None, list[int]]:
    """The trailer that counts among raw copies, and the indices of those to be repaired.

    Raises:
        Refused: as decode; a copy that a later version wrote is never repaired.
    """
    trailers = [decode(copy) for copy in copies]
    whole = [trailer for trailer in trailers if trailer is not None]
    if not whole:
        return None, []
    newest = max(whole, key=lambda trailer: trailer.sequence)
    return newest, [index for index, trailer in enumerate(trailers) if trailer != newest]


def _text(text: str, room: int, what: str) -> bytes:
    data = text.encode()
    if len(data) > room or b"\0" in data:
        raise Refused(
            Reason.USAGE,
            f"the {what} {text!r} is too long",
            object=text,
            hint=f"use at most {room} bytes",
        )
    return data
