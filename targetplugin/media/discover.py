"""Finds media again at a start, wherever their paths are now.

Opens them for reading only, and takes none.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress

from msgspec import Struct

from targetplugin.errors import Refused
from targetplugin.media import device
from targetplugin.media.layout import BLOCK, layout
from targetplugin.media.names import BY_ID, by_id_paths, stable_path
from targetplugin.media.patience import Patience
from targetplugin.media.trailer import Trailer, choose

SYS_BLOCK = "/sys/class/block"
_NO_DISKS = ("ram", "zram", "fd", "sr")


class Wanted(Struct, frozen=True):
    """A medium that is known: its uuid and the path where it was last."""

    uuid: bytes
    path: str


class Found(Struct, frozen=True):
    """Where a medium is. `path` is "" where it is nowhere, and `why` then says what was seen."""

    uuid: bytes
    path: str
    trailer: Trailer | None = None
    why: str = ""


def peek(path: str) -> Trailer | None:
    """The trailer of a file or device, read without taking or changing it.

    Returns:
        None: it has no superblock, or can't be read.

    Raises:
        Refused: ENVIRONMENT, a later version wrote it.
    """
    try:
        fd = _open(path)
    except OSError:
        return None
    try:
        size = device.size(fd)
        if size < 2 * BLOCK:
            return None
        try:
            places = layout(size).superblocks
        except Refused:  # too small to be one
            return None
        return choose([device.read(fd, offset, BLOCK) for offset in places])[0]
    except OSError:
        return None
    finally:
        os.close(fd)


def find(
    wanted: Iterable[Wanted],
    patience: Patience | None = None,
    *,
    by_id: str = BY_ID,
    sys_block: str = SYS_BLOCK,
) -> dict[bytes, Found]:
    """Looks for media by their superblocks' uuid: at the known path, by id, at all block devices.

    A path that holds another medium now is not taken, nor is one of two disks with the same uuid,
    nor one that does not answer.
    """
    patience = patience or Patience()
    found: dict[bytes, Found] = {}
    missing: dict[bytes, str] = {}
    wanted = list(wanted)
    known = patience.ask(_seen, {one.path for one in wanted})
    for one in wanted:
        seen, why = known[one.path] or (None, f"{one.path} does not answer")
        if seen and seen.uuid == one.uuid:
            found[one.uuid] = Found(one.uuid, one.path, seen)
        else:
            missing[one.uuid] = why
    elsewhere: dict[bytes, list[tuple[str, Trailer]]] = {uuid: [] for uuid in missing}
    others = list(_candidates(by_id, sys_block)) if missing else []
    for path, answer in patience.ask(_seen, others).items():
        seen = answer[0] if answer else None
        if seen and seen.uuid in elsewhere:
            elsewhere[seen.uuid].append((path, seen))
    for uuid, places in elsewhere.items():
        if len(places) == 1:
            path, seen = places[0]
            found[uuid] = Found(uuid, stable_path(path, by_id), seen)
        elif places:
            paths = " and ".join(path for path, _ in places)
            found[uuid] = Found(uuid, "", why=f"{paths} both say that they are it: take one away")
        else:
            found[uuid] = Found(uuid, "", why=missing[uuid])
    return found


def answers(path: str) -> bool:
    """Whether it can be read, or fails: True in the end."""
    with suppress(Refused):
        peek(path)
    return True


def _open(path: str) -> int:
    mode = os.stat(path).st_mode
    if not (stat.S_ISBLK(mode) or stat.S_ISREG(mode)):
        raise OSError("neither a file nor a block device")
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _seen(path: str) -> tuple[Trailer | None, str]:
    """What is at a path, and what to say if it is not what was looked for."""
    try:
        trailer = peek(path)
    except Refused as refused:
        return None, f"{path}: {refused.message}"
    if trailer:
        return trailer, f"{path} holds another medium now: {trailer.uuid.hex()}"
    if os.path.exists(path):
        return None, f"{path} holds no medium of this subsystem now"
    return None, f"{path} is not there"


def _candidates(by_id: str, sys_block: str) -> Iterator[str]:
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
