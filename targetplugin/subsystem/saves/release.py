"""What ends a save, and what stops an operation: release, resync, abort.

See point.py for what begins one.
"""

from __future__ import annotations

from targetplugin.catalog import Operation, Save, Volume, maps
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.ground.floor import Floor, save_name
from targetplugin.subsystem.ground.operations import Ask, Operations
from targetplugin.subsystem.ground.states import Verb
from targetplugin.subsystem.ground.views import Shape, Views, now
from targetplugin.subsystem.mirror.settle import Settle, left_to_the_next_start
from targetplugin.subsystem.saves.stores import Stores


class Saves:
    """See the module."""

    def __init__(
        self, floor: Floor, views: Views, operations: Operations, settle: Settle, stores: Stores
    ) -> None:
        self._floor = floor
        self._views = views
        self._operations = operations
        self._settle = settle
        self._stores = stores

    # --- release -----------------------------------------------------------------------------

    def release(self, ask: Ask, name: str, force: bool) -> Shape:
        """See Subsystem.release."""
        with self._floor.locked(self._floor.owner(name)) as volume:
            ask.check_rights(volume)
            ask.check_force(force)
            if (known := self._operations.again(ask)) is not None:
                return known
            volume, save = self._floor.save(name)
            self._views.require(Verb.RELEASE, volume, save)
            missing = [u for u in save.media if u not in self._floor.media]
            if missing and not force:
                gone = ", ".join(self._floor.medium_name(uuid) for uuid in missing)
                raise Refused(
                    Reason.STATE,
                    f"{save_name(volume, save)} can't be released: {gone} is missing",
                    object=save_name(volume, save),
                    hint="bring it back, or use --force: it is then freed when it comes back",
                )
            self._floor.check_over(u for u in save.media if u not in missing)
            if ask.preview:
                return self._operations.preview(ask, volume, save.generation)
            shape = self._views.save(volume, save)
            prepared = {"media": [uuid.hex() for uuid in save.media]}
            row = self._operations.begin(ask, volume, save.generation, prepared)
            self._end_fill(volume, save, "the save was released")
            self.finish_release(row)
            if save.sparse:
                self._stores.released(volume, save.generation, row.id)
            return self._operations.answer(row, {"save": shape})

    def _end_fill(self, volume: Volume, save: Save, why: str) -> None:
        """Takes a save that fills, or broke, from the engine, and ends the operation that filled
        it.
        """
        status = self._floor.status(volume)
        handle = self._floor.runtime(volume.uuid).handle
        for uuid in save.media:
            if handle is not None and status and uuid in status["saves"]:
                self._floor.engine.detach_save(handle, uuid)
        for row in self._operations.running(volume.uuid, "save"):
            if row.save == save.generation:
                progress, copied = self._views.progress(row)
                self._operations.end(
                    row, state="aborted", error=why, progress=progress, extents_copied=copied
                )

    def finish_release(self, row: Operation) -> None:
        """Trailers first, then the catalog; can be done twice."""
        assert row.volume is not None
        assert row.save is not None
        for medium in row.prepared["media"]:
            self._settle.free(bytes.fromhex(medium), row.id)
        with self._floor.catalog.transaction():
            if self._floor.catalog.save_get(row.volume, row.save) is not None:
                self._floor.catalog.save_remove(row.volume, row.save)
            self._operations.end(row, in_force=now())

    def release_superseded(self, volume: Volume) -> None:
        """Of the saves that recovers took for an undo only the newest is kept: the others go as soon as
        nothing reads them. Call it with the volume's lock. What can't be done now is left to the next
        time.
        """
        taken = [save for save in self._floor.catalog.saves(volume.uuid) if save.undo]
        newest = max((save.undo for save in taken), default=0)
        for save in taken:
            if save.undo != newest and self._views.may_go(volume, save):
                with left_to_the_next_start(f"the release of {save_name(volume, save)}"):
                    self._give_up(volume, save, "a newer recover took an undo save", 0)

    def _give_up(self, volume: Volume, save: Save, why: str, op: int) -> None:
        """Takes a save out of the engine and the catalog, and frees its media."""
        if save.fill == "filling":
            # A start takes what the record has no more for whole.
            self._floor.catalog.save_set(volume.uuid, save.generation, fill="broken")
        self._end_fill(volume, save, why)
        self._floor.catalog.save_remove(volume.uuid, save.generation)
        self._settle.trailers(volume.uuid, op)
        if save.sparse:
            self._stores.released(volume, save.generation, op)

    # --- resync ------------------------------------------------------------------------------

    def resync(self, ask: Ask, name: str) -> Shape:
        """See Subsystem.resync."""
        with self._floor.locked(self._floor.owner(name)) as volume:
            ask.check_rights(volume)
            if (known := self._operations.again(ask)) is not None:
                return known
            volume, save = self._floor.save(name)
            handle = self._floor.handle(volume)
            self._views.require(Verb.RESYNC, volume, save)
            specs = [self._floor.medium(uuid).spec() for uuid in save.media]
            pending = self._views.differential(volume, save.generation, volume.parent)
            bits = self._views.changed_since(volume, save)
            if ask.preview:
                return self._operations.preview_copy(ask, volume, save.generation, bits)
            changed = maps.count(bits)
            shape = self._views.save(volume, save)
            prepared = {
                "media": [uuid.hex() for uuid in save.media],
                "medium": save.media[0].hex(),
                "pending": changed,
            }
            row = self._operations.begin(
                ask, volume, save.generation, prepared, bytes_total=changed * volume.extent_size
            )
            done: list[bytes] = []
            try:
                for spec in specs:
                    self._floor.engine.add_leg(handle, spec, pending)
                    done.append(spec.uuid)
            except (Refused, OSError) as error:
                if not done:
                    self._operations.drop(row, str(error))
                    raise
            self.finish_resync(row, done)
            self._floor.tell()
            return self._operations.answer(row, {"save": shape})

    def finish_resync(self, row: Operation, legs: list[bytes]) -> None:
        """The save is given up: of its media, those that the record names are legs."""
        assert row.volume is not None
        assert row.save is not None
        catalog = self._floor.catalog
        with catalog.transaction():
            old = [leg.medium for leg in catalog.legs(row.volume)]
            if catalog.save_get(row.volume, row.save) is not None:
                catalog.save_remove(row.volume, row.save)
            catalog.legs_set(row.volume, old + [uuid for uuid in legs if uuid not in old])
            catalog.operation_set(
                row.id,
                state="running",
                in_force=now(),
                extents_changed=row.prepared["pending"],
            )
        self._settle.trailers(row.volume, row.id)

    # --- abort -------------------------------------------------------------------------------

    def abort(self, op: int) -> Shape:
        """See Subsystem.abort."""
        shape = self._operations.get(op)
        row = self._floor.catalog.operation_get(op)
        if row is not None and row.state == "running" and "members" in row.prepared:
            for part in self._operations.parts(row):
                self.abort(part.id)
            return {"operation": self._operations.get(op)}
        if row is None or row.volume is None or row.state != "running":
            return {"operation": shape}
        runtime = self._floor.runtime(row.volume)
        stop = runtime.tasks.get(op)
        if stop is not None:
            stop()
            return {"operation": self._operations.wait(op, 10.0)}
        with runtime.lock:
            row = self._floor.catalog.operation_get(op)
            volume = self._floor.catalog.volume_get(row.volume) if row and row.volume else None
            if row is not None and volume is not None and row.state == "running":
                self._abort(volume, row)
        return {"operation": self._operations.get(op)}

    def _abort(self, volume: Volume, row: Operation) -> None:
        if row.verb == "save" and row.save is not None:
            save = self._floor.catalog.save_get(volume.uuid, row.save)
            if save is not None:
                self._views.require(Verb.RELEASE, volume, save)
                self._give_up(volume, save, "the save was aborted", row.id)
            return
        if row.verb in ("resync", "leg add"):
            handle = self._floor.handle(volume)
            leaving = [bytes.fromhex(medium) for medium in row.prepared["media"]]
            legs = [leg.medium for leg in self._floor.catalog.legs(volume.uuid)]
            for uuid in leaving:
                if uuid in legs:
                    self._floor.engine.drop_leg(handle, uuid)
            stay = [uuid for uuid in legs if uuid not in leaving]
            self._floor.catalog.legs_set(volume.uuid, stay)
            self._operations.end(row, state="aborted")
            self._settle.trailers(volume.uuid, row.id)
            return
        if row.verb == "fill":  # none has it now: it waits for its medium, or its volume
            self._operations.end(row, state="aborted", error="it was aborted")
            up = self._floor.runtime(volume.uuid).handle is not None
            self._settle.trailers(volume.uuid, row.id, free_others=up)
            return
        if row.verb == "clone":
            raise Refused(
                Reason.STATE,
                "a clone can't be aborted: hosts may have written to it",
                object=str(row.id),
                hint=f"if it is not wanted: volume delete {volume.name} --force",
                progress=self._views.progress(row)[0],
            )
        raise Refused(
            Reason.STATE,
            f"{row.verb} {row.id} can't be aborted: hosts read what it gave them",
            object=str(row.id),
            hint="wait until it is done; recover from another save, if that is what you want",
            progress=self._views.progress(row)[0],
        )
