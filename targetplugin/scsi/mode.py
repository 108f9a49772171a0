"""Mode pages: caching, control, informational exceptions; and the block descriptor before them. Owns their
bytes, and what of them a host may change: whether there is a write cache (WCE). Source: SPC-4 6.9, 6.11,
7.5, SBC-3 6.5.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from msgspec import Struct

ALL = 0x3F
ALL_SUBPAGES = 0xFF
CURRENT, CHANGEABLE, DEFAULT, SAVED = range(4)  # page control
PS = 0x80  # in a page's first byte: it can be saved
SPF = 0x40  # and there: it has a subpage code
WCE = (
    0x04  # in the caching page's third byte: a write may be answered before it is on stable storage
)
DPOFUA = 0x10  # in the device-specific parameter: FUA is understood
WP = 0x80  # and there: it is write-protected
DBD = 0x08  # in a CDB's second byte: no block descriptor is wanted
LLBAA = 0x10  # and there: a long one is taken
LONGLBA = 0x01  # in a header's fifth byte: the block descriptor is a long one
SHORT, LONG = 8, 16  # bytes of a block descriptor
MANY = 0xFFFFFFFF  # in a short one: more blocks than it can say

CACHING, CONTROL, EXCEPTIONS = 0x08, 0x0A, 0x1C
DEFAULTS: Mapping[int, bytes] = {
    CACHING: bytes([CACHING, 0x12, WCE]) + bytes(17),
    # GLTSD; commands may be reordered; TAS, as LIO tells others of those that a reset ended
    CONTROL: bytes([CONTROL, 0x0A, 0x02, 0x10, 0, 0x40]) + bytes(6),
    EXCEPTIONS: bytes([EXCEPTIONS, 0x0A]) + bytes(10),
}


class Values(Struct, frozen=True):
    """What can be changed: whether there is a write cache now, and after the next power on.

    Attributes:
        protected: nothing can be changed or saved, nor written.
        blocks, block: how many blocks there are, and bytes of one, for block descriptors.
    """

    write_cache: bool = True
    saved: bool = True
    protected: bool = False
    blocks: int = 0
    block: int = 512


class Wrong(Exception):
    """A parameter list that can't be taken.

    Attributes:
        position: the byte at fault; None: the list ends within a page.
    """

    def __init__(self, position: int | None) -> None:
        super().__init__(position)
        self.position = position


def pages(code: int, control: int, values: Values) -> bytes | None:
    """The pages that MODE SENSE asks for, or None where there is none of this code.

    Args:
        code: a page code, or ALL. control: current, changeable, default or saved values.
    """
    chosen = sorted(DEFAULTS) if code == ALL else [code]
    if any(one not in DEFAULTS for one in chosen):
        return None
    return b"".join(_page(one, control, values) for one in chosen)


def _page(code: int, control: int, values: Values) -> bytes:
    page = bytearray(DEFAULTS[code])
    if control == CHANGEABLE:
        page[2:] = bytes(len(page) - 2)
    if code != CACHING or values.protected:
        return bytes(page)
    page[0] |= PS
    on = {CURRENT: values.write_cache, SAVED: values.saved}.get(control, True)
    page[2] = page[2] & ~WCE | (WCE if on else 0)
    return bytes(page)


def sense_6(flags: int, code: int, control: int, values: Values) -> bytes | None:
    """What MODE SENSE (6) returns; None where there is no such page. Flags are the CDB's second byte."""
    body = pages(code, control, values)
    if body is None:
        return None
    about = b"" if flags & DBD else _short(values)
    header = bytes([3 + len(about) + len(body), 0, _specific(values), len(about)])
    return header + about + body


def sense_10(flags: int, code: int, control: int, values: Values) -> bytes | None:
    """The same of MODE SENSE (10)."""
    body = pages(code, control, values)
    if body is None:
        return None
    about, long = b"", 0
    if not flags & DBD:
        long = LONGLBA if flags & LLBAA else 0
        about = _long(values) if long else _short(values)
    length = 6 + len(about) + len(body)
    return struct.pack(">HBBBxH", length, 0, _specific(values), long, len(about)) + about + body


def _short(values: Values) -> bytes:
    """A short LBA block descriptor (SBC-3 6.5.2.2)."""
    return struct.pack(">II", min(values.blocks, MANY), values.block)


def _long(values: Values) -> bytes:
    """A long LBA block descriptor (SBC-3 6.5.2.3)."""
    return struct.pack(">Q4xI", values.blocks, values.block)


def _specific(values: Values) -> int:
    """The device-specific parameter (SBC-3 6.5.1)."""
    return DPOFUA | WP if values.protected else DPOFUA


def select(data: bytes, header: int, values: Values) -> bool:
    """Whether there is a write cache after a MODE SELECT with this parameter list. Raises Wrong, and then
    nothing is to be changed.

    Args:
        data: the list, at least its header. header: the header's length, 4 or 8.
    """
    at = header + _descriptor(data, header, values)
    write_cache = values.write_cache
    while at < len(data):
        code = data[at] & ~PS & 0xFF
        if code not in DEFAULTS:
            raise Wrong(at)  # or it has a subpage code: there are none
        now, may = _page(code, CURRENT, values), _page(code, CHANGEABLE, values)
        if at + 1 < len(data) and data[at + 1] != now[1]:
            raise Wrong(at + 1)
        if at + len(now) > len(data):
            raise Wrong(None)
        for offset in range(2, len(now)):
            if (data[at + offset] ^ now[offset]) & ~may[offset]:
                raise Wrong(at + offset)
        if code == CACHING:
            write_cache = bool(data[at + 2] & WCE)
        at += len(now)
    return write_cache


def _descriptor(data: bytes, header: int, values: Values) -> int:
    """The length of the block descriptors, of which there may be one, of what there is. How many blocks it
    says is not looked at: a volume's size is no host's to change (SBC-3 6.5.2.2).
    """
    at = 6 if header == 8 else 3
    length = int.from_bytes(data[at:header], "big")
    one = LONG if header == 8 and data[4] & LONGLBA else SHORT
    if length not in (0, one):
        raise Wrong(at)
    if header + length > len(data):
        raise Wrong(None)
    wide = 4 if one == LONG else 3
    at = header + length - wide
    if length and int.from_bytes(data[at : header + length], "big") not in (0, values.block):
        raise Wrong(at)
    return length
