"""Clones: a save as a volume of its own, usable at once. A new volume on a spare recovers from the
save with everything pending, so it reads and writes from the first moment, and is independent when
all is copied; until then the save is held.

The clone is the volume's row: made as one that is being created, and no sooner taken for one that is
there than its record has the point. A start undoes what did not get that far (Volumes.undo_create).
"""

from __future__ import annotations

import uuid as uuids
from typing import Any

from targetplugin.catalog import ALL, Operation, Save, Volume, maps
from targetplugin.engine import VolumeSpec
from targetplugin.errors import Reason, Refused
from targetplugin.media.trailer import Role
from targetplugin.subsystem.ground import blocks, names
from targetplugin.subsystem.ground.floor import Floor, save_name
from targetplugin.subsystem.ground.identity import naa
from targetplugin.subsystem.ground.operations import Ask, Operations, medium_failed
from targetplugin.subsystem.ground.ports import Point
from targetplugin.subsystem.ground.states import Verb
from targetplugin.subsystem.ground.views import Shape, Views, now
from targetplugin.subsystem.mirror.pool import Pool
from targetplugin.subsystem.mirror.settle import Settle, left_to_the_next_start
from targetplugin.subsystem.volumes.create import Volumes

# The generation that a clone's first medium had nothing in: what it starts from is the save's
# content, which differs from the empty root in all that there is.
ROOT = 1


class Clones:
    """See the module."""

    def __init__(
        self,
        floor: Floor,
        views: Views,
        operations: Operations,
        pool: Pool,
        settle: Settle,
        volumes: Volumes,
    ) -> None:
        self._floor = floor
        self._catalog = floor.catalog
        self._views = views
        self._operations = operations
        self._pool = pool
        self._settle = settle
        self._volumes = volumes

    def clone(self, ask: Ask, name: str, clone_name: str, onto: str | None) -> Shape:
        """See Subsystem.clone."""
        names.check_volume(clone_name)
        with self._floor.runtime(self._floor.owner(name).uuid).lock:
            if (known := self._operations.again(ask)) is not None:
                return known
            volume, save = self._floor.save(name)
            self._views.require(Verb.CLONE, volume, save)
            self._operations.check_recorded(volume)
            source = self._source(volume, save)
            uuid = uuids.uuid4().bytes
            with self._floor.runtime(uuid).lock:  # new, so nobody waits for it who has another's
                with self._floor.pool:
                    row = self._row(uuid, clone_name, volume, save)
                    named = [onto] if onto else None
                    leg = self._pool.choose(
                        row.size, blocks.of(row.blocks).logical, 1, named, clone_name
                    )[0].uuid
                    if ask.preview:
                        self._floor.forget(uuid)
                        made = self._operations.preview(ask, row, None)
                        return {**made, "onto": self._floor.medium_name(leg), "kind": "clone"}
                    operation = self._begin(ask, row, leg, source)
                return self._fix(row, leg, source, operation)

    def _source(self, volume: Volume, save: Save) -> bytes:
        """The medium to copy from. Raises Refused (STATE, BUSY)."""
        for uuid in save.media:
            medium = self._floor.media.get(uuid)
            if medium and medium.trailer and medium.trailer.volume == volume.uuid:
                self._floor.check_over([uuid])
                return uuid
        wanted = ", ".join(self._floor.medium_name(uuid) for uuid in save.media)
        raise Refused(
            Reason.STATE,
            f"{save_name(volume, save)} can't be cloned: {wanted} is missing",
            object=save_name(volume, save),
            hint=f"bring {wanted} back",
        )

    def _row(self, uuid: bytes, name: str, volume: Volume, save: Save) -> Volume:
        if self._catalog.volume_find(name) is not None:
            raise Refused(
                Reason.EXISTS,
                f"there is a volume {name} already",
                object=name,
                hint="use another name, or delete that one",
            )
        details: dict[str, Any] = {
            "creating": True,
            "clone_of": save_name(volume, save),
            "source": {"volume": volume.uuid.hex(), "generation": save.generation},
        }
        return Volume(
            uuid,
            name,
            naa(uuid),
            volume.size,
            volume.extent_size,
            volume.policy,
            volume.rights,
            1,
            created=now(),
            details=details,
            blocks=volume.blocks,
        )

    def _begin(self, ask: Ask, row: Volume, leg: bytes, source: bytes) -> Operation:
        """The operation and the volume that is being created, durably; then its medium is claimed."""
        extents = self._floor.extents(row)
        prepared = {"medium": source.hex(), "pending": extents}
        with self._catalog.transaction():
            self._catalog.volume_add(row, [leg])
            operation = self._operations.begin(ask, row, None, prepared, bytes_total=row.size)
        try:
            self._settle.claim(leg, Role.LEG, row, operation.id)
        except Refused as refused:
            self._undo(row, refused.message)
            raise
        return operation

    def _fix(self, row: Volume, leg: bytes, source: bytes, operation: Operation) -> Shape:
        """Starts the volume and has it recover from the save, everything pending; then it is there."""
        try:
            handle = self._floor.serve(
                VolumeSpec(
                    uuid=row.uuid,
                    size=row.size,
                    extent_shift=row.extent_size.bit_length() - 1,
                    block_size=blocks.of(row.blocks).logical,
                    record=None,
                    media=[self._floor.medium(leg).spec()],
                    same_content=True,
                )
            )
            everything = maps.full(self._floor.extents(row))
            spec = self._floor.medium(source).spec()
            point = self._floor.engine.recover(handle, spec, ROOT, everything, operation.id)
            self._commit(row, handle, operation, point)
        except (Refused, OSError) as error:
            self._undo(row, str(error))
            if isinstance(error, OSError):
                raise medium_failed(f"{row.name} can't be made", row.name, error) from error
            raise
        self._settle.trailers(row.uuid, operation.id)
        self._floor.tell()
        made = self._floor.volume(row.name)
        return self._operations.answer(operation, {"volume": self._views.volume(made)})

    def _commit(self, row: Volume, handle: int, operation: Operation, point: Point) -> None:
        details = {key: value for key, value in row.details.items() if key != "creating"}
        events = self._floor.engine.status(handle).get("events", 0)
        with self._catalog.transaction():
            self._catalog.advance(row.uuid, ALL, parent=ROOT)
            self._catalog.volume_set(row.uuid, details=details, op=operation.id, events=events)
            self._catalog.operation_set(
                operation.id,
                state="running",
                in_force=now(),
                extents_changed=max(point.pending, operation.prepared["pending"]),
            )

    def _undo(self, row: Volume, why: str) -> None:
        runtime = self._floor.runtime(row.uuid)
        if runtime.handle is not None:
            self._floor.engine.remove_volume(runtime.handle)
            runtime.handle = None
        with left_to_the_next_start(f"that there is no {row.name}"):
            self._volumes.undo_create(row, why)
        self._floor.tell()
