"""All that is done to files and devices by path passes here: looked at, opened, made, renamed.

This process does it, unless it is told who does: a daemon that has no rights to files has a service do it,
and gets open descriptors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from targetplugin.errors import Reason, Refused
from targetplugin.media.here import Here, Identity, Seen
from targetplugin.media.uses import Finding

__all__ = ["ByPath", "Finding", "Seen", "by_path", "done_by", "exists", "found"]


class ByPath(Protocol):
    """Descriptors are the caller's. All raise OSError, and Refused where it may not be done or asked for."""

    def look(self, path: str) -> Seen | None:
        """None: nothing is there."""

    def real(self, paths: Sequence[str]) -> list[str]:
        """Absolute, and without links, as far as they lead somewhere."""

    def stable(self, path: str) -> str:
        """See names.stable_path."""

    def disks(self) -> list[str]:
        """See disks.disks."""

    def uses(self, path: str) -> list[Finding]:
        """See uses.uses."""

    def read(self, path: str, *, direct: bool) -> int:
        """A file or block device to be read; nobody is kept out.

        Args:
            direct: past the page cache, where that can be.
        """

    def take(self, path: str) -> int:
        """A file or block device to be read and written, which nobody else has, past the page cache. EBUSY,
        EAGAIN: another has it. It is given up when the last request on the descriptor is over.
        """

    def make(self, path: str, size: int) -> None:
        """A new sparse file, for nobody else to read, durable."""

    def set_length(self, path: str, before: int, length: int) -> None:
        """Durable. Refused (BUSY): it has another length than before. Can be done twice."""

    def image(self, folder: str, name: str) -> int:
        """A file of a folder without links, to be read. ELOOP: there is a link; EINVAL: it is no file."""

    def part(self, path: str) -> int:
        """A new file for what is not whole yet, in place of what was left of an earlier try."""

    def put(self, part: str, path: str, identity: Identity) -> None:
        """Gives a part its name, in its folder, durably. Can be done twice: what has the identity is it."""

    def drop(self, part: str) -> None:
        """Removes a part, if it is there."""


_by: ByPath = Here()


def by_path() -> ByPath:
    """Who does it."""
    return _by


def done_by(who: ByPath) -> None:
    """Has all be done so from now on."""
    global _by
    _by = who


def exists(path: str) -> bool:
    """As os.path.exists."""
    try:
        seen = by_path().look(path)
    except OSError:
        return False
    return seen is not None and seen.kind != "nothing"


def found(path: str, hint: str = "") -> Seen:
    """What is at the path of a file or block device.

    Args:
        hint: what to do where nothing is there.

    Raises:
        Refused: NOT_FOUND, nothing is there; USAGE, it is neither of the two. OSError.
    """
    seen = by_path().look(path)
    if seen is None or seen.kind == "nothing":
        raise Refused(Reason.NOT_FOUND, f"{path} is not there", object=path, hint=hint)
    if seen.kind not in ("block", "file"):
        raise Refused(
            Reason.USAGE,
            f"{path} is neither a file nor a block device",
            object=path,
            hint="give a disk, a partition, a logical volume or a file",
        )
    return seen
