"""What the service that opens files may open and make for the daemon, and nothing else: media and images.

So that who has the daemon in hand has not the machine: no file that says what a machine does may be written.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable

from targetplugin.errors import Reason, Refused
from targetplugin.media import uses
from targetplugin.media.here import Rules

# The system's own, and what lies in it and is not.
# fmt: off
SYSTEM = (
    "/bin", "/boot", "/efi", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys",
    "/usr", "/var/lib/apt", "/var/lib/dpkg", "/var/lib/systemd", "/var/spool",
)
# fmt: on
NOT_SYSTEM = ("/run/media",)
SMALLEST = 1 << 16  # bytes; no medium or image is smaller, and most keys and scripts are
_PART = re.compile(r"\.(.+)\.[0-9]+\.part\Z", re.DOTALL)


class MediaAndImages(Rules):
    """See the module."""

    def check_found(self, real: str, status: os.stat_result, writes: bool) -> None:
        if stat.S_ISBLK(status.st_mode):
            if not writes:
                _check_unused(real)  # who writes to it has it alone, or not at all
            return
        if not writes and status.st_mode & stat.S_IROTH:
            return  # anybody may
        _check_place(real)
        if "/.ssh/" in real:
            raise _refused(real, "it is in a folder of keys", "keep media and images elsewhere")
        if status.st_size < SMALLEST:
            raise _refused(
                real,
                f"it has fewer than {SMALLEST} bytes",
                "use another file, or make this one longer with truncate",
            )

    def check_made(self, real: str) -> None:
        _check_place(real)
        if "/." in real:
            raise _refused(
                real, "its name or a folder's begins with a dot", "use a path that shows"
            )

    def check_part(self, part: str, path: str | None) -> None:
        folder, name = os.path.split(part)
        found = _PART.fullmatch(name)
        if not found or path not in (None, f"{folder}/{found[1]}"):
            raise _refused(part, "it is no name for what is not whole yet", "")
        self.check_made(f"{folder}/{found[1]}")


def _check_unused(real: str) -> None:
    """What is mounted holds files that are to be kept, and is no medium."""
    used = uses.uses(real)
    if used:
        raise _refused(real, "; ".join(one.what for one in used[:3]), used[0].hint)


def _check_place(real: str) -> None:
    if _inside(real, NOT_SYSTEM):
        return
    if folder := _inside(real, SYSTEM):
        raise _refused(real, f"{folder} is the system's own", "keep media and images elsewhere")


def _inside(real: str, folders: Iterable[str]) -> str:
    return next((folder for folder in folders if real.startswith(f"{folder}/")), "")


def _refused(real: str, why: str, hint: str) -> Refused:
    return Refused(Reason.RIGHTS, f"{real} is not opened or made: {why}", object=real, hint=hint)
