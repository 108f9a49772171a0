"""What hosts set of a volume with MODE SELECT: whether they have a write cache. Owns when that is in force;
knows no mode page.
"""

from __future__ import annotations

from targetplugin.errors import Refused
from targetplugin.subsystem.ground import write_cache
from targetplugin.subsystem.ground.floor import Floor
from targetplugin.subsystem.ground.write_cache import WriteCache


class Modes:
    """See the module."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor

    def write_cache(self, name: str) -> WriteCache:
        return write_cache.of(self._floor.clock, self._floor.volume(name))

    def set_write_cache(self, name: str, on: bool, save: bool) -> None:
        """See Subsystem.write_cache_set."""
        with self._floor.locked(self._floor.volume(name)) as volume:
            was = write_cache.of(self._floor.clock, volume)
            cache = WriteCache(on, on if save else was.saved)
            if cache == was:
                return
            handle = self._floor.runtime(volume.uuid).handle
            if handle is not None and was.now and not on:
                self._end(handle)
            details = {
                **volume.details,
                write_cache.DETAIL: write_cache.detail(self._floor.clock, cache),
            }
            self._floor.catalog.volume_set(volume.uuid, details=details)
            if handle is not None and on:
                self._floor.engine.set_write_through(handle, False)

    def _end(self, handle: int) -> None:
        """First for what comes, then for what came: in between there is nothing."""
        self._floor.engine.set_write_through(handle, True)
        try:
            self._floor.engine.flush(handle)
        except (Refused, OSError):
            self._floor.engine.set_write_through(handle, False)
            raise
