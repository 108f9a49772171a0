"""Which saves a volume's rules keep, and why. Pure: knows no catalog, and releases nothing.

The rules are those of backup tools (restic's `forget`): each stands for itself, and a save is kept if
any keeps it. `last` keeps the newest N; `daily` the newest save of each of the newest N days that
have one, and so on. Days, weeks (ISO 8601) and months are those of UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct, field

Bucket = Callable[[datetime], str]
PERIODS: Mapping[str, Bucket] = {
    "hourly": lambda time: f"{time:%Y-%m-%d %H}h",
    "daily": lambda time: f"{time:%Y-%m-%d}",
    "weekly": lambda time: f"{time:%G-W%V}",
    "monthly": lambda time: f"{time:%Y-%m}",
}
COUNTS = ("last", *PERIODS)


class Rules(Struct, frozen=True):
    """How many of each; 0: the rule is not there. `keep_labelled`: what has a label stays."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    keep_labelled: bool = False

    def __bool__(self) -> bool:
        """Whether there is a rule that keeps the newest save."""
        return any(getattr(self, name) for name in COUNTS)

    def __str__(self) -> str:
        """`last 3, daily 7, all that are labelled`."""
        parts = [f"{name} {getattr(self, name)}" for name in COUNTS if getattr(self, name)]
        return ", ".join(parts + ["all that are labelled"] * self.keep_labelled)

    def stored(self) -> dict[str, Any]:
        """As the catalog and programs have it: the rules that are there."""
        found = {name: getattr(self, name) for name in (*COUNTS, "keep_labelled")}
        return {name: value for name, value in found.items() if value}


class Candidate(Struct, frozen=True):
    """A save as the rules see it.

    Attributes:
        created: with its time zone, UTC.
        counts: it is whole: what is not is no save to rely on, and keeps no other from counting.
        fixed: why it stays whatever the rules say; empty where it may go.
        later: and that will be over by itself.
    """

    name: str
    created: datetime
    label: str = ""
    counts: bool = True
    fixed: tuple[str, ...] = ()
    later: bool = False


class Verdict(Struct, frozen=True):
    """What becomes of a save: `why` says what keeps it, and is empty where nothing does."""

    candidate: Candidate
    why: tuple[str, ...] = field(default=())


def judge(rules: Rules, saves: Sequence[Candidate]) -> list[Verdict]:
    """One verdict a save.

    Args:
        saves: of one volume, oldest first, in the order in which they were taken: a clock that was
            set back does not make a save an old one.
    """
    found = {save.name: list(save.fixed) for save in saves}
    counted = [save for save in reversed(saves) if save.counts]
    for number, save in enumerate(counted[: rules.last], start=1):
        found[save.name].append(f"last {number} of {rules.last}")
    for name, bucket in PERIODS.items():
        seen: set[str] = set()
        for save in counted:
            period = bucket(save.created)
            if period not in seen and len(seen) < getattr(rules, name):
                seen.add(period)
                found[save.name].append(f"{name} {period}")
    if rules.keep_labelled:
        for save in saves:
            if save.label:
                found[save.name].append("it has a label")
    if saves and not any(found.values()):
        newest = counted[0] if counted else saves[-1]
        found[newest.name].append("there is no other")
    return [Verdict(save, tuple(found[save.name])) for save in saves]
