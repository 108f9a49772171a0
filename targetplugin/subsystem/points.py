"""Save, recover and swap: prepare durably, let the engine fix the point, then settle.

See settle.py for what follows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from targetplugin.catalog import Operation, Save, Volume, maps
from targetplugin.errors import Reason, Refused
from targetplugin.media.trailer import Role
from targetplugin.subsystem import names
from targetplugin.subsystem.floor import Floor, save_name
from targetplugin.subsystem.operations import Ask, Operations
from targetplugin.subsystem.pool import Pool
from targetplugin.subsystem.ports import Point
from targetplugin.subsystem.settle import Fixed, Settle, left_to_the_next_start
from targetplugin.subsystem.states import Verb, require
from targetplugin.subsystem.views import Shape, Views

MEDIUM_CHANGED = (0x28, 0x00)  # SPC-5: NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED


class Points:
    """The verbs that fix a point. Each holds the volume's lock from its checks to its answer."""

    def __init__(
        self, floor: Floor, views: Views, operations: Operations, pool: Pool, settle: Settle
    ) -> None:
        self._floor = floor
        self._views = views
        self._operations = operations
        self._pool = pool
        self._settle = settle

    # --- save --------------------------------------------------------------------------------

    def save(
        self, ask: Ask, volume_name: str, label: str, policy: str | None, onto: str | None
    ) -> Shape:
        """See Subsystem.save."""
        volume = self._floor.volume(volume_name)
        with self._floor.runtime(volume.uuid).lock:
            volume = self._floor.volume(volume_name)
            ask.check_rights(volume)
            if (known := self._operations.again(ask)) is not None:
                return known
            self._check_label(volume, names.check_label(label))
            handle = self._floor.handle(volume)
            require(
                Verb.SAVE,
                volume.name,
                self._views.volume_state(volume),
                progress=self._progress(volume),
            )
            with self._floor.pool:
                kind, medium = self._choose(volume, policy or volume.policy, onto)
                if ask.preview:
                    made = self._operations.preview(ask, volume, volume.generation)
                    return {**made, "onto": self._floor.medium_name(medium), "kind": kind}
                prepared = {
                    "kind": kind,
                    "label": label,
                    "medium": medium.hex(),
                    "frozen": volume.generation,
                }
                total = 0 if kind == "split" else volume.size
                row = self._operations.begin(ask, volume, None, prepared, bytes_total=total)
                claimed = [medium] if kind == "copy" else []
                with self._undone(row, claimed):
                    for uuid in claimed:
                        self._settle.claim(uuid, Role.SAVE, volume, row.id)
            with self._undone(row, claimed):
                if kind == "split":
                    point = self._floor.engine.save_split(handle, [medium], row.id)
                else:
                    spec = self._floor.medium(medium).spec()
                    point = self._floor.engine.save_copy(handle, spec, row.id)
            row = self._settle.point(row, self._fixed(handle, point))
            self._floor.tell()
            return self._answer(row, volume, point.frozen)

    def _check_label(self, volume: Volume, label: str) -> None:
        taken = self._floor.catalog.save_by_label(volume.uuid, label) if label else None
        if taken is not None:
            raise Refused(
                Reason.EXISTS,
                f"{volume.name} has a save that is called {label!r}: {save_name(volume, taken)}",
                object=f"{volume.name}@{label}",
                hint="use another label, or release that save",
            )

    def _choose(self, volume: Volume, policy: str, onto: str | None) -> tuple[str, bytes]:
        """What the save takes: "split", a leg, or "copy", a free medium.

        Call it with the pool's lock.
        """
        status = self._floor.status(volume) or {}
        in_sync = [
            leg.medium
            for leg in self._floor.catalog.legs(volume.uuid)
            if status["legs"].get(leg.medium, {}).get("state") == "in_sync"
        ]
        if onto is not None:
            named = self._floor.medium_row(onto)
            if named.uuid not in [g.medium for g in self._floor.catalog.legs(volume.uuid)]:
                return "copy", self._pool.take(volume, onto=onto)
            if named.uuid not in in_sync or len(in_sync) < 2:
                raise Refused(
                    Reason.STATE,
                    f"{named.name} can't be split from {volume.name}: "
                    + ("it is the last leg in sync" if named.uuid in in_sync else "it is stale"),
                    object=named.name,
                    hint="save onto a free medium, or resync a leg first",
                )
            return "split", named.uuid
        if policy == "split" and len(in_sync) > 1:
            return "split", in_sync[-1]
        return "copy", self._pool.take(volume)

    # --- recover -----------------------------------------------------------------------------

    def recover(self, ask: Ask, name: str, force: bool) -> Shape:
        """See Subsystem.recover."""
        volume = self._floor.owner(name)
        with self._floor.runtime(volume.uuid).lock:
            ask.check_rights(self._floor.owner(name))
            ask.check_force(force)
            if (known := self._operations.again(ask)) is not None:
                return known
            volume, save = self._floor.save(name)
            handle = self._floor.handle(volume)
            self._require(Verb.RECOVER, volume, save)
            self._check_hosts(volume, force)
            medium = self._source(volume, save)
            base = self._views.differential(volume, save.generation, volume.parent)
            if ask.preview:
                bits = self._views.changed_since(volume, save)
                return self._operations.preview_copy(ask, volume, save.generation, bits)
            prepared = {
                "frozen": volume.generation,
                "medium": medium.hex(),
                "pending": maps.count(base),
            }
            row = self._operations.begin(ask, volume, save.generation, prepared)
            with self._undone(row, []):
                source: Any = medium
                if medium not in self._floor.engine.status(handle)["saves"]:
                    source = self._floor.medium(medium).spec()
                point = self._floor.engine.recover(handle, source, save.generation, base, row.id)
            fixed = self._fixed(handle, point)
            if isinstance(source, bytes) or fixed.pending:
                pending = fixed.pending
            else:  # it may be over already, and is told then as none
                bits = maps.either([base, point.frozen_map], self._floor.extents(volume))
                pending = maps.count(bits)
            row = self._settle.point(row, replace(fixed, pending=pending))
            self._floor.engine.set_sense_ua(handle, *MEDIUM_CHANGED)
            self._floor.tell()
            return self._answer(row, volume, save.generation)

    def _source(self, volume: Volume, save: Save) -> bytes:
        for uuid in save.media:
            if self._floor.is_there(uuid):
                return uuid
        raise self._gone(volume, save)

    def _gone(self, volume: Volume, save: Save) -> Refused:
        wanted = ", ".join(self._floor.medium_name(uuid) for uuid in save.media)
        return Refused(
            Reason.STATE,
            f"no medium of {save_name(volume, save)} is there: {wanted}",
            object=save_name(volume, save),
            hint="bring the medium back, or use another save",
        )

    # --- swap --------------------------------------------------------------------------------

    def swap(self, ask: Ask, name: str, force: bool) -> Shape:
        """See Subsystem.swap."""
        volume = self._floor.owner(name)
        with self._floor.runtime(volume.uuid).lock:
            ask.check_rights(self._floor.owner(name))
            ask.check_force(force)
            if (known := self._operations.again(ask)) is not None:
                return known
            volume, save = self._to_swap(name)
            handle = self._floor.handle(volume)
            self._require(Verb.SWAP, volume, save)
            self._check_hosts(volume, force)
            legs = [uuid for uuid in save.media if self._floor.is_there(uuid)]
            if not legs:
                raise self._gone(volume, save)
            if ask.preview:
                return self._operations.preview(ask, volume, save.generation)
            old = [leg.medium.hex() for leg in self._floor.catalog.legs(volume.uuid)]
            prepared = {
                "frozen": volume.generation,
                "legs": [uuid.hex() for uuid in legs],
                "old": old,
                "label": "",
            }
            row = self._operations.begin(ask, volume, save.generation, prepared)
            with self._undone(row, []):
                specs = [self._floor.medium(uuid).spec() for uuid in legs]
                point = self._floor.engine.swap(handle, specs, save.generation, row.id)
            row = self._settle.point(row, self._fixed(handle, point))
            self._floor.engine.set_sense_ua(handle, *MEDIUM_CHANGED)
            self._floor.tell()
            return self._answer(row, volume, point.frozen)

    def _to_swap(self, name: str) -> tuple[Volume, Save]:
        """A bare volume means the newest restored image that was not swapped in yet, else the
        newest save.
        """
        asked = names.parse(name)
        if asked.generation is None and asked.label is None:
            volume = self._floor.volume(asked.volume)
            images = [s for s in self._floor.catalog.saves(volume.uuid) if s.origin == "image"]
            if images:
                return volume, max(images, key=lambda s: s.generation)
        return self._floor.save(name)

    # --- what they share ---------------------------------------------------------------------

    def _progress(self, volume: Volume) -> float | None:
        row = self._views.running(volume)
        return self._views.progress(row)[0] if row else None

    def _require(self, verb: Verb, volume: Volume, save: Save) -> None:
        self._views.require_save(verb, volume, save)
        require(
            verb,
            volume.name,
            self._views.volume_state(volume),
            progress=self._progress(volume),
        )

    def _check_hosts(self, volume: Volume, force: bool) -> None:
        """Raises Refused (HOSTS) while hosts of more than one name would find their disk changed
        under them.
        """
        export = self._floor.catalog.export_get(volume.uuid)
        if force or export is None or self._floor.kernel is None:
            return
        hosts = self._floor.kernel.logged_in(export.target)
        if len(hosts) > 1:
            raise Refused(
                Reason.HOSTS,
                f"{len(hosts)} hosts are logged in to {volume.name}: {', '.join(sorted(hosts))}",
                object=volume.name,
                hint="log all but one out, or use --force at the terminal",
            )

    def _fixed(self, handle: int, point: Point) -> Fixed:
        return Fixed(
            frozen=point.frozen,
            frozen_map=point.frozen_map,
            left=list(point.left),
            pending=point.pending,
            pause=point.pause,
            events=self._floor.engine.status(handle).get("events", 0),
        )

    def _undone(self, row: Operation, claimed: list[bytes]) -> _Undone:
        return _Undone(self._operations, self._settle, row, claimed)

    def _answer(self, row: Operation, volume: Volume, generation: int) -> Shape:
        volume = self._floor.volume(volume.name)
        save = self._floor.catalog.save_get(volume.uuid, generation)
        assert save is not None
        return self._operations.answer(row, {"save": self._views.save(volume, save)})


class _Undone:
    """If the engine refuses, nothing has happened: the operation is dropped, and what was claimed
    is free again.
    """

    def __init__(
        self, operations: Operations, settle: Settle, row: Operation, claimed: list[bytes]
    ) -> None:
        self._operations = operations
        self._settle = settle
        self._row = row
        self._claimed = claimed

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        if not isinstance(error, (Refused, OSError)):
            return
        for uuid in self._claimed:
            with left_to_the_next_start("the trailer of a medium that was claimed"):
                self._settle.free(uuid, self._row.id)
        why = error.message if isinstance(error, Refused) else str(error)
        self._operations.drop(self._row, why)
        if isinstance(error, OSError):
            raise Refused(
                Reason.ENVIRONMENT,
                f"{self._row.verb} of {self._row.volume_name} failed: {error.strerror or error}",
                object=self._row.volume_name,
                hint="status shows which medium failed",
            ) from error
