"""What a group of benchmarks gives back: tables of figures with their spread, and whether a goal is met.

Owns how several turns become one cell, and Markdown. A ratio is made turn by turn, of figures that
were taken one after the other, so that a machine that is slow for a while slows both.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Options:
    """What the command line asks of every group.

    Attributes:
        turns: how often each subject is measured; at least 3 for figures that count.
        seconds: how long one measurement of a load takes.
        quick: fewer loads and sizes where a group has such a choice.
    """

    turns: int = 3
    seconds: int = 1
    quick: bool = False


@dataclass(frozen=True)
class Spread:
    """A figure that was taken several times: median (lowest-highest)."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(tuple(values))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        if not self.values:
            return "-"
        middle, low, high = (plain(n) for n in (self.median, min(self.values), max(self.values)))
        return middle if low == high else f"{middle} ({low}-{high})"


def ratio(ours: Spread, theirs: Spread) -> Spread:
    """Turn by turn."""
    return Spread(tuple(a / b for a, b in zip(ours.values, theirs.values, strict=True) if b))


@dataclass(frozen=True)
class Goal:
    """What the median of a figure is to be: at least or at most this."""

    limit: float
    is_most: bool = False

    def judge(self, spread: Spread) -> str:
        """For a cell: the goal, and whether it is met."""
        if not spread.values:
            return f"{self} ?"
        met = spread.median <= self.limit if self.is_most else spread.median >= self.limit
        return f"{self} {'met' if met else '**missed**'}"

    def __str__(self) -> str:
        return f"{'≤' if self.is_most else '≥'} {plain(self.limit)}"


@dataclass
class Table:
    """Rows under headings; a cell is text, or a figure. Notes are sentences below it."""

    title: str
    headings: Sequence[str]
    rows: list[Sequence[object]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        lines = [f"### {self.title}", "", row(self.headings), row(["---"] * len(self.headings))]
        lines += [row([plain(cell) for cell in cells]) for cells in self.rows]
        if self.notes:
            lines += ["", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"


def plain(cell: object) -> str:
    """A number with as many digits as say something."""
    if not isinstance(cell, int | float):
        return str(cell)
    size = abs(cell)
    if size >= 100 or cell == int(cell):
        return f"{cell:.0f}"
    return f"{cell:.1f}" if size >= 10 else f"{cell:.2f}" if size >= 0.1 else f"{cell:.3f}"


def row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
