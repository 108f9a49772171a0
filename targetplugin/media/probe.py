"""What is on a file or block device that we did not put there. Reads only; never opens anything for writing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that stands against taking a disk.

    Attributes:
        what: as in "an ext4 file system" or "it is mounted at /srv".
        forcible: whether --force may go over it.
        hint: what to do.
    """

    what: str
    forcible: bool
    hint: str = ""


def findings(path: str) -> list[Finding]:
    """All that is found, the gravest first. Raises Refused: NOT_FOUND, USAGE, ENVIRONMENT."""
    raise NotImplementedError


def check(path: str, *, force: bool = False) -> None:
    """Returns where the disk may be taken; a path that does not exist yet may.

    Raises:
        Refused: DATA, with the finding in its message and the next step in its hint.
    """
    raise NotImplementedError
