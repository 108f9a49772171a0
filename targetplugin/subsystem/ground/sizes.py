"""Sizes in sentences for people."""

from __future__ import annotations


def told(size: int) -> str:
    """`64 MiB` where it is a whole number of them, else exactly: `1000 bytes`."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"
