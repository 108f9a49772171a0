"""`pitcopy run`: save, run a command, and take the disk back if it fails."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from targetplugin.host import journal, mounts, report, ritual
from targetplugin.host.device import Disk
from targetplugin.host.errors import Refused, Usage
from targetplugin.scsi import pitcopy
from targetplugin.scsi.pitcopy import OutAction

PREFIX = "run-"  # of the labels of saves that are made here
NOT_FOUND = 127
FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def interrupted(disk: str) -> Refused | None:
    """What an earlier run that did not come to its end means for this disk."""
    entry = journal.read(disk)
    if entry is None or entry.alive():
        return None
    job = " ".join(entry.command)
    told = {
        "saving": "was interrupted before its command began",
        "running": "was interrupted while its command ran, which may have written anything",
        "recovering": "failed, and its recovery was interrupted",
        "left": "failed, and the disk could not be left for recovery",
    }[entry.phase]
    if entry.phase == "saving":
        entry.remove()
        return None
    return Refused(
        f"an earlier run of {job!r} on {disk} {told}; save {entry.label} ({entry.generation}) is kept",
        f"pitcopy recover {disk} --save {entry.generation}, or to keep what it wrote: pitcopy keep {disk}",
    )


def run(disk: Disk, command: Sequence[str], label: str) -> int:
    """Runs a command on a disk that can be taken back. Returns the command's exit status.

    Raises:
        Refused: it was not run, and the disk is as it was.
    """
    if shutil.which(command[0]) is None:
        raise Missing(f"{command[0]} is not there, or can't be run: nothing was done")
    mounts.check_leavable(disk.path)
    if (earlier := interrupted(disk.path)) is not None:
        raise earlier
    label = label or PREFIX + datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    make_room(disk)
    entry = journal.Entry(
        disk.path, os.getpid(), "saving", label, 0, list(command), mounts.mounts(disk.path)
    )
    entry.write()
    try:
        save = report.patiently("waiting for the volume", lambda: save_frozen(disk, label))
    except BaseException:
        entry.remove()
        raise
    entry.generation, entry.phase = save.generation, "running"
    entry.write()
    report.say(f"{disk.path} is saved as {label} (generation {save.generation})")
    status = _execute(command)
    if status == 0:
        entry.remove()
        return 0
    report.say(f"{command[0]} failed with status {status}: taking {disk.path} back to {label}")
    entry.phase = "recovering"
    entry.write()
    try:
        # What a job that failed has left is not to be had back, and the spare is for the next save.
        changed, seconds = recover(disk, save, entry.mounts, no_undo=True)
    except Refused as refused:
        entry.phase = "left"
        entry.write()
        report.say(refused.message)
        if refused.hint:
            report.say(f"next: {refused.hint}")
        report.say(
            f"{disk.path} is as the command left it; then: pitcopy recover {disk.path} --save {label}"
        )
        return status
    entry.remove()
    report.say(
        f"{disk.path} is as it was before: {changed} extents differed, in force after {seconds:.2f} s"
    )
    return status


class Missing(Usage):
    """The command is not there: what a shell says then."""

    status = NOT_FOUND


def save_frozen(disk: Disk, label: str) -> pitcopy.Save:
    """Saves the disk with its file systems written out and still."""
    with ritual.frozen(disk.path):
        disk.request(OutAction.SAVE, label=label)
    return disk.save_named(label)


def recover(
    disk: Disk,
    save: pitcopy.Save,
    remembered: list[mounts.Mount] | None = None,
    *,
    action: OutAction = OutAction.RECOVER,
    number: int | None = None,
    no_undo: bool = False,
) -> tuple[int, float]:
    """The whole ritual. Returns how many extents differed, and the seconds until it was in force.

    Args:
        action: or UNDO, with the number of the operation that is taken back; then `save` is its undo save.
    """
    meant = save.generation if number is None else number
    took = 0.0
    changed = 0

    def verb() -> None:
        nonlocal took, changed
        changed = next((s.changed for s in disk.saves() if s.generation == save.generation), 0)
        begin = time.monotonic()
        report.patiently(
            "waiting for the volume",
            lambda: disk.request(action, generation=meant, no_undo=no_undo),
        )
        took = time.monotonic() - begin

    ritual.left(disk.path, verb, remembered)
    return changed, took


def make_room(disk: Disk) -> None:
    """Gives up an earlier run's save where the mirror has no leg to spare, and waits for the leg.

    Only saves that `run` made itself and labelled are given up; their jobs are over.
    """
    in_sync = sum(state == "in_sync" for state, _ in disk.status().legs)
    if in_sync > 1:
        return
    old = [s for s in disk.saves() if s.label.startswith(PREFIX) and s.fill == "whole"]
    if not old or disk.capabilities().rights != "all":
        return
    save = old[-1]
    report.say(f"giving up {save.label}: its medium becomes a leg again")
    try:
        report.patiently(
            "waiting for the volume",
            lambda: disk.request(OutAction.RESYNC, generation=save.generation),
        )
    except Refused as refused:
        report.say(refused.message)
        return
    progress = report.Progress("bringing the leg in")
    while (status := disk.status()).verb == "resync":
        progress(status.progress)
        time.sleep(report.PAUSE)
    progress.end()


def _execute(command: Sequence[str]) -> int:
    """Runs a command, passing signals on; an end by signal N is 128 + N."""
    process = subprocess.Popen(list(command))

    def forward(number: int, frame: Any) -> None:
        with suppress(ProcessLookupError):
            process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    # The terminal sends an interrupt to both; the command decides what it means.
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - status if status < 0 else status
