"""Several volumes swapped as one; see committed.py for what a crash leaves of it."""

from __future__ import annotations

from functools import partial

from targetplugin.catalog import Operation, Save, Volume
from targetplugin.engine import SwapMember
from targetplugin.errors import Refused
from targetplugin.subsystem.ground.floor import Floor, save_name
from targetplugin.subsystem.ground.operations import Ask, Operations
from targetplugin.subsystem.ground.views import Shape
from targetplugin.subsystem.mirror.settle import Settle
from targetplugin.subsystem.points.committed import Committed
from targetplugin.subsystem.points.point import Points, ToSwap
from targetplugin.subsystem.points.together import Together, checked, each, refused_by


class Swapped:
    """See the module."""

    def __init__(
        self,
        floor: Floor,
        operations: Operations,
        settle: Settle,
        points: Points,
        together: Together,
        committed: Committed,
    ) -> None:
        self._floor = floor
        self._operations = operations
        self._settle = settle
        self._points = points
        self._together = together
        self._committed = committed
        committed.follows("swap", self._go_on)

    def swap(self, ask: Ask, names: list[str], force: bool, deadline: int | None) -> Shape:
        """See Subsystem.swap_group."""
        deadline = checked(deadline)
        with self._together.asked_of_saves(ask, names, force):
            if (known := self._operations.again(ask)) is not None:
                return known
            found = each(names, lambda name: self._points.check_swap(name, force))
            if ask.preview:
                members = [
                    {"volume": one.volume.name, "save": save_name(one.volume, one.save)}
                    for one in found
                ]
                return self._together.preview(ask, [one.volume for one in found], members)
            parts = [
                (one.volume, one.save.generation, self._points.to_be_swapped(one), 0)
                for one in found
            ]
            whole, rows = self._operations.begin_group(ask, parts)
            with self._together.undone(whole, rows):
                results = self._floor.engine.swap_group(
                    [self._member(one, row) for one, row in zip(found, rows, strict=True)],
                    deadline,
                    partial(self._committed.commit, whole),
                )
                if all(isinstance(result, Refused) for result in results):
                    raise refused_by(rows, results, "swapped")
            fixed = [
                None if isinstance(result, Refused) else self._points.fixed(one.handle, result)
                for one, result in zip(found, results, strict=True)
            ]
            handles = [one.handle for one in found]
            self._committed.settled(whole, rows, handles, results, fixed)
            return self._together.answer(whole)

    def _member(self, one: ToSwap, row: Operation) -> SwapMember:
        legs = tuple(self._floor.medium(uuid).spec() for uuid in one.legs)
        return SwapMember(one.handle, row.id, legs, one.save.generation)

    def _go_on(self, row: Operation, volume: Volume, save: Save, handle: int) -> None:
        found = self._points.to_swap(volume, save, handle)
        # Of those that were its media some may be missing by now.
        prepared = {**row.prepared, "legs": [uuid.hex() for uuid in found.legs]}
        row = self._floor.catalog.operation_set(row.id, prepared=prepared)
        specs = list(self._member(found, row).legs)
        point = self._floor.engine.swap(handle, specs, save.generation, row.id)
        self._settle.point(row, self._points.fixed(handle, point))
