"""Finds media again at a start, wherever their paths are now.

Opens them for reading only, and takes none.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from msgspec import Struct

from targetplugin.errors import Refused
from targetplugin.media import device
from targetplugin.media.by_path import ByPath, by_path, exists
from targetplugin.media.layout import BLOCK, layout
from targetplugin.media.patience import Patience
from targetplugin.media.trailer import Trailer, choose


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
        fd = by_path().read(path, direct=True)
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
    at: ByPath | None = None,
) -> dict[bytes, Found]:
    """Looks for media by their superblocks' uuid: at the known path, by id, at all block devices.

    A path that holds another medium now is not taken, nor is one of two disks with the same uuid,
    nor one that does not answer.

    Args:
        at: who knows the disks; None: by_path().
    """
    patience, at = patience or Patience(), at or by_path()
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
    others = at.disks() if missing else []
    for path, answer in patience.ask(_seen, others).items():
        seen = answer[0] if answer else None
        if seen and seen.uuid in elsewhere:
            elsewhere[seen.uuid].append((path, seen))
    for uuid, places in elsewhere.items():
        if len(places) == 1:
            path, seen = places[0]
            found[uuid] = Found(uuid, at.stable(path), seen)
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


def _seen(path: str) -> tuple[Trailer | None, str]:
    """What is at a path, and what to say if it is not what was looked for."""
    try:
        trailer = peek(path)
        if trailer:
            return trailer, f"{path} holds another medium now: {trailer.uuid.hex()}"
        if exists(path):
            return None, f"{path} holds no medium of this subsystem now"
    except Refused as refused:
        return None, f"{path}: {refused.message}"
    return None, f"{path} is not there"
