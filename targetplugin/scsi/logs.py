"""Log pages: errors, statistics. Owns their bytes; what was counted it is given. Source: SPC-4 7.3.

Counters begin anew when the daemon does, and can't be cleared by a host.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

ALL_SUBPAGES = 0xFF
KEEPS_NOTHING = 0x80  # DS: counters are not saved
UNCORRECTED = 0x0006  # total uncorrected errors
STATISTICS, IDLE_TIME, TIME_INTERVAL = 0x0001, 0x0002, 0x0003
BINARY = 0x03  # format of a parameter: a list of numbers


def page(
    code: int, subpage: int, control: int, counters: Callable[[], Mapping[str, int]]
) -> bytes | None:
    """A log page, or None where there is none of this code and subpage.

    Args:
        control: which values; thresholds and defaults are zeros.
        counters: asked for current values of pages that have some.
    """
    if code not in PAGES or subpage not in ((0, ALL_SUBPAGES) if code == 0 else (0,)):
        return None
    counted: Mapping[str, int] = {}
    if code in COUNTED and control in (0, 1):  # 0 threshold, 1 cumulative
        counted = counters() if control == 1 else {}
    if code == 0 and subpage:
        body = b"".join(bytes([one, 0]) for one in sorted(PAGES))
        return struct.pack(">BBH", 0x40, subpage, len(body)) + body
    body = PAGES[code](counted)
    return struct.pack(">BBH", code | KEEPS_NOTHING, 0, len(body)) + body


def _parameter(code: int, body: bytes) -> bytes:
    return struct.pack(">HBB", code, BINARY, len(body)) + body


def _supported(counted: Mapping[str, int]) -> bytes:
    return bytes(sorted(PAGES))


def _write_errors(counted: Mapping[str, int]) -> bytes:
    return _parameter(UNCORRECTED, struct.pack(">Q", counted.get("write_errors", 0)))


def _read_errors(counted: Mapping[str, int]) -> bytes:
    return _parameter(UNCORRECTED, struct.pack(">Q", counted.get("read_errors", 0)))


def _statistics(counted: Mapping[str, int]) -> bytes:
    """General statistics and performance (SPC-4 7.3.10): commands and blocks; times are not kept."""
    numbers = (
        counted.get("reads", 0),
        counted.get("writes", 0),
        counted.get("bytes_written", 0) // 512,
        counted.get("bytes_read", 0) // 512,
        0,
        0,
        0,
        0,
    )
    empty = _parameter(IDLE_TIME, bytes(8)) + _parameter(TIME_INTERVAL, bytes(8))
    return _parameter(STATISTICS, struct.pack(">8Q", *numbers)) + empty


def _exceptions(counted: Mapping[str, int]) -> bytes:
    """Informational exceptions: none; a temperature is not known."""
    return _parameter(0x0000, bytes([0, 0, 0xFF, 0]))


PAGES: dict[int, Callable[[Mapping[str, int]], bytes]] = {
    0x00: _supported,
    0x02: _write_errors,
    0x03: _read_errors,
    0x19: _statistics,
    0x2F: _exceptions,
}
COUNTED = (0x02, 0x03, 0x19)
