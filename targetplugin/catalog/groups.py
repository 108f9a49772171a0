"""The catalog's groups: volumes that an operator declared as belonging together."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from targetplugin.catalog.rows import Group, moment
from targetplugin.catalog.table import Tables, make, missing


class GroupTables(Tables):
    """See Catalog."""

    def group_add(self, name: str, volumes: Iterable[bytes]) -> Group:
        """Raises Refused (EXISTS) where the name is taken."""
        with self._db.transaction():
            self._db.insert("volume_groups", {"name": name, "created": moment()})
            for position, volume in enumerate(volumes):
                self._db.insert(
                    "group_members", {"name": name, "volume": volume, "position": position}
                )
            found = self.group_get(name)
            assert found is not None
            return found

    def group_get(self, name: str) -> Group | None:
        with self._db.lock:
            row = self._db.one("SELECT * FROM volume_groups WHERE name = ?", name)
            return self._group_made(row) if row else None

    def groups(self) -> list[Group]:
        """By name."""
        with self._db.lock:
            rows = self._db.all("SELECT * FROM volume_groups ORDER BY name")
            return [self._group_made(row) for row in rows]

    def group_remove(self, name: str) -> None:
        if not self._db.run("DELETE FROM volume_groups WHERE name = ?", name):
            raise missing("group", name)

    def _group_made(self, row: sqlite3.Row) -> Group:
        members = self._db.all(
            "SELECT volume FROM group_members WHERE name = ? ORDER BY position", row["name"]
        )
        return make(Group, row, volumes=tuple(one["volume"] for one in members))
