"""What `status --watch` shows: volumes, operations, legs and saves, cut to a terminal's size.

Two statuses in, a picture out. Asks nothing, and knows no keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from targetplugin.terminal import results
from targetplugin.terminal.progress import title
from targetplugin.terminal.sizes import format_size
from targetplugin.terminal.tables import colour, printable
from targetplugin.terminal.times import format_duration

Fields = dict[str, Any]
_COUNTERS = ("reads", "writes", "bytes_read", "bytes_written", "read_us", "write_us")
_BAR = 16  # columns of a bar
_NAME = 18  # columns of what is called by people, as long as they like
_SMOOTH = 0.5  # how much of an operation's rate is what was seen last


class Rates:
    """How much happens a second, from how much had happened at each look."""

    def __init__(self) -> None:
        self._when = 0.0
        self._counted: dict[str, Fields] = {}
        self._copied: dict[int, int] = {}
        self.hosts: dict[str, dict[str, float]] = {}
        self.copies: dict[int, float] = {}

    def look(self, status: Fields, now: float) -> None:
        """Args:
        status: as it is now. now: seconds, of a clock that is never set.
        """
        seconds = now - self._when
        counted = {one["name"]: one.get("counters") or {} for one in status["volumes"]}
        copied = {one["id"]: one.get("bytes_copied") or 0 for one in status["operations"]}
        self.hosts = {
            name: _per_second(self._counted[name], now_counted, seconds)
            for name, now_counted in counted.items()
            if name in self._counted
        }
        self.copies = {
            number: self._smoothed(number, (bytes_now - self._copied[number]) / seconds)
            for number, bytes_now in copied.items()
            if number in self._copied and bytes_now >= self._copied[number]
        }
        self._when, self._counted, self._copied = now, counted, copied

    def _smoothed(self, number: int, rate: float) -> float:
        before = self.copies.get(number, rate)
        return before + _SMOOTH * (rate - before)


def _per_second(before: Fields, now: Fields, seconds: float) -> dict[str, float]:
    """Nothing where counting began anew in between: the daemon was started."""
    if not before or any(now.get(name, 0) < before.get(name, 0) for name in _COUNTERS):
        return {}
    return {name: (now.get(name, 0) - before.get(name, 0)) / seconds for name in _COUNTERS}


class Section:
    """A table whose rows are one line each."""

    def __init__(self, heads: Sequence[str], rows: list[list[RenderableType]]) -> None:
        self._heads = heads
        self._rows = rows
        self.lines = len(rows)

    def table(self) -> Table:
        """With as many rows as `lines` says; where these are not all, the last says how many more."""
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
        for number, head in enumerate(self._heads):
            right = head.startswith(">")
            table.add_column(
                head.removeprefix(">"),
                justify="right" if right else "left",
                no_wrap=True,
                overflow="ellipsis",
                max_width=_NAME if number == 0 else None,
            )
        cut = self.lines < len(self._rows)
        for row in self._rows[: self.lines - cut]:
            table.add_row(*row)
        if cut:
            table.add_row(Text(f"... {len(self._rows) - self.lines + 1} more", style="dim"))
        return table


def board(
    status: Fields, rates: Rates, width: int, height: int, when: str, note: str = ""
) -> Group:
    """The whole picture, in `height` lines of `width` columns at most.

    Args:
        when: the time, as it is to be shown. note: a line that matters more than all the rest.
    """
    sections = [
        one
        for one in (
            _volumes(status, rates),
            _operations(status, rates),
            _legs(status),
            _saves(status),
        )
        if one.lines
    ]
    fit(sections, height - 1 - bool(note))
    head = Text("targetplugin status", style="bold", no_wrap=True, overflow="ellipsis")
    keys = f"{when}  q ends"
    head.append(keys.rjust(max(1, width - len(head.plain))), style="dim")
    parts: list[RenderableType] = [head]
    if note:
        parts.append(Text(printable(note), style="red", no_wrap=True, overflow="ellipsis"))
    parts += [one.table() for one in sections]
    if not sections:
        parts.append(Text("There are no volumes yet."))
    return Group(*parts)


def fit(sections: list[Section], height: int) -> None:
    """Takes rows from the longest until all go into so many lines; then whole sections from the end."""
    while sum(1 + one.lines for one in sections) > height:
        longest = max(sections, key=lambda one: one.lines)
        if longest.lines > 1:
            longest.lines -= 1
        elif len(sections) > 1:
            sections.pop()
        else:
            return


def _volumes(status: Fields, rates: Rates) -> Section:
    did = (">READS/S", ">READ", ">TIME", ">WRITES/S", ">WRITTEN", ">TIME")
    heads = ("VOLUME", "STATE", "LEGS", ">CHANGED", *did)
    rows: list[list[RenderableType]] = []
    for one in status["volumes"]:
        legs = one["legs"]
        in_sync = sum(leg["state"] == "in_sync" for leg in legs)
        changed = one.get("changed_extents")
        seen = rates.hosts.get(one["name"], {})
        rows.append(
            [
                _text(one["name"]),
                _text(one["state"]),
                _text(f"{in_sync}/{max(len(legs), one.get('mirror') or 0)}"),
                _text(None if changed is None else format_size(changed * one["extent_size"])),
                _text(_number(seen.get("reads"))),
                _text(_rate(seen.get("bytes_read"))),
                _text(_took(seen, "reads", "read_us")),
                _text(_number(seen.get("writes"))),
                _text(_rate(seen.get("bytes_written"))),
                _text(_took(seen, "writes", "write_us")),
            ]
        )
    return Section(heads, rows)


def _operations(status: Fields, rates: Rates) -> Section:
    heads = ("NO.", "OPERATION", "DONE", ">%", ">RATE", "LEFT")
    rows: list[list[RenderableType]] = []
    for one in status["operations"]:
        left = one.get("seconds_left")
        rate = rates.copies.get(one["id"])
        rows.append(
            [
                _text(one["id"]),
                _text(title(one)),
                ProgressBar(total=1.0, completed=one["progress"], width=_BAR),
                _text(f"{one['progress']:.0%}"),
                _text(_rate(rate)),
                _text(None if left is None else format_duration(left)),
            ]
        )
    return Section(heads, rows)


def _legs(status: Fields) -> Section:
    rows: list[list[RenderableType]] = [
        [
            _text(leg["medium"]),
            _text(one["name"]),
            _text(leg["state"]),
            _text(leg.get("missed_extents")),
            _text("does not answer" if leg.get("silent") else None),
        ]
        for one in status["volumes"]
        for leg in one["legs"]
    ]
    return Section(("LEG", "VOLUME", "STATE", ">MISSED", "NOTE"), rows)


def _saves(status: Fields) -> Section:
    """The newest of all volumes first."""
    found = [save for one in status["volumes"] for save in one["saves"]]
    found.sort(key=lambda save: str(save.get("created") or ""), reverse=True)
    rows: list[list[RenderableType]] = [
        [
            _text(save["name"]),
            _text(save.get("label")),
            _text(results.when(save.get("created"))),
            _text(save["fill"]),
            _text(f"{save['percent']:.0f}" if save.get("percent") is not None else None),
            _text(results.uses(save)),
            _text(format_size(save.get("changed_bytes"))),
        ]
        for save in found
    ]
    heads = ("SAVE", "LABEL", "TAKEN", "FILL", ">%", "IN USE FOR", ">CHANGED")
    return Section(heads, rows)


def _text(value: object) -> Text:
    shown = "-" if value is None or value == "" else printable(str(value))
    return Text(shown, style=colour(shown), no_wrap=True, overflow="ellipsis")


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.0f}"


def _took(seen: dict[str, float], count: str, time: str) -> str | None:
    """How long one took on average; None where there were none."""
    if not seen.get(count):
        return None
    return f"{seen[time] / seen[count] / 1000:.1f}ms"


def _rate(value: float | None) -> str | None:
    return None if value is None else f"{format_size(value)}/s"
