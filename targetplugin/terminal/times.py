"""Times as people type and read them: how long, and until when."""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime

_SECONDS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:\d{1,9}[wdhms])+", re.ASCII)


def parse_duration(text: str) -> int:
    """Seconds of `14d`, `36h`, `1w2d` or `90m`. An argparse type."""
    if not _DURATION.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time such as 14d, 36h or 1d12h (w, d, h, m for minutes, s)"
        )
    parts = re.findall(r"(\d+)([wdhms])", text)
    seconds = sum(int(number) * _SECONDS[unit] for number, unit in parts)
    if not seconds:
        raise argparse.ArgumentTypeError("that is no time at all")
    return seconds


def parse_end(text: str) -> tuple[int | None, str | None]:
    """Seconds from now, or a date: `14d` or `2026-12-01`. An argparse type."""
    if _DURATION.fullmatch(text):
        return parse_duration(text), None
    try:
        return None, parse_date(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time such as 14d, 36h or 90m (minutes), and no date such as 2026-12-01"
            " or 2026-12-01T00:00Z"
        ) from None


def format_duration(seconds: float | None) -> str:
    """`4.2 s`, `42 s`, `3 min 20 s`, `2 h 5 min`; "an unknown time" where it is not known."""
    if seconds is None:
        return "an unknown time"
    if seconds < 10:
        return f"{round(seconds, 1):g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    large, small = divmod(whole, 60) if whole < 3600 else divmod(whole // 60, 60)
    names = ("min", "s") if whole < 3600 else ("h", "min")
    return f"{large} {names[0]}" + (f" {small} {names[1]}" if small else "")


def parse_date(text: str) -> str:
    """A date as the daemon takes it, with its zone. An argparse type."""
    try:
        date = datetime.fromisoformat(text)
        return date.astimezone(UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no date such as 2026-12-01 or 2026-12-01T00:00Z"
        ) from None
