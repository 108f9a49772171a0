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
MICROSECOND = (6, 1)  # exponent, negated, and integer of what times are counted in
BINARY = 0x03  # format of a parameter: a list of numbers
COUNTER = 0x00  # and: a counter that ends at its most
HEADER = 4  # bytes before the first parameter
SPF = 0x40  # in a page's first byte: it has a subpage code
CUMULATIVE = 1  # page control

Parameter = tuple[int, bytes]  # its code, and its bytes, in which that stands too


def page(
    code: int, subpage: int, control: int, first: int, counters: Callable[[], Mapping[str, int]]
) -> bytes | None:
    """A log page, or None where there is none of this code and subpage.

    Args:
        control: which values; thresholds and defaults are zeros.
        first: code of the first parameter that is wanted; those below it are left out.
        counters: asked for current values of pages that have some.
    """
    if code not in PAGES or subpage not in ((0, ALL_SUBPAGES) if code == 0 else (0,)):
        return None
    if code == 0:
        return _supported(subpage)
    counted = counters() if code in COUNTED and control == CUMULATIVE else {}
    body = b"".join(one for number, one in PAGES[code](counted) if number >= first)
    return struct.pack(">BBH", code | KEEPS_NOTHING, 0, len(body)) + body


def _supported(subpage: int) -> bytes:
    """The pages that there are, or those with their subpages: the list itself is the one that has some."""
    if not subpage:
        return struct.pack(">BBH", 0, 0, len(PAGES)) + bytes(sorted(PAGES))
    both = sorted([*((code, 0) for code in PAGES), (0, ALL_SUBPAGES)])
    body = b"".join(bytes(pair) for pair in both)
    return struct.pack(">BBH", SPF, subpage, len(body)) + body


def _parameter(code: int, body: bytes, form: int = BINARY) -> Parameter:
    return code, struct.pack(">HBB", code, form, len(body)) + body


def _errors(counted: int) -> list[Parameter]:
    return [_parameter(UNCORRECTED, struct.pack(">Q", counted), COUNTER)]


def _write_errors(counted: Mapping[str, int]) -> list[Parameter]:
    return _errors(counted.get("write_errors", 0))


def _read_errors(counted: Mapping[str, int]) -> list[Parameter]:
    return _errors(counted.get("read_errors", 0))


def _statistics(counted: Mapping[str, int]) -> list[Parameter]:
    """General statistics and performance (SPC-4 7.3.10): commands, logical blocks, and how long they took."""
    block = counted.get("block_size", 512)
    numbers = (
        counted.get("reads", 0),
        counted.get("writes", 0),
        counted.get("bytes_written", 0) // block,
        counted.get("bytes_read", 0) // block,
        counted.get("read_us", 0),
        counted.get("write_us", 0),
        0,  # weighted ones, of which nothing is said how
        0,
    )
    return [
        _parameter(STATISTICS, struct.pack(">8Q", *numbers)),
        _parameter(IDLE_TIME, bytes(8)),  # not kept
        _parameter(TIME_INTERVAL, struct.pack(">II", *MICROSECOND)),
    ]


def _exceptions(counted: Mapping[str, int]) -> list[Parameter]:
    """Informational exceptions: none; a temperature is not known."""
    return [_parameter(0x0000, bytes([0, 0, 0xFF, 0]))]


# By code, in their order; of the list of them, which comes first, the parameters are none.
PAGES: dict[int, Callable[[Mapping[str, int]], list[Parameter]]] = {
    0x00: lambda counted: [],
    0x02: _write_errors,
    0x03: _read_errors,
    0x19: _statistics,
    0x2F: _exceptions,
}
COUNTED = (0x02, 0x03, 0x19)
