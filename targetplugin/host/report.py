"""What pitcopy prints: tables for people, JSON for programs, progress on standard error. Owns no fact."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from targetplugin.host.errors import Busy

PAUSE = 0.5  # seconds between two looks


def say(text: str) -> None:
    """A line for people, on standard error: standard output is the command's, or JSON's."""
    print(f"pitcopy: {text}", file=sys.stderr, flush=True)


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


class Progress:
    """A line that is written over on a terminal, and now and then a new one in a log."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._last = -1.0
        self._tty = sys.stderr.isatty()

    def __call__(self, progress: float) -> None:
        if self._tty:
            print(f"\rpitcopy: {self._what}: {progress:4.0%} ", end="", file=sys.stderr, flush=True)
        elif progress - self._last >= 0.25:
            say(f"{self._what}: {progress:.0%}")
            self._last = progress

    def end(self) -> None:
        if self._tty:
            print(file=sys.stderr)


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
        if progress:
            progress.end()
        return answer
