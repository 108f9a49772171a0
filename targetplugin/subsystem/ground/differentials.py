"""What differs between two points of a volume: two saves, or a save and the volume as it is now.

Changes nothing. The arithmetic is the tree's (catalog/tree.py), and the live marks are the engine's.
"""

from __future__ import annotations

from msgspec import Struct

from targetplugin.catalog import Save, Volume, maps
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.ground import extents, names
from targetplugin.subsystem.ground.floor import Floor, save_name
from targetplugin.subsystem.ground.operations import Ask
from targetplugin.subsystem.ground.states import Verb
from targetplugin.subsystem.ground.views import Shape, Views


class End(Struct, frozen=True):
    """One end of a differential: a point, and the save that keeps it; None: the volume itself."""

    generation: int
    save: Save | None = None


class Differentials:
    """See the module."""

    def __init__(self, floor: Floor, views: Views) -> None:
        self._floor = floor
        self._views = views

    def diff(self, ask: Ask, name: str, since: str | None, to: str | None) -> Shape:
        """See Subsystem.diff."""
        with self._floor.locked(self._floor.owner(name)) as volume:
            ask.check_rights(volume)
            first, last = self._ends(volume, name, since, to)
            for end in (first, last):  # two saves can be compared with no leg there
                if end.save is None:
                    self._views.require_volume(Verb.DIFF, volume)
                else:
                    self._views.require_save(Verb.DIFF, volume, end.save)
            bits = self._views.differential(volume, first.generation, last.generation)
            return {
                "volume": volume.name,
                "from": f"{volume.name}@{first.generation}",
                "to": last.generation,
                "between": [_called(volume, first), _called(volume, last)],
                "extent_size": volume.extent_size,
                "extents": maps.count(bits),
                "bytes": extents.byte_count(bits, volume.extent_size, volume.size),
                "list": extents.byte_runs(bits, volume.extent_size, volume.size),
            }

    def _ends(
        self, volume: Volume, name: str, since: str | None, to: str | None
    ) -> tuple[End, End]:
        """Both points. Raises Refused (USAGE, NOT_FOUND)."""
        if since is not None and "@" in name:
            raise Refused(
                Reason.USAGE,
                f"a differential of {name} begins at that save, not at {since!r} too",
                object=name,
                hint=f"say {volume.name} --from {since}",
            )
        if since is None and to is not None and "@" not in name:
            raise Refused(
                Reason.USAGE,
                f"where a differential of {volume.name} to {to!r} begins was not said",
                object=volume.name,
                hint=f"say --from too: {volume.name} --from SAVE --to {to}",
            )
        if since is None:
            save = self._floor.save(name)[1]
            first = End(save.generation, save)
        else:
            first = self._end(volume, since)
        return first, self._end(volume, names.NOW if to is None else to)

    def _end(self, volume: Volume, text: str) -> End:
        """What a label, a generation or `now` means, or a save's whole name."""
        owner, at, point = text.rpartition("@")
        if at and owner != volume.name:
            raise Refused(
                Reason.USAGE,
                f"{text} is no save of {volume.name}",
                object=text,
                hint="a differential is one volume's; name its saves by label or generation",
            )
        if point in (names.NOW, str(volume.generation)):
            return End(volume.generation)
        save = self._floor.save(f"{volume.name}@{point}")[1]
        return End(save.generation, save)


def _called(volume: Volume, end: End) -> str:
    return names.NOW if end.save is None else save_name(volume, end.save)
