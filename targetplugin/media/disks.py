"""The block devices that this machine has. Opens none."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from targetplugin.media import device
from targetplugin.media.names import BY_ID, by_id_paths

SYS_BLOCK = "/sys/class/block"
_NO_DISKS = ("ram", "zram", "fd", "sr")


def disks(by_id: str = BY_ID, sys_block: str = SYS_BLOCK) -> Iterator[str]:
    """Each block device once, by its best path; not those that another device is built on."""
    known: set[tuple[int, int]] = set()
    for path in (*by_id_paths(by_id), *_device_paths(sys_block)):
        try:
            status = os.stat(path)
        except OSError:
            continue
        block = stat.S_ISBLK(status.st_mode)
        identity = (0, status.st_rdev) if block else (status.st_dev, status.st_ino)
        if identity in known or (block and device.holders(status.st_rdev)):
            continue
        known.add(identity)
        yield path


def _device_paths(sys_block: str) -> Iterator[str]:
    try:
        names = sorted(os.listdir(sys_block))
    except OSError:
        return
    for name in names:
        if name.startswith(_NO_DISKS):
            continue
        try:
            with open(os.path.join(sys_block, name, "size")) as file:
                empty = int(file.read()) == 0
        except (OSError, ValueError):
            continue
        if not empty:
            yield "/dev/" + name.replace("!", "/")
