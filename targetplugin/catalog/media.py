"""The catalog's media: what was given to the subsystem. Legs and saves say what it is used for."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from targetplugin.catalog.rows import MediumRow, moment
from targetplugin.catalog.table import Tables, columns, make, missing
from targetplugin.errors import Reason, Refused


class MediaTables(Tables):
    """See Catalog."""

    def medium_add(self, row: MediumRow) -> MediumRow:
        """Raises Refused (EXISTS): its uuid or name is taken."""
        row = replace(row, added=row.added or moment())
        self._db.insert("media", columns(row))
        return row

    def medium_get(self, uuid: bytes) -> MediumRow | None:
        row = self._db.one("SELECT * FROM media WHERE uuid = ?", uuid)
        return make(MediumRow, row) if row else None

    def medium_find(self, name: str) -> MediumRow | None:
        """By name, by path, or by uuid in hex."""
        row = self._db.one(
            "SELECT * FROM media WHERE name = ?1 OR path = ?1 OR lower(hex(uuid)) = lower(?1)"
            " ORDER BY name = ?1 DESC",
            name,
        )
        return make(MediumRow, row) if row else None

    def media(self) -> list[MediumRow]:
        return [make(MediumRow, row) for row in self._db.all("SELECT * FROM media ORDER BY name")]

    def medium_set(self, uuid: bytes, **changes: Any) -> MediumRow:
        """Changes name, path, state, size or data_size."""
        with self._db.transaction():
            self._db.update("media", {"uuid": uuid}, changes)
            return self._medium(uuid)

    def medium_remove(self, uuid: bytes) -> None:
        """Raises Refused: NOT_FOUND; STATE, it is a leg or holds a save."""
        with self._db.transaction():
            name = self._medium(uuid).name
            used = self._db.one(
                "SELECT 1 FROM legs WHERE medium = ?1"
                " UNION SELECT 1 FROM save_media WHERE medium = ?1",
                uuid,
            )
            if used:
                raise Refused(
                    Reason.STATE,
                    f"medium {name} is in use",
                    object=name,
                    hint="release the save on it, or delete its volume, first",
                )
            self._db.run("DELETE FROM media WHERE uuid = ?", uuid)

    def _medium(self, uuid: bytes) -> MediumRow:
        row = self.medium_get(uuid)
        if row is None:
            raise missing("medium", uuid.hex())
        return row
