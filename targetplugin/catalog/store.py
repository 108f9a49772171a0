"""The catalog as its users see it: all its tables behind one lock, and the maps beside them."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager

from targetplugin.catalog.database import Database
from targetplugin.catalog.exports import ExportTables
from targetplugin.catalog.groups import GroupTables
from targetplugin.catalog.journal import JournalTables
from targetplugin.catalog.keeping import KeepingTables
from targetplugin.catalog.maps import Maps
from targetplugin.catalog.media import MediaTables
from targetplugin.catalog.operations import OperationTables
from targetplugin.catalog.saves import SaveTables
from targetplugin.catalog.shown import ShownTables
from targetplugin.catalog.volumes import VolumeTables


class Catalog(
    MediaTables,
    VolumeTables,
    SaveTables,
    KeepingTables,
    ExportTables,
    ShownTables,
    OperationTables,
    GroupTables,
    JournalTables,
):
    """catalog.db and maps/ in a state directory. Thread-safe; a second process is refused.

    Every method is a transaction of its own, or part of the one around it. Of rows that are not
    there, *_get and *_find return None, and changes raise Refused (NOT_FOUND). What is taken:
    Refused (EXISTS). Disk full, read-only or damaged: Refused (ENVIRONMENT), with nothing changed.

    Attributes:
        maps: the frozen extent maps.
    """

    def __init__(self, state_dir: str | os.PathLike[str]) -> None:
        """Opens or makes it; the directory is made with mode 0700. Raises Refused (ENVIRONMENT)."""
        folder = os.path.abspath(os.fspath(state_dir))
        self._db = Database(os.path.join(folder, "catalog.db"))
        try:
            self.maps = Maps(os.path.join(folder, "maps"))
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Undoes what is not committed. Closing twice is closing once."""
        self._db.close()

    def transaction(self) -> AbstractContextManager[None]:
        """`with catalog.transaction():` all or nothing, durable when the block ends.

        Holds the lock. May be nested: an inner one that raises is undone alone.
        """
        return self._db.transaction()

    def after(self, call: Callable[[], None]) -> None:
        """Calls it once the transaction around it is durable, with the lock; never if it is undone."""
        self._db.after(call)

    def meta_get(self, key: str, default: str = "") -> str:
        row = self._db.one("SELECT value FROM meta WHERE key = ?", key)
        return row["value"] if row else default

    def meta_set(self, key: str, value: str) -> None:
        self._db.run(
            "INSERT INTO meta (key, value) VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            key,
            value,
        )
