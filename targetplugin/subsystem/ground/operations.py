"""Operations and requests: begun durably before anything happens, ended durably before anyone is
answered.

The same request identifier with the same body gets the result of the first (rule 22). Knows no
verb's meaning.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from targetplugin import logs
from targetplugin.catalog import Operation, Volume, maps
from targetplugin.catalog.rows import RUNNING
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.ground import rates
from targetplugin.subsystem.ground.extents import byte_count
from targetplugin.subsystem.ground.floor import Floor
from targetplugin.subsystem.ground.journal import volumes
from targetplugin.subsystem.ground.views import Shape, Views, now

log = logging.getLogger(__name__)
RIGHTS = {"none": 0, "status": 1, "save": 2, "all": 3}
NEEDED = {"diff": "status", "save": "save"}  # all other verbs: "all"
JOINING = ("resync", "leg add", "replace leg")  # verbs that bring a leg in


class Ask(Struct, frozen=True):
    """Who asks for what: the verb, its arguments that count, the door and the request's identifier.

    Attributes:
        door: "terminal", "in-band" or "policy"; rights bind the second only.
        request: 16 bytes, or None.
        preview: answer as the real request would, and do nothing.
    """

    verb: str
    body: dict[str, Any] = field(default_factory=dict)
    door: str = "terminal"
    request: bytes | None = None
    preview: bool = False

    def body_hash(self) -> bytes:
        text = json.dumps([self.verb, self.body], sort_keys=True)
        return hashlib.sha256(text.encode()).digest()

    def check_rights(self, volume: Volume) -> None:
        """Raises Refused (RIGHTS) where a host may not ask for this."""
        needed = NEEDED.get(self.verb, "all")
        if self.body.get("replace") or self.body.get("hold"):
            needed = "all"  # it ends a save, or keeps one longer than the operator's rules do
        if self.door == "in-band" and RIGHTS[volume.rights] < RIGHTS[needed]:
            raise Refused(
                Reason.RIGHTS,
                f"hosts of {volume.name} have no right to {self.verb}: theirs is {volume.rights!r}",
                object=volume.name,
                hint="ask the operator of the subsystem",
            )

    def check_force(self, force: bool) -> None:
        """Raises Refused (RIGHTS): a host can't force."""
        if force and self.door == "in-band":
            raise Refused(Reason.RIGHTS, f"a host can't force a {self.verb}")


class Operations:
    """The one place where operations and requests are written."""

    def __init__(self, floor: Floor, views: Views) -> None:
        self._floor = floor
        self._catalog = floor.catalog
        self._views = views

    def again(self, ask: Ask) -> Shape | None:
        """The result of the same request that came before; None where it is new.

        Raises:
            Refused: REQUEST_MISMATCH, it came with another body.
        """
        if ask.request is None:
            return None
        if len(ask.request) != 16:
            raise Refused(Reason.USAGE, "a request identifier has 16 bytes")
        known = self._catalog.request_get(ask.request)
        if known is None:
            return None
        if known.body_hash != ask.body_hash():
            raise Refused(
                Reason.REQUEST_MISMATCH,
                f"request {ask.request.hex()} came before with another body",
                object=ask.request.hex(),
                hint="use a new identifier for a new request",
            )
        row = self._catalog.operation_get(known.operation) if known.operation else None
        answer = dict(known.result or {})
        if row is not None:
            answer["operation"] = self._views.operation(row)
        return answer

    def preview(self, ask: Ask, volume: Volume, save: int | None) -> Shape:
        """What begin() would give, with number 0."""
        row = Operation(
            0,
            ask.verb,
            volume.uuid,
            volume.name,
            save,
            started=now(),
            door=ask.door,
            request=ask.request,
        )
        return {"operation": self._views.operation(row), "preview": True}

    def preview_copy(self, ask: Ask, volume: Volume, save: int, bits: bytes) -> Shape:
        """The same for a verb that copies what differs: with its `bytes`, and an `estimate` of how
        long, which is None where it can't be told (see rates.py).
        """
        made = self.preview(ask, volume, save)
        changed = maps.count(bits)
        made["operation"]["extents_changed"] = changed
        made["operation"]["bytes_total"] = changed * volume.extent_size
        size = byte_count(bits, volume.extent_size, volume.size)
        rows = self._catalog.operations(volume.uuid, limit=rates.LOOKED_AT)
        return {**made, "bytes": size, "estimate": rates.estimate(rows, ask.verb, size)}

    def begin(
        self,
        ask: Ask,
        volume: Volume,
        save: int | None,
        prepared: dict[str, Any],
        *,
        bytes_total: int = 0,
    ) -> Operation:
        """Makes the operation durable as prepared, with its request; `prepared` is enough to finish
        or drop it.
        """
        self.check_recorded(volume)
        with self._catalog.transaction():
            row = self._catalog.operation_add(
                ask.verb,
                volume=volume.uuid,
                volume_name=volume.name,
                save=save,
                prepared={"extent_size": volume.extent_size, **prepared},
                door=ask.door,
                request=ask.request,
                bytes_total=bytes_total,
                started=now(),
            )
            if ask.request is not None:
                self._catalog.request_begin(ask.request, ask.body_hash(), row.id)
        logs.learn(**fields(row))
        log.debug("%s, begins", named(row))
        return row

    def check_recorded(self, volume: Volume) -> None:
        """Raises Refused (STATE) after an operation that the disks have and the catalog could not
        take: a start finishes it, and nothing may come before that.
        """
        for row in self._catalog.operations(volume.uuid, running=True):
            if row.state == "prepared":
                raise Refused(
                    Reason.STATE,
                    f"operation {row.id}, a {row.verb} of {volume.name}, could not be recorded",
                    object=volume.name,
                    hint="make room in the state directory, and restart targetplugind",
                )

    def answer(self, row: Operation, made: Shape) -> Shape:
        """The verb's answer, durable as the request's result before it is given."""
        row = self.row(row.id)
        answer = {"operation": self._views.operation(row), **made}
        if row.request is not None:
            self._catalog.request_end(row.request, answer)
        return answer

    def drop(self, row: Operation, why: str, state: str = "failed") -> None:
        """The operation had no effect: its request is forgotten, so that it can be asked again."""
        with logged_as(row):
            log.debug("%s, comes to nothing: %s", named(row), why)
        with self._catalog.transaction():
            self._catalog.operation_set(row.id, state=state, error=why)
            if row.request is not None:
                self._catalog.request_forget(row.request)
        self._floor.tell()

    def end(self, row: Operation, **changes: Any) -> None:
        """The operation is over."""
        changes.setdefault("state", "done")
        if changes["state"] == "done":
            changes.setdefault("progress", 1.0)
        with self._catalog.transaction():
            self._catalog.operation_set(row.id, **changes)
            if row.state == "running":
                self.note(row, changes["state"], changes.get("error"))
            elif row.door == "policy":  # else it ends with its answer, which is noted
                self._log_end(row, changes["state"])
            if "group" in row.prepared:
                self.end_group(row.prepared["group"])
        self._floor.tell()

    def note(self, row: Operation, state: str, error: str | None = None) -> None:
        """An operation came to its end in the background."""
        with logged_as(row):
            self._floor.journal.note(
                "operation",
                f"{named(row)}, is {state}" + (f": {error}" if error else ""),
                door=row.door,
                volume=row.volume_name,
                operation=row.id,
                details={"state": state},
                level=_level(row, state),
            )

    # --- several volumes as one ----------------------------------------------------------------

    def begin_group(
        self, ask: Ask, parts: Sequence[tuple[Volume, int | None, dict[str, Any], int]]
    ) -> tuple[Operation, list[Operation]]:
        """Makes an operation of several volumes durable as prepared, and one of each as its parts.

        Args:
            parts: for each volume, what `save`, `prepared` and `bytes_total` are in begin().
        """
        for volume, _, _, _ in parts:
            self.check_recorded(volume)
        names = ", ".join(volume.name for volume, _, _, _ in parts)
        with self._catalog.transaction():
            whole = self._catalog.operation_add(
                ask.verb, volume_name=names, door=ask.door, request=ask.request, started=now()
            )
            plain = replace(ask, request=None)
            mark: dict[str, Any] = {"group": whole.id}
            if ask.request is not None:
                mark["request"] = ask.request.hex()  # so that each volume's host finds it
            rows = [
                self.begin(plain, volume, save, {**prepared, **mark}, bytes_total=total)
                for volume, save, prepared, total in parts
            ]
            whole = self._catalog.operation_set(
                whole.id,
                prepared={"members": [row.id for row in rows]},
                bytes_total=sum(row.bytes_total for row in rows),
            )
            if ask.request is not None:
                self._catalog.request_begin(ask.request, ask.body_hash(), whole.id)
        logs.learn(**fields(whole, rows))
        return whole, rows

    def committed(self, part: Operation) -> bool:
        """Whether the operation of several volumes that this is a part of is in force."""
        op = part.prepared.get("group")
        whole = self._catalog.operation_get(op) if op is not None else None
        return whole is not None and whole.state == "running"

    def parts(self, whole: Operation) -> list[Operation]:
        """The operations of a group's volumes."""
        found = [self._catalog.operation_get(op) for op in whole.prepared["members"]]
        return [row for row in found if row is not None]

    def end_group(self, op: int) -> None:
        """An operation of several volumes that is in force is over when all its parts are."""
        whole = self.row(op)
        parts = self.parts(whole)
        if whole.state != "running" or any(row.state in RUNNING for row in parts):
            return
        bad = next((row for row in parts if row.state != "done"), None)
        copied = {
            "extents_copied": sum(row.extents_copied for row in parts),
            "bytes_copied": sum(row.bytes_copied for row in parts),
        }
        if bad is None:
            self._catalog.operation_set(op, state="done", progress=1.0, **copied)
        else:
            why = f"{bad.volume_name}: {bad.error or bad.state}"
            self._catalog.operation_set(op, state=bad.state, error=why, **copied)
        self._floor.journal.over(op)
        self._log_end(whole, bad.state if bad else "done", parts)

    def _log_end(self, row: Operation, state: str, parts: Sequence[Operation] = ()) -> None:
        """Of one whose end is no event of its own."""
        told = logs.extra({**fields(row, parts), "state": state})
        self._catalog.after(lambda: log.info("%s, is %s", named(row), state, extra=told))

    def running(self, volume: bytes | None, verb: str) -> list[Operation]:
        """The operations of that verb that are in force and not over."""
        found = self._catalog.operations(volume, running=True)
        return [row for row in found if row.verb == verb and row.state == "running"]

    # --- looking -----------------------------------------------------------------------------

    def get(self, op: int) -> Shape:
        """Raises Refused (NOT_FOUND)."""
        return self._views.operation(self.row(op))

    def all(self, volume: str | None, limit: int) -> list[Shape]:
        """Newest first."""
        uuid = self._floor.volume(volume).uuid if volume else None
        return [self._views.operation(r) for r in self._catalog.operations(uuid, limit=limit)]

    def wait(self, op: int, timeout: float) -> Shape:
        """The operation when it is over, or as it is after `timeout` seconds."""
        end = time.monotonic() + timeout
        while True:
            seen = self._floor.told
            if self.row(op).state not in RUNNING:
                break
            if not self._floor.wait_told(seen, end - time.monotonic()):
                break
        return self.get(op)

    def row(self, op: int) -> Operation:
        """Raises Refused (NOT_FOUND)."""
        row = self._catalog.operation_get(op)
        if row is None:
            raise Refused(
                Reason.NOT_FOUND,
                f"there is no operation {op}",
                object=str(op),
                hint="status and operation list show them",
            )
        return row


def named(row: Operation) -> str:
    """`save ledger@3, operation 17`."""
    return f"{row.verb} {_save(row) or row.volume_name}, operation {row.id}"


def _save(row: Operation) -> str:
    return f"{row.volume_name}@{row.save}" if row.save is not None else ""


def fields(row: Operation, parts: Sequence[Operation] = ()) -> dict[str, logs.Value]:
    """What the log has of an operation: one on several volumes, and its parts, are found by each other."""
    others = row.prepared.get("members") or [row.prepared.get("group")]
    numbers = (row.id, *(one for one in others if one is not None))
    return {
        "operation": numbers if len(numbers) > 1 else row.id,
        "volume": volumes(row.volume_name),
        "save": tuple(filter(None, map(_save, parts))) or _save(row),
        "door": row.door,
    }


def _level(row: Operation, state: str) -> int:
    if state == "failed":
        return logging.WARNING
    return logging.DEBUG if "group" in row.prepared else logging.INFO  # which the group's end says


def logged_as(row: Operation) -> AbstractContextManager[None]:
    """What is logged within belongs to the operation."""
    return logs.about(**fields(row))


def medium_failed(what: str, name: str, error: OSError) -> Refused:
    """What doors are told where a medium failed while it was asked for."""
    return Refused(
        Reason.ENVIRONMENT,
        f"{what}: {error.strerror or error}",
        object=name,
        hint="status shows which medium failed",
    )
