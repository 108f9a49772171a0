"""`pitcopy run`: save, run a command, and take the disk back if it fails. And what sequences of jobs
share with it: room for a save, the save, the recover.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime

from targetplugin.host import job, journal, mounts, report, ritual, sequence, users
from targetplugin.host.device import Disk
from targetplugin.host.errors import NoRoom, Refused, Usage
from targetplugin.host.job import Ended, Watched
from targetplugin.scsi import pitcopy
from targetplugin.scsi.pitcopy import OutAction

PREFIX, SEQUENCES = "run-", "jobs-"  # of the labels of saves that are made here


def interrupted(disk: str) -> Refused | None:
    """What an earlier run that did not come to its end means for this disk."""
    entry = journal.read(disk)
    if entry is None or entry.alive():
        return None
    command = " ".join(entry.command)
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
        f"an earlier run of {command!r} on {disk} {told}; save {entry.label} ({entry.generation}) is kept",
        f"pitcopy recover {disk} --save {entry.generation}, or to keep what it wrote: pitcopy keep {disk}",
    )


def run(disk: Disk, command: Sequence[str], label: str) -> int:
    """Runs a command on a disk that can be taken back. Returns the command's exit status.

    Raises:
        Refused: it was not run, and the disk is as it was.
    """
    if shutil.which(command[0]) is None:
        raise Missing(f"{command[0]} is not there, or can't be run: nothing was done")
    with job.aside() as cwd, journal.exclusive(disk.path):
        return _run(disk, command, label, cwd)


def _run(disk: Disk, command: Sequence[str], label: str, cwd: str) -> int:
    check(disk)
    if (earlier := sequence.unfinished(disk.path)) is not None:
        raise earlier
    label = label or fresh_label(disk, PREFIX)
    make_room(disk)
    entry = journal.Entry(
        disk.path, os.getpid(), "saving", label, 0, list(command), mounts.mounts(disk.path)
    )
    entry.write()
    try:
        save = save_with_room(disk, label)
    except BaseException:
        entry.remove()
        raise
    report.say(f"{disk.path} is saved as {label} (generation {save.generation})")
    with job.held() as watched:
        entry.generation, entry.phase = save.generation, "running"
        entry.write()

        def began(pid: int) -> None:
            entry.job = journal.process(pid)
            entry.write()

        ended = _execute(command, watched, cwd, began)
        if ended.good:
            entry.remove()
            return 0
        return _take_back(disk, save, entry, command[0], ended)


def _take_back(
    disk: Disk, save: pitcopy.Save, entry: journal.Entry, command: str, ended: Ended
) -> int:
    label = save.label
    report.say(f"{command} {how(ended)}: taking {disk.path} back to {label}")
    entry.phase, entry.job = "recovering", journal.Process()
    entry.write()
    try:
        # What a job that failed has left is not to be had back, and the spare is for the next save.
        changed, seconds = recover(disk, save, entry.mounts, no_undo=True)
    except Refused as refused:
        entry.phase = "left"
        entry.write()
        report.refused(refused.message, refused.hint)
        report.say(
            f"{disk.path} is as the command left it; then: pitcopy recover {disk.path} --save {label}"
        )
        return ended.code
    entry.remove()
    report.say(
        f"{disk.path} is as it was before: {changed} extents differed, in force after {seconds:.2f} s"
    )
    return ended.code


class Missing(Usage):
    """The command is not there: what a shell says then."""

    status = job.NOT_FOUND


def how(ended: Ended) -> str:
    """How a command failed, in words."""
    if ended.told and not ended.by_key:
        return f"was told to stop by signal {ended.told} and ended with status {ended.status}"
    return f"failed with status {ended.status}"


def _execute(
    command: Sequence[str], watched: Watched, cwd: str, began: Callable[[int], None]
) -> Ended:
    return job.execute(command, watched, cwd=cwd, began=began)


# --- before -------------------------------------------------------------------------------------


def check(disk: Disk) -> None:
    """Raises Refused where a job that fails could not be taken back: nothing was done yet."""
    rights = disk.capabilities().rights
    if rights != "all":
        raise Refused(
            f"{disk.path} could not be taken back: this host's right to it is {rights!r}",
            "the operator sets the volume's rights to 'all'",
        )
    if (earlier := interrupted(disk.path)) is not None:
        raise earlier
    users.check_unused(disk.path)


def fresh_label(disk: Disk, prefix: str) -> str:
    """A label of the date and time, that no save of the disk has or begins with."""
    label: str = prefix + datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    taken = [save.label for save in disk.saves()]
    for more in ("", *"abcdefghijklmnopqrstuvwxyz"):
        if not any(f"{one}-".startswith(f"{label}{more}-") for one in taken):
            return f"{label}{more}"
    return label


def save_frozen(disk: Disk, label: str) -> pitcopy.Save:
    """Saves the disk with its file systems written out and still."""
    with ritual.frozen(disk.path):
        disk.request(OutAction.SAVE, label=label)
    return disk.save_named(label)


def save_with_room(disk: Disk, label: str, over: Collection[int] = ()) -> pitcopy.Save:
    """Saves; where there is no medium for it, saves that are over are given up first, oldest first.

    Args:
        over: generations of more saves that may be given up, beside those of earlier runs.
    """
    while True:
        try:
            save: pitcopy.Save = report.patiently(
                "waiting for the volume", lambda: save_frozen(disk, label)
            )
            return save
        except NoRoom:
            if not _given_up(disk, over):
                raise


def _given_up(disk: Disk, over: Collection[int]) -> bool:
    """Gives one save up that is over and may be: one that is held, or being copied, may not."""
    for save in _over(disk, over):
        try:
            give_up(disk, save, as_leg=False)
        except Refused as refused:
            report.say(refused.message)
        else:
            return True
    return False


def make_room(disk: Disk, over: Collection[int] = ()) -> None:
    """Gives up an earlier run's save where the mirror has no leg to spare, and waits for the leg.

    Only saves that were made and labelled here are given up, whose jobs are over, and those of
    `over`, by their generation.
    """
    old = [save for save in _over(disk, over) if save.fill == "whole" and not save.held]
    if old and not spare_leg(disk) and disk.capabilities().rights == "all":
        try:
            give_up(disk, old[-1], as_leg=True)
        except Refused as refused:
            report.say(refused.message)


def _over(disk: Disk, over: Collection[int]) -> list[pitcopy.Save]:
    current = sequence.read(disk.path)
    mine = {kept.generation for kept in current.saves} if current else set()
    return [
        save
        for save in disk.saves()
        if save.generation in over
        or (save.label.startswith((PREFIX, SEQUENCES)) and save.generation not in mine)
    ]


def spare_leg(disk: Disk) -> bool:
    """Whether the mirror has a leg that a save may take."""
    return sum(state == "in_sync" for state, _ in disk.status().legs) > 1


def give_up(disk: Disk, save: pitcopy.Save, *, as_leg: bool) -> None:
    """Ends a save: its medium becomes a leg again, which is waited for, or is free."""
    becomes = "becomes a leg again" if as_leg else "is free"
    action = OutAction.RESYNC if as_leg else OutAction.RELEASE
    report.say(f"giving up {save.label or save.generation}: its medium {becomes}")
    report.patiently(
        "waiting for the volume", lambda: disk.request(action, generation=save.generation)
    )
    if not as_leg:
        return
    progress = report.Progress("bringing the leg in")
    while (status := disk.status()).verb == "resync":
        progress(status.progress)
        time.sleep(report.PAUSE)
    progress.end()


# --- after --------------------------------------------------------------------------------------


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
