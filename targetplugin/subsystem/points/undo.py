"""The undo save of a recover: its medium, and the recover that is in force together with it; and which
recover an undo means. See point.py for the verbs.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from msgspec import Struct

from targetplugin.catalog import Operation, Save, Volume
from targetplugin.catalog.saves import SLOTS
from targetplugin.engine import SPARSE
from targetplugin.errors import Reason, Refused
from targetplugin.media.trailer import NO_UUID, Role
from targetplugin.subsystem.ground import blocks
from targetplugin.subsystem.ground.floor import Floor
from targetplugin.subsystem.ground.ports import Point
from targetplugin.subsystem.ground.sizes import told
from targetplugin.subsystem.ground.views import Shape, Views
from targetplugin.subsystem.mirror.pool import Pool
from targetplugin.subsystem.mirror.settle import Settle, left_to_the_next_start
from targetplugin.subsystem.saves.stores import Stores

TAKES_BACK = ("recover", "undo")  # the verbs that replace a volume's content and keep what it was


class UndoSave(Struct, frozen=True):
    """What a recover's undo save is taken on.

    Attributes:
        medium: None: none is taken, and `why` says why not.
        sparse: it is one without fill, and the medium is the volume's store.
        replaces: the undo save of an earlier recover that the medium holds, and that ends with this one.
        lacks: what the medium lacks then of the present content; None: all.
    """

    medium: bytes | None
    replaces: Save | None = None
    lacks: bytes | None = None
    why: str = ""
    sparse: bool = False


class Undo:
    """See the module."""

    def __init__(
        self, floor: Floor, views: Views, pool: Pool, settle: Settle, stores: Stores
    ) -> None:
        self._floor = floor
        self._views = views
        self._pool = pool
        self._settle = settle
        self._stores = stores

    def choose(
        self, volume: Volume, source: Save, without: Collection[bytes | None] = ()
    ) -> UndoSave:
        """The spare that fits best; where there is none, the medium of an earlier recover's undo save,
        which a newer one ends anyway; else the store, where the volume has one. Hold the pool's lock.

        Args:
            without: media that the same operation has taken already.
        """
        saves = self._floor.catalog.saves(volume.uuid)
        if len(saves) >= len(SLOTS):
            return UndoSave(None, why=f"{volume.name} has {len(saves)} saves, and can't have more")
        block = blocks.of(volume.blocks).logical
        fitting = [row for row in self._pool.free(block) if row.data_size >= volume.size]
        fitting = [row for row in fitting if row.uuid not in without]
        if fitting:
            return UndoSave(fitting[0].uuid)
        for old in saves:
            if old.undo and old.generation != source.generation and self._is_idle(volume, old):
                return UndoSave(old.media[0], old, self._lacks(volume, old))
        if self._stores.is_ready(volume):
            return UndoSave(self._floor.catalog.store_get(volume.uuid), sparse=True)
        return UndoSave(None, why=f"there is no free medium of {told(volume.size)} or more")

    def _lacks(self, volume: Volume, old: Save) -> bytes | None:
        if old.fill != "whole":
            return None
        return self._views.differential(volume, old.generation, volume.parent)

    def _is_idle(self, volume: Volume, save: Save) -> bool:
        """Whether nothing has to do with the save and its medium."""
        attached = (self._floor.status(volume) or {"saves": {}})["saves"]
        silent = self._floor.engine.silent()
        return (
            len(save.media) == 1
            and self._floor.is_there(save.media[0])
            and save.media[0] not in attached
            and save.media[0] not in silent
            and self._views.may_go(volume, save)
        )

    def _label(self, volume: Volume, number: int) -> str:
        """What the undo save of an operation is called: nothing where someone else's save is called that."""
        label = f"undo-{number}"
        taken = self._floor.catalog.save_by_label(volume.uuid, label)
        return "" if taken else label

    def claim(self, row: Operation, volume: Volume, undo: UndoSave) -> tuple[Operation, UndoSave]:
        """Writes the undo save down, and what its medium will be (rule 11)."""
        if undo.medium is None:
            return row, undo
        prepared = {
            **row.prepared,
            "undo": undo.medium.hex(),
            "undo_label": self._label(volume, row.prepared.get("group", row.id)),
            "undo_kind": "sparse" if undo.sparse else "copy",
            "replaces": undo.replaces.generation if undo.replaces else 0,
        }
        row = self._floor.catalog.operation_set(row.id, prepared=prepared)
        try:
            if not undo.sparse:
                self._settle.claim(undo.medium, Role.SAVE, volume, row.id)
        except Refused as refused:
            return self.without(row, undo, refused.message)
        return row, undo

    def claim_again(self, row: Operation, volume: Volume) -> tuple[Operation, UndoSave]:
        """The same of what was claimed before the daemon ended, as far as it can still be had. Hold the
        pool's lock.
        """
        if not row.prepared.get("undo"):
            return row, UndoSave(None)
        medium = bytes.fromhex(row.prepared["undo"])
        if row.prepared.get("undo_kind") == "sparse":
            if not self._stores.is_ready(volume):
                return self._forgotten(row), UndoSave(None, why="its store is gone")
            return self.claim(row, volume, UndoSave(medium, sparse=True))
        there = self._floor.media.get(medium)
        mine = (volume.uuid, NO_UUID)  # its own, or free since
        if there is None or there.trailer is None or there.trailer.volume not in mine:
            return self._forgotten(row), UndoSave(None, why="its medium is gone")
        old = self._floor.catalog.save_get(volume.uuid, row.prepared["replaces"])
        lacks = self._lacks(volume, old) if old else None
        return self.claim(row, volume, UndoSave(medium, old, lacks))

    def without(self, row: Operation, undo: UndoSave, why: str) -> tuple[Operation, UndoSave]:
        """The undo save can't be had, and the recover goes on without: the catalog knows that before it
        is in force.
        """
        assert row.volume is not None
        if undo.medium is None:
            return row, undo
        volume = row.volume
        row = self._forgotten(row)
        with left_to_the_next_start("the trailer of a medium that was claimed"):
            self._settle.unclaim(undo.medium, volume, row.id)
        return row, UndoSave(None, why=why)

    def _forgotten(self, row: Operation) -> Operation:
        given_up = ("undo", "undo_label", "undo_kind", "replaces")
        prepared = {key: value for key, value in row.prepared.items() if key not in given_up}
        return self._floor.catalog.operation_set(row.id, prepared=prepared)

    def onto(self, undo: UndoSave) -> Any:
        """What the engine is given for it; None: nothing. Raises Refused where it went away."""
        if undo.medium is None:
            return None
        return SPARSE if undo.sparse else self._floor.medium(undo.medium).spec()

    def recover(
        self, row: Operation, handle: int, source: Any, base: bytes, undo: UndoSave
    ) -> tuple[Operation, UndoSave, Point]:
        generation = row.save
        assert generation is not None
        if undo.medium is not None:
            try:
                spec = self.onto(undo)
                point = self._floor.engine.recover(
                    handle, source, generation, base, row.id, undo=spec, lacks=undo.lacks
                )
                return row, undo, point
            except (Refused, OSError) as error:
                why = error.message if isinstance(error, Refused) else str(error)
                row, undo = self.without(row, undo, why)
        return row, undo, self._floor.engine.recover(handle, source, generation, base, row.id)

    def taken(self, row: Operation) -> Shape | None:
        """The undo save that an operation took."""
        assert row.volume is not None
        volume = self._floor.catalog.volume_get(row.volume)
        saves = self._floor.catalog.saves(row.volume)
        taken = next((save for save in saves if save.undo == row.id), None)
        return self._views.save(volume, taken) if volume and taken else None

    def meant(self, volume: Volume, number: int | None) -> tuple[Operation, Save]:
        """The recover that an undo takes back, which is the last one, and its undo save.

        Args:
            number: of the operation that the requester means; None: whichever is the last.

        Raises:
            Refused: NOT_FOUND, it is no recover of the volume; STATE, it can't be taken back (any more).
        """
        if number is not None:
            named = self._floor.catalog.operation_get(number)
            if named is None or named.volume != volume.uuid or named.verb not in TAKES_BACK:
                raise Refused(
                    Reason.NOT_FOUND,
                    f"operation {number} is no recover of {volume.name}",
                    object=str(number),
                    hint=f"operation list {volume.name} shows them",
                )
        last = self._floor.catalog.operation_last(volume.uuid, (*TAKES_BACK, "swap"))
        if last is None:
            raise Refused(
                Reason.STATE,
                f"{volume.name} was not recovered, so there is nothing to undo",
                object=volume.name,
                hint=f"status {volume.name} shows its saves",
            )
        undo = next((s for s in self._floor.catalog.saves(volume.uuid) if s.undo == last.id), None)
        if last.verb == "swap":
            raise Refused(
                Reason.STATE,
                f"the last that was done to the content of {volume.name} is a swap",
                object=volume.name,
                hint=f"swap {volume.name}@{last.prepared['frozen']} takes it back",
            )
        if number not in (None, last.id):
            raise Refused(
                Reason.STATE,
                f"{named_of(last)} came after operation {number}, which can't be undone any more",
                object=str(number),
                hint=f"undo {volume.name} takes operation {last.id} back",
            )
        if undo is None:
            raise Refused(
                Reason.STATE,
                f"{named_of(last)} can't be undone: "
                + (
                    "its undo save was given up since"
                    if last.prepared.get("undo")
                    else "no undo save was taken before it"
                ),
                object=volume.name,
                hint=f"recover {volume.name} from another save; status {volume.name} shows them",
            )
        return last, undo


def named_of(row: Operation) -> str:
    """`operation 17 (recover ledger@3)`."""
    return f"operation {row.id} ({row.verb} {row.volume_name}@{row.save})"
