"""Maps of extents as runs and sums of bytes.

The arithmetic of maps is the catalog's; knows no generation or save.
"""

from __future__ import annotations

from targetplugin.catalog import maps


def count_extents(size: int, extent_size: int) -> int:
    """How many extents a volume of `size` bytes has; the last may be short."""
    return -(-size // extent_size)


def byte_runs(bits: bytes, extent_size: int, size: int) -> list[dict[str, int]]:
    """The set extents as merged runs of bytes, the last cut at the volume's end: [{"offset",
    "length"}].
    """
    return [
        {
            "offset": first * extent_size,
            "length": min((first + number) * extent_size, size) - first * extent_size,
        }
        for first, number in maps.runs(bits)
    ]


def byte_count(bits: bytes, extent_size: int, size: int) -> int:
    """How many bytes of the volume the set extents are."""
    total = maps.count(bits) * extent_size
    last = count_extents(size, extent_size) - 1
    if bits[last // 8] >> (last % 8) & 1:
        total -= (last + 1) * extent_size - size
    return total
