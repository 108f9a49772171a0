"""Names of disks: the path that outlives a restart, and a short name for people. Opens nothing."""

from __future__ import annotations

from collections.abc import Collection

BY_ID = "/dev/disk/by-id"


def stable_path(path: str, by_id: str = BY_ID) -> str:
    """The by-id path of a block device that has one, else the absolute path."""
    raise NotImplementedError


def medium_name(path: str, taken: Collection[str] = ()) -> str:
    """A short name from a (stable) path that is not among `taken`: `virtio-media-a`, `virtio-media-a-2`."""
    raise NotImplementedError
