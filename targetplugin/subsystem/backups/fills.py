"""Fill: a save without fill becomes whole on a spare, beside the hosts, and leaves the store.

What it is worth is looked up by the engine; see imageruns.py for the thread that copies it. A daemon that
ends goes on with it at its next start, from where it was noted to be.
"""

from __future__ import annotations

import logging
import time

from targetplugin.catalog import Operation, Save, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.media.trailer import Role
from targetplugin.subsystem.backups.imageruns import ImageRuns, Told
from targetplugin.subsystem.ground.floor import Floor, save_name
from targetplugin.subsystem.ground.operations import Ask, Operations, logged_as, named
from targetplugin.subsystem.ground.states import Verb
from targetplugin.subsystem.ground.views import Shape, Views, now
from targetplugin.subsystem.hosts.shown import Shown
from targetplugin.subsystem.images.qemu_img import Run, Stopped
from targetplugin.subsystem.mirror.pool import Pool
from targetplugin.subsystem.mirror.settle import Settle, left_to_the_next_start
from targetplugin.subsystem.saves.content import PIECE, Content
from targetplugin.subsystem.saves.stores import Stores

log = logging.getLogger(__name__)
KEEP = 10.0  # seconds after which it is noted how far it is


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
        shown: Shown,
    ) -> None:
        self._floor = floor
        self._views = views
        self._operations = operations
        self._pool = pool
        self._settle = settle
        self._runs = runs
        self._stores = stores
        self._shown = shown

    def fill(self, ask: Ask, name: str, onto: str | None, rate: int | None) -> Shape:
        """See Subsystem.fill."""
        with self._floor.locked(self._floor.owner(name)) as volume:
            ask.check_rights(volume)
            if (known := self._operations.again(ask)) is not None:
                return known
            volume, save = self._floor.save(name)
            self._views.require(Verb.FILL, volume, save)
            self._floor.handle(volume)
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
            self._begin(row, volume, save)
            return self._operations.answer(row, {"save": self._views.save(volume, save)})

    # --- the copy ----------------------------------------------------------------------------

    def _begin(self, row: Operation, volume: Volume, save: Save) -> None:
        self._runs.begin(
            row,
            volume,
            lambda run, told: self._copy(run, told, row, volume, save),
            self._end,
            after=self._after,
            lasts=True,
        )

    def _copy(self, run: Run, told: Told, row: Operation, volume: Volume, save: Save) -> None:
        """What is not copied yet, durably."""
        content = Content(self._floor, volume, save)
        onto = self._floor.medium(bytes.fromhex(row.prepared["medium"]))
        kept = time.monotonic()
        for at in range(row.bytes_copied, volume.size, PIECE):
            end = min(at + PIECE, volume.size)
            try:
                data = content.read(at, end - at)
            except Refused as refused:
                if refused.reason is Reason.NOT_FOUND:
                    raise _lost(save_name(volume, save)) from refused
                raise
            onto.write(at, data)
            told(end / volume.size)
            try:
                run.moved(end - at)
            except Stopped:
                self._note(row, volume, end)
                raise
            if time.monotonic() - kept > KEEP:
                self._note(row, volume, end)
                kept = time.monotonic()

    def _note(self, row: Operation, volume: Volume, end: int) -> None:
        """All up to here is on the medium. Where the catalog can't take it, that is copied again."""
        try:
            self._floor.catalog.operation_set(row.id, bytes_copied=end, progress=end / volume.size)
        except Refused as refused:
            log.warning("how far %s is can't be noted: %s", named(row), refused.message)

    # --- the end of it -----------------------------------------------------------------------

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
            self._shown.begin_all(volume, set())
            self._stores.released(volume, row.save, row.id)

    # --- a start -----------------------------------------------------------------------------

    def drop(self, row: Operation) -> None:
        """At a start: one that was over but for its end is ended; others go on when their volume is
        there.
        """
        assert row.volume is not None
        assert row.save is not None
        save = self._floor.catalog.save_get(row.volume, row.save)
        if save is not None and bytes.fromhex(row.prepared["medium"]) in save.media:
            self._runs.over(row, "done", None, 1.0, self._end, free_others=False)

    def media(self) -> set[bytes]:
        """Those that are being filled, or wait for it."""
        return set(self._views.fills())

    def go_on(self, volume: Volume) -> None:
        """Goes on with those of a volume that no thread has: the daemon ended meanwhile. One whose medium
        is missing waits for it. Call it with the volume's lock, when the volume is up.
        """
        for row in self._operations.running(volume.uuid, "fill"):
            if row.id not in self._floor.runtime(volume.uuid).tasks:
                with logged_as(row), left_to_the_next_start(f"how fill {row.id} goes on"):
                    self._go_on(row, volume)

    def _go_on(self, row: Operation, volume: Volume) -> None:
        assert row.save is not None
        save = self._floor.catalog.save_get(volume.uuid, row.save)
        uuid = bytes.fromhex(row.prepared["medium"])
        name = self._floor.medium_name(uuid)
        medium = self._floor.media.get(uuid)
        if save is None or save.fill != "unfilled":
            error = _lost(f"{volume.name}@{row.save}").message
            self._runs.over(row, "failed", error, row.progress, self._end)
        elif medium is None:
            why = f"{name} is missing; the fill goes on when it is back"
            if row.error != why:
                self._floor.catalog.operation_set(row.id, error=why)
        elif medium.trailer is None or medium.trailer.op != row.id:
            error = f"{name} was given to something else meanwhile"
            self._runs.over(row, "failed", error, row.progress, self._end)
        else:
            if row.error:
                row = self._floor.catalog.operation_set(row.id, error=None)
            log.info("%s, goes on", named(row))
            self._begin(row, volume, save)


def _lost(name: str) -> Refused:
    return Refused(
        Reason.STATE,
        f"{name} was lost before all of it was copied: its store was full, or failed",
        object=name,
        hint="use another save; hold one that is not to go for want of room",
    )
