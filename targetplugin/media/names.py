"""Names of disks: the path that outlives a restart, and a short name for people. Opens nothing."""

from __future__ import annotations

import itertools
import os
import re
import stat
from collections.abc import Collection

from targetplugin.errors import Reason, Refused

BY_ID = "/dev/disk/by-id"

# What tells people most comes first; a world-wide name is as lasting, but says nothing.
_FAMILIES = ("virtio-", "nvme-", "scsi-", "ata-", "usb-", "dm-name-", "md-name-")
_OPAQUE = ("wwn-", "nvme-eui.", "nvme-uuid.", "scsi-3", "dm-uuid-", "lvm-pv-uuid-", "md-uuid-")
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


def stable_path(path: str, by_id: str = BY_ID) -> str:
    """The by-id path of a block device that has one, else the absolute path."""
    if os.path.dirname(path) == by_id:
        return path
    try:
        found = os.stat(path)
    except OSError:
        return os.path.abspath(path)
    if stat.S_ISBLK(found.st_mode):
        for link in by_id_paths(by_id):
            if _device(link) == found.st_rdev:
                return link
    return os.path.abspath(path)


def by_id_paths(by_id: str = BY_ID) -> list[str]:
    """All paths in a by-id folder, those that tell people most first."""
    try:
        names = os.listdir(by_id)
    except OSError:
        return []
    return [os.path.join(by_id, name) for name in sorted(names, key=_rank)]


def medium_name(path: str, taken: Collection[str] = ()) -> str:
    """A short name from a (stable) path that is not among `taken`: `virtio-a`, then `virtio-a-2`.

    Raises:
        Refused: USAGE, the path has no last part.
    """
    name = _ODD.sub("-", os.path.basename(path)).strip("-")
    if not name:
        raise Refused(Reason.USAGE, f"{path!r} gives no name for a medium", object=path)
    if name not in taken:
        return name
    return next(new for i in itertools.count(2) if (new := f"{name}-{i}") not in taken)


def _device(path: str) -> int | None:
    try:
        return os.stat(path).st_rdev
    except OSError:
        return None  # a link that leads nowhere


def _rank(name: str) -> tuple[int, int, int, str]:
    opaque = int(name.startswith(_OPAQUE))
    family = next((i for i, prefix in enumerate(_FAMILIES) if name.startswith(prefix)), 99)
    return opaque, family, len(name), name
