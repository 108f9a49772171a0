"""What pitcopy prints: tables for people, JSON for programs. Owns no fact.

Standard output is the result's: one table, or with --json one value. What happens meanwhile, notes
and progress, is told on standard error: lines, a bar on a terminal, with --json events, one JSON
object a line.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from targetplugin.host.errors import Busy

PAUSE = 0.5  # seconds between two looks
STEP, SILENCE = 0.1, 30.0  # a line in a log: when so much more is done, or so many seconds later
WIDTH = 24  # of a bar, in characters

_events = False


def as_events(wanted: bool) -> None:
    """Tells what happens as events from now on, or in words."""
    global _events
    _events = wanted


def say(text: str) -> None:
    """A line for people, on standard error: standard output is the command's, or JSON's."""
    if _events:
        event("note", message=text)
    else:
        _print(f"pitcopy: {text}\n")


def event(name: str, **more: Any) -> None:
    """Tells programs what happens; people are told in words."""
    if _events:
        _print(json.dumps({"event": name, **more}) + "\n")


def refused(message: str, hint: str) -> None:
    """Why something was not done, and what to do next."""
    if _events:
        event("refused", message=message, next=hint)
        return
    say(message)
    if hint:
        say(f"next: {hint}")


def _print(text: str) -> None:
    # A terminal that went away must not keep a disk from being taken back.
    with suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


def show(value: Any) -> None:
    print(json.dumps(value, indent=2))


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they must be."""
    lines = [list(head), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for line in lines:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )


def size(count: int) -> str:
    """Bytes for people."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def duration(seconds: float) -> str:
    """For people: "42 s", "7 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Progress:
    """A wait of any length: a bar on a terminal, now and then a line in a log, or events."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told = -1.0
        self._begin = self._when = time.monotonic()
        self._first: float | None = None
        self._tty = not _events and sys.stderr.isatty()

    def __call__(self, progress: float) -> None:
        """Tells how much is done, 0.0 to 1.0."""
        now = time.monotonic()
        if self._first is None:
            self._first = progress
        done = progress - self._first
        left = (1 - progress) * (now - self._begin) / done if done > 0.005 else None
        if self._tty:
            self._bar(progress, left)
            return
        if progress + 1e-9 < self._told + STEP and now < self._when + SILENCE:
            return
        self._told, self._when = progress, now
        if _events:
            more = {} if left is None else {"seconds_left": round(left, 1)}
            event("progress", what=self._what, progress=round(progress, 4), **more)
        else:
            say(f"{self._what}: {progress:.0%}" + _left(left))

    def _bar(self, progress: float, left: float | None) -> None:
        full = round(WIDTH * progress)
        bar = "#" * full + "-" * (WIDTH - full)
        text = f"pitcopy: {self._what} [{bar}] {progress:4.0%}{_left(left)}"
        room = shutil.get_terminal_size().columns - 1
        _print("\r" + text[:room].ljust(room))

    def end(self) -> None:
        if self._tty:
            _print("\n")
        elif _events:
            took = round(time.monotonic() - self._begin, 1)
            event("progress", what=self._what, progress=1.0, seconds=took)


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f", {duration(seconds)} left"


def patiently(what: str, ask: Callable[[], Any]) -> Any:
    """Asks again while an operation of the volume stands in the way."""
    progress = None
    while True:
        try:
            answer = ask()
        except Busy as busy:
            progress = progress or Progress(what)
            progress(busy.progress)
            time.sleep(PAUSE)
            continue
        except BaseException:
            if progress:
                progress.end()
            raise
        if progress:
            progress.end()
        return answer
