"""The fake engine with saves without fill: of each it keeps the whole content in memory, at once, and looks
nothing up. What a store would have copied is counted, and lost when a test says so.

A store outlives the daemon, as one on a medium does: who makes the engine keeps it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from targetplugin.engine import (
    SPARSE,
    MediumSpec,
    RecoverMember,
    SaveMember,
    VolumeSpec,
    decode_record,
)
from targetplugin.errors import Reason, Refused
from targetplugin.media.layout import layout
from tests.unit.fake_engine import Event, FakeEngine, Point, PowerCut

MIB = 1 << 20
SCRAP = b"scrap for points"


@dataclass
class Kept:
    """One save: what the volume was."""

    content: bytes
    held: bool = False
    broken: bool = False
    copied: set[int] = field(default_factory=set)  # extents that a store would have of it


@dataclass
class Store:
    """The store of one volume."""

    uuid: bytes
    slots: int
    saves: dict[int, Kept] = field(default_factory=dict)
    broken: bool = False


class StoreEngine(FakeEngine):
    """See the module and targetplugin.engine.Engine.

    Args:
        stores: by the volume's uuid; what is there now, and will be after a kill.
    """

    def __init__(self, on_event: Callable[[Event], None], stores: dict[bytes, Store]) -> None:
        super().__init__(on_event)
        self.stores = stores
        self.specs: dict[int, VolumeSpec] = {}
        self.cut_in_store = ""  # the call after which the daemon dies

    # --- volumes and hosts -----------------------------------------------------------------------

    def add_volume(self, spec: VolumeSpec) -> int:
        store = self.stores.get(spec.uuid)
        record = decode_record(spec.record) if spec.record else None
        media = [medium for medium in spec.media if store is None or medium.uuid != store.uuid]
        if store and record and record.recover and record.recover[0] == store.uuid:
            media.append(self._memory(spec, store.uuid, store.saves[record.recover[1]].content))
        handle = super().add_volume(replace(spec, media=media))
        self.specs[handle] = spec
        return handle

    def _memory(self, spec: VolumeSpec, uuid: bytes, content: bytes = b"") -> MediumSpec:
        """A medium in memory that holds this."""
        fd = os.memfd_create("kept")
        os.truncate(fd, spec.size + 4 * MIB)
        os.pwrite(fd, content, 0)
        lies = layout(spec.size + 4 * MIB)
        return MediumSpec(
            uuid, fd, lies.data_size, lies.record_offset, lies.maps_offset, lies.slots
        )

    def write(self, handle: int, offset: int, data: bytes) -> None:
        super().write(handle, offset, data)
        shift = self.specs[handle].extent_shift
        self._copied(handle, set(range(offset >> shift, ((offset + len(data) - 1) >> shift) + 1)))

    def _copied(self, handle: int, extents: set[int]) -> None:
        """An old extent is copied once, for the newest save that lacks it."""
        store = self._store(handle)
        if store and store.saves:
            store.saves[max(store.saves)].copied |= extents

    # --- the store -------------------------------------------------------------------------------

    def _store(self, handle: int) -> Store | None:
        spec = self.specs.get(handle)
        return self.stores.get(spec.uuid) if spec else None

    def _needed(self, handle: int) -> Store:
        store = self._store(handle)
        if store is None or store.broken:
            raise Refused(Reason.STATE, "the volume has no store")
        return store

    def add_store(self, handle: int, medium: MediumSpec, op: int) -> None:
        if self._store(handle) is not None:
            raise Refused(Reason.BUSY, "there is a store already")
        if medium.uuid in self.broken:
            raise Refused(Reason.ENVIRONMENT, "the medium fails")
        spec = self.specs[handle]
        self.stores[spec.uuid] = Store(medium.uuid, medium.data_size >> spec.extent_shift)
        self._cut("add_store")

    def _cut(self, call: str) -> None:
        if self.cut_in_store == call:
            raise PowerCut

    def save_sparse(self, handle: int, op: int) -> Point:
        (point,) = self.save_group([SaveMember(handle, op, sparse=True)], 500)
        if isinstance(point, Refused):
            raise point
        assert isinstance(point, Point)
        self._cut("save_sparse")
        return point

    def release_sparse(self, handle: int, generation: int) -> None:
        store = self._store(handle)
        recover = super().status(handle)["recover"]
        if (
            store
            and recover
            and (recover["source"], recover["generation"])
            == (
                store.uuid,
                generation,
            )
        ):
            raise Refused(Reason.BUSY, "a recover reads it")
        if store:
            store.saves.pop(generation, None)

    def hold_sparse(self, handle: int, generation: int, held: bool) -> None:
        store = self._store(handle)
        if store and generation in store.saves:
            store.saves[generation].held = held

    def look(self, handle: int, generation: int, offset: int, length: int) -> bytes:
        store = self._store(handle)
        if store is None or generation not in store.saves:
            return super().look(handle, generation, offset, length)
        kept = store.saves[generation]
        if kept.broken:
            raise Refused(Reason.NOT_FOUND, f"there is no save {generation}")
        return kept.content[offset : offset + length]

    def drop_leg(self, handle: int, uuid: bytes) -> None:
        store = self._store(handle)
        if store is None or uuid != store.uuid:
            super().drop_leg(handle, uuid)
            return
        recover = super().status(handle)["recover"]
        if store.saves or (recover and recover["source"] == uuid):
            raise Refused(Reason.BUSY, "saves are in the store")
        self._forget_source(handle, store)
        del self.stores[self.specs[handle].uuid]

    detach_save = drop_leg

    def status(self, handle: int) -> dict[str, Any]:
        store = self._store(handle)
        told = None
        if store is not None:
            told = {
                "uuid": store.uuid,
                "state": "broken" if store.broken else "ready",
                "slots": store.slots,
                "used": sum(len(kept.copied) for kept in store.saves.values()),
                "saves": {
                    generation: {
                        "state": "broken" if kept.broken else "sparse",
                        "held": kept.held,
                        "extents": len(kept.copied),
                    }
                    for generation, kept in store.saves.items()
                },
            }
        return {**super().status(handle), "store": told}

    # --- points ----------------------------------------------------------------------------------

    def recover(self, handle: int, source: Any, *rest: Any, **more: Any) -> Point:
        generation, base, op = rest
        member = RecoverMember(handle, op, source, generation, base, more.get("undo"))
        if SPARSE not in (member.source, member.undo):
            return super().recover(handle, source, *rest, **more)
        before = self._content(handle)
        live = super().status(handle)["generation"]
        member = self._plain(member)
        in_force = self.cut_after == "recover"  # where the daemon dies, it is
        try:
            point = super().recover(
                handle, member.source, *rest, **{**more, "undo": member.undo, "lacks": None}
            )
            in_force = True
        finally:
            if more.get("undo") is SPARSE and in_force:
                self._needed(handle).saves[live] = Kept(before)
        return point

    def _group(self, members: list[Any], deadline: int, commit: Callable[[], None]) -> list[Any]:
        kept: list[tuple[int, int, bytes]] = []  # place, generation, content
        for place, member in enumerate(members):
            if (
                getattr(member, "sparse", False) or getattr(member, "undo", None) is SPARSE
            ) and member.handle in self.volumes:
                live = super().status(member.handle)["generation"]
                kept.append((place, live, self._content(member.handle)))
        plain = [self._plain(member) for member in members]
        in_force = range(0)
        results: list[Any] = []
        try:
            results = super()._group(plain, deadline, commit)
        except PowerCut:
            in_force = range(max(self.cut_group, 0))
            raise
        finally:
            for place, generation, content in kept:
                done = place in in_force or (results and not isinstance(results[place], Refused))
                if done:
                    handle = members[place].handle
                    self._needed(handle).saves[generation] = Kept(content)
        for member in plain:
            self._forget_scrap(member.handle)
        return results

    def _plain(self, member: Any) -> Any:
        """The same without a store: of a save the point alone, of a recover its source in memory."""
        if isinstance(member, SaveMember) and member.sparse:
            self._needed(member.handle)
            scrap = self._memory(self.specs[member.handle], SCRAP)
            return replace(member, sparse=False, save=scrap)
        if isinstance(member, RecoverMember):
            source: Any = member.source
            undo: Any = member.undo
            if source is SPARSE:
                store = self._needed(member.handle)
                kept = store.saves.get(member.generation)
                if kept is None or kept.broken:
                    raise Refused(Reason.NOT_FOUND, f"there is no save {member.generation}")
                if super().status(member.handle)["recover"] is None:  # else it is in use till then
                    self._forget_source(member.handle, store)
                source = self._memory(self.specs[member.handle], store.uuid, kept.content)
            if undo is SPARSE:
                self._needed(member.handle)
            return replace(member, source=source, undo=None if undo is SPARSE else undo)
        return member

    def _content(self, handle: int) -> bytes:
        size = self.specs[handle].size
        return b"".join(self.read(handle, at, min(MIB, size - at)) for at in range(0, size, MIB))

    def _forget_scrap(self, handle: int) -> None:
        for index, medium in list(self.volumes[handle].media.items()):
            if medium.uuid == SCRAP:
                self._drop(handle, index)

    def _forget_source(self, handle: int, store: Store) -> None:
        """What a recover that is over was given."""
        for index, medium in list(self.volumes[handle].media.items()):
            if medium.uuid == store.uuid:
                self._drop(handle, index)

    # --- what happens to a store -----------------------------------------------------------------

    def fill_up(self, handle: int, *lost: int) -> None:
        """The store is full, and these saves are given up."""
        store = self._needed(handle)
        for generation in lost:
            store.saves[generation].broken = True
        self.on_event(Event(handle, "sparse_lost", store.uuid))

    def fail_store(self, handle: int) -> None:
        store = self._needed(handle)
        store.broken = True
        self.on_event(Event(handle, "store_broken", store.uuid))

    def warn(self, handle: int) -> None:
        """It is four fifths full."""
        store = self._needed(handle)
        self.on_event(Event(handle, "store_low", store.uuid))
