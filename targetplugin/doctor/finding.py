"""What a check found: how bad it is, what, and what to do next."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct


class Level(Enum):
    """How bad it is; the worst stands last."""

    OK = "ok"
    WARNING = "warning"  # it works, but not for long, or not all of it
    PROBLEM = "problem"  # something will be refused


class Finding(Struct, frozen=True):
    """One line of the doctor's.

    Attributes:
        check: what was looked at, one word; several findings may share it.
        what: one sentence, with the object's name in it.
        next: what to do, or "".
    """

    check: str
    level: Level
    what: str
    next: str = ""


def ok(check: str, what: str, next: str = "") -> Finding:
    return Finding(check, Level.OK, what, next)


def warning(check: str, what: str, next: str) -> Finding:
    return Finding(check, Level.WARNING, what, next)


def problem(check: str, what: str, next: str) -> Finding:
    return Finding(check, Level.PROBLEM, what, next)


def worst(findings: list[Finding]) -> Level:
    """How bad it is all in all."""
    levels = list(Level)
    return max((one.level for one in findings), key=levels.index, default=Level.OK)
