"""Save, recover, undo and swap: prepare durably, let the engine fix the point, then settle.

See settle.py for what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from targetplugin.catalog import Operation, Save, Volume, maps
from targetplugin.engine import SPARSE
from targetplugin.errors import Reason, Refused
from targetplugin.media.trailer import Role
from targetplugin.subsystem.ground import names
from targetplugin.subsystem.ground.floor import Floor, save_name
from targetplugin.subsystem.ground.operations import Ask, Operations, medium_failed
from targetplugin.subsystem.ground.ports import Point
from targetplugin.subsystem.ground.states import Verb
from targetplugin.subsystem.ground.views import Shape, Views
from targetplugin.subsystem.mirror.pool import Pool
from targetplugin.subsystem.mirror.settle import Fixed, Settle, left_to_the_next_start
from targetplugin.subsystem.points.undo import TAKES_BACK, Undo, UndoSave
from targetplugin.subsystem.saves.holds import Hold, Holds
from targetplugin.subsystem.saves.stores import Stores

NOT_IN_THE_LEGS = "the recover had not copied all, so what hosts saw was in no one place"
MEDIUM_CHANGED = (0x28, 0x00)  # SPC-5: NOT READY TO READY CHANGE, MEDIUM MAY HAVE CHANGED


class ToRecover(Struct, frozen=True):
    """A save that is to be recovered from: its medium, and what differs up to the live generation's start."""

    volume: Volume
    save: Save
    handle: int
    medium: bytes
    base: bytes


class ToSwap(Struct, frozen=True):
    """A save that is to be swapped in: those of its media that are there."""

    volume: Volume
    save: Save
    handle: int
    legs: list[bytes]


class Turned(Struct, frozen=True):
    """A recover that is taken back while it copies: how far it was, and the medium that it read."""

    row: Operation
    progress: float
    copied: int
    source: bytes


class Points:
    """The verbs that fix a point. Each holds the volume's lock from its checks to its answer.

    Args:
        superseded: is called when a recover has taken an undo save: an older one may go.
    """

    def __init__(
        self,
        floor: Floor,
        views: Views,
        operations: Operations,
        pool: Pool,
        settle: Settle,
        undo: Undo,
        stores: Stores,
        holds: Holds,
        superseded: Callable[[Volume], None],
    ) -> None:
        self._floor = floor
        self._views = views
        self._operations = operations
        self._pool = pool
        self._settle = settle
        self._undo = undo
        self._stores = stores
        self._holds = holds
        self._superseded = superseded

    # --- save --------------------------------------------------------------------------------

    def save(
        self,
        ask: Ask,
        volume_name: str,
        label: str,
        policy: str | None,
        onto: str | None,
        replace: str | None = None,
        hold: Hold | None = None,
    ) -> Shape:
        """See Subsystem.save."""
        volume = self._floor.volume(volume_name)
        with self._floor.runtime(volume.uuid).lock:
            volume = self._floor.volume(volume_name)
            ask.check_rights(volume)
            if (known := self._operations.again(ask)) is not None:
                return known
            older = self._older(volume, replace, policy or onto) if replace else None
            label = names.check_label(label) or (older.label if older else "")
            held = self._holds.asked(f"the save of {volume.name}", hold)
            handle = self.check_save(volume, label, older)
            with self._floor.pool:
                lacks = None
                if older is not None:
                    kind, medium = "copy", self._source(volume, older)
                    self._floor.check_over([medium])
                    if older.fill == "whole":
                        lacks = self._views.differential(volume, older.generation, volume.parent)
                else:
                    kind, medium = self.choose(volume, policy or volume.policy, onto)
                if ask.preview:
                    made = self._operations.preview(ask, volume, volume.generation)
                    made = {**made, "onto": self._floor.medium_name(medium), "kind": kind}
                    made["held_until"] = held.get("hold")
                    if older is not None:
                        bits = self._views.changed_since(volume, older)
                        made["operation"]["extents_changed"] = maps.count(bits)
                    return {**made, **self._replaced(volume, older)}
                prepared: dict[str, Any] = {
                    "kind": kind,
                    "label": label,
                    "medium": medium.hex(),
                    "frozen": volume.generation,
                    **held,
                }
                total = volume.size if kind == "copy" else 0
                if older is not None:
                    prepared["replaces"] = older.generation
                if lacks is not None and older is not None:
                    prepared["pending"] = maps.count(self._views.changed_since(volume, older))
                    total = min(total, prepared["pending"] * volume.extent_size)
                row = self._operations.begin(ask, volume, None, prepared, bytes_total=total)
                claimed = [] if kind == "split" else [medium]
                with self._undone(row, claimed):
                    self.claim(row, volume)
            with self._undone(row, claimed):
                if kind == "split":
                    point = self._floor.engine.save_split(handle, [medium], row.id)
                elif kind == "sparse":
                    point = self._stores.save(volume, handle, medium, row.id)
                else:
                    spec = self._floor.medium(medium).spec()
                    point = self._floor.engine.save_copy(handle, spec, row.id, lacks=lacks)
            row = self._settle.point(row, self.fixed(handle, point))
            self.tell_store(row)
            self._floor.tell()
            return self._answer(row, volume, point.frozen, self._replaced(volume, older))

    def tell_store(self, row: Operation) -> None:
        """A save that was taken with a hold: its store does not give it up. See Stores.hold."""
        if row.prepared.get("hold"):
            volume, save = self._floor.save(f"{row.volume_name}@{row.save}")
            self._stores.hold(volume, save)

    def claim(self, row: Operation, volume: Volume) -> None:
        """Says what the medium of a save that is prepared will be. Raises Refused."""
        medium = bytes.fromhex(row.prepared["medium"])
        if row.prepared["kind"] == "copy":
            self._settle.claim(medium, Role.SAVE, volume, row.id)
        elif row.prepared["kind"] == "sparse":
            self._stores.claim(row, volume, medium)

    def check_save(self, volume: Volume, label: str, ends: Save | None = None) -> int:
        """The engine's number of a volume that can be saved now. Raises Refused.

        Args:
            ends: a save that ends with it, whose label may be taken over.
        """
        self._check_label(volume, names.check_label(label), ends)
        handle = self._floor.handle(volume)
        self._views.require_volume(Verb.SAVE, volume)
        return handle

    def _older(self, volume: Volume, name: str, elsewhere: str | None) -> Save:
        """The save whose medium the new one takes."""
        owner, older = self._floor.save(name)
        if owner.uuid != volume.uuid or elsewhere:
            raise Refused(
                Reason.USAGE,
                f"{save_name(owner, older)} is no save of {volume.name}"
                if owner.uuid != volume.uuid
                else "a save that replaces another takes that one's medium: no policy, no other medium",
                object=save_name(owner, older),
                hint=f"status {volume.name} shows its saves",
            )
        self._views.require(Verb.REPLACE, volume, older)
        return older

    def _replaced(self, volume: Volume, older: Save | None) -> Shape:
        return {"replaced": save_name(volume, older)} if older else {}

    def _check_label(self, volume: Volume, label: str, ends: Save | None = None) -> None:
        taken = self._floor.catalog.save_by_label(volume.uuid, label) if label else None
        if taken is not None and (ends is None or taken.generation != ends.generation):
            raise Refused(
                Reason.EXISTS,
                f"{volume.name} has a save that is called {label!r}: {save_name(volume, taken)}",
                object=f"{volume.name}@{label}",
                hint="use another label, or release that save",
            )

    def choose(
        self, volume: Volume, policy: str, onto: str | None, without: Collection[bytes] = ()
    ) -> tuple[str, bytes]:
        """What the save takes: "split", a leg, "copy", a free medium other than `without`, or "sparse",
        the volume's store.

        Call it with the pool's lock.
        """
        if policy == "sparse":
            return "sparse", self._stores.choose(volume, onto, without)
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
        return "copy", self._pool.take(volume, without=without)

    # --- recover -----------------------------------------------------------------------------

    def recover(self, ask: Ask, name: str, force: bool, no_undo: bool) -> Shape:
        """See Subsystem.recover."""
        volume = self._floor.owner(name)
        with self._floor.runtime(volume.uuid).lock:
            ask.check_rights(self._floor.owner(name))
            ask.check_force(force)
            if (known := self._operations.again(ask)) is not None:
                return known
            volume, save = self._floor.save(name)
            return self._take_back(ask, Verb.RECOVER, volume, save, force, no_undo)

    def undo(self, ask: Ask, volume_name: str, op: int | None, force: bool, no_undo: bool) -> Shape:
        """See Subsystem.undo."""
        volume = self._floor.volume(volume_name)
        with self._floor.runtime(volume.uuid).lock:
            volume = self._floor.volume(volume_name)
            ask.check_rights(volume)
            ask.check_force(force)
            if (known := self._operations.again(ask)) is not None:
                return known
            undone, save = self._undo.meant(volume, op)
            return self._take_back(ask, Verb.UNDO, volume, save, force, no_undo, undone.id)

    def _take_back(
        self,
        ask: Ask,
        verb: Verb,
        volume: Volume,
        save: Save,
        force: bool,
        no_undo: bool,
        undone: int | None = None,
    ) -> Shape:
        """The volume is the save from here on, and what it was is kept where there is room: both in
        force with one record, or neither. No recover is refused for want of an undo save.
        """
        found = self.check_recover(verb, volume, save, force)
        handle = found.handle
        turned = self._turned(volume)
        with self._floor.pool:
            undo = UndoSave(None, why="none was asked for")
            if turned is not None:
                undo = UndoSave(None, why=NOT_IN_THE_LEGS)
            elif not no_undo:
                undo = self._undo.choose(volume, save)
            if ask.preview:
                bits = self._views.changed_since(volume, save)
                made = self._operations.preview_copy(ask, volume, save.generation, bits)
                on = self._floor.medium_name(undo.medium) if undo.medium else None
                return {**made, "undo_onto": on, "undo_why": undo.why}
            prepared = {
                "frozen": volume.generation,
                "medium": found.medium.hex(),
                "pending": maps.count(found.base),
            }
            if undone is not None:
                prepared["undone"] = undone
            if turned is not None:
                prepared["turned"] = turned.row.id
            row = self._operations.begin(ask, volume, save.generation, prepared)
            with self._undone(row, []):
                row, undo = self._undo.claim(row, volume, undo)
        with self._undone(row, []):
            source = self.source_spec(found)
            row, undo, point = self._undo.recover(row, handle, source, found.base, undo)
        row = self._settle.point(row, self.recovered(found, source, point))
        if turned is not None:
            self._let_go(volume, handle, turned)
        self._floor.engine.set_sense_ua(handle, *MEDIUM_CHANGED)
        if undo.medium is not None:
            self._superseded(volume)
        self._floor.tell()
        more: Shape = {"undo": self._undo.taken(row), "undo_why": undo.why}
        if undone is not None:
            more["undone"] = undone
        return self._answer(row, volume, save.generation, more)

    def _turned(self, volume: Volume) -> Turned | None:
        """The recover that still copies and is taken back now; None: none does."""
        status = self._floor.status(volume)
        running = [r for verb in TAKES_BACK for r in self._operations.running(volume.uuid, verb)]
        if not status or not status["recover"] or not running:
            return None
        progress, copied = self._views.progress(running[0])
        return Turned(running[0], progress, copied, status["recover"]["source"])

    def _let_go(self, volume: Volume, handle: int, turned: Turned) -> None:
        """A recover was taken back that still copied: what it was, and what it read."""
        row = self._operations.row(turned.row.id)
        with left_to_the_next_start(f"how far operation {row.id} was"):
            self._operations.end(
                turned.row,
                state=row.state,
                error=row.error,
                progress=turned.progress,
                extents_copied=turned.copied,
            )
        kept = self._floor.engine.status(handle)["saves"].get(turned.source)
        if kept is not None and kept["state"] != "filling":
            with left_to_the_next_start("the end of what a recover read"):
                self._floor.engine.detach_save(handle, turned.source)
        self._stores.settle(volume, handle, row.id)

    def check_recover(self, verb: Verb, volume: Volume, save: Save, force: bool) -> ToRecover:
        """What a recover from this save takes, if it can be done now. Raises Refused."""
        handle = self._floor.handle(volume)
        self._views.require(verb, volume, save)
        self._check_hosts(volume, force)
        return self.to_recover(volume, save, handle)

    def to_recover(self, volume: Volume, save: Save, handle: int) -> ToRecover:
        """The same whatever the table says. Raises Refused where no medium of the save is there."""
        base = self._views.differential(volume, save.generation, volume.parent)
        medium = self._floor.catalog.store_get(volume.uuid) if save.sparse else None
        return ToRecover(volume, save, handle, medium or self._source(volume, save), base)

    def source_spec(self, found: ToRecover) -> Any:
        """The save's medium for the engine: its uuid where it still fills, and is known there; SPARSE
        where it is in the store.
        """
        if found.save.sparse:
            return SPARSE
        if found.medium in self._floor.engine.status(found.handle)["saves"]:
            return found.medium
        return self._floor.medium(found.medium).spec()

    def recovered(self, found: ToRecover, source: Any, point: Point) -> Fixed:
        """A recover's point, as it is settled."""
        fixed = self.fixed(found.handle, point)
        if isinstance(source, bytes) or fixed.pending:
            return fixed
        # It may be over already, and is told then as none.
        size = self._floor.extents(found.volume)
        return replace(fixed, pending=maps.count(maps.either([found.base, point.frozen_map], size)))

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
            found = self.check_swap(name, force)
            volume, save, handle = found.volume, found.save, found.handle
            if ask.preview:
                return self._operations.preview(ask, volume, save.generation)
            row = self._operations.begin(ask, volume, save.generation, self.to_be_swapped(found))
            with self._undone(row, []):
                specs = [self._floor.medium(uuid).spec() for uuid in found.legs]
                point = self._floor.engine.swap(handle, specs, save.generation, row.id)
            row = self._settle.point(row, self.fixed(handle, point))
            self._floor.engine.set_sense_ua(handle, *MEDIUM_CHANGED)
            self._floor.tell()
            return self._answer(row, volume, point.frozen)

    def check_swap(self, name: str, force: bool) -> ToSwap:
        """What a swap of this save takes, if it can be done now. Raises Refused."""
        volume, save = self._swap_meant(name)
        handle = self._floor.handle(volume)
        self._views.require(Verb.SWAP, volume, save)
        self._check_hosts(volume, force)
        return self.to_swap(volume, save, handle)

    def to_swap(self, volume: Volume, save: Save, handle: int) -> ToSwap:
        """The same whatever the table says. Raises Refused where no medium of the save is there."""
        legs = [uuid for uuid in save.media if self._floor.is_there(uuid)]
        if not legs:
            raise self._gone(volume, save)
        return ToSwap(volume, save, handle, legs)

    def to_be_swapped(self, found: ToSwap) -> dict[str, Any]:
        """What a start needs to know of a swap that is being done."""
        old = [leg.medium.hex() for leg in self._floor.catalog.legs(found.volume.uuid)]
        return {
            "frozen": found.volume.generation,
            "legs": [uuid.hex() for uuid in found.legs],
            "old": old,
            "label": "",
        }

    def _swap_meant(self, name: str) -> tuple[Volume, Save]:
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

    def fixed(self, handle: int, point: Point) -> Fixed:
        """A point of the engine's, as it is settled."""
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

    def _answer(
        self, row: Operation, volume: Volume, generation: int, more: Shape | None = None
    ) -> Shape:
        volume = self._floor.volume(volume.name)
        save = self._floor.catalog.save_get(volume.uuid, generation)
        assert save is not None
        made = {"save": self._views.save(volume, save), **(more or {})}
        return self._operations.answer(row, made)


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
        # As it is now: what it prepared may have changed on the way.
        self._row = self._operations.row(self._row.id)
        claimed = [*self._claimed]
        if self._row.prepared.get("undo"):
            claimed.append(bytes.fromhex(self._row.prepared["undo"]))
        for uuid in claimed:
            with left_to_the_next_start("the trailer of a medium that was claimed"):
                assert self._row.volume is not None
                self._settle.unclaim(uuid, self._row.volume, self._row.id)
        self._operations.drop(self._row, str(error))
        if isinstance(error, OSError):
            what = f"{self._row.verb} of {self._row.volume_name} failed"
            raise medium_failed(what, self._row.volume_name, error) from error
