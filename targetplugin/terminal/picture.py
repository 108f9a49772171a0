"""A picture of where a volume changed: an SVG of squares, row by row from its first byte to its last.

Knows no verb and no daemon. What a square's shade means stands in the picture itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from xml.sax.saxutils import escape

from targetplugin.terminal.sizes import format_size

COLUMNS = 64
MOST_ROWS = 32
SIDE = 12  # pixels of a square, its edge included
MARGIN = 16
LINE = 20  # pixels of a line of text
# From untouched to all changed: eight shades that differ in print without colours, too.
SHADES = ("#eef1f4", "#d5e3f0", "#b3cfe6", "#8ab6d9", "#5f98c7", "#3b78b0", "#225a92", "#123d6a")


def shares(size: int, unit: int, runs: Iterable[Mapping[str, int]]) -> tuple[int, list[float]]:
    """How much of each square of the picture changed.

    Args:
        size: the volume's bytes.
        unit: bytes of an extent; a square holds whole extents, all squares equally many.
        runs: what changed, as `offset` and `length` in bytes.

    Returns:
        The bytes of a square, and of each square its share from 0.0 to 1.0.
    """
    extents = -(-size // unit)
    square = unit * -(-extents // (COLUMNS * MOST_ROWS))
    changed = [0] * -(-size // square)
    for run in runs:
        at, end = run["offset"], min(run["offset"] + run["length"], size)
        while at < end:
            here = at // square
            step = min(end, (here + 1) * square) - at
            changed[here] += step
            at += step
    sizes = [min(square, size - number * square) for number in range(len(changed))]
    return square, [part / whole for part, whole in zip(changed, sizes, strict=True)]


def shade(share: float) -> str:
    """A colour; what changed at all is never shown as untouched, nor less than all as all."""
    if share <= 0 or share >= 1:
        return SHADES[0 if share <= 0 else -1]
    return SHADES[1 + int(share * (len(SHADES) - 2))]


def svg(title: str, size: int, unit: int, runs: Sequence[Mapping[str, int]]) -> str:
    """The picture as a file's text."""
    square, found = shares(size, unit, runs)
    rows = -(-len(found) // COLUMNS)
    width = 2 * MARGIN + COLUMNS * SIDE
    top = MARGIN + LINE
    height = top + rows * SIDE + 2 * LINE + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{MARGIN}" y="{MARGIN + 8}">{escape(title)}</text>',
    ]
    for number, share in enumerate(found):
        row, column = divmod(number, COLUMNS)
        told = f"from {format_size(number * square)}: {share:.0%} changed"
        parts.append(
            _square(MARGIN + column * SIDE, top + row * SIDE, shade(share), told),
        )
    below = top + rows * SIDE + LINE
    each = f"One square is {format_size(square)}, a row {format_size(square * COLUMNS)}."
    parts.append(f'<text x="{MARGIN}" y="{below}">{each} Untouched, changed in part, all:</text>')
    for place, colour in enumerate(SHADES):
        parts.append(_square(width - MARGIN - (len(SHADES) - place) * SIDE, below - 10, colour))
    return "\n".join([*parts, "</svg>\n"])


def _square(x: int, y: int, colour: str, told: str = "") -> str:
    inner = SIDE - 1
    shape = f'<rect x="{x}" y="{y}" width="{inner}" height="{inner}" fill="{colour}"'
    return f"{shape}><title>{told}</title></rect>" if told else f"{shape}/>"
