"""The shapes that the doors show: rows of the catalog and the engine's numbers as plain dicts.

Changes nothing. See standing.py for what they say of operations, states and differences.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from targetplugin.catalog import Backup, MediumRow, Operation, Save, Volume, maps, rows
from targetplugin.catalog import Export as ExportRow
from targetplugin.media.trailer import Role
from targetplugin.subsystem.ground import blocks, extents, write_cache
from targetplugin.subsystem.ground.floor import save_name
from targetplugin.subsystem.ground.identity import naa, of_save
from targetplugin.subsystem.ground.standing import Standing
from targetplugin.subsystem.ground.states import Activity

REPLACE_AFTER = 300  # seconds in which a leg that was lost may come back
LEAST_PROGRESS = 0.01  # below it nobody knows how long it takes
BESIDE = ("restore", "backup", "fill", "volume resize")  # verbs of which the engine counts nothing
# What the engine counts of hosts' commands since it serves a volume.
COUNTERS = (
    "reads",
    "writes",
    "flushes",
    "bytes_read",
    "bytes_written",
    "read_us",
    "write_us",
    "read_errors",
    "write_errors",
)
LEFT_OVER = "left over"  # how the use begins of a medium that another catalog knew
Shape = dict[str, Any]


def _seconds(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def _milliseconds(microseconds: int | None) -> float | None:
    return None if microseconds is None else microseconds / 1000


class Views(Standing):
    """Makes the shapes of how things stand; each is described where it is made."""

    # --- operations --------------------------------------------------------------------------

    def operation(self, row: Operation) -> Shape:
        """id, verb, volume, save, the undo save that it took, state, progress, counts of extents and
        bytes, rate and seconds left where they are known, times, error, door, request.
        """
        progress, copied = row.progress, row.extents_copied
        if row.state == "running" and row.volume is not None:
            progress, copied = self.progress(row)
        elif row.state == "running" and "members" in row.prepared:
            progress, copied = self._progress_of_all(row)
        size = row.prepared.get("extent_size", 0)
        bytes_copied = copied * size
        if row.verb in BESIDE:  # they count no extents
            bytes_copied = row.bytes_copied
            if row.state == "running":
                bytes_copied = int(progress * row.bytes_total)
        save = row.save if row.save is not None else row.prepared.get("frozen")
        undo = row.prepared.get("frozen") if row.in_force and row.prepared.get("undo") else None
        return {
            "id": row.id,
            "verb": row.verb,
            "volume": row.volume_name,
            "save": f"{row.volume_name}@{save}" if save else None,
            "undo": f"{row.volume_name}@{undo}" if undo else None,
            "state": row.state,
            "progress": round(progress, 4),
            "extents_changed": row.extents_changed,
            "extents_copied": copied,
            "bytes_copied": bytes_copied if size else row.bytes_copied,
            "bytes_total": row.bytes_total,
            "rate": row.prepared.get("rate"),
            "pause_ms": _milliseconds(row.pause_us),
            "drain_ms": _milliseconds(row.drain_us),
            "pause_work_ms": _milliseconds(row.pause_work_us),
            "result": self._result(row),
            "seconds_left": self._seconds_left(row, progress),
            "started": row.started,
            "ended": row.ended,
            "seconds_in_force": _seconds(row.started, row.in_force) if row.in_force else None,
            "error": row.error,
            "door": row.door,
            "request": row.request.hex() if row.request else row.prepared.get("request"),
        }

    def _progress_of_all(self, whole: Operation) -> tuple[float, int]:
        """That of an operation of several volumes: each counts the same."""
        rows = [self._floor.catalog.operation_get(op) for op in whole.prepared["members"]]
        told = [
            self.progress(row) if row.state == "running" else (row.progress, row.extents_copied)
            for row in rows
            if row is not None
        ]
        return sum(one for one, _ in told) / (len(told) or 1), sum(copied for _, copied in told)

    def _result(self, row: Operation) -> Shape | None:
        """Of a scrub: what it found so far. {compared: bytes, different, unreadable: extents, list}."""
        if row.verb != "scrub":
            return None
        found = row.prepared
        return {
            "compared": found.get("compared", 0),
            "different": found.get("different", 0),
            "unreadable": found.get("unreadable", 0),
            "list": found.get("runs", []),
        }

    def _seconds_left(self, row: Operation, progress: float) -> float | None:
        """An estimate, by how fast it went so far; None where nothing can be said."""
        if row.state != "running":
            return None
        if row.verb == "scrub":
            return round(row.bytes_total * (1 - progress) / int(row.prepared["rate"]), 1)
        if row.verb in BESIDE and row.volume is not None:
            left = self._floor.runtime(row.volume).left.get(row.id)
            seconds = left() if left else None
            return None if seconds is None else round(seconds, 1)
        if row.in_force is None or progress < LEAST_PROGRESS:
            return None
        return round(_seconds(row.in_force, now()) * (1 - progress) / progress, 1)

    # --- saves -------------------------------------------------------------------------------

    def save(self, volume: Volume, save: Save) -> Shape:
        """name, volume, generation, label, created, fill, activity, media (of one without fill the
        store), kept_bytes: what it has there (None: it is on a medium of its own), percent, changes
        since it, origin, slot, the operation that it undoes, export, clones that are being copied
        from it, held_until.
        """
        status = self._floor.status(volume)
        percent = 100.0
        if save.fill != "whole":
            percent = 0.0
            for uuid in save.media:
                if status and uuid in status["saves"]:
                    percent = 100 * status["saves"][uuid]["has"] / status["extents"]
            comes = save.origin == "image" or self.activity(volume, save) is Activity.BEING_FILLED
            progress = self.activity_progress(volume, save) if comes else None
            percent = percent if progress is None else 100 * progress
        bits = self.changed_since(volume, save)
        media = [self._floor.medium_name(uuid) for uuid in save.media]
        store = self._floor.catalog.store_get(volume.uuid)
        if save.sparse and store is not None:
            media = [self._floor.medium_name(store)]
        changed = extents.byte_count(bits, volume.extent_size, volume.size)
        return {
            "name": save_name(volume, save),
            "volume": volume.name,
            "generation": save.generation,
            "label": save.label,
            "created": save.created,
            "fill": save.fill,
            "activity": self.activity(volume, save).value,
            "media": media,
            "kept_bytes": self._kept_bytes(volume, save, status),
            "percent": round(percent, 2),
            "changed_extents": maps.count(bits),
            "changed_bytes": changed,
            "changed_percent": round(100 * changed / volume.size, 2),
            "origin": save.origin,
            "slot": save.slot,
            "undo": save.undo or None,
            "export": self._export_of_save(volume, save),
            "clones": [clone.name for clone in self.clones(volume, save)],
            "held_until": self.held_until(save),
        }

    def _export_of_save(self, volume: Volume, save: Save) -> Shape | None:
        shown = self._floor.catalog.shown_get(volume.uuid, save.generation)
        uuid = of_save(volume.uuid, save.generation)
        return self.export(save_name(volume, save), uuid, shown.export) if shown else None

    def _kept_bytes(
        self, volume: Volume, save: Save, status: Mapping[str, Any] | None
    ) -> int | None:
        if not save.sparse:
            return None
        store = status.get("store") if status else None
        seen = store["saves"].get(save.generation) if store else None
        return seen["extents"] * volume.extent_size if seen else 0

    # --- volumes -----------------------------------------------------------------------------

    def store_shape(self, volume: Volume, status: Mapping[str, Any] | None) -> Shape | None:
        """medium, state, size and used, in bytes, of what its saves without fill share."""
        uuid = self._floor.catalog.store_get(volume.uuid)
        if uuid is None:
            return None
        seen = status.get("store") if status else None
        there = self._floor.is_there(uuid)
        return {
            "medium": self._floor.medium_name(uuid),
            "state": seen["state"] if seen else "unknown" if there else "missing",
            "size": seen["slots"] * volume.extent_size if seen else 0,
            "used": seen["used"] * volume.extent_size if seen else 0,
        }

    def legs(self, volume: Volume, status: Mapping[str, Any] | None) -> list[Shape]:
        """medium, state, missed_extents of each, and whether it does not answer."""
        found = []
        silent = self._floor.engine.silent()
        for leg in self._floor.catalog.legs(volume.uuid):
            seen = (status or {}).get("legs", {}).get(leg.medium)
            state = seen["state"] if seen else "missing"
            if not self._floor.is_there(leg.medium):
                state = "missing"
            elif status is None:
                state = "stale"  # what it is worth is known when the volume is up
            found.append(
                {
                    "medium": self._floor.medium_name(leg.medium),
                    "state": state,
                    "missed_extents": seen["missed"] if seen else 0,
                    "silent": leg.medium in silent,
                }
            )
        return found

    def volume(self, volume: Volume) -> Shape:
        """name, id, naa, sizes, generation, parent, state, rights, policies, legs, store, saves, operation,
        export, clone_of: the save that it was made of, retention, counters: what hosts did since it is
        served (None: it is not).
        """
        status = self._floor.status(volume)
        legs = self.legs(volume, status)
        in_sync = sum(leg["state"] == "in_sync" for leg in legs)
        if status is None or status["failed"]:
            state = "down"
        elif status["recover"]:
            state = "cloning" if "source" in volume.details else "recovering"
        elif in_sync < len(legs):
            state = "degraded"
        else:
            state = "serving"
        running = self.running_shape(volume)
        export = self._floor.catalog.export_get(volume.uuid)
        retention = self._floor.catalog.retention_get(volume.uuid)
        return {
            "name": volume.name,
            "id": volume.uuid.hex(),
            "naa": volume.naa,
            "size": volume.size,
            "blocks": volume.blocks,
            "block_size": blocks.of(volume.blocks).logical,
            "physical_block_size": blocks.of(volume.blocks).physical,
            "extent_size": volume.extent_size,
            "generation": volume.generation,
            "parent": volume.parent,
            "state": state,
            "why": self._floor.runtime(volume.uuid).why_down if status is None else "",
            "rights": volume.rights,
            "policy": volume.policy,
            "mirror": volume.mirror,
            "clone_of": volume.details.get("clone_of"),
            "write_cache": write_cache.of(self._floor.clock, volume).now,
            "replace_failed": bool(volume.details.get("replace_failed")),
            "replace_after": volume.details.get("replace_after", REPLACE_AFTER),
            "legs": legs,
            "store": self.store_shape(volume, status),
            "saves": [self.save(volume, s) for s in self._floor.catalog.saves(volume.uuid)],
            "changed_extents": status["changed"] if status else 0,
            "counters": {name: status["ring"][name] for name in COUNTERS} if status else None,
            "operation": running,
            "export": self.export(volume.name, volume.uuid, export) if export else None,
            "retention": retention.rules if retention else None,
        }

    def running_shape(self, volume: Volume) -> Shape | None:
        row = self.running(volume)
        return self.operation(row) if row else None

    def export(self, name: str, uuid: bytes, row: ExportRow) -> Shape:
        """volume (or save), the naa that hosts know it by, target, portals, lun, initiators with
        whether each is logged in.

        No password leaves here.
        """
        kernel = self._floor.kernel
        logged_in = kernel.logged_in(row.target) if kernel else set()
        return {
            "volume": name,
            "naa": naa(uuid),
            "target": row.target,
            "portals": list(row.portals),
            "lun": row.lun,
            "initiators": [
                {"iqn": i.iqn, "chap_user": i.chap_user, "logged_in": i.iqn in logged_in}
                for i in row.initiators
            ],
        }

    # --- media and backups -------------------------------------------------------------------

    def use(self, uuid: bytes) -> str:
        """What a medium is there for: "leg of ledger", "save ledger@3", "restored image of ledger",
        "store of ledger", "".
        """
        catalog = self._floor.catalog
        for kind, owner in (("leg", catalog.leg_of(uuid)), ("store", catalog.store_of(uuid))):
            volume = catalog.volume_get(owner) if owner else None
            if volume is not None:
                return f"{kind} of {volume.name}"
        filling = self.fills().get(uuid)
        if filling is not None:
            return f"save {filling.volume_name}@{filling.save}"
        save = catalog.save_on(uuid)
        if save is None:
            return self._left_over(uuid)
        held = catalog.volume_get(save.volume)
        name = held.name if held else save.volume.hex()
        if save.origin == "image":
            return f"restored image of {name}"
        return f"save {name}@{save.generation}"

    def _left_over(self, uuid: bytes) -> str:
        """What a medium says of itself where the catalog knows no use of it."""
        medium = self._floor.media.get(uuid)
        trailer = medium.trailer if medium else None
        if trailer is None or trailer.role is Role.FREE:
            return ""
        return f"{LEFT_OVER} from {trailer.volume_name}"

    def medium(self, row: MediumRow) -> Shape:
        """name, path, uuid, size, data_size, block_size (None: it is missing), state, use, kind."""
        use = self.use(row.uuid)
        there = self._floor.media.get(row.uuid)
        if not self._floor.is_there(row.uuid):
            state = "missing"
        elif row.state in ("stale", "failed"):
            state = row.state
        else:
            state = "in use" if use else "free"
        return {
            "name": row.name,
            "path": row.path,
            "uuid": row.uuid.hex(),
            "size": row.size,
            "data_size": row.data_size,
            "block_size": there.block_size if there else None,
            "state": state,
            "use": use,
            "kind": row.kind,
        }

    def backup(self, row: Backup) -> Shape:
        """number, volume, save that it holds, path, label, format, size, created, the path that it
        stands on, numbers of all that it stands on, nearest first, and whether it fits its volume.
        """
        volume = self._floor.catalog.volume_get(row.volume)
        by_path = {one.path: one for one in self._floor.catalog.backups()}
        chain: list[int] = []
        below = by_path.get(row.backing)
        while below is not None and below.number not in chain:
            chain.append(below.number)
            below = by_path.get(below.backing)
        return {
            "number": row.number,
            "volume": volume.name if volume else "",
            "path": row.path,
            "label": row.label,
            "format": row.format,
            "size": row.size,
            "created": row.created,
            "save": f"{volume.name}@{row.generation}" if volume and row.generation else None,
            "backing": row.backing or None,
            "stands_on": chain,
            "fits": volume is not None and row.size <= volume.size,
        }


def now() -> str:
    """The present time as rows have it."""
    return rows.moment()


def serves(medium: Shape, volume: str) -> bool:
    """Whether a medium is a volume's, or free."""
    used_by = str(medium["use"]).rpartition(" ")[2].partition("@")[0]
    return used_by == volume or medium["state"] == "free"
