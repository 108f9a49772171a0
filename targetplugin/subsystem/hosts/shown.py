"""Saves that hosts see, read-only: each with an identity, a view of the engine's and a storage
object of its own, so that no host takes it for the volume.

Held under the lock of the save's volume. What is told the kernel is exports.py's.
"""

from __future__ import annotations

import logging

from msgspec import Struct

from targetplugin import logs
from targetplugin.catalog import Export, Save, Volume
from targetplugin.catalog import Shown as ShownRow
from targetplugin.engine import ViewSpec
from targetplugin.errors import Reason, Refused
from targetplugin.media.medium import Medium
from targetplugin.subsystem.ground import blocks
from targetplugin.subsystem.ground.floor import Floor, save_name
from targetplugin.subsystem.ground.identity import naa, of_save
from targetplugin.subsystem.ground.operations import Operations
from targetplugin.subsystem.ground.states import Verb
from targetplugin.subsystem.ground.views import Shape, Views
from targetplugin.subsystem.hosts.exports import Asked, Exports
from targetplugin.subsystem.saves.content import PIECE, Content, is_looked_up

log = logging.getLogger(__name__)


class Picture(Struct, frozen=True):
    """A save as hosts see it: what exports.py takes like a volume.

    Attributes:
        uuid: its identity, the same whenever it is shown.
        name: `ledger@3`, of the storage object too; no volume can be called so.
        size: bytes.
        blocks: name of the format of its blocks, the volume's.
    """

    uuid: bytes
    name: str
    size: int
    blocks: str


def picture(volume: Volume, save: Save) -> Picture:
    identity = of_save(volume.uuid, save.generation)
    return Picture(identity, save_name(volume, save), volume.size, volume.blocks)


class Shown:
    """See the module."""

    def __init__(
        self, floor: Floor, views: Views, operations: Operations, exports: Exports
    ) -> None:
        self._floor = floor
        self._catalog = floor.catalog
        self._views = views
        self._operations = operations
        self._exports = exports
        self._looked_up: set[bytes] = set()  # identities of what is served so
        self._said = logs.Said()

    # --- verbs -------------------------------------------------------------------------------

    def export(self, name: str, asked: Asked) -> Shape:
        """See Subsystem.export."""
        volume = self._floor.owner(name)
        with self._floor.runtime(volume.uuid).lock:
            volume, save = self._floor.save(name)
            self._views.require(Verb.EXPORT, volume, save)
            self._operations.check_recorded(volume)
            one = picture(volume, save)
            known = self._catalog.shown_get(volume.uuid, save.generation)
            old = known.export if known else None
            row = self._exports.merged(one, old, asked)
            answer = {**self._views.export(one.name, one.uuid, row), "changed": row != old}
            if asked.preview:
                return answer
            self._begin(volume, save)
            try:
                self._exports.offer(one, old, row, lambda export: self._put(volume, save, export))
            except Refused:
                if old is None:
                    self._end(one)
                raise
            return answer

    def _put(self, volume: Volume, save: Save, export: Export | None) -> None:
        if export is not None:
            self._catalog.shown_put(ShownRow(volume.uuid, save.generation, export))
        elif self._catalog.shown_get(volume.uuid, save.generation) is not None:
            self._catalog.shown_remove(volume.uuid, save.generation)

    def unexport(
        self, name: str, initiators: list[str] | None, force: bool, preview: bool
    ) -> Shape:
        """See Subsystem.unexport."""
        volume = self._floor.owner(name)
        with self._floor.runtime(volume.uuid).lock:
            volume, save = self._floor.save(name)
            one = picture(volume, save)
            row = self._catalog.shown_get(volume.uuid, save.generation)
            left = self._exports.withdraw(
                one,
                row.export if row else None,
                initiators,
                force,
                preview,
                lambda export: self._put(volume, save, export),
            )
            if not left.initiators and not preview:
                self._end(one)
            return self._views.export(one.name, one.uuid, left)

    def show(self, name: str) -> Shape:
        """What a logical unit tells hosts of it: name, naa, size, lengths of blocks. Takes no lock."""
        volume, save = self._floor.save(name)
        one = picture(volume, save)
        block = blocks.of(one.blocks)
        return {
            "name": one.name,
            "naa": naa(one.uuid),
            "size": one.size,
            "block_size": block.logical,
            "physical_block_size": block.physical,
        }

    def read(self, name: str, offset: int, length: int) -> bytes:
        """What a shown save holds, where the engine does not read it by itself. Takes no lock."""
        volume, save = self._floor.save(name)
        content = Content(self._floor, volume, save)
        end = offset + length
        return b"".join(content.read(at, min(PIECE, end - at)) for at in range(offset, end, PIECE))

    def name_of(self, identity: bytes) -> str | None:
        """`ledger@3`, of what is shown under this identity."""
        for row in self._catalog.shown():
            volume = self._catalog.volume_get(row.volume)
            if row.export.volume == identity and volume is not None:
                return f"{volume.name}@{row.generation}"
        return None

    # --- the engine's view ---------------------------------------------------------------------

    def _begin(self, volume: Volume, save: Save) -> None:
        """Serves the view, unless that is done already. Raises Refused (STATE, BUSY).

        What is not whole is looked up in what its volume's core knows, for only that keeps a host's write
        from what is being read; from when it is whole its medium is read by the engine.
        """
        one = picture(volume, save)
        if self._floor.runtime(one.uuid).handle is not None:
            return
        if is_looked_up(save):
            self._floor.handle(volume)
            self._floor.show(self._view(one, [], looked_up=True))
            self._looked_up.add(one.uuid)
            return
        media = [self._floor.media[u] for u in save.media if self._is_right(u, volume)]
        if not media:
            wanted = ", ".join(self._floor.medium_name(uuid) for uuid in save.media)
            raise Refused(
                Reason.STATE,
                f"{one.name} can't be shown: {wanted} is missing",
                object=one.name,
                hint=f"bring {wanted} back",
            )
        self._floor.check_over(medium.trailer.uuid for medium in media if medium.trailer)
        self._floor.show(self._view(one, media))

    def _view(self, one: Picture, media: list[Medium], *, looked_up: bool = False) -> ViewSpec:
        return ViewSpec(
            one.uuid,
            one.size,
            [medium.spec() for medium in media],
            looked_up,
            blocks.of(one.blocks).logical,
        )

    def _is_right(self, uuid: bytes, volume: Volume) -> bool:
        """Whether a medium is there, and says itself that it is the volume's."""
        medium: Medium | None = self._floor.media.get(uuid)
        trailer = medium.trailer if medium else None
        return trailer is not None and trailer.volume == volume.uuid

    def _end(self, one: Picture) -> None:
        self._exports.ring_gone(one)
        runtime = self._floor.runtime(one.uuid)
        if runtime.handle is not None:
            self._floor.engine.remove_volume(runtime.handle)
        self._floor.forget(one.uuid)
        self._looked_up.discard(one.uuid)

    # --- starts, and media that come and go ------------------------------------------------------

    def begin_all(self, volume: Volume, held: set[bytes]) -> bool:
        """Serves what is shown of a volume's saves, whether the volume is up or not, and from their media
        those that became whole. False where something can't be; it is logged, and hosts wait.

        Args:
            held: media on which a dead daemon's requests may not be over, which may read into the
                memory of rings (rule 19).
        """
        complete = True
        for row in self._catalog.shown(volume.uuid):
            save = self._catalog.save_get(row.volume, row.generation)
            assert save is not None  # the catalog sees to it
            one = picture(volume, save)
            if self._floor.runtime(one.uuid).handle is not None:
                if one.uuid not in self._looked_up or is_looked_up(save) or save.fill != "whole":
                    continue
                self._end(one)  # it became whole
            try:
                if held.intersection(save.media):
                    raise Refused(
                        Reason.BUSY, "requests of a daemon that ended are not over on its medium"
                    )
                self._begin(volume, save)
                self._exports.adopt(one)
                self._said.forget(one.name)
            except (Refused, OSError) as error:
                complete = False
                if self._said.new(one.name, str(error)):
                    fields = {"volume": volume.name, "save": one.name}
                    log.error("%s is not shown: %s", one.name, error, extra=logs.extra(fields))
        return complete

    def uses(self, uuid: bytes) -> list[Picture]:
        """What is shown from a medium now."""
        save = self._catalog.save_on(uuid)
        volume = self._catalog.volume_get(save.volume) if save else None
        if save is None or volume is None:
            return []
        one = picture(volume, save)
        shown = self._catalog.shown_get(volume.uuid, save.generation)
        return [one] if shown and self._floor.runtime(one.uuid).handle is not None else []

    def lost(self, uuid: bytes) -> None:
        """A medium went away and is to be closed: what is shown from it is served no more, until
        begin_all().
        """
        for one in self.uses(uuid):
            fields = {"volume": one.name.partition("@")[0], "save": one.name}
            text = "%s is shown no more: its medium is gone"
            log.warning(text, one.name, extra=logs.extra(fields))
            self._end(one)

    def volume_down(self, volume: Volume) -> None:
        """The volume is to be stopped: what is looked up in its legs is served no more, until
        begin_all().
        """
        for row in self._catalog.shown(volume.uuid):
            save = self._catalog.save_get(row.volume, row.generation)
            assert save is not None  # the catalog sees to it
            one = picture(volume, save)
            if one.uuid in self._looked_up:
                self._exports.hold(one)
                self._end(one)

    # --- the kernel ------------------------------------------------------------------------------

    def restore(self) -> bool:
        """As Exports.restore, of what is shown."""
        complete = True
        for row in self._catalog.shown():
            volume = self._catalog.volume_get(row.volume)
            if volume is None:
                continue
            with self._floor.runtime(volume.uuid).lock:
                now = self._catalog.shown_get(row.volume, row.generation)
                save = self._catalog.save_get(row.volume, row.generation)
                if now is None or save is None:
                    continue
                one = picture(volume, save)
                with logs.about(volume=volume.name, save=one.name):
                    complete = self._exports.restore_one(one, now.export) and complete
        return complete

    def ring_changed(self, name: str, present: bool) -> None:
        """See Subsystem.ring_changed."""
        try:
            volume = self._floor.owner(name)
            with self._floor.runtime(volume.uuid).lock:
                one = picture(*self._floor.save(name))
                if present:
                    self._exports.adopt(one)
                else:
                    self._exports.ring_gone(one)
        except Refused as error:
            log.debug("the storage object %s is not ours to serve: %s", name, error.message)

    def rings_gone(self) -> None:
        """Lets all rings of what is shown go; exports stay, and hosts wait."""
        for row in self._catalog.shown():
            volume = self._catalog.volume_get(row.volume)
            save = self._catalog.save_get(row.volume, row.generation)
            if volume is not None and save is not None:
                with self._floor.runtime(volume.uuid).lock:
                    self._exports.ring_gone(picture(volume, save))
