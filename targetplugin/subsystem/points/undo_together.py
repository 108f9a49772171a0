"""The undo saves of a recover of several volumes: of all or of none, for together they are of one instant;
and which recover an undo of several volumes means.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from targetplugin.catalog import Operation, Save, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.ground.floor import Floor
from targetplugin.subsystem.ground.operations import Operations
from targetplugin.subsystem.ground.views import Shape
from targetplugin.subsystem.points.point import ToRecover
from targetplugin.subsystem.points.together import each
from targetplugin.subsystem.points.undo import TAKES_BACK, Undo, UndoSave


class Parts(Struct, frozen=True):
    """Of each volume its operation and undo save; `why` says why none is taken."""

    rows: list[Operation]
    undos: list[UndoSave]
    why: str = ""


class UndoTogether:
    """See the module."""

    def __init__(self, floor: Floor, operations: Operations, undo: Undo) -> None:
        self._floor = floor
        self._operations = operations
        self._undo = undo

    # --- taking them -----------------------------------------------------------------------------

    def choose(self, found: Sequence[ToRecover], no_undo: bool) -> tuple[list[UndoSave], str]:
        """What each is taken on, and why none is. The smallest volume chooses first, so that spares
        suffice for all where they can. Hold the pool's lock.
        """
        none = [UndoSave(None) for _ in found]
        if no_undo:
            return none, "none was asked for"
        chosen = list(none)
        for place in sorted(range(len(found)), key=lambda place: found[place].volume.size):
            one = found[place]
            taken = [undo.medium for undo in chosen]
            chosen[place] = self._undo.choose(one.volume, one.save, taken)
            if chosen[place].medium is None:
                return none, chosen[place].why
        return chosen, ""

    def claim(self, found: Sequence[ToRecover], parts: Parts) -> Parts:
        """Writes them down, and what their media will be."""
        rows, undos, why = list(parts.rows), list(parts.undos), parts.why
        for place, one in enumerate(found):
            rows[place], undos[place] = self._undo.claim(rows[place], one.volume, undos[place])
            if not why and undos[place].medium is None:
                return self.without(Parts(rows, undos), undos[place].why)
        return Parts(rows, undos, why)

    def without(self, parts: Parts, why: str) -> Parts:
        """They can't be had, and the recover goes on without."""
        gone = [
            self._undo.without(row, undo, why)
            for row, undo in zip(parts.rows, parts.undos, strict=True)
        ]
        return Parts([row for row, _ in gone], [replace(undo, why=why) for _, undo in gone], why)

    def taken(self, rows: list[Operation]) -> list[Shape]:
        """The undo saves that these operations took."""
        found = [self._undo.taken(row) for row in rows]
        return [save for save in found if save is not None]

    # --- which is meant --------------------------------------------------------------------------

    def meant(self, volumes: list[Volume], number: int | None) -> tuple[Operation, list[Save]]:
        """The recover that an undo of these volumes takes back, which is the last of each, and its undo
        saves.

        Args:
            number: of the operation that the requester means, or of one volume's part of it.

        Raises:
            Refused: NOT_FOUND, it is no recover of theirs; STATE, it can't be taken back (any more), or
                was not of these volumes as one.
        """
        names = ", ".join(volume.name for volume in volumes)
        asked = self._whole(number) if number is not None else None
        if number is not None and (asked is None or not self._is_of(asked, volumes[0])):
            raise Refused(
                Reason.NOT_FOUND,
                f"operation {number} is no recover of {names}",
                object=str(number),
                hint=f"operation list {volumes[0].name} shows them",
            )
        last = each(volumes, lambda volume: self._undo.meant(volume, None))
        wholes = {row.prepared.get("group") for row, _ in last}
        whole = self._whole(last[0][0].id)
        if len(wholes) > 1 or whole is None:
            raise Refused(
                Reason.STATE,
                f"the last recovers of {names} were not one",
                object=names,
                hint="undo takes the last recover of each volume back alone: "
                + "; ".join(f"undo {volume.name}" for volume in volumes),
            )
        if asked is not None and asked.id != whole.id:
            raise Refused(
                Reason.STATE,
                f"{_named(whole)} came after operation {number}, which can't be undone any more",
                object=str(number),
                hint=f"undo {' '.join(volume.name for volume in volumes)} takes operation {whole.id}"
                " back",
            )
        self._check_all(whole, volumes)
        return whole, [save for _, save in last]

    def _check_all(self, whole: Operation, volumes: list[Volume]) -> None:
        """Raises Refused (STATE) where the operation was of others too."""
        uuids = [part.volume for part in self._operations.parts(whole) if part.volume]
        rows = [self._floor.catalog.volume_get(uuid) for uuid in uuids]
        every = [row.name for row in rows if row is not None]
        if more := set(every) - {volume.name for volume in volumes}:
            raise Refused(
                Reason.STATE,
                f"{_named(whole)} was of {', '.join(sorted(more))} too",
                object=str(whole.id),
                hint=f"undo {' '.join(every)}",
            )

    def _whole(self, number: int) -> Operation | None:
        """The recover of several volumes that an operation is, or is a part of."""
        row = self._floor.catalog.operation_get(number)
        if row is not None and "group" in row.prepared:
            row = self._floor.catalog.operation_get(row.prepared["group"])
        several = row is not None and row.verb in TAKES_BACK and "members" in row.prepared
        return row if several else None

    def _is_of(self, whole: Operation, volume: Volume) -> bool:
        return any(part.volume == volume.uuid for part in self._operations.parts(whole))


def _named(whole: Operation) -> str:
    return f"operation {whole.id} ({whole.verb} of {whole.volume_name})"
