"""INQUIRY and its vital product data pages. Owns their bytes; knows only the values it is given.
Source: SPC-4, SBC-3.
"""

from __future__ import annotations

import struct

from msgspec import Struct

from targetplugin.engine.native import MAX_COMPARE, MAX_UNMAP

VENDOR = b"TGTPLUG "
PRODUCT = b"PIT DISK        "
PRODUCT_SAVE = b"PIT SAVE        "  # of a save that is shown
VENDOR_PAGE = 0xC0
SIGNATURE = b"PITCOPY\0"
REVISION = 1

# Limits of one command, in bytes; VPD B0h tells them to hosts, in blocks.
MAX_TRANSFER = 512 << 10
BEST_TRANSFER = MAX_TRANSFER  # Linux takes it for the largest it sends
MAX_UNMAP_RANGES = 16
GRAIN = 4096  # in which transfers are best, and space is given back, of bytes


class Identity(Struct, frozen=True):
    """What a logical unit is.

    Attributes:
        name: of the volume. naa: NAA identifier, 16 bytes. revision: product revision level, 4 characters.
        protected: it is a save that is shown: read-only, and no volume to be asked.
        block, physical_block: bytes of a logical and of a physical block.
    """

    name: str
    naa: bytes
    revision: str
    protected: bool = False
    block: int = 512
    physical_block: int = 4096


def standard(identity: Identity) -> bytes:
    """Standard INQUIRY data (SPC-4 6.6.2): a direct access device, SPC-4, command queuing."""
    data = bytearray(96)
    data[2] = 6  # SPC-4
    data[3] = 2  # response data format
    data[4] = 91
    data[7] = 0x02  # CMDQUE
    data[8:16] = VENDOR
    data[16:32] = PRODUCT_SAVE if identity.protected else PRODUCT
    data[32:36] = identity.revision.encode("ascii", "replace")[:4].ljust(4)
    for at, descriptor in enumerate((0x0460, 0x04C0, 0x0960)):  # SPC-4, SBC-3, iSCSI
        struct.pack_into(">H", data, 58 + 2 * at, descriptor)
    return bytes(data)


def page(code: int, identity: Identity) -> bytes | None:
    """A vital product data page, or None where there is none of this code."""
    make = PAGES.get(code)
    if make is None or code not in codes(identity):
        return None
    body = make(identity)
    return struct.pack(">BBH", 0, code, len(body)) + body


def codes(identity: Identity) -> list[int]:
    """Of the pages that it has. A save takes no PIT COPY, and there is no space to be given back."""
    without = (0xB2, VENDOR_PAGE) if identity.protected else ()
    return sorted(code for code in PAGES if code not in without)


def _supported(identity: Identity) -> bytes:
    return bytes(codes(identity))


def _serial(identity: Identity) -> bytes:
    return identity.naa.hex().encode()


def _identification(identity: Identity) -> bytes:
    """Device identification: NAA (what multipath and udev use), T10 vendor ID."""
    vendor = VENDOR + identity.naa.hex().encode()
    return b"".join(
        struct.pack(">BBBB", code_set, kind, 0, len(body)) + body
        for code_set, kind, body in ((1, 3, identity.naa), (2, 1, vendor))
    )


def _extended(identity: Identity) -> bytes:
    data = bytearray(60)
    data[1] = 0x01  # simple tasks: LIO looks at no other attribute for a store of ours
    data[2] = 0x01  # a volatile cache
    return bytes(data)


def _block_limits(identity: Identity) -> bytes:
    """Block limits (SBC-3 6.6.4), counted in logical blocks."""
    data = bytearray(60)
    block = identity.block
    data[0] = 0x01  # WSNZ: WRITE SAME of no blocks is no way to say "to the end"
    data[1] = 0 if identity.protected else MAX_COMPARE // block
    struct.pack_into(">HII", data, 2, GRAIN // block, MAX_TRANSFER // block, BEST_TRANSFER // block)
    if identity.protected:
        return bytes(data)
    struct.pack_into(">III", data, 16, MAX_UNMAP // block, MAX_UNMAP_RANGES, GRAIN // block)
    struct.pack_into(">Q", data, 32, MAX_UNMAP // block)  # maximum WRITE SAME length
    return bytes(data)


def _characteristics(identity: Identity) -> bytes:
    data = bytearray(60)
    struct.pack_into(">H", data, 0, 0)  # medium rotation rate is not reported
    return bytes(data)


def _thin(identity: Identity) -> bytes:
    """Thin: UNMAP and WRITE SAME give space back, and what was unmapped reads as zeros."""
    return bytes([0, 0xE4, 0x02, 0])  # LBPU, LBPWS, LBPWS10, LBPRZ; thin provisioned


def _vendor(identity: Identity) -> bytes:
    """Says that PIT COPY IN and OUT are understood: signature, revision, three reserved bytes, the
    volume's name.
    """
    return SIGNATURE + bytes([REVISION, 0, 0, 0]) + identity.name.encode()[:64]


PAGES = {
    0x00: _supported,
    0x80: _serial,
    0x83: _identification,
    0x86: _extended,
    0xB0: _block_limits,
    0xB1: _characteristics,
    0xB2: _thin,
    VENDOR_PAGE: _vendor,
}
