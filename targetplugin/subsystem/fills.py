"""Fill: a save without fill becomes whole on a spare, beside the hosts, and leaves the store.

What it is worth is looked up by the engine; see imageruns.py for the thread that copies it.
"""

from __future__ import annotations

from targetplugin.catalog import Operation, Save, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.media.trailer import Role
from targetplugin.subsystem.content import Content
from targetplugin.subsystem.floor import Floor, save_name
from targetplugin.subsystem.imageruns import ENDED, ImageRuns, Told
from targetplugin.subsystem.images import Run
from targetplugin.subsystem.operations import Ask, Operations
from targetplugin.subsystem.pool import Pool
from targetplugin.subsystem.settle import Settle
from targetplugin.subsystem.states import Verb
from targetplugin.subsystem.stores import Stores
from targetplugin.subsystem.views import Shape, Views, now

PIECE = 1 << 20  # bytes that are looked up at once


class Fills:
    """See the module."""

    def __init__(
        self,
        floor: Floor,
        views: Views,
        operations: Operations,
        pool: Pool,
        settle: Settle,
        runs: ImageRuns,
        stores: Stores,
    ) -> None:
        self._floor = floor
        self._views = views
        self._operations = operations
        self._pool = pool
        self._settle = settle
        self._runs = runs
        self._stores = stores

    def fill(self, ask: Ask, name: str, onto: str | None, rate: int | None) -> Shape:
        """See Subsystem.fill."""
        with self._floor.locked(self._floor.owner(name)) as volume:
            ask.check_rights(volume)
            if (known := self._operations.again(ask)) is not None:
                return known
            volume, save = self._floor.save(name)
            self._views.require(Verb.FILL, volume, save)
            content = Content(self._floor, volume, save)
            with self._floor.pool:
                medium = self._pool.take(volume, onto=onto)
                if ask.preview:
                    made = self._operations.preview(ask, volume, save.generation)
                    return {**made, "onto": self._floor.medium_name(medium), "kind": "fill"}
                prepared = {"medium": medium.hex(), "rate": rate}
                row = self._operations.begin(
                    ask, volume, save.generation, prepared, bytes_total=volume.size
                )
                try:
                    self._settle.claim(medium, Role.SAVE, volume, row.id)
                except Refused as refused:
                    self._operations.drop(row, refused.message)
                    raise
                row = self._floor.catalog.operation_set(row.id, state="running", in_force=now())
            self._runs.begin(
                row,
                volume,
                lambda run, told: self._copy(run, told, volume, save, content, medium),
                self._end,
                after=self._after,
            )
            return self._operations.answer(row, {"save": self._views.save(volume, save)})

    def _copy(
        self, run: Run, told: Told, volume: Volume, save: Save, content: Content, medium: bytes
    ) -> None:
        """All of it, durably."""
        onto = self._floor.medium(medium)
        for at in range(0, volume.size, PIECE):
            count = min(PIECE, volume.size - at)
            try:
                data = content.read(at, count)
            except Refused as refused:
                if refused.reason is Reason.NOT_FOUND:
                    name = save_name(volume, save)
                    raise Refused(
                        Reason.STATE,
                        f"{name} was lost before all of it was copied: its store was full, or failed",
                        object=name,
                        hint="use another save; hold one that is not to go for want of room",
                    ) from refused
                raise
            onto.write(at, data)
            told((at + count) / volume.size)
            run.moved(count)

    def _end(self, row: Operation, done: bool) -> None:
        """Can be done twice: the operation ends later."""
        assert row.volume is not None
        assert row.save is not None
        save = self._floor.catalog.save_get(row.volume, row.save)
        if done and save is not None and save.sparse:
            medium = bytes.fromhex(row.prepared["medium"])
            self._floor.catalog.save_set(row.volume, row.save, fill="whole", media=(medium,))

    def _after(self, row: Operation) -> None:
        """It needs nothing of the store any more, once the catalog says so."""
        assert row.volume is not None
        assert row.save is not None
        volume = self._floor.catalog.volume_get(row.volume)
        save = self._floor.catalog.save_get(row.volume, row.save)
        if volume is not None and save is not None and not save.sparse:
            self._stores.released(volume, row.save, row.id)

    def drop(self, row: Operation) -> None:
        """At a start: what was under way when the daemon ended is undone, unless it was over but for its
        end. The medium is freed when the volume starts.
        """
        assert row.volume is not None
        assert row.save is not None
        save = self._floor.catalog.save_get(row.volume, row.save)
        if save is not None and bytes.fromhex(row.prepared["medium"]) in save.media:
            self._runs.over(row, "done", None, 1.0, self._end, free_others=False)
            return
        self._runs.over(row, "failed", ENDED, row.progress, self._end, free_others=False)
