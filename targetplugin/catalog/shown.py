"""The catalog's saves that hosts see: which, to whom, and where. Holds CHAP secrets."""

from __future__ import annotations

import json
import sqlite3

from targetplugin.catalog.rows import Export, Initiator, Shown
from targetplugin.catalog.table import Tables, columns, make, missing


class ShownTables(Tables):
    """See Catalog."""

    def shown_put(self, row: Shown) -> Shown:
        """Adds it, or puts it in the place of the save's."""
        one = row.export
        with self._db.transaction():
            self._db.run(
                "DELETE FROM shown WHERE volume = ? AND generation = ?", row.volume, row.generation
            )
            self._db.insert(
                "shown",
                {
                    "identity": one.volume,
                    "volume": row.volume,
                    "generation": row.generation,
                    "target": one.target,
                    "portals": json.dumps(one.portals),
                    "lun": one.lun,
                },
            )
            for position, host in enumerate(one.initiators):
                values = {**columns(host), "identity": one.volume, "position": position}
                self._db.insert("shown_to", values)
            return row

    def shown_get(self, volume: bytes, generation: int) -> Shown | None:
        with self._db.lock:
            row = self._db.one(
                "SELECT * FROM shown WHERE volume = ? AND generation = ?", volume, generation
            )
            return self._shown_made(row) if row else None

    def shown(self, volume: bytes | None = None) -> list[Shown]:
        """Of one volume or of all."""
        with self._db.lock:
            rows = self._db.all(
                "SELECT * FROM shown WHERE ?1 IS NULL OR volume = ?1 ORDER BY target", volume
            )
            return [self._shown_made(row) for row in rows]

    def shown_remove(self, volume: bytes, generation: int) -> None:
        if not self._db.run(
            "DELETE FROM shown WHERE volume = ? AND generation = ?", volume, generation
        ):
            raise missing("export of save", str(generation))

    def _shown_made(self, row: sqlite3.Row) -> Shown:
        rows = self._db.all(
            "SELECT iqn, chap_user, chap_password FROM shown_to WHERE identity = ?"
            " ORDER BY position",
            row["identity"],
        )
        hosts = tuple(make(Initiator, one) for one in rows)
        portals = tuple(json.loads(row["portals"]))
        export = Export(row["identity"], row["target"], portals, row["lun"], hosts)
        return Shown(row["volume"], row["generation"], export)
