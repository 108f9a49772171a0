"""Several disks saved, taken back or swapped at one instant: all or none, by one request to the first."""

from __future__ import annotations

import time
from contextlib import ExitStack

from targetplugin.host import report, ritual
from targetplugin.host.device import Disk
from targetplugin.host.errors import Refused, Usage
from targetplugin.scsi.pitcopy import MAX_DEADLINE, OutAction, Save


def check(disks: list[Disk], deadline_ms: int) -> None:
    """Raises Usage, Refused where they can't be named together."""
    paths = [disk.path for disk in disks]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice:
        raise Usage(f"{twice} is named twice", "name each disk once")
    if not 0 <= deadline_ms <= MAX_DEADLINE:
        raise Usage("a deadline is 1 to 5000 ms", "leave it out for the target's")
    if disks[0].capabilities().group < len(disks):
        raise Refused(
            f"{paths[0]} belongs to no group of {len(disks)} disks",
            "the operator declares which belong together: targetplugin group create",
        )


def save(
    disks: list[Disk],
    label: str,
    deadline_ms: int,
    *,
    no_fill: bool = False,
    hold: int = 0,
    wait: bool,
) -> list[Save]:
    """Saves them with their file systems still. `wait`: until no other operation forbids it."""
    check(disks, deadline_ms)
    before = [{save.generation for save in disk.saves()} for disk in disks]

    def ask() -> None:
        with ExitStack() as stack:
            for disk in disks:
                stack.enter_context(ritual.frozen(disk.path))
            others = [(disk, 0) for disk in disks[1:]]
            disks[0].request(
                OutAction.SAVE,
                label=label,
                no_fill=no_fill,
                hold=hold,
                others=others,
                deadline_ms=deadline_ms,
            )

    report.patiently("waiting for the volumes", ask) if wait else ask()
    return [
        next(save for save in disk.saves() if save.generation not in known)
        for disk, known in zip(disks, before, strict=True)
    ]


def recover(
    disks: list[Disk], name: str | None, deadline_ms: int, *, no_undo: bool
) -> tuple[list[Save], float]:
    """The whole ritual on all, back to each one's save of that name. Returns the saves, and the seconds
    until it was in force.
    """
    return _to_saves(OutAction.RECOVER, disks, name, deadline_ms, no_undo=no_undo)


def swap(disks: list[Disk], name: str | None, deadline_ms: int) -> tuple[list[Save], float]:
    """The same of a swap."""
    return _to_saves(OutAction.SWAP, disks, name, deadline_ms)


def _to_saves(
    action: OutAction,
    disks: list[Disk],
    name: str | None,
    deadline_ms: int,
    *,
    no_undo: bool = False,
) -> tuple[list[Save], float]:
    check(disks, deadline_ms)
    saves = [disk.save_named(name) for disk in disks]
    meant = [save.generation for save in saves]
    return saves, _left(action, disks, meant, deadline_ms, no_undo=no_undo)


def undo(disks: list[Disk], number: int, deadline_ms: int, *, no_undo: bool) -> float:
    """The whole ritual on all, back to what they were before an operation, by its number on the first.
    Returns the seconds until it was in force.
    """
    check(disks, deadline_ms)
    others = [(disk, 0) for disk in disks[1:]]
    # One that still copies is waited for while the file systems are at work.
    report.patiently(
        "waiting for the volumes",
        lambda: disks[0].request(
            OutAction.UNDO, generation=number, no_undo=no_undo, others=others, preview=True
        ),
    )
    meant = [number, *(0 for _ in others)]
    return _left(OutAction.UNDO, disks, meant, deadline_ms, no_undo=no_undo)


def _left(
    action: OutAction, disks: list[Disk], meant: list[int], deadline_ms: int, *, no_undo: bool
) -> float:
    """Takes all disks down, asks, and takes them up again. Returns the seconds until it was in force."""
    others = list(zip(disks, meant, strict=True))[1:]
    took = 0.0

    def verb() -> None:
        nonlocal took
        begin = time.monotonic()
        report.patiently(
            "waiting for the volumes",
            lambda: disks[0].request(
                action,
                generation=meant[0],
                no_undo=no_undo,
                others=others,
                deadline_ms=deadline_ms,
            ),
        )
        took = time.monotonic() - begin

    def leave(left: list[Disk]) -> None:
        if left:
            ritual.left(left[0].path, lambda: leave(left[1:]))
        else:
            verb()

    leave(disks)
    return took
