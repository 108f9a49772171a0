"""The catalog's exports: which hosts may see a volume, and where. Holds CHAP secrets."""

from __future__ import annotations

import sqlite3

from targetplugin.catalog.rows import Export, Initiator
from targetplugin.catalog.table import Tables, columns, make, missing


class ExportTables(Tables):
    """See Catalog."""

    def export_put(self, row: Export) -> Export:
        """Adds it, or puts it in the place of the volume's export."""
        with self._db.transaction():
            self._db.run("DELETE FROM exports WHERE volume = ?", row.volume)
            self._db.insert("exports", columns(row, json_in=("portals",), without=("initiators",)))
            for position, one in enumerate(row.initiators):
                values = {**columns(one), "volume": row.volume, "position": position}
                self._db.insert("initiators", values)
            return row

    def export_get(self, volume: bytes) -> Export | None:
        with self._db.lock:
            row = self._db.one("SELECT * FROM exports WHERE volume = ?", volume)
            return self._export_made(row) if row else None

    def exports(self) -> list[Export]:
        with self._db.lock:
            rows = self._db.all("SELECT * FROM exports ORDER BY target")
            return [self._export_made(row) for row in rows]

    def export_remove(self, volume: bytes) -> None:
        if not self._db.run("DELETE FROM exports WHERE volume = ?", volume):
            raise missing("export of volume", volume.hex())

    def _export_made(self, row: sqlite3.Row) -> Export:
        rows = self._db.all(
            "SELECT iqn, chap_user, chap_password FROM initiators WHERE volume = ?"
            " ORDER BY position",
            row["volume"],
        )
        made = make(
            Export, row, json_in=("portals",), initiators=tuple(make(Initiator, r) for r in rows)
        )
        return Export(made.volume, made.target, tuple(made.portals), made.lun, made.initiators)
