"""LVM logical volumes above a disk: switched off before the disk is taken back, and on again, so that
LVM reads what it knows of them anew. Asks nothing of the disk.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from targetplugin.host import mounts, stack
from targetplugin.host.errors import Refused
from targetplugin.host.stack import Logical


def active(disk: str) -> list[Logical]:
    """The logical volumes above the disk that are switched on."""
    found = [stack.logical(name) for name in mounts.parts(disk)]
    return [one for one in found if one is not None]


def down(volumes: Sequence[Logical]) -> None:
    """Switches them, and all that LVM needs for them, off. Raises Refused; they are then on."""
    for group in dict.fromkeys(one.group for one in volumes):
        try:
            _do("vgchange", "-an", group)
        except Refused:
            up(volumes)
            raise


def up(volumes: Sequence[Logical]) -> None:
    """Switches them on. Raises Refused."""
    for one in volumes:
        _do("lvchange", "-ay", str(one))


def _do(*command: str) -> None:
    try:
        done = subprocess.run(list(command), capture_output=True, text=True)
    except FileNotFoundError:
        raise Refused(
            f"{command[-1]} needs {command[0]}, which is not there", "install lvm2"
        ) from None
    if done.returncode:
        raise Refused(f"{' '.join(command)} failed: {done.stderr.strip()}", "look at lvs -a")
