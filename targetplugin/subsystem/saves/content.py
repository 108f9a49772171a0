"""A save's content, for who reads it beside the hosts: on its medium, or looked up by the engine where not
all of it is there.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from targetplugin.catalog import Save, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.media.medium import Medium
from targetplugin.subsystem.ground import blocks
from targetplugin.subsystem.ground.floor import Floor, save_name
from targetplugin.subsystem.ground.states import TABLE, Fill, Verb
from targetplugin.subsystem.images import nbd
from targetplugin.subsystem.images.qemu_img import Offered, Place, Target

PIECE = 1 << 20  # bytes that are read at once, at most


def is_looked_up(save: Save) -> bool:
    """Whether a part of it is in the volume's legs, or in the store that its saves share."""
    return save.sparse or (save.fill == "filling" and save.origin == "host")


class Content:
    """Of one save. Methods raise Refused: its medium is missing, its volume is down, or it is lost."""

    def __init__(self, floor: Floor, volume: Volume, save: Save) -> None:
        self._floor = floor
        self._volume = volume
        self._generation = save.generation
        self._medium: Medium | None = None
        if save.fill == "broken":
            name, rule = save_name(volume, save), TABLE[Fill.BROKEN, Verb.BACKUP]
            raise Refused(Reason.NOT_FOUND, f"{name} {rule.why}", object=name, hint=rule.next)
        if is_looked_up(save):
            floor.handle(volume)
        else:
            self._medium = self._own(save)

    def _own(self, save: Save) -> Medium:
        there = [uuid for uuid in save.media if uuid in self._floor.media]
        return self._floor.medium(there[0] if there else save.media[0])

    def read(self, offset: int, length: int) -> bytes:
        """At most PIECE at once; both are multiples of the volume's logical blocks."""
        if self._medium is None:
            try:
                handle = self._floor.handle(self._volume)
                return self._floor.engine.look(handle, self._generation, offset, length)
            except Refused as refused:
                if refused.reason is not Reason.NOT_FOUND:
                    raise
                save = self._floor.catalog.save_get(self._volume.uuid, self._generation)
                if save is None or is_looked_up(save) or save.fill != "whole":
                    raise
                self._medium = self._own(save)  # it became whole meanwhile
        return self._medium.read(offset, length)

    @contextmanager
    def opened(self) -> Iterator[Place]:
        """As one run of qemu-img reads it."""
        if self._medium is not None:
            yield target(self._medium, self._volume.size)
            return
        smallest = blocks.of(self._volume.blocks).logical
        with nbd.Server(self.read, self._volume.size, smallest) as server:
            try:
                yield Offered(server.client.fileno(), self._volume.size)
            finally:
                if server.failure is not None:
                    raise server.failure


def target(medium: Medium, size: int) -> Target:
    """The first `size` bytes of a medium, as qemu-img is given them."""
    direct = bool(os.O_DIRECT & fcntl.fcntl(medium.fd, fcntl.F_GETFL))
    return Target(medium.fd, size, medium.kind == "block", direct)
