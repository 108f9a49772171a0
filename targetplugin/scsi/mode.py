"""Mode pages: caching, control, informational exceptions. Owns their bytes. Source: SPC-4 7.5,
SBC-3 6.5.
"""

from __future__ import annotations

CACHING = bytes([0x08, 0x12, 0x04]) + bytes(
    17
)  # WCE: a write may be answered before it is on stable storage
CONTROL = bytes([0x0A, 0x0A, 0x02, 0x10]) + bytes(8)  # GLTSD; commands may be reordered
EXCEPTIONS = bytes([0x1C, 0x0A]) + bytes(10)
PAGES = {0x08: CACHING, 0x0A: CONTROL, 0x1C: EXCEPTIONS}
ALL = 0x3F
DPOFUA = 0x10  # in the device-specific parameter: FUA is understood
WP = 0x80  # and there: it is write-protected


def pages(code: int, control: int) -> bytes | None:
    """The pages that MODE SENSE asks for, or None where there is none of this code.

    Args:
        code: a page code, or ALL.
        control: 0 current, 1 changeable (nothing is), 2 default values.
    """
    chosen = sorted(PAGES) if code == ALL else [code]
    if any(one not in PAGES for one in chosen):
        return None
    found = [PAGES[one] for one in chosen]
    if control == 1:
        found = [page[:2] + bytes(len(page) - 2) for page in found]
    return b"".join(found)


def sense_6(code: int, control: int, protected: bool = False) -> bytes | None:
    body = pages(code, control)
    return None if body is None else bytes([3 + len(body), 0, _specific(protected), 0]) + body


def sense_10(code: int, control: int, protected: bool = False) -> bytes | None:
    body = pages(code, control)
    if body is None:
        return None
    return (6 + len(body)).to_bytes(2, "big") + bytes([0, _specific(protected), 0, 0, 0, 0]) + body


def _specific(protected: bool) -> int:
    """The device-specific parameter (SBC-3 6.5.1)."""
    return DPOFUA | WP if protected else DPOFUA


def select_fault(data: bytes, header: int) -> int | None:
    """The position of the first byte of a MODE SELECT list that would change something, or None.

    Args:
        data: the parameter list. header: its header's length, 4 or 8.
    """
    at = header + (
        int.from_bytes(data[6:8], "big") if header == 8 else data[3] if len(data) > 3 else 0
    )
    while at < len(data):
        page = PAGES.get(data[at] & 0x3F)
        if page is None:
            return at
        for offset in range(1, len(page)):
            if at + offset >= len(data) or data[at + offset] != page[offset]:
                return min(at + offset, len(data) - 1)
        at += len(page)
    return None
