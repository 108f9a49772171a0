"""Whole saves compared with a leg, where nothing has changed since: what both must hold.

Reads both, then asks for the differential: a host's write marks its extents before any leg has it, so
what differs and is still not marked differs on the disks.
"""

from __future__ import annotations

from targetplugin.catalog import Save, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.media.medium import Medium
from targetplugin.subsystem.ground.floor import Floor, save_name
from targetplugin.subsystem.ground.views import Shape, Views


class Kept:
    """Compares run after run of one save, so it keeps the differential of the last."""

    def __init__(self, floor: Floor, views: Views) -> None:
        self._floor = floor
        self._views = views
        self._changed: tuple[tuple[bytes, int, int], bytes] | None = None

    def generations(self, volume: Volume) -> list[int | None]:
        """The saves that can be compared: whole, of this volume's own content, on media that are
        there.
        """
        return [
            save.generation
            for save in self._floor.catalog.saves(volume.uuid)
            if save.origin == "host" and save.fill == "whole" and self._media(save)
        ]

    def _media(self, save: Save) -> list[Medium]:
        return [self._floor.media[uuid] for uuid in save.media if uuid in self._floor.media]

    def compare(
        self, volume: Volume, generation: int, offset: int, length: int
    ) -> list[Shape] | None:
        """What is wrong in a run; None: the save is no more.

        Args:
            offset, length: multiples of the extent size, but at the volume's end.

        Raises:
            Refused: STATE: not now; the volume is down, is recovered, or has no leg in sync.
        """
        runtime = self._floor.runtime(volume.uuid)
        with runtime.lock:  # so that nothing takes the save's medium meanwhile
            now = self._floor.catalog.volume_get(volume.uuid)
            save = self._floor.catalog.save_get(volume.uuid, generation)
            if now is None or save is None or save.fill != "whole" or not self._media(save):
                return None
            leg = self._leg(now)
            wrong: list[Shape] = []
            for first, count in self._same(now, generation, offset, length):
                for medium in self._media(save):
                    wrong += self._compare(now, save, medium, leg, first, count)
            return wrong

    def _leg(self, volume: Volume) -> Medium:
        """A leg in sync. What a recover has not put back yet differs rightly, so then there is none."""
        status = self._floor.status(volume)
        if status is not None and not status["recover"]:
            for uuid, leg in status["legs"].items():
                if leg["state"] == "in_sync" and uuid in self._floor.media:
                    return self._floor.media[uuid]
        raise Refused(Reason.STATE, f"{volume.name} has no leg to compare with just now")

    def _same(
        self, volume: Volume, generation: int, offset: int, length: int
    ) -> list[tuple[int, int]]:
        """Runs of the volume that have not changed since the save, so far as is known: [(first, how
        many bytes)]. More may have changed by now.
        """
        key = (volume.uuid, generation, volume.generation)
        known = self._changed  # another volume's scrub may put its own there
        if known is None or known[0] != key:
            self._changed = known = key, self._differential(volume, generation)
        changed = known[1]
        found: list[tuple[int, int]] = []
        for at in range(offset, offset + length, volume.extent_size):
            if marked(changed, at // volume.extent_size):
                continue
            part = min(volume.extent_size, offset + length - at)
            if found and sum(found[-1]) == at:
                found[-1] = found[-1][0], found[-1][1] + part
            else:
                found.append((at, part))
        return found

    def _differential(self, volume: Volume, generation: int) -> bytes:
        return self._views.differential(volume, generation, volume.generation)

    def _compare(
        self, volume: Volume, save: Save, medium: Medium, leg: Medium, first: int, count: int
    ) -> list[Shape]:
        kept, trouble = self._read(medium, first, count)
        held, more = self._read(leg, first, count)
        name = {"save": save_name(volume, save)}
        if kept is None or held is None:
            return [
                {"offset": first, "length": count, "what": "can't be read", "media": [m], **name}
                for m in (trouble, more)
                if m
            ]
        if kept == held:
            return []
        size = volume.extent_size
        changed = self._differential(volume, save.generation)
        media = [self._floor.medium_name(m.uuid) for m in (medium, leg)]
        return [
            {"offset": at, "length": min(size, first + count - at), "what": "differs"}
            | {"media": media, **name}
            for at in range(first, first + count, size)
            if not marked(changed, at // size)
            and kept[at - first :][:size] != held[at - first :][:size]
        ]

    def _read(self, medium: Medium, first: int, count: int) -> tuple[bytes | None, str]:
        """The bytes, or None and the name of the medium that can't be read."""
        try:
            return medium.read(first, count), ""
        except Refused:
            return None, self._floor.medium_name(medium.uuid)


def marked(bits: bytes, extent: int) -> bool:
    """Whether an extent is marked in a map."""
    return bool(bits[extent >> 3] >> (extent & 7) & 1)
