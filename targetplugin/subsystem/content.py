"""A save's content, for who reads it beside the hosts: on its medium, or looked up by the engine where it has
none of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from targetplugin.catalog import Save, Volume
from targetplugin.subsystem import nbd
from targetplugin.subsystem.floor import Floor
from targetplugin.subsystem.imageruns import target
from targetplugin.subsystem.images import Offered, Place


class Content:
    """Of one save. Methods raise Refused: its medium is missing, its volume is down, or it is lost."""

    def __init__(self, floor: Floor, volume: Volume, save: Save) -> None:
        self._floor = floor
        self._volume = volume
        self._generation = save.generation
        self._medium = None
        if save.sparse:
            floor.handle(volume)
        else:
            there = [uuid for uuid in save.media if uuid in floor.media]
            self._medium = floor.medium(there[0] if there else save.media[0])

    def read(self, offset: int, length: int) -> bytes:
        """At most 1 MiB at once; both are multiples of 512."""
        if self._medium is not None:
            return self._medium.read(offset, length)
        handle = self._floor.handle(self._volume)
        return self._floor.engine.look(handle, self._generation, offset, length)

    @contextmanager
    def opened(self) -> Iterator[Place]:
        """As one run of qemu-img reads it."""
        if self._medium is not None:
            yield target(self._medium, self._volume.size)
            return
        with nbd.Server(self.read, self._volume.size) as server:
            try:
                yield Offered(server.client.fileno(), self._volume.size)
            finally:
                if server.failure is not None:
                    raise server.failure
