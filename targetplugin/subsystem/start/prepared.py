"""Operations that were under way when the daemon ended: one that the record names is in force and is
finished; of the others nothing is left (rule 7).
"""

from __future__ import annotations

import logging

from targetplugin.catalog import Operation, maps
from targetplugin.engine import Record, decode_map_slot, decode_record
from targetplugin.errors import Refused
from targetplugin.media.layout import Area, slots_for
from targetplugin.media.medium import Medium
from targetplugin.media.trailer import Role
from targetplugin.subsystem.backups.backup import Backups
from targetplugin.subsystem.backups.fills import Fills
from targetplugin.subsystem.backups.restore import Restores
from targetplugin.subsystem.ground.floor import Floor
from targetplugin.subsystem.ground.operations import Operations, logged_as, named
from targetplugin.subsystem.ground.rates import INTERRUPTED
from targetplugin.subsystem.mirror.legs import Legs
from targetplugin.subsystem.mirror.settle import Fixed, Settle, left_to_the_next_start, unnamed
from targetplugin.subsystem.saves.release import Saves
from targetplugin.subsystem.volumes.resize import Resize

log = logging.getLogger(__name__)
POINTS = ("save", "recover", "undo", "swap")


class Prepared:
    """See the module."""

    def __init__(
        self,
        floor: Floor,
        operations: Operations,
        settle: Settle,
        saves: Saves,
        legs: Legs,
        backups: Backups,
        restores: Restores,
        fills: Fills,
        resize: Resize,
    ) -> None:
        self._floor = floor
        self._catalog = floor.catalog
        self._operations = operations
        self._settle = settle
        self._saves = saves
        self._legs = legs
        self._beside: dict[str, Backups | Restores | Fills | Resize] = {
            "backup": backups,
            "restore": restores,
            "fill": fills,
            "volume resize": resize,
        }

    def mark_interrupted(self) -> None:
        """What is not over now can't tell how fast it was: the daemon was away meanwhile."""
        with left_to_the_next_start("that operations were interrupted"):
            for row in self._catalog.operations(running=True, limit=1 << 30):
                if not row.prepared.get(INTERRUPTED):
                    prepared = {**row.prepared, INTERRUPTED: True}
                    self._catalog.operation_set(row.id, prepared=prepared)

    def drop_beside(self) -> None:
        """What copied to or from an image, filled a medium, or let a volume grow when the daemon ended is
        undone, or ended where it was whole.
        """
        for row in self._catalog.operations(running=True, limit=1 << 30):
            if row.verb not in self._beside:
                continue
            with left_to_the_next_start(f"the end of {row.verb} {row.id}"):
                if row.state == "prepared":
                    self._operations.drop(row, "the daemon ended before it began")
                else:
                    self._beside[row.verb].drop(row)

    def end(self, row: Operation, record: Record) -> None:
        """Finishes a prepared operation that is in force, drops one that is not."""
        with logged_as(row):
            self._end(row, record)

    def _end(self, row: Operation, record: Record) -> None:
        legs = [leg.uuid for leg in record.legs]
        if row.verb in POINTS:
            if record.op == row.id:
                log.info("%s, is in force", named(row))
                if "group" in row.prepared:
                    row = unnamed(row)
                self._settle.point(row, self._found(row, record))
                return
            if row.verb != "save" and self._operations.committed(row):
                return  # those of other volumes are in force: it is done before hosts are served
            if row.verb == "save" and row.prepared["kind"] == "copy":
                self._free(bytes.fromhex(row.prepared["medium"]), row)
            if row.prepared.get("undo") and row.prepared.get("undo_kind") != "sparse":
                self._free(bytes.fromhex(row.prepared["undo"]), row)
        elif row.verb == "resync":
            came = [u for u in map(bytes.fromhex, row.prepared["media"]) if u in legs]
            if came:
                self._saves.finish_resync(row, came)
                return
        elif row.verb in ("leg add", "replace leg"):
            if bytes.fromhex(row.prepared["medium"]) in legs:
                self._legs.finish_add(row)
                return
            self._free(bytes.fromhex(row.prepared["medium"]), row)
        elif row.verb == "leg remove" and bytes.fromhex(row.prepared["medium"]) not in legs:
            self._legs.finish_remove(row)
            return
        elif row.verb == "release" and self._is_released(row, record):
            self._saves.finish_release(row)
            return
        why = "the daemon ended before it was in force"
        self._operations.drop(row, why)
        self._operations.note(row, "failed", why)

    def _is_released(self, row: Operation, record: Record) -> bool:
        """Whether a medium of the save is free already; or it filled, and the engine had let it go:
        that it is not in the record does not mean then that it is whole.
        """
        uuids = [bytes.fromhex(medium) for medium in row.prepared["media"]]
        media = [self._floor.media.get(uuid) for uuid in uuids]
        if any(m and m.trailer and m.trailer.role is Role.FREE for m in media):
            return True
        assert row.volume is not None
        assert row.save is not None
        save = self._catalog.save_get(row.volume, row.save)
        fills = save is not None and save.fill == "filling"
        return fills and not any(kept.uuid in uuids for kept in record.saves)

    def _free(self, uuid: bytes, row: Operation) -> None:
        if not any(uuid in save.media for save in self._catalog.saves()):
            self._settle.free(uuid, row.id)

    def _found(self, row: Operation, record: Record) -> Fixed:
        """The point as the media tell of it: the frozen map from all that may have been legs. What each
        has of it is OR-ed: which of them was in sync then is not known, and one that was not may have a
        slot that is as new as theirs and lacks what came after it left.
        """
        assert row.volume is not None
        volume = self._catalog.volume_get(row.volume)
        assert volume is not None
        frozen = record.generation - 1
        area = Area.LIVE_ODD if frozen % 2 else Area.LIVE_EVEN
        number = slots_for(volume.size, volume.extent_size)
        found: list[bytes] = []  # of each medium its map
        left = []
        read = set()
        for medium in self._floor.media.values():
            try:
                own = _own_record(medium, volume.uuid)
                blocks = medium.read_map_slots(area, slots=number) if own else []
            except Refused as error:
                log.error("%s", error.message)
                continue
            read.add(medium.uuid)
            if own is None:
                continue
            slots = [slot for block in blocks if (slot := decode_map_slot(block)) is not None]
            here = [(slot[1], slot[3], slot[4]) for slot in slots if slot[2] == frozen]
            found.append(maps.slots_map(here, self._floor.extents(volume)))
            if own.op == row.id and medium.uuid.hex() in row.prepared.get("old", []):
                left.append(medium.uuid)
        if all(leg.medium in read for leg in self._catalog.legs(volume.uuid)):
            bits = maps.either(found, self._floor.extents(volume))
        else:  # those that are here may have come in sync since, and lack it
            bits = maps.full(self._floor.extents(volume))
        pending = row.prepared.get("pending", 0)
        return Fixed(frozen, bits, left, pending, None, record.events)


def _own_record(medium: Medium, volume: bytes) -> Record | None:
    """The newest record of a volume on one medium."""
    found = [decode_record(block) for block in medium.read_records()]
    ours = [r for r in found if r is not None and r.volume == volume]
    return max(ours, key=lambda r: (r.events, r.sequence), default=None)
