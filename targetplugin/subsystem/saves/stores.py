"""The store of a volume: the medium that its saves without fill share. It is made with the first of them,
and free again when the last goes.

The core keeps the store and says what becomes of the saves in it; the catalog follows. Call its
methods with the volume's lock.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Mapping
from typing import Any

from targetplugin.catalog import Operation, Save, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.media.trailer import Role
from targetplugin.subsystem.ground import blocks
from targetplugin.subsystem.ground.floor import Floor, save_name
from targetplugin.subsystem.ground.ports import Point
from targetplugin.subsystem.ground.views import Views
from targetplugin.subsystem.mirror.pool import Pool
from targetplugin.subsystem.mirror.settle import Settle, left_to_the_next_start

log = logging.getLogger(__name__)


class Stores:
    """See the module."""

    def __init__(self, floor: Floor, views: Views, pool: Pool, settle: Settle) -> None:
        self._floor = floor
        self._catalog = floor.catalog
        self._views = views
        self._pool = pool
        self._settle = settle

    # --- which medium it is ------------------------------------------------------------------

    def choose(
        self, volume: Volume, onto: str | None = None, without: Collection[bytes] = ()
    ) -> bytes:
        """The volume's store; where it has none, the spare that becomes it. Hold the pool's lock.

        Args:
            onto: the spare that is to be it, of any size. without: media that are taken already.

        Raises:
            Refused: NO_MEDIUM, NOT_FOUND; STATE, it has another store than `onto`, or one that failed.
        """
        store = self._catalog.store_get(volume.uuid)
        if store is None:
            return self._spare(volume, onto, without)
        name = self._floor.medium_name(store)
        if onto is not None and self._floor.medium_row(onto).uuid != store:
            raise Refused(
                Reason.STATE,
                f"saves of {volume.name} without fill are kept on {name}: it has one store",
                object=volume.name,
                hint="leave the medium out",
            )
        if not self.is_ready(volume):
            lost = ", ".join(save_name(volume, save) for save in self.saves(volume))
            raise Refused(
                Reason.STATE,
                f"the store of {volume.name}, {name}, failed",
                object=volume.name,
                hint=f"release what it had, {lost}: the next save without fill takes another medium",
            )
        return store

    def _spare(self, volume: Volume, onto: str | None, without: Collection[bytes]) -> bytes:
        """The smallest on which all of the volume would fit once, else the largest."""
        block = blocks.of(volume.blocks).logical
        if onto is not None:
            return self._pool.choose(1, block, 1, [onto], volume.name, without)[0].uuid
        free = [row for row in self._pool.free(block) if row.uuid not in without]
        if not free:
            raise Refused(
                Reason.NO_MEDIUM,
                f"there is no free medium for the saves of {volume.name} without fill",
                object=volume.name,
                hint="add one with media add, of any size: what hosts overwrite is kept on it",
            )
        fitting = [row for row in free if row.data_size >= volume.size]
        return (fitting or free[-1:])[0].uuid

    def is_ready(self, volume: Volume) -> bool:
        """Whether the volume has a store that takes saves."""
        store = self._status(volume)
        return store is not None and store["state"] == "ready"

    def saves(self, volume: Volume) -> list[Save]:
        """Those that share the store, oldest first."""
        return [save for save in self._catalog.saves(volume.uuid) if save.sparse]

    def _status(self, volume: Volume) -> Mapping[str, Any] | None:
        status = self._floor.status(volume)
        found: Mapping[str, Any] | None = status.get("store") if status else None
        return found

    # --- a save ------------------------------------------------------------------------------

    def claim(self, row: Operation, volume: Volume, medium: bytes) -> None:
        """Rule 11: says what a spare will be. The store is that already. Raises Refused."""
        if self._catalog.store_get(volume.uuid) != medium:
            self._settle.claim(medium, Role.STORE, volume, row.id)

    def begin(self, volume: Volume, handle: int, medium: bytes, op: int) -> None:
        """Gives the store to the engine, unless it has it. Raises Refused, OSError."""
        self._sync_holds(volume, handle)
        if self._status(volume) is None:
            self._floor.engine.add_store(handle, self._floor.medium(medium).spec(), op)

    def save(self, volume: Volume, handle: int, medium: bytes, op: int) -> Point:
        """A save without fill is in force. Raises Refused, OSError: nothing is."""
        self.begin(volume, handle, medium, op)
        try:
            return self._floor.engine.save_sparse(handle, op)
        except (Refused, OSError):
            self.let_go(volume, handle)
            raise

    def let_go(self, volume: Volume, handle: int) -> None:
        """Takes from the engine a store that nothing came of, and the catalog does not know."""
        store = self._status(volume)
        if store is not None and self._catalog.store_get(volume.uuid) is None:
            with contextlib.suppress(Refused, OSError):
                self._floor.engine.drop_leg(handle, store["uuid"])

    # --- the end of one ----------------------------------------------------------------------

    def released(self, volume: Volume, generation: int, op: int) -> None:
        """A save is none of those that share the store any more, by the catalog's word; the last frees
        it.
        """
        handle = self._floor.runtime(volume.uuid).handle
        if handle is None:
            return  # a start finds out
        with left_to_the_next_start(f"that {volume.name}@{generation} leaves the store"):
            self._floor.engine.release_sparse(handle, generation)
        self._end_unused(volume, handle, op)

    def _end_unused(self, volume: Volume, handle: int, op: int) -> None:
        store = self._catalog.store_get(volume.uuid)
        if store is None or self.saves(volume) or self._views.is_unsettled(volume):
            return
        status = self._status(volume)
        try:
            if status is not None:
                self._floor.engine.drop_leg(handle, status["uuid"])
        except Refused as refused:  # a recover still reads it, and tries again at its end
            log.info("the store of %s stays for now: %s", volume.name, refused.message)
            return
        with left_to_the_next_start(f"that {volume.name} has no store"):
            self._catalog.store_remove(volume.uuid)
        self._settle.trailers(volume.uuid, op)

    # --- holds -------------------------------------------------------------------------------

    def hold(self, volume: Volume, save: Save) -> None:
        """Tells the engine whether a save is held, by the catalog's word."""
        handle = self._floor.runtime(volume.uuid).handle
        if handle is not None and save.sparse:
            with left_to_the_next_start(f"the hold of {save_name(volume, save)}"):
                held = self._views.held_until(save) is not None
                self._floor.engine.hold_sparse(handle, save.generation, held)

    def _sync_holds(self, volume: Volume, handle: int) -> None:
        """Holds end by the clock, which the engine has not."""
        store = self._status(volume)
        seen = store["saves"] if store else {}
        for save in self.saves(volume):
            held = self._views.held_until(save) is not None
            if save.generation in seen and seen[save.generation]["held"] != held:
                self.hold(volume, save)

    # --- what the engine tells ---------------------------------------------------------------

    def settle(self, volume: Volume, handle: int, op: int = 0) -> list[str]:
        """Brings the catalog to what the engine has, and the engine to what the catalog knows of. Can
        be done twice.

        Returns:
            The names of saves that are lost, and were not known to be.
        """
        status = self._status(volume)
        seen: Mapping[int, Any] = status["saves"] if status else {}
        ready = status is not None and status["state"] == "ready"
        lost = []
        for save in self.saves(volume):
            there = ready and seen.get(save.generation, {}).get("state") == "sparse"
            if save.fill == "unfilled" and not there:
                self._catalog.save_set(volume.uuid, save.generation, fill="broken")
                lost.append(save_name(volume, save))
        if self._views.is_unsettled(volume) or volume.uuid in self._floor.older:
            return lost  # the catalog may not know of one that is in force
        for generation in set(seen) - {save.generation for save in self.saves(volume)}:
            with left_to_the_next_start(f"that {volume.name}@{generation} leaves the store"):
                self._floor.engine.release_sparse(handle, generation)
        self._sync_holds(volume, handle)
        self.let_go(volume, handle)
        self._end_unused(volume, handle, op)
        return lost

    def told(self, volume: Volume, handle: int, kind: str) -> str:
        """What an event of the store's means, as a sentence."""
        store = self._catalog.store_get(volume.uuid)
        name = self._floor.medium_name(store) if store else "nothing"
        if kind == "store_low":  # what has been lost since is named by the event of that
            status = self._status(volume)
            full = 100 * status["used"] // status["slots"] if status and status["slots"] else 0
            return (
                f"the store {name} is {full} % full: before it is, release saves without fill or fill"
                " them, or the oldest that is not held is lost"
            )
        lost = ", ".join(self.settle(volume, handle)) or "none that was known"
        how = "is full" if kind == "sparse_lost" else "failed"
        return f"the store {name} {how}: of the saves without fill is lost {lost}"
