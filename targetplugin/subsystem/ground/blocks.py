"""The formats of blocks that a volume may have, chosen when it is made, under the names that disks go by:
512n, 512e (512 bytes, emulated on physical blocks of 4096) and 4Kn. Owns what they mean.
"""

from __future__ import annotations

from msgspec import Struct

from targetplugin.errors import Reason, Refused

DEFAULT = "512e"


class Format(Struct, frozen=True):
    """Bytes of a logical block, which a host's addresses count, and of a physical one, which it is told to
    align to.
    """

    logical: int
    physical: int


FORMATS = {"512n": Format(512, 512), "512e": Format(512, 4096), "4kn": Format(4096, 4096)}


def of(name: str) -> Format:
    """The format of that name, as a volume's row has it."""
    return FORMATS[name]


def check(volume: str, name: str) -> None:
    """Raises Refused (USAGE) where there is no such format."""
    if name not in FORMATS:
        raise Refused(
            Reason.USAGE,
            f"{volume} can't be made: its blocks {name!r} are none of {', '.join(FORMATS)}",
            object=volume,
        )


def name_for(logical: int) -> str:
    """The format of what a disk with such logical blocks holds, as its partition table counts them."""
    return "4kn" if logical == 4096 else DEFAULT
