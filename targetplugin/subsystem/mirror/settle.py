"""What follows once an operation is in force: the catalog in one transaction, then the trailers.

The same for a verb that has just been done and for one that a start finds in force. Every step can
be done twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from targetplugin.catalog import Operation, Save, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.media.trailer import NO_UUID, Role
from targetplugin.subsystem.ground import clock
from targetplugin.subsystem.ground.floor import Floor
from targetplugin.subsystem.ground.ports import Pause
from targetplugin.subsystem.ground.views import now

log = logging.getLogger(__name__)


class Fixed(Struct, frozen=True):
    """A point that is in force: what was frozen, with which map, and which legs in sync left the
    mirror by it.
    """

    frozen: int
    frozen_map: bytes
    left: list[bytes]
    pending: int = 0
    pause: Pause | None = None
    events: int = 0


class Settle:
    """Writes down what is in force."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._catalog = floor.catalog

    def point(self, row: Operation, fixed: Fixed) -> Operation:
        """Commits a save, recover or swap that the record has, and writes the trailers.

        Returns the operation.
        """
        row = self.commit(row, fixed)
        assert row.volume is not None
        self.trailers(row.volume, row.id)
        return row

    def commit(self, row: Operation, fixed: Fixed) -> Operation:
        """The catalog's part of it, which may be part of a larger transaction; trailers follow."""
        assert row.volume is not None
        volume = self._catalog.volume_get(row.volume)
        assert volume is not None
        name = self._catalog.maps.write(volume.uuid, fixed.frozen, fixed.frozen_map)
        with self._catalog.transaction():
            if row.verb == "save":
                changes = self._saved(row, volume, fixed, name)
            elif row.verb in ("recover", "undo"):
                changes = self._recovered(row, volume, fixed, name)
            else:
                changes = self._swapped(row, volume, fixed, name)
            self._catalog.volume_set(
                volume.uuid, op=row.id, events=max(volume.events, fixed.events)
            )
            if fixed.pause is not None:
                changes["pause_us"] = fixed.pause.whole
                changes["drain_us"] = fixed.pause.drain
                changes["pause_work_us"] = fixed.pause.work
            return self._catalog.operation_set(row.id, in_force=now(), **changes)

    def _saved(self, row: Operation, volume: Volume, fixed: Fixed, name: str) -> dict[str, Any]:
        kind = row.prepared["kind"]
        split, sparse = kind == "split", kind == "sparse"
        medium = bytes.fromhex(row.prepared["medium"])
        self._catalog.advance(volume.uuid, name)
        if split:
            stay = [g.medium for g in self._catalog.legs(volume.uuid) if g.medium != medium]
            self._catalog.legs_set(volume.uuid, stay)
        if sparse:
            self._catalog.store_put(volume.uuid, medium)
        self._replaced(row, volume)
        self._catalog.save_add(
            Save(
                volume.uuid,
                fixed.frozen,
                label=row.prepared["label"],
                fill={"split": "whole", "sparse": "unfilled"}.get(kind, "filling"),
                created=row.started,
                door=row.door,
                media=() if sparse else (medium,),
            )
        )
        self.hold(row, fixed.frozen)
        if split or sparse:
            self._catalog.retention_due(volume.uuid, True)
            return {"save": fixed.frozen, "state": "done", "progress": 1.0}
        changes: dict[str, Any] = {"save": fixed.frozen, "state": "running"}
        if "pending" in row.prepared:
            changes["extents_changed"] = row.prepared["pending"]
        return changes

    def hold(self, row: Operation, generation: int) -> None:
        """A save that was asked for with a hold is held from its first moment."""
        if until := row.prepared.get("hold"):
            assert row.volume is not None
            ends = datetime.fromisoformat(until)
            self._catalog.hold_put(clock.held(self._floor.clock, row.volume, generation, ends))

    def _recovered(self, row: Operation, volume: Volume, fixed: Fixed, name: str) -> dict[str, Any]:
        self._catalog.advance(volume.uuid, name, parent=row.save)
        prepared = {**row.prepared, "pending": fixed.pending}
        self._replaced(row, volume)
        if turned := row.prepared.get("turned"):
            why = f"operation {row.id}, an {row.verb}, took it back while it copied"
            self._catalog.operation_set(turned, state="aborted", error=why)
        if row.prepared.get("undo"):
            sparse = row.prepared.get("undo_kind") == "sparse"
            self._catalog.save_add(
                Save(
                    volume.uuid,
                    fixed.frozen,
                    label=row.prepared["undo_label"],
                    fill="unfilled" if sparse else "filling",
                    created=row.started,
                    door=row.door,
                    media=() if sparse else (bytes.fromhex(row.prepared["undo"]),),
                    undo=row.id,
                )
            )
        return {
            "state": "running",
            "extents_changed": fixed.pending,
            "bytes_total": fixed.pending * volume.extent_size,
            "prepared": prepared,
        }

    def _replaced(self, row: Operation, volume: Volume) -> None:
        """Rule 11: the save that was taken onto an older save's medium ends that one."""
        old = row.prepared.get("replaces")
        if old and self._catalog.save_get(volume.uuid, old) is not None:
            self._catalog.save_remove(volume.uuid, old)

    def _swapped(self, row: Operation, volume: Volume, fixed: Fixed, name: str) -> dict[str, Any]:
        assert row.save is not None
        legs = [bytes.fromhex(medium) for medium in row.prepared["legs"]]
        self._catalog.advance(volume.uuid, name, parent=row.save)
        self._catalog.save_remove(volume.uuid, row.save)
        self._catalog.legs_set(volume.uuid, legs)
        self._catalog.save_add(
            Save(
                volume.uuid,
                fixed.frozen,
                label=row.prepared["label"],
                created=row.started,
                door=row.door,
                media=tuple(fixed.left),
            )
        )
        return {"state": "done", "progress": 1.0}

    # --- trailers ----------------------------------------------------------------------------

    def trailers(self, volume: bytes, op: int, *, free_others: bool = True) -> None:
        """Brings the superblocks of the volume's media to what the catalog says.

        Args:
            free_others: and frees the media that it gave up, unless the media know more than the
                catalog.
        """
        row = self._catalog.volume_get(volume)
        wanted: dict[bytes, tuple[Role, Volume, Save | None]] = {}
        if row is not None:
            for leg in self._catalog.legs(volume):
                wanted[leg.medium] = (Role.LEG, row, None)
            store = self._catalog.store_get(volume)
            if store is not None:
                wanted[store] = (Role.STORE, row, None)
            for save in self._catalog.saves(volume):
                role = Role.SAVE
                if save.origin == "image":
                    role = Role.RESTORED if save.fill == "whole" else Role.RESTORING
                for uuid in save.media:
                    wanted[uuid] = (role, row, save)
        for uuid, (role, held, kept) in wanted.items():
            with left_to_the_next_start(f"the trailer of {self._floor.medium_name(uuid)}"):
                self._write(uuid, role, held, kept, op)
        rows = self._catalog.operations(volume, running=True)
        if (
            not free_others
            or volume in self._floor.older
            or any(r.state == "prepared" for r in rows)
        ):
            return  # an operation that the catalog could not take may have given them a role
        filled = {row.prepared["medium"] for row in rows if row.verb == "fill" and row.id != op}
        for uuid, medium in list(self._floor.media.items()):
            trailer = medium.trailer
            needed = uuid in wanted or uuid.hex() in filled
            if not needed and trailer is not None and trailer.volume == volume:
                with left_to_the_next_start(f"the trailer of {self._floor.medium_name(uuid)}"):
                    self.free(uuid, op)

    def _write(self, uuid: bytes, role: Role, volume: Volume, save: Save | None, op: int) -> None:
        medium = self._floor.media.get(uuid)
        if medium is None or medium.trailer is None:
            return  # it is missing; a start brings its trailer up to date
        now_there = medium.trailer
        trailer = replace(
            now_there,
            role=role,
            volume=volume.uuid,
            volume_name=volume.name,
            volume_size=volume.size,
            extent_shift=volume.extent_size.bit_length() - 1,
            generation=save.generation if save else 0,
            label=save.label if save else "",
        )
        if trailer != now_there:
            self._floor.check_over([uuid])
            medium.write_trailer(replace(trailer, op=op))

    def claim(self, uuid: bytes, role: Role, volume: Volume, op: int) -> None:
        """Rule 11: says what a free medium, or that of an older save, will be, before its first byte is
        overwritten.

        Raises:
            Refused: STATE where it is missing, ENVIRONMENT where it can't be written.
        """
        medium = self._floor.medium(uuid)
        assert medium.trailer is not None
        trailer = replace(
            medium.trailer,
            role=role,
            volume=volume.uuid,
            volume_name=volume.name,
            volume_size=volume.size,
            extent_shift=volume.extent_size.bit_length() - 1,
            generation=0,
            label="",
            op=op,
        )
        try:
            medium.write_trailer(trailer)
        except OSError as error:
            name = self._floor.medium_name(uuid)
            raise Refused(
                Reason.ENVIRONMENT,
                f"the medium {name} can't be written: {error.strerror or error}",
                object=name,
                hint="look at its disk, or name another medium",
            ) from error

    def unclaim(self, uuid: bytes, volume: bytes, op: int) -> None:
        """Nothing came of it: a medium is free again, or that of the save that it holds, or the store."""
        if self._catalog.save_on(uuid) is None and self._catalog.store_of(uuid) is None:
            self.free(uuid, op)
        else:
            self.trailers(volume, op, free_others=False)

    def free(self, uuid: bytes, op: int) -> None:
        """Says durably that a medium holds nothing; its old records and maps are wiped."""
        medium = self._floor.media.get(uuid)
        if medium is None or medium.trailer is None:
            return
        self._floor.check_over([uuid])
        medium.zero_trailer_room()
        medium.write_trailer(
            replace(
                medium.trailer,
                role=Role.FREE,
                volume=NO_UUID,
                volume_name="",
                volume_size=0,
                extent_shift=0,
                generation=0,
                label="",
                op=op,
            )
        )


def unnamed(row: Operation) -> Operation:
    """A part of a save of several volumes as it is settled while it may be given up yet: its label and its
    hold come when all are in force.
    """
    return replace(row, prepared={**row.prepared, "label": "", "hold": None})


@contextmanager
def left_to_the_next_start(what: str) -> Iterator[None]:
    """What is in force stays so where it can't be written down now; a start does that again."""
    try:
        yield
    except (Refused, OSError) as error:
        log.error("%s could not be written, and is left to the next start: %s", what, error)
