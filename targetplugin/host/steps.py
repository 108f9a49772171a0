"""Lists of steps, as they are written: a file with a command a line, or a directory as run-parts
takes it. Reads them, and tells two readings apart; runs nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from targetplugin.host.errors import Usage

SHARES = "+ "  # before a command: it shares the save of the step above
SHELL = "/bin/sh"
NAMES = re.compile(r"[A-Za-z0-9_-]+")  # run-parts(8), without options


@dataclass(frozen=True)
class Step:
    """A step: how people see it, the command to be run, and what tells whether it was changed.

    Attributes:
        shares: no save is made before it; the step above and it are taken back together.
    """

    text: str
    command: tuple[str, ...]
    digest: str
    shares: bool = False


@dataclass(frozen=True)
class Steps:
    """A list. left_out: files of a directory that are no steps, each with the reason."""

    path: str
    steps: tuple[Step, ...]
    left_out: tuple[str, ...] = ()


def read(path: str) -> Steps:
    """Raises Usage: it is not there, no such list, or has no step."""
    place = Path(os.path.abspath(path))
    try:
        found = _directory(place) if place.is_dir() else _file(place)
    except OSError as error:
        raise Usage(
            f"{path}: {os.strerror(error.errno or 5)}",
            "name a file with a command a line, or a directory of programs",
        ) from None
    if not found.steps:
        why = "; left out: " + ", ".join(found.left_out) if found.left_out else ""
        raise Usage(f"{path} has no step{why}", "pitcopy jobs --help shows how a list is written")
    return found


def _file(place: Path) -> Steps:
    try:
        lines = place.read_text().splitlines()
    except UnicodeDecodeError:
        raise Usage(f"{place} is no text: a list has a command a line", "see --help") from None
    steps: list[Step] = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        shares = text.startswith(SHARES) or text == SHARES.strip()
        command = text.removeprefix(SHARES.strip()).strip() if shares else text
        if not command:
            raise Usage(f"{place}, line {number}: there is no command after +", "write one, or +")
        if shares and not steps:
            raise Usage(
                f"{place}, line {number}: the first step has none above it whose save it could share",
                f"leave {SHARES.strip()} out",
            )
        if command.endswith("\\"):
            raise Usage(
                f"{place}, line {number} ends with a backslash, but a command is one line",
                "put it into a script, and the script's name here",
            )
        steps.append(Step(command, (SHELL, "-c", command), _digest(command.encode()), shares))
    return Steps(str(place), tuple(steps))


def _directory(place: Path) -> Steps:
    steps, left_out = [], []
    for name in sorted(os.listdir(place)):
        one = place / name
        if not NAMES.fullmatch(name):
            left_out.append(f"{name} (run-parts takes names of letters, digits, _ and - alone)")
        elif one.is_dir():
            left_out.append(f"{name} (a directory)")
        elif not one.is_file() or not os.access(one, os.X_OK):
            left_out.append(f"{name} (not executable)")
        else:
            steps.append(Step(name, (str(one),), _digest(one.read_bytes())))
    return Steps(str(place), tuple(steps), tuple(left_out))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def changes(was: Sequence[Step], now: Sequence[Step]) -> list[tuple[int, str]]:
    """What differs between two readings: the step's number, from 1, and how, in words."""
    found = []
    for number, (old, new) in enumerate(zip(was, now, strict=False), 1):
        if old.text != new.text:
            found.append((number, f"step {number} was {old.text!r} and is {new.text!r}"))
        elif old.digest != new.digest:
            found.append((number, f"step {number}, {new.text}, has another content"))
        elif old.shares != new.shares:
            how = "shares" if new.shares else "has no longer"
            found.append((number, f"step {number}, {new.text!r}, now {how} the save above"))
    for number in range(len(now) + 1, len(was) + 1):
        found.append((number, f"step {number}, {was[number - 1].text!r}, is gone"))
    for number in range(len(was) + 1, len(now) + 1):
        found.append((number, f"step {number}, {now[number - 1].text!r}, is new"))
    return found
