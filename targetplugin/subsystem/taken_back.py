"""Several volumes recovered as one: while hosts of all are held, and before any is switched, it is written
down that the recover goes on.

So a crash leaves it on none, or on all: a volume that has no record of it, while another has, goes on with it
when it starts, before its hosts see it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from targetplugin.catalog import Operation, Volume, maps
from targetplugin.engine import RecoverMember
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.floor import Floor, save_name
from targetplugin.subsystem.operations import Ask, Operations
from targetplugin.subsystem.points import MEDIUM_CHANGED, Points, ToRecover
from targetplugin.subsystem.settle import Settle
from targetplugin.subsystem.states import Verb
from targetplugin.subsystem.together import Together, checked, refused_by, several
from targetplugin.subsystem.views import Shape, Views, now


class TakenBack:
    """See the module."""

    def __init__(
        self,
        floor: Floor,
        views: Views,
        operations: Operations,
        settle: Settle,
        points: Points,
        together: Together,
    ) -> None:
        self._floor = floor
        self._views = views
        self._operations = operations
        self._settle = settle
        self._points = points
        self._together = together

    def recover(self, ask: Ask, names: list[str], force: bool, deadline: int | None) -> Shape:
        """See Subsystem.recover_group."""
        deadline = checked(deadline)
        volumes = self._together.members([self._floor.owner(name).name for name in names])
        with self._together.locked(volumes):
            for volume in volumes:
                ask.check_rights(self._floor.volume(volume.name))
            ask.check_force(force)
            if (known := self._operations.again(ask)) is not None:
                return known
            found = self._check_recover(names, force)
            if ask.preview:
                return self._preview_recover(ask, found)
            parts = [
                (
                    one.volume,
                    one.save.generation,
                    {
                        "frozen": one.volume.generation,
                        "medium": one.medium.hex(),
                        "pending": maps.count(one.base),
                    },
                    0,
                )
                for one in found
            ]
            whole, rows = self._operations.begin_group(ask, parts)
            with self._together.undone(whole, rows):
                sources = [self._points.source_spec(one) for one in found]
                results = self._floor.engine.recover_group(
                    [
                        RecoverMember(one.handle, row.id, source, one.save.generation, one.base)
                        for one, row, source in zip(found, rows, sources, strict=True)
                    ],
                    deadline,
                    lambda: self._commit(whole),
                )
                if all(isinstance(result, Refused) for result in results):
                    raise refused_by(rows, results, "recovered")
            return self._recovered(whole, rows, found, sources, results)

    def _check_recover(self, names: list[str], force: bool) -> list[ToRecover]:
        found, refused = [], []
        for name in names:
            try:
                volume, save = self._floor.save(name)
                found.append(self._points.check_recover(Verb.RECOVER, volume, save, force))
            except Refused as error:
                refused.append(error)
        if refused:
            raise several(refused)
        return found

    def _preview_recover(self, ask: Ask, found: list[ToRecover]) -> Shape:
        changed = [maps.count(self._views.changed_since(one.volume, one.save)) for one in found]
        row = Operation(
            0,
            ask.verb,
            volume_name=", ".join(one.volume.name for one in found),
            extents_changed=sum(changed),
            started=now(),
            door=ask.door,
            request=ask.request,
        )
        members = [
            {
                "volume": one.volume.name,
                "save": save_name(one.volume, one.save),
                "extents_changed": count,
            }
            for one, count in zip(found, changed, strict=True)
        ]
        return {"operation": self._views.operation(row), "preview": True, "members": members}

    def _commit(self, whole: Operation) -> None:
        """From here on a start that finds it in force on one volume goes on with it on the others."""
        self._floor.catalog.operation_set(whole.id, state="running", in_force=now())

    def _recovered(
        self,
        whole: Operation,
        rows: list[Operation],
        found: list[ToRecover],
        sources: list[Any],
        results: list[Any],
    ) -> Shape:
        done = [result for result in results if not isinstance(result, Refused)]
        with self._floor.catalog.transaction():
            settled = [
                self._settle.commit(row, self._points.recovered(one, source, result))
                for row, one, source, result in zip(rows, found, sources, results, strict=True)
                if not isinstance(result, Refused)
            ]
            self._floor.catalog.operation_set(
                whole.id,
                extents_changed=sum(row.extents_changed for row in settled),
                bytes_total=sum(row.bytes_total for row in settled),
                pause_us=max(result.pause.whole for result in done),
                drain_us=max(result.pause.drain for result in done),
                pause_work_us=max(result.pause.work for result in done),
            )
        for row, one, result in zip(rows, found, results, strict=True):
            self._settle.trailers(one.volume.uuid, row.id)
            if not isinstance(result, Refused):
                self._floor.engine.set_sense_ua(one.handle, *MEDIUM_CHANGED)
        self._floor.tell()
        if len(done) < len(results):
            error = refused_by(rows, results, "recovered", "the others are, and it follows")
            error.hint = "look at its disks, and restart targetplugind"
            raise error
        return self._together.answer(whole)

    def go_on(
        self, volume: Volume, handle: int, in_force: Callable[[Operation], bool | None]
    ) -> None:
        """Takes a volume that has just started, and has no hosts yet, where the others of a recover are.
        Where it is known to be in force on none of them, it never was, and is dropped.

        Args:
            in_force: what the media of another volume tell of its part; None: they are not all there.

        Raises:
            Refused: its save can't be had: then hosts must not see it as it is.
        """
        catalog = self._floor.catalog
        for row in catalog.operations(volume.uuid, running=True):
            if row.verb != "recover" or row.state != "prepared" or row.save is None:
                continue
            whole = catalog.operation_get(row.prepared["group"])
            assert whole is not None
            others = [part for part in self._operations.parts(whole) if part.id != row.id]
            if all(in_force(part) is False for part in others):
                with catalog.transaction():
                    for one in [row, *others, whole]:
                        self._operations.drop(one, "the daemon ended before it was in force")
                continue
            now_there = catalog.volume_get(volume.uuid)
            save = catalog.save_get(volume.uuid, row.save)
            assert now_there is not None
            if save is None:
                raise Refused(
                    Reason.STATE,
                    f"{volume.name} is being recovered from {volume.name}@{row.save}, which is gone",
                    object=volume.name,
                )
            found = self._points.to_recover(now_there, save, handle)
            source = self._points.source_spec(found)
            point = self._floor.engine.recover(handle, source, save.generation, found.base, row.id)
            self._settle.point(row, self._points.recovered(found, source, point))
            self._floor.engine.set_sense_ua(handle, *MEDIUM_CHANGED)
