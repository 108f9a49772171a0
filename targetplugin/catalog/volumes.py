"""The catalog's volumes, their legs and their tree of generations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from targetplugin.catalog.rows import ALL, LIVE, Generation, Leg, Volume, moment
from targetplugin.catalog.table import Tables, columns, make, missing, pack

_JSON = ("details",)


class VolumeTables(Tables):
    """See Catalog."""

    def volume_add(self, row: Volume, legs: Iterable[bytes] = ()) -> Volume:
        """Adds the volume, its legs in that order, and its live generation's edge.

        Raises Refused: EXISTS, its name or identity is taken, or a medium is a leg already.
        """
        row = replace(row, created=row.created or moment())
        with self._db.transaction():
            self._db.insert("volumes", columns(row, json_in=_JSON))
            self.legs_set(row.uuid, legs)
            self.generation_put(Generation(row.uuid, row.generation, row.parent))
        return row

    def volume_get(self, uuid: bytes) -> Volume | None:
        row = self._db.one("SELECT * FROM volumes WHERE uuid = ?", uuid)
        return make(Volume, row, json_in=_JSON) if row else None

    def volume_find(self, name: str) -> Volume | None:
        row = self._db.one("SELECT * FROM volumes WHERE name = ?", name)
        return make(Volume, row, json_in=_JSON) if row else None

    def volumes(self) -> list[Volume]:
        rows = self._db.all("SELECT * FROM volumes ORDER BY name")
        return [make(Volume, row, json_in=_JSON) for row in rows]

    def volume_set(self, uuid: bytes, **changes: Any) -> Volume:
        """Changes anything but the uuid."""
        with self._db.transaction():
            self._db.update("volumes", {"uuid": uuid}, pack(changes, _JSON))
            return self._volume(uuid)

    def volume_remove(self, uuid: bytes) -> None:
        """With its legs, generations, saves, export and registered backups.

        Its map files stay until maps.sweep(map_names()).
        """
        if not self._db.run("DELETE FROM volumes WHERE uuid = ?", uuid):
            raise missing("volume", uuid.hex())

    def cloning(self) -> list[Volume]:
        """Those whose details name a source: what they hold is still being copied from there."""
        rows = self._db.all(
            "SELECT * FROM volumes WHERE json_extract(details, '$.source') IS NOT NULL"
            " ORDER BY name"
        )
        return [make(Volume, row, json_in=_JSON) for row in rows]

    def legs(self, volume: bytes) -> list[Leg]:
        rows = self._db.all("SELECT * FROM legs WHERE volume = ? ORDER BY position", volume)
        return [make(Leg, row) for row in rows]

    def leg_of(self, medium: bytes) -> bytes | None:
        """The volume whose leg a medium is."""
        row = self._db.one("SELECT volume FROM legs WHERE medium = ?", medium)
        return row["volume"] if row else None

    def legs_set(self, volume: bytes, media: Iterable[bytes]) -> None:
        """These and no others, in that order."""
        with self._db.transaction():
            self._db.run("DELETE FROM legs WHERE volume = ?", volume)
            for position, medium in enumerate(media):
                self._db.insert("legs", columns(Leg(volume, medium, position)))

    def generations(self, volume: bytes) -> list[Generation]:
        rows = self._db.all("SELECT * FROM generations WHERE volume = ? ORDER BY number", volume)
        return [make(Generation, row) for row in rows]

    def generation_put(self, row: Generation) -> None:
        """Adds an edge, or changes its parent and map."""
        self._db.run(
            "INSERT INTO generations (volume, number, parent, map) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (volume, number) DO UPDATE SET parent = excluded.parent,"
            " map = excluded.map",
            row.volume,
            row.number,
            row.parent,
            row.map,
        )

    def generation_remove(self, volume: bytes, number: int) -> None:
        """One that is not there is removed already."""
        self._db.run("DELETE FROM generations WHERE volume = ? AND number = ?", volume, number)

    def advance(self, volume: bytes, frozen_map: str, parent: int | None = None) -> Volume:
        """A point: the live generation gets its map, and the next one is live.

        Args:
            frozen_map: name of its map file, or ALL.
            parent: what the new one starts from; None: from the one just frozen.
        """
        with self._db.transaction():
            row = self._volume(volume)
            frozen, start = row.generation, row.generation if parent is None else parent
            self.generation_put(Generation(volume, frozen, row.parent, frozen_map))
            self.generation_put(Generation(volume, frozen + 1, start))
            return self.volume_set(volume, generation=frozen + 1, parent=start)

    def map_names(self) -> list[str]:
        """All map files that a generation names."""
        rows = self._db.all("SELECT map FROM generations WHERE map NOT IN (?, ?)", LIVE, ALL)
        return [row["map"] for row in rows]

    def _volume(self, uuid: bytes) -> Volume:
        row = self.volume_get(uuid)
        if row is None:
            raise missing("volume", uuid.hex())
        return row
