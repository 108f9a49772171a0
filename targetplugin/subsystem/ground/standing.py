"""How things stand: what runs, the states of the table and what they let be done, and what differs.

Changes nothing. See views.py for the shapes that are made of it.
"""

from __future__ import annotations

from functools import lru_cache

from targetplugin.catalog import Operation, Save, Volume, rows
from targetplugin.catalog.tree import Tree, differential
from targetplugin.errors import Refused
from targetplugin.subsystem.ground import clock
from targetplugin.subsystem.ground.floor import Floor, save_name
from targetplugin.subsystem.ground.states import (
    Activity,
    Fill,
    Hold,
    Kept,
    Store,
    Tie,
    Verb,
    require,
)
from targetplugin.subsystem.ground.states import Volume as VolumeState

MAPS_KEPT = 32  # frozen maps in memory: 2 MiB each for a TiB in extents of 64 KiB


class Standing:
    """See the module."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor
        self._map = lru_cache(MAPS_KEPT)(floor.catalog.maps.read)  # a frozen map never changes

    # --- what runs ---------------------------------------------------------------------------

    def running(self, volume: Volume) -> Operation | None:
        """The newest operation of the volume that is not over."""
        found = self._floor.catalog.operations(volume.uuid, running=True)
        return found[0] if found else None

    def is_unsettled(self, volume: Volume) -> bool:
        """Whether something may be in force that the catalog could not take."""
        rows = self._floor.catalog.operations(volume.uuid, running=True)
        return any(row.state == "prepared" for row in rows)

    def fills(self, volume: bytes | None = None) -> dict[bytes, Operation]:
        """The fills that run, of one volume or of all, by the medium that each is to make whole."""
        rows = self._floor.catalog.operations(volume, running=True, limit=1 << 30)
        return {bytes.fromhex(row.prepared["medium"]): row for row in rows if row.verb == "fill"}

    def progress(self, row: Operation) -> tuple[float, int]:
        """How far a running operation is, 0.0 to 1.0, and the extents that it copied, by the
        engine's count.
        """
        if row.volume is None:
            return row.progress, row.extents_copied
        told = self._floor.runtime(row.volume).progress.get(row.id)
        if told is not None:
            return told, row.extents_copied
        volume = self._floor.catalog.volume_get(row.volume)
        status = self._floor.status(volume) if volume else None
        if status is None:
            return row.progress, row.extents_copied
        total, left = row.prepared.get("pending", 0), None
        medium = bytes.fromhex(row.prepared.get("medium", ""))
        if row.verb in ("recover", "undo", "clone") and status["recover"]:
            total, left = status["recover"]["total"], status["recover"]["pending"]
            total = max(total, row.prepared.get("pending", 0))
        elif row.verb == "save" and medium in status["saves"]:
            left = status["extents"] - status["saves"][medium]["has"]
            total = max(row.prepared.get("pending", status["extents"]), left)
        elif row.verb in ("resync", "leg add", "replace leg") and medium in status["legs"]:
            left = status["legs"][medium]["missed"]
            total = max(total, left)
        if left is None:
            return row.progress, row.extents_copied
        return ((total - left) / total if total else 1.0), total - left

    # --- a volume's state, and those of a save -----------------------------------------------

    def volume_state(self, volume: Volume) -> VolumeState:
        """For the table of states."""
        status = self._floor.status(volume)
        if status is None or status["failed"]:
            return VolumeState.DOWN
        if status["recover"]:
            cloning = "source" in volume.details
            return VolumeState.CLONING if cloning else VolumeState.RECOVERING
        filling = any(s["state"] == "filling" for s in status["saves"].values())
        return VolumeState.FILLING if filling else VolumeState.SETTLED

    def fill(self, save: Save) -> Fill:
        return Fill(save.fill)

    def activity(self, volume: Volume, save: Save) -> Activity:
        """What is being done with the save, from the operations that run."""
        for row in self._floor.catalog.operations(volume.uuid, running=True):
            if row.save == save.generation and row.state == "running":
                found = {
                    "recover": Activity.RECOVERING,
                    "undo": Activity.RECOVERING,
                    "backup": Activity.BACKING_UP,
                    "restore": Activity.RESTORING,
                    "fill": Activity.BEING_FILLED,
                }.get(row.verb)
                if found:
                    return found
        return Activity.IDLE

    def kept(self, save: Save) -> Kept:
        """Where its extents are."""
        return Kept.IN_THE_STORE if save.sparse else Kept.ON_A_MEDIUM

    def store(self, volume: Volume) -> Store:
        """Whether the volume's saves look up in its legs what they lack."""
        saves = self._floor.catalog.saves(volume.uuid)
        return Store.USED if any(save.sparse for save in saves) else Store.UNUSED

    def ties(self, volume: Volume, save: Save) -> list[Tie]:
        """What else holds on to the save."""
        shown = self._floor.catalog.shown_get(volume.uuid, save.generation)
        found = [Tie.SHOWN] if shown else []
        return found + ([Tie.CLONED] if self.clones(volume, save) else [])

    def clones(self, volume: Volume, save: Save | None = None) -> list[Volume]:
        """The clones that are still being copied from a save, or from any of the volume's; those
        that are being made too.
        """
        wanted = (volume.uuid.hex(), save.generation if save else None)
        return [
            clone
            for clone in self._floor.catalog.cloning()
            if (source := clone.details["source"])["volume"] == wanted[0]
            and wanted[1] in (None, source["generation"])
        ]

    def activity_progress(self, volume: Volume, save: Save) -> float | None:
        """How far what stands in a save's way is: what is done with it, or its fill."""
        for row in self._floor.catalog.operations(volume.uuid, running=True):
            if row.save == save.generation:
                return self.progress(row)[0]
        return None

    def held_until(self, save: Save) -> str | None:
        """When the save's hold ends; None: it has none, or that is over."""
        row = self._floor.catalog.hold_get(save.volume, save.generation)
        ends = clock.end(self._floor.clock, row) if row else None
        return rows.text_of(ends) if ends else None

    # --- what the table lets be done ---------------------------------------------------------

    def require(self, verb: Verb, volume: Volume, save: Save) -> None:
        """Raises Refused unless the table lets the verb be done in the states of both."""
        self.require_save(verb, volume, save)
        self.require_volume(verb, volume)

    def require_save(self, verb: Verb, volume: Volume, save: Save) -> None:
        """The same of the save's states alone, whatever its volume's is."""
        held = self.held_until(save)
        require(
            verb,
            save_name(volume, save),
            self.activity(volume, save),
            self.fill(save),
            self.kept(save),
            *self.ties(volume, save),
            Hold.HELD if held else Hold.NONE,
            progress=self.activity_progress(volume, save),
            held_until=held,
        )

    def require_volume(self, verb: Verb, volume: Volume) -> None:
        """The same of the volume's state."""
        running = self.running(volume)
        require(
            verb,
            volume.name,
            self.volume_state(volume),
            self.store(volume),
            progress=self.progress(running)[0] if running else None,
        )

    def may_go(self, volume: Volume, save: Save) -> bool:
        """Whether nothing reads the save or holds on to it, so that it could be released."""
        try:
            self.require(Verb.RELEASE, volume, save)
        except Refused:
            return False
        return True

    # --- what differs ------------------------------------------------------------------------

    def changed_since(self, volume: Volume, save: Save) -> bytes:
        """The map of what differs between the save and now."""
        return self.differential(volume, save.generation, volume.generation)

    def differential(self, volume: Volume, one: int, other: int) -> bytes:
        """The map of what differs between two points; the live generation's number means now."""
        handle = self._floor.runtime(volume.uuid).handle
        live = {}
        if handle is not None and volume.generation in (one, other):
            live[volume.generation] = self._floor.engine.live_map(handle)
        catalog = self._floor.catalog
        return differential(
            Tree(catalog.generations(volume.uuid)),
            one,
            other,
            self._floor.extents(volume),
            self._map,
            live,
        )
