"""The catalog's saves, the media that hold them or what they share, and registered backup images."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from targetplugin.catalog.rows import Backup, Save, moment
from targetplugin.catalog.table import Tables, columns, make, missing
from targetplugin.errors import Reason, Refused

SLOTS = range(1, 256)


class SaveTables(Tables):
    """See Catalog."""

    def save_add(self, row: Save) -> Save:
        """With its media; a slot of 0 becomes the lowest free one.

        Raises Refused: EXISTS, the generation is saved or a medium taken; STATE, no slot is free.
        """
        with self._db.transaction():
            row = replace(
                row,
                created=row.created or moment(),
                slot=row.slot or self._free_slot(row.volume),
            )
            self._db.insert("saves", columns(row, without=("media",)))
            self._save_media_set(row.volume, row.generation, row.media)
            return row

    def save_get(self, volume: bytes, generation: int) -> Save | None:
        return self._save_where("volume = ? AND generation = ?", volume, generation)

    def save_by_slot(self, volume: bytes, slot: int) -> Save | None:
        return self._save_where("volume = ? AND slot = ?", volume, slot)

    def save_by_label(self, volume: bytes, label: str) -> Save | None:
        """The newest with that label."""
        return self._save_where("volume = ? AND label = ?", volume, label)

    def save_on(self, medium: bytes) -> Save | None:
        """The save that a medium holds."""
        row = self._db.one("SELECT volume, generation FROM save_media WHERE medium = ?", medium)
        return self.save_get(row["volume"], row["generation"]) if row else None

    def saves(self, volume: bytes | None = None) -> list[Save]:
        """Of one volume or of all, in the order in which they were added, whatever clocks said."""
        with self._db.lock:
            rows = self._db.all(
                "SELECT * FROM saves WHERE ?1 IS NULL OR volume = ?1 ORDER BY rowid",
                volume,
            )
            return [self._save_made(row) for row in rows]

    def save_set(self, volume: bytes, generation: int, **changes: Any) -> Save:
        """Changes label, fill, origin, created, door or media."""
        media: Iterable[bytes] | None = changes.pop("media", None)
        key = {"volume": volume, "generation": generation}
        with self._db.transaction():
            if changes:
                self._db.update("saves", key, changes)
            if media is not None:
                self._save_media_set(volume, generation, media)
            found = self.save_get(volume, generation)
            if found is None:
                raise missing("save", str(generation))
            return found

    def save_remove(self, volume: bytes, generation: int) -> None:
        """Its slot and media are free again; its generation's map stays, for others' paths."""
        if not self._db.run(
            "DELETE FROM saves WHERE volume = ? AND generation = ?", volume, generation
        ):
            raise missing("save", str(generation))

    def _free_slot(self, volume: bytes) -> int:
        rows = self._db.all("SELECT slot FROM saves WHERE volume = ?", volume)
        taken = {row["slot"] for row in rows}
        for slot in SLOTS:
            if slot not in taken:
                return slot
        raise Refused(
            Reason.STATE,
            f"the volume has {len(SLOTS)} saves, and no more can be told apart",
            hint="release a save, and repeat",
        )

    def _save_media_set(self, volume: bytes, generation: int, media: Iterable[bytes]) -> None:
        self._db.run(
            "DELETE FROM save_media WHERE volume = ? AND generation = ?", volume, generation
        )
        for position, medium in enumerate(media):
            self._db.insert(
                "save_media",
                {
                    "volume": volume,
                    "generation": generation,
                    "medium": medium,
                    "position": position,
                },
            )

    def _save_where(self, where: str, *values: Any) -> Save | None:
        with self._db.lock:
            row = self._db.one(
                f"SELECT * FROM saves WHERE {where} ORDER BY rowid DESC LIMIT 1",
                *values,
            )
            return self._save_made(row) if row else None

    def _save_made(self, row: sqlite3.Row) -> Save:
        media = self._db.all(
            "SELECT medium FROM save_media WHERE volume = ? AND generation = ? ORDER BY position",
            row["volume"],
            row["generation"],
        )
        return make(Save, row, media=tuple(one["medium"] for one in media))

    # --- stores --------------------------------------------------------------------------------

    def store_get(self, volume: bytes) -> bytes | None:
        """The medium that the volume's saves without fill share."""
        row = self._db.one("SELECT medium FROM stores WHERE volume = ?", volume)
        return row["medium"] if row else None

    def store_of(self, medium: bytes) -> bytes | None:
        """The volume whose store a medium is."""
        row = self._db.one("SELECT volume FROM stores WHERE medium = ?", medium)
        return row["volume"] if row else None

    def store_put(self, volume: bytes, medium: bytes) -> None:
        """Raises Refused (EXISTS): the volume has another, or the medium is another's."""
        if self.store_get(volume) != medium:
            self._db.insert("stores", {"volume": volume, "medium": medium})

    def store_remove(self, volume: bytes) -> None:
        """One that is not there is removed already."""
        self._db.run("DELETE FROM stores WHERE volume = ?", volume)

    # --- backups -------------------------------------------------------------------------------

    def backup_add(
        self,
        volume: bytes,
        path: str,
        label: str,
        format: str,
        size: int,
        created: str = "",
        **lineage: Any,
    ) -> Backup:
        """Registers an image; its number is never used again. `lineage`: as in Backup."""
        row = Backup(0, volume, path, label, format, size, created or moment(), **lineage)
        number = self._db.insert("backups", columns(row, without=("number",)))
        return replace(row, number=number)

    def backup_get(self, number: int) -> Backup | None:
        row = self._db.one("SELECT * FROM backups WHERE number = ?", number)
        return make(Backup, row) if row else None

    def backups(self, volume: bytes | None = None) -> list[Backup]:
        """Of one volume or of all, by number."""
        rows = self._db.all(
            "SELECT * FROM backups WHERE ?1 IS NULL OR volume = ?1 ORDER BY number", volume
        )
        return [make(Backup, row) for row in rows]

    def backup_set(self, number: int, **changes: Any) -> Backup:
        """Changes anything but the number and the volume."""
        with self._db.transaction():
            self._db.update("backups", {"number": number}, changes)
            found = self.backup_get(number)
            if found is None:
                raise missing("backup", str(number))
            return found

    def backup_remove(self, number: int) -> None:
        """Forgets it; the image stays."""
        if not self._db.run("DELETE FROM backups WHERE number = ?", number):
            raise missing("backup", str(number))
