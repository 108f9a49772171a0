"""The catalog's operations and hosts' requests: what was asked, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from targetplugin.catalog.rows import RUNNING, Operation, Request, moment
from targetplugin.catalog.table import Tables, columns, make, missing, pack
from targetplugin.errors import Reason, Refused

_JSON = ("prepared",)
_KNOWN = {*Operation.__struct_fields__} - {"id"}


class OperationTables(Tables):
    """See Catalog."""

    def operation_add(self, verb: str, **values: Any) -> Operation:
        """Gives it an id that was never used, and `started` where that is not given."""
        row = Operation(0, verb, **values)
        row = replace(row, started=row.started or moment())
        id = self._db.insert("operations", columns(row, json_in=_JSON, without=("id",)))
        return replace(row, id=id)

    def operation_get(self, id: int) -> Operation | None:
        row = self._db.one("SELECT * FROM operations WHERE id = ?", id)
        return make(Operation, row, json_in=_JSON) if row else None

    def operation_set(self, id: int, **changes: Any) -> Operation:
        """A state that is over sets `ended` where that is not given."""
        unknown = set(changes) - _KNOWN
        if unknown:
            raise TypeError(f"an operation has no {', '.join(sorted(unknown))}")
        if changes.get("state", RUNNING[0]) not in RUNNING:
            changes = {"ended": moment(), **changes}
        with self._db.transaction():
            if changes:
                self._db.update("operations", {"id": id}, pack(changes, _JSON))
            found = self.operation_get(id)
            if found is None:
                raise missing("operation", str(id))
            return found

    def operations(
        self, volume: bytes | None = None, *, running: bool = False, limit: int = 50
    ) -> list[Operation]:
        """Of one volume or of all, newest first; `running`: only those that are not over."""
        only = f"state IN {RUNNING}" if running else "1"
        rows = self._db.all(
            f"SELECT * FROM operations WHERE (?1 IS NULL OR volume = ?1) AND {only}"
            " ORDER BY id DESC LIMIT ?2",
            volume,
            limit,
        )
        return [make(Operation, row, json_in=_JSON) for row in rows]

    def operation_last(self, volume: bytes, verbs: Iterable[str]) -> Operation | None:
        """The newest of these verbs on a volume that is, or was, in force."""
        named = tuple(verbs)
        row = self._db.one(
            f"SELECT * FROM operations WHERE volume = ? AND verb IN ({', '.join('?' * len(named))})"
            " AND in_force IS NOT NULL ORDER BY id DESC LIMIT 1",
            volume,
            *named,
        )
        return make(Operation, row, json_in=_JSON) if row else None

    # --- requests (rule 22) --------------------------------------------------------------------

    def request_begin(
        self, id: bytes, body_hash: bytes, operation: int | None = None
    ) -> Request | None:
        """Makes a request known, durably, before it starts.

        Returns:
            None: it is new. Else what is known of it: asking twice is asking once.

        Raises:
            Refused: REQUEST_MISMATCH, the same identifier came with another body.
        """
        with self._db.transaction():
            known = self.request_get(id)
            if known is None:
                row = Request(id, body_hash, operation, None, moment())
                self._db.insert("requests", columns(row))
                return None
            if known.body_hash != body_hash:
                raise Refused(
                    Reason.REQUEST_MISMATCH,
                    f"request {id.hex()} was used before, for something else",
                    object=id.hex(),
                    hint="use a new identifier for a new request",
                )
            return known

    def request_get(self, id: bytes) -> Request | None:
        row = self._db.one("SELECT * FROM requests WHERE id = ?", id)
        return make(Request, row, json_in=("result",)) if row else None

    def request_set(self, id: bytes, operation: int) -> None:
        """Which operation serves it."""
        if not self._db.update("requests", {"id": id}, {"operation": operation}):
            raise missing("request", id.hex())

    def request_end(self, id: bytes, result: dict[str, Any]) -> None:
        """Its result, durable before it is answered."""
        if not self._db.update("requests", {"id": id}, {"result": json.dumps(result)}):
            raise missing("request", id.hex())

    def request_forget(self, id: bytes) -> None:
        """For one that was refused and left no trace."""
        self._db.run("DELETE FROM requests WHERE id = ?", id)
