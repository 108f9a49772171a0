"""Tables and texts on a terminal or in a pipe. Knows no verb.

On a terminal rich draws them, with colours for states. In a pipe they are plain aligned text and
nothing is cut; rich is then not even imported.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

_COLOURS = {
    "green": ("serving", "in_sync", "whole", "done", "free"),
    "yellow": (
        "degraded",
        "recovering",
        "cloning",
        "syncing",
        "stale",
        "filling",
        "unfilled",
        "running",
    ),
    "red": ("down", "broken", "failed", "missing", "aborted"),
}
_COLOUR_OF = {state: colour for colour, states in _COLOURS.items() for state in states}


def colour(state: str) -> str:
    """What a state is shown in; "" for anything else."""
    return _COLOUR_OF.get(state, "")


def printable(text: str) -> str:
    """Text from anywhere, a host's labels included, without what would steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(text: str) -> None:
    """A line for a person."""
    print(printable(text))


def draw(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on standard output; nothing where it has no rows. None is shown as "-"."""
    if not rows:
        return
    cells = [[_cell(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        _draw_rich(title, columns, cells)
    else:
        _draw_plain(title, columns, cells)


def _cell(value: object) -> str:
    return "-" if value is None or value == "" else printable(str(value))


def _draw_plain(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    heads = [column.upper() for column in columns]
    widths = [max(len(row[i]) for row in [heads, *cells]) for i in range(len(heads))]
    if title:
        print(f"{title}:")
    for row in [heads, *cells]:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
    print()


def _draw_rich(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell, style=colour(cell)) for cell in row))
    Console().print(table)
