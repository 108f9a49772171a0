"""Waiting for an operation: a bar on a terminal, now and then a line in a log, nothing with --json.

Asks the daemon, which answers when the operation ends or a little later; a daemon that is started
again in the meantime is asked again.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from targetplugin.control.client import AnswerLost, ControlError, DaemonAway
from targetplugin.terminal.session import Session
from targetplugin.terminal.sizes import format_size
from targetplugin.terminal.tables import printable
from targetplugin.terminal.times import format_duration

_ENDED = ("done", "failed", "aborted")
_AWAY_SECONDS = 30.0  # how long a restart of the daemon may take
_BAR_SECONDS, _LINE_SECONDS = 0.5, 5.0  # how long one question may wait for its answer
_PAUSE = 0.25  # between two questions at least
_STEP = 0.1  # of the whole, between two lines
_SILENCE = 30.0  # seconds without a line

Operation = dict[str, Any]


def has_ended(operation: Operation) -> bool:
    return operation["state"] in _ENDED


def follow(session: Session, operation: Operation) -> Operation:
    """Waits until the operation has ended and returns it.

    Raises:
        ControlError: it failed or was aborted, or the daemon stays away.
        KeyboardInterrupt: the operation goes on; that was told.
    """
    try:
        if not has_ended(operation):
            if session.as_json:
                operation = _ask(session, operation, lambda now: None, _LINE_SECONDS)
            elif sys.stderr.isatty():
                operation = _with_bar(session, operation)
            else:
                operation = _ask(session, operation, _Lines(), _LINE_SECONDS)
    except KeyboardInterrupt:
        number = operation["id"]
        print(
            f"\nOperation {number} goes on. See it: targetplugin operation watch {number};"
            f" stop it: targetplugin abort {number}",
            file=sys.stderr,
        )
        raise
    if operation["state"] != "done":
        raise _unhappy(operation)
    return operation


def finished(session: Session, result: dict[str, Any]) -> dict[str, Any]:
    """A verb's result when its operation has ended: with that, and in JSON the save as it is then.

    Raises:
        As `follow`.
    """
    operation = follow(session, result["operation"])
    now = {**result, "operation": operation}
    if session.as_json and result.get("save") and not has_ended(result["operation"]):
        volume = session.call("volume.show", name=operation["volume"])
        name = result["save"]["name"]
        now["save"] = next((s for s in volume["saves"] if s["name"] == name), result["save"])
    return now


def _unhappy(operation: Operation) -> ControlError:
    what = f"operation {operation['id']} ({title(operation)})"
    if operation["state"] == "aborted":
        return ControlError("aborted", f"{what} was aborted", object=str(operation["id"]))
    why = operation.get("error") or "the daemon does not say why"
    return ControlError(
        "failed",
        f"{what} failed: {why}",
        object=str(operation["id"]),
        hint="see how things stand: targetplugin status",
    )


def title(operation: Operation) -> str:
    """`recover ledger@3`."""
    return f"{operation['verb']} {operation.get('save') or operation.get('volume') or ''}".strip()


def _ask(
    session: Session, operation: Operation, tell: Callable[[Operation], None], seconds: float
) -> Operation:
    seen = time.monotonic()
    while not has_ended(operation):
        asked = time.monotonic()
        try:
            answer = session.call("operation.wait", op=operation["id"], timeout=seconds)
        except (AnswerLost, DaemonAway):
            if time.monotonic() - seen > _AWAY_SECONDS:
                raise
            session.close()
            time.sleep(1)
            continue
        operation, seen = answer, time.monotonic()
        tell(operation)
        if not has_ended(operation):  # a daemon that answers at once is not asked without pause
            time.sleep(max(0.0, min(seconds, _PAUSE) - (seen - asked)))
    return operation


class _Lines:
    """A line in a log when a tenth more is done, or when nothing was said for long."""

    def __init__(self) -> None:
        self._told = -1.0
        self._when = time.monotonic()

    def __call__(self, operation: Operation) -> None:
        done = operation["progress"]
        now = time.monotonic()
        if not has_ended(operation) and done < self._told + _STEP and now < self._when + _SILENCE:
            return
        self._told, self._when = done, now
        print(printable(f"{title(operation)}: {done:.0%}{amount(operation)}"), file=sys.stderr)


def amount(operation: Operation) -> str:
    """`, 12 MiB of 40 MiB, 2 min 5 s left` where bytes are counted, and the time can be told."""
    total, copied = operation.get("bytes_total"), operation.get("bytes_copied")
    told = f", {format_size(copied)} of {format_size(total)}" if total and copied else ""
    left = operation.get("seconds_left")
    return told if left is None else f"{told}, {format_duration(left)} left"


def _with_bar(session: Session, operation: Operation) -> Operation:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        auto_refresh=False,
    )
    with bar:
        name = printable(title(operation))
        task = bar.add_task(name, total=1.0, completed=operation["progress"], amount="")

        def tell(now: Operation) -> None:
            bar.update(task, completed=now["progress"], amount=amount(now).removeprefix(", "))
            bar.refresh()

        bar.refresh()
        return _ask(session, operation, tell, _BAR_SECONDS)
