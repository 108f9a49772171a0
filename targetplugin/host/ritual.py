"""What a host must do around a verb, as its own cache does not know that the disk changed under it.

Before a save: write out and freeze. Around a recover or swap: unmount, and afterwards forget what is
cached, check, and mount again as it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from targetplugin.host import job, lvm, mounts, users
from targetplugin.host.errors import Refused
from targetplugin.host.mounts import Mount
from targetplugin.host.stack import Logical


@contextmanager
def frozen(disk: str) -> Iterator[None]:
    """Holds the writers of all file systems on the disk; they go on at the end, whatever happens.

    A process of its own thaws them if this one is killed. Nothing may be printed meanwhile: what is
    printed to may be frozen.
    """
    first: dict[str, str] = {}  # a file system that is mounted more than once is frozen once
    for mount in mounts.mounts(disk):
        first.setdefault(mount.device, mount.where)
    where = list(first.values())
    os.sync()
    if not where:
        yield
        return
    watched, alive = os.pipe()
    watch = os.fork()
    if watch == 0:
        _watch(watched, alive, where)
    os.close(watched)
    done: list[str] = []
    try:
        for one in where:
            mounts.freeze(one)
            done.append(one)
        yield
    finally:
        for one in reversed(done):
            mounts.thaw(one)
        os.write(alive, b"x")
        os.close(alive)
        os.waitpid(watch, 0)


def _watch(watched: int, alive: int, where: list[str]) -> None:
    """The child: waits until its parent is done, or gone."""
    os.close(alive)
    with suppress(OSError):
        os.setsid()  # signals of the terminal are not for it
    if os.read(watched, 1) == b"":
        for one in reversed(where):
            with suppress(Refused):
                mounts.thaw(one)
    os._exit(0)


def left(disk: str, verb: Callable[[], None], remembered: list[Mount] | None = None) -> list[Mount]:
    """Takes the disk down, does `verb`, and takes it up again.

    Args:
        remembered: what to mount again if nothing is mounted now: an interrupted run's.

    Raises:
        Refused: it can't be left (then it is mounted as before and nothing was done), or the verb
            is refused (likewise), or it can't be mounted again.
    """
    users.check_leavable(disk)
    present = mounts.mounts(disk)
    logical = lvm.active(disk)
    down: list[Mount] = []
    switched: list[Logical] = []
    try:
        for mount in reversed(present):
            users.unmount(mount, disk)
            down.append(mount)
        lvm.down(logical)
        switched = logical
        users.check_left(disk)
        verb()
    except BaseException as error:
        failed = _up_again(disk, switched, down)
        if failed and isinstance(error, Refused):
            raise Refused(f"{error.message}; and: {failed.message}", failed.hint) from None
        raise
    again = present or remembered or []
    try:
        with job.held():  # what is in force now is taken up to the end
            _up(disk, logical, again)
    except Refused as refused:
        there = {mount.where for mount in mounts.mounts(disk)}
        bare = ", ".join(mount.where for mount in again if mount.where not in there)
        raise Refused(
            f"it was done, and {bare or disk} is left unmounted: {refused.message}", refused.hint
        ) from None
    return again


def _up(disk: str, logical: list[Logical], again: list[Mount]) -> None:
    """Takes a disk up that has another content now."""
    mounts.drop_caches(disk)
    mounts.reread_partitions(disk)
    lvm.up(logical)
    for device in dict.fromkeys(mount.device for mount in again):
        mounts.check(next(mount for mount in again if mount.device == device))
    for mount in again:
        mounts.mount_again(mount)


def _up_again(disk: str, switched: list[Logical], down: list[Mount]) -> Refused | None:
    """Takes the disk up as it was, when nothing was done, as far as is known. Returns what failed."""
    failed: Refused | None = None
    mounts.drop_caches(disk)  # an answer that was lost may have been a good one
    try:
        lvm.up(switched)
    except Refused as refused:
        failed = refused
    for mount in reversed(down):
        try:
            mounts.mount_again(mount)
        except Refused as refused:
            failed = failed or refused
    return failed
