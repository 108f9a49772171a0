"""Sizes as people type and read them. Binary units only: 512M is 512 MiB."""

from __future__ import annotations

import argparse
import re
from decimal import Decimal

_UNITS = "KMGTP"
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([KMGTP])(?:I?B)?|B)?", re.IGNORECASE | re.ASCII)


def parse_size(text: str) -> int:
    """Bytes of `512M`, `1G`, `1.5GiB` or a plain number. An argparse type."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: say 512M, 1G or a number of bytes")
    power = _UNITS.index(found[2].upper()) + 1 if found[2] else 0
    size = Decimal(found[1]) * 1024**power
    if size != int(size) or size < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of bytes above zero")
    return int(size)


def format_size(size: float | None) -> str:
    """`512 MiB`, `1.5 GiB`, `100 B`; "-" where it is not known."""
    if size is None:
        return "-"
    value, unit = float(size), "B"
    for prefix in _UNITS:
        if value < 1024:
            break
        value, unit = value / 1024, f"{prefix}iB"
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"
