"""What a host must do around a verb, as its own cache does not know that the disk changed under it.

Before a save: write out and freeze. Around a recover or swap: unmount, and afterwards forget what is
cached, check, and mount again as it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from targetplugin.host import mounts
from targetplugin.host.errors import Refused
from targetplugin.host.mounts import Mount


@contextmanager
def frozen(disk: str) -> Iterator[None]:
    """Holds the writers of all file systems on the disk; they go on at the end, whatever happens.

    A process of its own thaws them if this one is killed. Nothing may be printed meanwhile: what is
    printed to may be frozen.
    """
    where = [mount.where for mount in mounts.mounts(disk)]
    os.sync()
    if not where:
        yield
        return
    watched, alive = os.pipe()
    if os.fork() == 0:
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
        os.wait()


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
    mounts.check_leavable(disk)
    present = mounts.mounts(disk)
    down: list[Mount] = []
    try:
        for mount in reversed(present):
            mounts.unmount(mount)
            down.append(mount)
        verb()
    except BaseException:
        for mount in reversed(down):
            with suppress(Refused):
                mounts.mount_again(mount)
        raise
    mounts.drop_caches(disk)
    again = present or remembered or []
    for mount in again:
        try:
            mounts.check(mount)
            mounts.mount_again(mount)
        except Refused as refused:
            raise Refused(
                f"it was done, and {mount.where} is left unmounted: {refused.message}", refused.hint
            ) from None
    return again
