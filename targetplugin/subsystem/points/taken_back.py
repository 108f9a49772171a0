"""Several volumes recovered as one, and such a recover undone as one; see committed.py for what a crash
leaves of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from targetplugin.catalog import Operation, Save, Volume, maps
from targetplugin.engine import CalledOff, RecoverMember
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.ground.floor import Floor, save_name
from targetplugin.subsystem.ground.operations import Ask, Operations
from targetplugin.subsystem.ground.states import Verb
from targetplugin.subsystem.ground.states import Volume as VolumeState
from targetplugin.subsystem.ground.views import Shape, Views
from targetplugin.subsystem.mirror.settle import Settle
from targetplugin.subsystem.points.committed import Committed
from targetplugin.subsystem.points.point import Points, ToRecover
from targetplugin.subsystem.points.together import DONE, Together, checked, each, refused_by
from targetplugin.subsystem.points.undo import Undo
from targetplugin.subsystem.points.undo_together import Parts, UndoTogether


class TakenBack:
    """See the module.

    Args:
        superseded: as Points has it.
    """

    def __init__(
        self,
        floor: Floor,
        views: Views,
        operations: Operations,
        settle: Settle,
        points: Points,
        undo: Undo,
        together: Together,
        committed: Committed,
        superseded: Callable[[Volume], None],
    ) -> None:
        self._floor = floor
        self._views = views
        self._operations = operations
        self._settle = settle
        self._points = points
        self._undo = undo
        self._undos = UndoTogether(floor, operations, undo)
        self._together = together
        self._committed = committed
        self._superseded = superseded
        for verb in ("recover", "undo"):
            committed.follows(verb, self._go_on)

    def recover(
        self, ask: Ask, names: list[str], force: bool, no_undo: bool, deadline: int | None
    ) -> Shape:
        """See Subsystem.recover_group."""
        deadline = checked(deadline)
        with self._together.asked_of_saves(ask, names, force):
            if (known := self._operations.again(ask)) is not None:
                return known

            def check(name: str) -> ToRecover:
                return self._points.check_recover(Verb.RECOVER, *self._floor.save(name), force)

            return self._take_back(ask, each(names, check), no_undo, deadline)

    def undo(
        self,
        ask: Ask,
        names: list[str],
        op: int | None,
        force: bool,
        no_undo: bool,
        deadline: int | None,
    ) -> Shape:
        """See Subsystem.undo_group."""
        deadline = checked(deadline)
        with self._together.asked_of_saves(ask, names, force):
            if (known := self._operations.again(ask)) is not None:
                return known
            volumes = self._together.members(names)
            undone, saves = self._undos.meant(volumes, op)

            def check(one: tuple[Volume, Save]) -> ToRecover:
                self._check_copied(one[0])
                return self._points.check_recover(Verb.UNDO, *one, force)

            found = each(list(zip(volumes, saves, strict=True)), check)
            return self._take_back(ask, found, no_undo, deadline, undone.id)

    def _check_copied(self, volume: Volume) -> None:
        """Raises Refused (BUSY) while a recover of the volume still copies, which alone can be undone."""
        running = self._views.running(volume)
        if running and self._views.volume_state(volume) is VolumeState.RECOVERING:
            raise Refused(
                Reason.BUSY,
                f"undo is refused: {volume.name} is taking a save back, and several are undone as one only"
                " when all is copied",
                object=volume.name,
                hint="wait until the operation is done (status shows its progress)",
                progress=self._views.progress(running)[0],
            )

    def _take_back(
        self,
        ask: Ask,
        found: list[ToRecover],
        no_undo: bool,
        deadline: int,
        undone: int | None = None,
    ) -> Shape:
        with self._floor.pool:
            undos, why = self._undos.choose(found, no_undo)
            if ask.preview:
                onto = [undo.medium and self._floor.medium_name(undo.medium) for undo in undos]
                return {**self._preview(ask, found, onto), "undo_why": why}
            mark = {} if undone is None else {"undone": undone}
            parts = [
                (
                    one.volume,
                    one.save.generation,
                    {
                        "frozen": one.volume.generation,
                        "medium": one.medium.hex(),
                        "pending": maps.count(one.base),
                        **mark,
                    },
                    0,
                )
                for one in found
            ]
            whole, rows = self._operations.begin_group(ask, parts)
            with self._together.undone(whole, rows):
                each_part = self._undos.claim(found, Parts(rows, undos, why))
        with self._together.undone(whole, rows):
            sources = [self._points.source_spec(one) for one in found]
            each_part, results = self._fix(whole, found, sources, each_part, deadline)
            if all(isinstance(result, Refused) for result in results):
                raise refused_by(rows, results, DONE[whole.verb])
        fixed = [
            None if isinstance(result, Refused) else self._points.recovered(one, source, result)
            for one, source, result in zip(found, sources, results, strict=True)
        ]
        handles = [one.handle for one in found]
        self._committed.settled(whole, each_part.rows, handles, results, fixed)
        if not each_part.why:
            for one in found:
                self._superseded(one.volume)
        more: Shape = {"undos": self._undos.taken(each_part.rows), "undo_why": each_part.why}
        if undone is not None:
            more["undone"] = undone
        return self._together.answer(whole, more)

    def _preview(self, ask: Ask, found: list[ToRecover], onto: list[Any]) -> Shape:
        changed = [maps.count(self._views.changed_since(one.volume, one.save)) for one in found]
        members = [
            {
                "volume": one.volume.name,
                "save": save_name(one.volume, one.save),
                "extents_changed": count,
                "undo_onto": medium,
            }
            for one, count, medium in zip(found, changed, onto, strict=True)
        ]
        volumes = [one.volume for one in found]
        return self._together.preview(ask, volumes, members, sum(changed))

    def _fix(
        self,
        whole: Operation,
        found: list[ToRecover],
        sources: list[Any],
        parts: Parts,
        deadline: int,
    ) -> tuple[Parts, list[Any]]:
        """The engine's results. No recover is refused for want of undo saves; what was late with them
        is not asked for again, for that would hold hosts once more.
        """
        if not parts.why:
            results = self._ask(whole, found, sources, parts, deadline)
            refused = [result for result in results if isinstance(result, Refused)]
            if len(refused) < len(results) or any(one.reason is Reason.BUSY for one in refused):
                return parts, results
            why = next((one for one in refused if not isinstance(one, CalledOff)), refused[0])
            parts = self._undos.without(parts, why.message)
        return parts, self._ask(whole, found, sources, parts, deadline)

    def _ask(
        self,
        whole: Operation,
        found: list[ToRecover],
        sources: list[Any],
        parts: Parts,
        deadline: int,
    ) -> list[Any]:
        try:
            onto = [self._undo.onto(undo) for undo in parts.undos]
        except Refused as refused:  # one went away since it was claimed
            return [refused for _ in found]
        members = [
            RecoverMember(
                one.handle,
                row.id,
                source,
                one.save.generation,
                one.base,
                medium,
                undo.lacks,
            )
            for one, row, source, medium, undo in zip(
                found, parts.rows, sources, onto, parts.undos, strict=True
            )
        ]
        commit = partial(self._committed.commit, whole)
        return self._floor.engine.recover_group(members, deadline, commit)

    def _go_on(self, row: Operation, volume: Volume, save: Save, handle: int) -> None:
        found = self._points.to_recover(volume, save, handle)
        source = self._points.source_spec(found)
        with self._floor.pool:
            row, undo = self._undo.claim_again(row, volume)
        row, undo, point = self._undo.recover(row, handle, source, found.base, undo)
        self._settle.point(row, self._points.recovered(found, source, point))
        if undo.medium is not None:
            self._superseded(volume)
