"""Several volumes saved as one: all are prepared durably, their points fixed at one instant, and then all are
settled, or none. And what all verbs on several volumes share.

What a crash or a failing disk left in between is decided when all volumes are there again: all points in
force make it done; else those that are in force are given up, for nobody was told of them.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from targetplugin import logs
from targetplugin.catalog import Operation, Volume
from targetplugin.engine import CalledOff, SaveMember
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.ground.floor import Floor, save_name
from targetplugin.subsystem.ground.operations import (
    Ask,
    Operations,
    logged_as,
    medium_failed,
    named,
)
from targetplugin.subsystem.ground.views import Shape, Views, now
from targetplugin.subsystem.hosts.groups import Groups
from targetplugin.subsystem.mirror.settle import Settle, left_to_the_next_start, unnamed
from targetplugin.subsystem.points.point import Points
from targetplugin.subsystem.saves.holds import Hold, Holds
from targetplugin.subsystem.saves.release import Saves
from targetplugin.subsystem.saves.stores import Stores

log = logging.getLogger(__name__)
DEADLINE = 500  # milliseconds
DEADLINES = range(1, 5001)
DONE = {"save": "saved", "recover": "recovered", "undo": "undone", "swap": "swapped"}
Found = TypeVar("Found")


class Together:
    """See the module. Locks of several volumes are taken in the order of their identities."""

    def __init__(
        self,
        floor: Floor,
        views: Views,
        operations: Operations,
        settle: Settle,
        groups: Groups,
        points: Points,
        saves: Saves,
        stores: Stores,
        holds: Holds,
    ) -> None:
        self._floor = floor
        self._views = views
        self._operations = operations
        self._settle = settle
        self._groups = groups
        self._points = points
        self._saves = saves
        self._stores = stores
        self._holds = holds
        self._said = logs.Said()

    # --- save ------------------------------------------------------------------------------------

    def save(
        self,
        ask: Ask,
        names: list[str],
        label: str,
        policy: str | None,
        deadline: int | None,
        hold: Hold | None = None,
    ) -> Shape:
        """See Subsystem.save_group."""
        deadline = checked(deadline)
        with self.locked(self._groups.members(names)):
            volumes = self._groups.members(names)
            for volume in volumes:
                ask.check_rights(volume)
            if (known := self._operations.again(ask)) is not None:
                return known
            held = self._holds.asked(f"the saves of {', '.join(names)}", hold)
            handles = self._check(volumes, label)
            with self._floor.pool:
                chosen = self._choose(volumes, policy)
                if ask.preview:
                    return {**self._preview(ask, volumes, chosen), "held_until": held.get("hold")}
                parts = [
                    (
                        volume,
                        None,
                        {**_prepared(volume, label, *chosen[volume.uuid]), **held},
                        _total(volume, chosen),
                    )
                    for volume in volumes
                ]
                whole, rows = self._operations.begin_group(ask, parts)
                with self.undone(whole, rows):
                    for volume, row in zip(volumes, rows, strict=True):
                        self._points.claim(row, volume)
            with self.undone(whole, rows):
                results = self._fix(volumes, handles, rows, deadline)
            return self._settled(whole, rows, handles, results)

    def _check(self, volumes: list[Volume], label: str) -> list[int]:
        """The engine's numbers of volumes that can all be saved. Raises Refused with all that can't."""
        return each(volumes, lambda volume: self._points.check_save(volume, label))

    def _choose(self, volumes: list[Volume], policy: str | None) -> dict[bytes, tuple[str, bytes]]:
        """What each volume's save takes, as in Points.choose; the smallest volume chooses first, so
        that spares suffice for all where they can.
        """
        chosen: dict[bytes, tuple[str, bytes]] = {}
        for volume in sorted(volumes, key=lambda volume: volume.size):
            taken = [medium for _, medium in chosen.values()]
            chosen[volume.uuid] = self._points.choose(volume, policy or volume.policy, None, taken)
        return chosen

    def _preview(
        self, ask: Ask, volumes: list[Volume], chosen: dict[bytes, tuple[str, bytes]]
    ) -> Shape:
        members = [
            {
                "volume": volume.name,
                "kind": chosen[volume.uuid][0],
                "onto": self._floor.medium_name(chosen[volume.uuid][1]),
            }
            for volume in volumes
        ]
        return self.preview(ask, volumes, members)

    def _fix(
        self, volumes: list[Volume], handles: list[int], rows: list[Operation], deadline: int
    ) -> list[Any]:
        """The engine's result for each. Raises Refused where nothing was saved."""
        results: list[Any] = []
        try:
            members = [
                self._member(volume, handle, row)
                for volume, handle, row in zip(volumes, handles, rows, strict=True)
            ]
            results = self._floor.engine.save_group(members, deadline)
        finally:  # what was made for a save that was not
            for place, (volume, handle) in enumerate(zip(volumes, handles, strict=True)):
                if not results or isinstance(results[place], Refused):
                    self._stores.let_go(volume, handle)
        if all(isinstance(result, Refused) for result in results):
            raise refused_by(rows, results)
        return results

    def _member(self, volume: Volume, handle: int, row: Operation) -> SaveMember:
        """What is asked of the engine for one volume. Raises Refused, OSError."""
        medium = bytes.fromhex(row.prepared["medium"])
        if row.prepared["kind"] == "split":
            return SaveMember(handle, row.id, leaving=(medium,))
        if row.prepared["kind"] == "sparse":
            self._stores.begin(volume, handle, medium, row.id)
            return SaveMember(handle, row.id, sparse=True)
        return SaveMember(handle, row.id, save=self._floor.medium(medium).spec())

    def _settled(
        self, whole: Operation, rows: list[Operation], handles: list[int], results: list[Any]
    ) -> Shape:
        """Writes down what is in force: all as one, or, where disks failed in that very moment, what
        is to be given up.
        """
        refused = any(isinstance(result, Refused) for result in results)
        with self._floor.catalog.transaction():
            for row, handle, result in zip(rows, handles, results, strict=True):
                if isinstance(result, Refused):
                    self._operations.drop(row, result.message)
                    continue
                if refused:
                    row = unnamed(row)
                self._settle.commit(row, self._points.fixed(handle, result))
            if not refused:
                pauses = [result.pause for result in results]
                self._in_force(
                    whole,
                    pause_us=max(pause.whole for pause in pauses),
                    drain_us=max(pause.drain for pause in pauses),
                    pause_work_us=max(pause.work for pause in pauses),
                )
        for row in rows:
            assert row.volume is not None
            self._settle.trailers(row.volume, row.id)
        if refused:
            error = refused_by(rows, results)
            self._decide(whole)
            raise error
        self._tell_stores(rows)
        self._floor.tell()
        return self.answer(whole)

    def _in_force(self, whole: Operation, **changes: Any) -> None:
        self._floor.catalog.operation_set(whole.id, state="running", in_force=now(), **changes)
        self._operations.end_group(whole.id)

    @contextlib.contextmanager
    def undone(self, whole: Operation, rows: list[Operation]) -> Iterator[None]:
        """If nothing was saved, nothing has happened: what was claimed is free again."""
        try:
            yield
        except (Refused, OSError) as error:
            self.drop(whole, rows, str(error))
            if isinstance(error, OSError):
                what = f"{whole.verb} of {whole.volume_name} failed"
                raise medium_failed(what, whole.volume_name, error) from error
            raise

    def drop(self, whole: Operation, rows: list[Operation], why: str) -> None:
        """It had no effect: what was claimed is what it was, and its request can be asked again."""
        rows = [self._operations.row(row.id) for row in rows]  # they may have changed on the way
        for row in rows:
            taken = row.prepared.get("kind") in ("copy", "sparse")
            claimed = [row.prepared["medium"]] if taken else []
            claimed += [row.prepared["undo"]] if row.prepared.get("undo") else []
            for medium in claimed:
                with left_to_the_next_start("the trailer of a medium that was claimed"):
                    assert row.volume is not None
                    self._settle.unclaim(bytes.fromhex(medium), row.volume, row.id)
        with self._floor.catalog.transaction():
            for row in [*rows, whole]:
                self._operations.drop(row, why)

    # --- what was left in between --------------------------------------------------------------------

    def decide(self) -> None:
        """Ends what a crash left prepared, of those whose volumes are all there."""
        catalog = self._floor.catalog
        for whole in catalog.operations(running=True, limit=1 << 30):
            if "members" not in whole.prepared:
                continue
            with left_to_the_next_start(f"the end of {whole.verb} {whole.id}"):
                rows = [row.volume for row in self._operations.parts(whole)]
                volumes = [catalog.volume_get(uuid) for uuid in rows if uuid is not None]
                with (
                    self.locked([volume for volume in volumes if volume is not None]),
                    logged_as(whole),
                ):
                    self._decide(whole)

    def _decide(self, whole: Operation) -> None:
        rows = self._operations.parts(whole)
        if whole.state == "running":
            self._operations.end_group(whole.id)
            return
        if any(row.state == "prepared" for row in rows):
            if self._said.new(whole.id, "waits"):
                log.warning("%s waits for a volume that is down", named(whole))
            return
        held = [row for row in rows if row.in_force is not None]
        if len(held) == len(rows):
            with self._floor.catalog.transaction():
                for row in rows:
                    self._name(row)
                self._in_force(whole)
            self._tell_stores(rows)
            return
        for row in held:
            self._give_up(row)
        missing = ", ".join(row.volume_name for row in rows if row.in_force is None)
        self._operations.drop(whole, f"{missing} could not be {DONE[whole.verb]}, so none is")

    def _name(self, row: Operation) -> None:
        """The save gets the label that was asked for, unless another has it by now, and its hold."""
        assert row.volume is not None
        assert row.save is not None
        label = row.prepared["label"]
        if self._floor.catalog.save_get(row.volume, row.save) is None:
            return
        self._settle.hold(row, row.save)
        if label and self._floor.catalog.save_by_label(row.volume, label) is None:
            self._floor.catalog.save_set(row.volume, row.save, label=label)

    def _tell_stores(self, rows: list[Operation]) -> None:
        """See Stores.hold."""
        for row in rows:
            self._points.tell_store(self._operations.row(row.id))

    def _give_up(self, row: Operation) -> None:
        """A save that the others have no part in: its medium is free, or a leg again."""
        assert row.volume is not None
        assert row.save is not None
        volume = self._floor.catalog.volume_get(row.volume)
        save = self._floor.catalog.save_get(row.volume, row.save)
        if volume is None or save is None:
            return
        name = save_name(volume, save)
        log.warning("%s is given up: it belongs to others that could not be saved", name)
        if row.prepared["kind"] == "split":
            self._saves.resync(Ask("resync", {"save": name}), name)
        else:
            self._saves.release(Ask("release", {"save": name}), name, False)
        self._floor.catalog.operation_set(
            row.id, state="aborted", error="given up: another volume could not be saved"
        )

    # --- what they share -----------------------------------------------------------------------------

    def members(self, names: list[str]) -> list[Volume]:
        """The volumes of these names. Raises Refused (USAGE, NOT_FOUND)."""
        return self._groups.members(names)

    @contextlib.contextmanager
    def locked(self, volumes: list[Volume]) -> Iterator[None]:
        """Holds the locks of all."""
        with contextlib.ExitStack() as stack:
            for uuid in sorted(volume.uuid for volume in volumes):
                stack.enter_context(self._floor.runtime(uuid).lock)
            yield

    @contextlib.contextmanager
    def asked_of_saves(self, ask: Ask, names: list[str], force: bool) -> Iterator[None]:
        """Holds the locks of the volumes of these saves. Raises Refused where it may not be asked."""
        volumes = self.members([self._floor.owner(name).name for name in names])
        with self.locked(volumes):
            for volume in volumes:
                ask.check_rights(self._floor.volume(volume.name))
            ask.check_force(force)
            yield

    def preview(
        self, ask: Ask, volumes: list[Volume], members: list[Shape], changed: int = 0
    ) -> Shape:
        """What each would get, and the operation with number 0."""
        row = Operation(
            0,
            ask.verb,
            volume_name=", ".join(volume.name for volume in volumes),
            extents_changed=changed,
            started=now(),
            door=ask.door,
            request=ask.request,
        )
        return {"operation": self._views.operation(row), "preview": True, "members": members}

    def answer(self, whole: Operation, more: Shape | None = None) -> Shape:
        """The verb's answer, with each volume's save: of a swap the one that keeps what was."""
        rows = self._operations.parts(whole)
        saves = []
        for row in rows:
            volume = self._floor.volume(row.volume_name)
            generation = row.prepared["frozen"] if row.verb == "swap" else row.save
            assert generation is not None
            save = self._floor.catalog.save_get(volume.uuid, generation)
            assert save is not None
            saves.append(self._views.save(volume, save))
        made = {"operations": [self._views.operation(row) for row in rows], "saves": saves}
        return self._operations.answer(whole, {**made, **(more or {})})


def checked(deadline: int | None) -> int:
    """In milliseconds. Raises Refused (USAGE)."""
    if deadline is None:
        return DEADLINE
    if deadline not in DEADLINES:
        raise Refused(
            Reason.USAGE,
            f"a deadline is {DEADLINES[0]} to {DEADLINES[-1]} ms, not {deadline}",
            hint=f"leave it out for {DEADLINE} ms",
        )
    return deadline


def _prepared(volume: Volume, label: str, kind: str, medium: bytes) -> dict[str, Any]:
    return {"kind": kind, "label": label, "medium": medium.hex(), "frozen": volume.generation}


def _total(volume: Volume, chosen: dict[bytes, tuple[str, bytes]]) -> int:
    return volume.size if chosen[volume.uuid][0] == "copy" else 0


def each(names: Sequence[Any], check: Callable[[Any], Found]) -> list[Found]:
    """What a check finds for each. Raises Refused with all that it refuses."""
    found, refused = [], []
    for name in names:
        try:
            found.append(check(name))
        except Refused as error:
            refused.append(error)
    if refused:
        raise several(refused)
    return found


def several(refused: list[Refused]) -> Refused:
    """One refusal of what several volumes refuse."""
    first = refused[0]
    if len(refused) == 1:
        return first
    return Refused(
        first.reason,
        "; ".join(error.message for error in refused),
        object=", ".join(error.object for error in refused),
        hint=first.hint,
        progress=first.progress,
    )


def refused_by(
    rows: list[Operation],
    results: list[Any],
    done: str = "saved",
    others: str = "so none of them is",
) -> Refused:
    """Which volumes could not be, and why."""
    faults = [
        Refused(
            result.reason,
            f"{row.volume_name} could not be {done}: {result.message}",
            object=row.volume_name,
            hint=result.hint,
        )
        for row, result in zip(rows, results, strict=True)
        if isinstance(result, Refused) and not isinstance(result, CalledOff)
    ]
    if not faults:
        return next(result for result in results if isinstance(result, Refused))
    error = several(faults)
    error.message += f"; {others}"
    return error
