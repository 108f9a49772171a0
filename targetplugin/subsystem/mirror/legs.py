"""The legs of a mirror: a spare is brought in, a leg leaves, one that failed is replaced.

See replace.py for when a leg is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from targetplugin.catalog import Operation, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.media.trailer import Role
from targetplugin.subsystem.ground.floor import Floor
from targetplugin.subsystem.ground.operations import JOINING, Ask, Operations, medium_failed
from targetplugin.subsystem.ground.states import Verb
from targetplugin.subsystem.ground.views import Shape, Views, now
from targetplugin.subsystem.mirror.pool import Pool
from targetplugin.subsystem.mirror.settle import Settle, left_to_the_next_start

MAX_LEGS = 8


class Legs:
    """See the module."""

    def __init__(
        self, floor: Floor, views: Views, operations: Operations, pool: Pool, settle: Settle
    ) -> None:
        self._floor = floor
        self._views = views
        self._operations = operations
        self._pool = pool
        self._settle = settle

    # --- one more ----------------------------------------------------------------------------

    def add(self, ask: Ask, name: str, medium: str | None) -> Shape:
        """See Subsystem.leg_add."""
        with self._floor.locked(self._floor.volume(name)) as volume:
            if (known := self._operations.again(ask)) is not None:
                return known
            handle = self._floor.handle(volume)
            self._views.require_volume(Verb.LEG_ADD, volume)
            return self._bring_in(ask, volume, handle, medium, None)

    def replace(self, volume: Volume, old: bytes) -> Shape:
        """A spare takes the place of a leg that is out of sync. Hold the volume's lock.

        Raises:
            Refused: NO_MEDIUM, there is no spare; and as of `add`.
        """
        handle = self._floor.handle(volume)
        self._views.require_volume(Verb.LEG_ADD, volume)
        body = {"volume": volume.name, "old": old.hex()}
        return self._bring_in(Ask("replace leg", body, "policy"), volume, handle, None, old)

    def _bring_in(
        self, ask: Ask, volume: Volume, handle: int, medium: str | None, old: bytes | None
    ) -> Shape:
        if len(self._floor.catalog.legs(volume.uuid)) >= MAX_LEGS:
            raise Refused(
                Reason.STATE,
                f"{volume.name} has {MAX_LEGS} legs, and can't have more",
                object=volume.name,
                hint=f"take one out first: leg remove {volume.name} MEDIUM",
            )
        with self._floor.pool:
            new = self._pool.take(volume, onto=medium)
            if ask.preview:
                made = self._operations.preview(ask, volume, None)
                made["operation"]["bytes_total"] = volume.size
                return {**made, "medium": self._floor.medium_name(new)}
            prepared = {
                "medium": new.hex(),
                "media": [new.hex()],
                "pending": self._floor.extents(volume),
            }
            if old is not None:
                prepared["old"] = old.hex()
            row = self._operations.begin(ask, volume, None, prepared, bytes_total=volume.size)
            with self._dropped_if_refused(row, [new]):
                self._settle.claim(new, Role.LEG, volume, row.id)
        with self._dropped_if_refused(row, [new]):
            self._floor.engine.add_leg(handle, self._floor.medium(new).spec(), None)
        self.finish_add(row)
        if old is not None:
            with left_to_the_next_start("that a leg was replaced"):
                self.let_go(volume, old)
        self._floor.tell()
        return self._operations.answer(row, {"medium": self._floor.medium_name(new)})

    def finish_add(self, row: Operation) -> None:
        """The record names the medium as a leg: so does the catalog. Can be done twice."""
        assert row.volume is not None
        catalog = self._floor.catalog
        volume = catalog.volume_get(row.volume)
        assert volume is not None
        with catalog.transaction():
            legs = [leg.medium for leg in catalog.legs(row.volume)]
            new = bytes.fromhex(row.prepared["medium"])
            legs += [] if new in legs else [new]
            catalog.legs_set(row.volume, legs)
            catalog.medium_set(new, state="in use")
            if "old" not in row.prepared and len(legs) > volume.mirror:
                catalog.volume_set(row.volume, mirror=len(legs))
            catalog.operation_set(
                row.id,
                state="running",
                in_force=now(),
                extents_changed=row.prepared["pending"],
            )
        self._settle.trailers(row.volume, row.id)

    # --- one less ----------------------------------------------------------------------------

    def remove(self, ask: Ask, name: str, medium: str) -> Shape:
        """See Subsystem.leg_remove."""
        with self._floor.locked(self._floor.volume(name)) as volume:
            if (known := self._operations.again(ask)) is not None:
                return known
            handle = self._floor.handle(volume)
            self._views.require_volume(Verb.LEG_REMOVE, volume)
            uuid = self._leg(volume, medium)
            shape = {"medium": self._floor.medium_name(uuid)}
            self._check_last(volume, uuid)
            self._floor.check_over([uuid])
            if ask.preview:
                return {**self._operations.preview(ask, volume, None), **shape}
            row = self._operations.begin(ask, volume, None, {"medium": uuid.hex()})
            with self._dropped_if_refused(row, []), self._newer(volume):
                self._floor.engine.drop_leg(handle, uuid)
            self.finish_remove(row)
            self._floor.tell()
            return self._operations.answer(row, shape)

    def _leg(self, volume: Volume, name: str) -> bytes:
        uuid = self._floor.medium_row(name).uuid
        legs = [leg.medium for leg in self._floor.catalog.legs(volume.uuid)]
        if uuid not in legs:
            known = ", ".join(self._floor.medium_name(leg) for leg in legs)
            raise Refused(
                Reason.STATE,
                f"{self._floor.medium_name(uuid)} is no leg of {volume.name}",
                object=self._floor.medium_name(uuid),
                hint=f"its legs: {known}",
            )
        return uuid

    def _check_last(self, volume: Volume, leaving: bytes) -> None:
        """Raises Refused (STATE) unless another leg holds all of the volume."""
        if self._in_sync(volume) - {leaving}:
            return
        name = self._floor.medium_name(leaving)
        raise Refused(
            Reason.STATE,
            f"{name} can't be taken out of {volume.name}: it is the last leg in sync",
            object=name,
            hint=f"bring another in first: leg add {volume.name} --wait",
        )

    def _in_sync(self, volume: Volume) -> set[bytes]:
        legs = (self._floor.status(volume) or {"legs": {}})["legs"]
        return {uuid for uuid, seen in legs.items() if seen["state"] == "in_sync"}

    @contextmanager
    def _newer(self, volume: Volume) -> Iterator[None]:
        """Rule 20: from here on a start believes no record from before, which a leg that leaves in
        sync still has.
        """
        status = self._floor.status(volume)
        assert status is not None
        self._floor.catalog.volume_set(volume.uuid, events=status["events"] + 1)
        try:
            yield
        except (Refused, OSError):
            self._floor.catalog.volume_set(volume.uuid, events=volume.events)
            raise

    def finish_remove(self, row: Operation) -> None:
        """The record does not name the leg any more: nor does the catalog. Can be done twice."""
        assert row.volume is not None
        catalog = self._floor.catalog
        volume = catalog.volume_get(row.volume)
        assert volume is not None
        uuid = bytes.fromhex(row.prepared["medium"])
        with catalog.transaction():
            legs = [leg.medium for leg in catalog.legs(row.volume)]
            if uuid in legs:
                catalog.legs_set(row.volume, [leg for leg in legs if leg != uuid])
                catalog.volume_set(row.volume, mirror=max(1, volume.mirror - 1))
            if catalog.medium_get(uuid) is not None and uuid in self._floor.media:
                catalog.medium_set(uuid, state="free")
            self._end_joining(row.volume, uuid, "aborted", "its leg was taken out")
            self._operations.end(row, in_force=now())
        self._settle.trailers(row.volume, row.id)

    # --- one for another ---------------------------------------------------------------------

    def let_go(self, volume: Volume, old: bytes) -> None:
        """A leg whose place another took leaves the mirror; nothing takes it for a spare by itself,
        for it failed. Can be done twice.
        """
        catalog = self._floor.catalog
        legs = [leg.medium for leg in catalog.legs(volume.uuid)]
        if old not in legs:
            return
        status = self._floor.status(volume)
        handle = self._floor.handle(volume)
        if status is not None and old in status["legs"]:
            self._floor.engine.drop_leg(handle, old)
        with catalog.transaction():
            catalog.legs_set(volume.uuid, [leg for leg in legs if leg != old])
            if catalog.medium_get(old) is not None:
                catalog.medium_set(old, state="failed")
            why = f"{self._floor.medium_name(old)} failed, and was replaced"
            self._end_joining(volume.uuid, old, "failed", why)
        self._settle.trailers(volume.uuid, 0)

    def let_go_replaced(self, volume: Volume) -> None:
        """The same for all whose replacement is in force, however that went on. A medium that was
        replaced is never a leg again: it would have to be given anew, with another identity.
        """
        for row in self._floor.catalog.operations(volume.uuid, limit=1 << 30):
            if row.verb == "replace leg" and row.in_force is not None:
                with left_to_the_next_start("that a leg was replaced"):
                    self.let_go(volume, bytes.fromhex(row.prepared["old"]))

    # --- what they share ---------------------------------------------------------------------

    def _end_joining(self, volume: bytes, leg: bytes, state: str, why: str) -> None:
        """What brought this leg in is over without having come to its end."""
        for verb in JOINING:
            for row in self._operations.running(volume, verb):
                if row.prepared["media"] == [leg.hex()]:
                    self._operations.end(row, state=state, error=why)

    @contextmanager
    def _dropped_if_refused(self, row: Operation, claimed: list[bytes]) -> Iterator[None]:
        """If the engine refuses, nothing has happened."""
        try:
            yield
        except (Refused, OSError) as error:
            for uuid in claimed:
                with left_to_the_next_start("the trailer of a medium that was claimed"):
                    self._settle.free(uuid, row.id)
            self._operations.drop(row, str(error))
            if isinstance(error, OSError):
                what = f"{row.verb} of {row.volume_name} failed"
                raise medium_failed(what, row.volume_name, error) from error
            raise
