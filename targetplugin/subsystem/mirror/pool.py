"""The media: added, removed, listed, and the free ones chosen when a verb needs one.

Of the engine it asks only which media do not answer.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection

from targetplugin.catalog import MediumRow, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.media import discover, probe
from targetplugin.media import names as media_names
from targetplugin.media.by_path import by_path, exists
from targetplugin.media.layout import BLOCK
from targetplugin.media.medium import Medium
from targetplugin.media.trailer import Role
from targetplugin.subsystem.ground import blocks
from targetplugin.subsystem.ground.floor import Floor
from targetplugin.subsystem.ground.sizes import told
from targetplugin.subsystem.ground.views import LEFT_OVER, Shape, Views, now

log = logging.getLogger(__name__)


class Pool:
    """Media that were given to the subsystem, and which of them are free."""

    def __init__(self, floor: Floor, views: Views) -> None:
        self._floor = floor
        self._views = views

    def add(self, path: str, size: int | None, force: bool, name: str | None) -> Shape:
        """See Subsystem.media_add."""
        if not os.path.isabs(path):
            raise Refused(
                Reason.USAGE,
                f"{path!r} is not an absolute path",
                object=path,
                hint="give the path from /",
            )
        if exists(path):
            self._floor.check_answers(path)
        with self._floor.pool:
            self.check_known(path)
            medium = self._open(path, size, force)
            try:
                row = self._register(medium, force, name)
            except BaseException:
                medium.close()
                raise
            self._floor.media[row.uuid] = medium
            return self._views.medium(row)

    def check_known(self, path: str) -> None:
        """Raises Refused (EXISTS) where a path is a medium's."""
        rows = [row for row in self._floor.catalog.media() if row.uuid in self._floor.media]
        real, *others = by_path().real([path, *(row.path for row in rows)])
        for row, other in zip(rows, others, strict=True):
            if other == real:
                raise Refused(
                    Reason.EXISTS,
                    f"{path} is a medium already: {row.name}",
                    object=row.name,
                    hint="media list shows it",
                )

    def _open(self, path: str, size: int | None, force: bool) -> Medium:
        seen = by_path().look(path)
        if seen is None or seen.kind == "nothing":
            if path.startswith("/dev/"):
                raise Refused(
                    Reason.NOT_FOUND,
                    f"there is no {path}",
                    object=path,
                    hint="ls /dev/disk/by-id shows the disks",
                )
            if size is None:
                raise Refused(
                    Reason.NOT_FOUND,
                    f"there is no {path}",
                    object=path,
                    hint="give a size, and a sparse file is made there",
                )
            return Medium.create(path, size)
        if size is not None and seen.size != size:
            raise Refused(
                Reason.EXISTS,
                f"{path} is there already and has another size",
                object=path,
                hint="leave the size out to take the file as it is",
            )
        probe.check(path, force=force)
        return Medium.open(path)

    def _register(self, medium: Medium, force: bool, name: str | None) -> MediumRow:
        trailer = medium.trailer
        if trailer is not None and self._floor.catalog.medium_get(trailer.uuid) is not None:
            raise Refused(
                Reason.EXISTS,
                f"{medium.path} carries the identity of the medium "
                f"{self._floor.medium_name(trailer.uuid)}: it is a copy of it, or it has come back",
                object=medium.path,
                hint="remove that medium first, or wipe this one",
            )
        if trailer is not None and trailer.role is not Role.FREE and not force:
            raise Refused(
                Reason.DATA,
                f"{medium.path} holds data of the volume {trailer.volume_name}",
                object=medium.path,
                hint="use --force to give that data up",
            )
        taken = [row.name for row in self._floor.catalog.media()]
        if name is not None and name in taken:
            raise Refused(
                Reason.EXISTS, f"a medium is called {name} already", object=name, hint="use another"
            )
        medium.zero_trailer_room()
        trailer = medium.write_trailer(medium.fresh_trailer())
        return self._floor.catalog.medium_add(
            MediumRow(
                trailer.uuid,
                name or media_names.medium_name(medium.stable_path, taken),
                medium.stable_path,
                medium.kind,
                medium.capacity,
                medium.data_size,
                added=now(),
            )
        )

    def remove(self, name: str, force: bool, preview: bool) -> Shape:
        """See Subsystem.media_remove."""
        with self._floor.pool:
            row = self._floor.medium_row(name)
            shape = self._views.medium(row)
            left_over = shape["use"].startswith(LEFT_OVER)
            if shape["use"] and not (left_over and force):
                raise Refused(
                    Reason.STATE,
                    f"{row.name} is in use: {shape['use']}",
                    object=row.name,
                    hint="use --force to lose that"
                    if left_over
                    else "release the save, or delete the volume, first",
                )
            self._floor.check_over([row.uuid])
            medium = self._floor.media.get(row.uuid)
            if medium is None and not force:
                raise Refused(
                    Reason.STATE,
                    f"{row.name} is missing, so its trailer can't be wiped",
                    object=row.name,
                    hint="use --force to forget it all the same",
                )
            if preview:
                return shape
            if medium is not None:
                try:
                    medium.clear_trailer()
                except Refused as refused:
                    if not force:
                        refused.hint = "use --force to forget it with its trailer on it"
                        raise
                    log.warning("%s is forgotten with its trailer: %s", row.name, refused.message)
                medium.close()
                del self._floor.media[row.uuid]
            self._floor.catalog.medium_remove(row.uuid)
            return {**shape, "state": "removed"}

    def all(self) -> list[Shape]:
        """All media, by name."""
        rows = sorted(self._floor.catalog.media(), key=lambda row: row.name)
        return [self._views.medium(row) for row in rows]

    # --- spares ------------------------------------------------------------------------------

    def free(self, block: int = BLOCK, only: Collection[bytes] | None = None) -> list[MediumRow]:
        """The media that are there and hold nothing, the smallest first.

        Args:
            block: only those that take writes of so many bytes.
            only: of these, so that no other disk is asked whether it answers; None: of all.
        """
        silent = self._floor.engine.silent()
        rows = [
            row
            for row in self._floor.catalog.media()
            if row.uuid in self._floor.media
            and (only is None or row.uuid in only)
            and row.uuid not in silent
            and row.state not in ("stale", "failed")
            and self._floor.media[row.uuid].block_size <= block
            and self._is_free(row.uuid)
            and not self._views.use(row.uuid)
        ]
        answered = self._floor.patience.ask(discover.answers, [row.path for row in rows])
        rows = [row for row in rows if answered[row.path]]
        return sorted(rows, key=lambda row: (row.data_size, row.name))

    def _is_free(self, uuid: bytes) -> bool:
        """By its own word: what is claimed for an operation is not free any more."""
        trailer = self._floor.media[uuid].trailer
        return trailer is not None and trailer.role is Role.FREE

    def take(
        self, volume: Volume, *, onto: str | None = None, without: Collection[bytes] = ()
    ) -> bytes:
        """The medium that is to be used: the one named, else the smallest that fits.

        Hold the pool's lock.

        Args:
            without: media that the same operation has taken already.

        Raises:
            Refused: NO_MEDIUM, NOT_FOUND, or STATE where the one named is not free or too small.
        """
        named = [onto] if onto else None
        block = blocks.of(volume.blocks).logical
        return self.choose(volume.size, block, 1, named, volume.name, without)[0].uuid

    def choose(
        self,
        size: int,
        block: int,
        number: int,
        named: list[str] | None,
        what_for: str,
        without: Collection[bytes] = (),
    ) -> list[MediumRow]:
        """So many free media that a volume of `size` bytes fits on, in logical blocks of `block` bytes; the
        named ones, or the smallest.
        """
        only = None if named is None else {self._floor.medium_row(name).uuid for name in named}
        free = [row for row in self.free(block, only) if row.uuid not in without]
        if named is not None:
            return [self._named(name, size, block, what_for, free) for name in named]
        fitting = [row for row in free if row.data_size >= size]
        if len(fitting) < number:
            room = max((row.data_size for row in free), default=0)
            raise Refused(
                Reason.NO_MEDIUM,
                f"{what_for} needs {number} free medi{'um' if number == 1 else 'a'} of {told(size)}"
                f" or more, and there {'is' if len(fitting) == 1 else 'are'} {len(fitting)}",
                object=what_for,
                hint="add one with media add"
                + (f"; the largest free one holds {told(room)}" if room else "")
                + self._of_larger_blocks(block)
                + self._kept_for_undo(size),
            )
        return fitting[:number]

    def _of_larger_blocks(self, block: int) -> str:
        """Which free media are left out for their blocks."""
        small = self.free(block)
        large = [row.name for row in self.free() if row not in small]
        if not large:
            return ""
        these = "has" if len(large) == 1 else "have"
        return f"; {', '.join(large)} {these} logical blocks of more than {block} bytes"

    def _kept_for_undo(self, size: int) -> str:
        """Which saves a recover took for an undo, and could be done without."""
        catalog = self._floor.catalog
        for save in catalog.saves():
            sizes = [row.data_size for row in catalog.media() if row.uuid in save.media]
            volume = catalog.volume_get(save.volume)
            if save.undo and volume is not None and max(sizes, default=0) >= size:
                name = f"{volume.name}@{save.generation}"
                return f"; or release {name}, which is there for undo {volume.name} alone"
        return ""

    def _named(
        self, name: str, size: int, block: int, what_for: str, free: list[MediumRow]
    ) -> MediumRow:
        row = self._floor.medium_row(name)
        medium = self._floor.media.get(row.uuid)
        if medium is not None and medium.block_size > block:
            raise Refused(
                Reason.STATE,
                f"{row.name} has logical blocks of {medium.block_size} bytes, and {what_for} of {block}:"
                " it would take no part of one",
                object=row.name,
                hint=f"use a disk of {block}-byte logical blocks; volumes of {medium.block_size}-byte ones"
                " are made with --blocks 4kn",
            )
        if row not in free:
            use = self._views.use(row.uuid) or self._views.medium(row)["state"]
            raise Refused(
                Reason.STATE,
                f"{row.name} is not free: {use}",
                object=row.name,
                hint="media list shows the free ones",
            )
        if row.data_size < size:
            raise Refused(
                Reason.STATE,
                f"{row.name} is too small: it holds {told(row.data_size)}, not {told(size)}",
                object=row.name,
                hint="media list shows the sizes",
            )
        return row

    # --- coming and going ----------------------------------------------------------------------

    def open_known(self, row: MediumRow, path: str, wait: float) -> str:
        """Opens a medium that is known, where it is now. Returns why it can't be had, or ""."""
        with self._floor.pool:
            if row.uuid in self._floor.media:
                return ""
            try:
                medium = Medium.open(path, uuid=row.uuid, wait=wait)
            except Refused as error:
                return error.message
            try:
                self.check_blocks(medium)
            except Refused as error:
                medium.close()
                return error.message
            self._floor.media[row.uuid] = medium
            if medium.stable_path != row.path:
                self._floor.catalog.medium_set(row.uuid, path=medium.stable_path)
            return ""

    def check_blocks(self, medium: Medium) -> None:
        """Raises Refused (STATE) for one that was copied onto a disk whose blocks its volume can't use."""
        trailer = medium.trailer
        owner = self._floor.catalog.volume_get(trailer.volume) if trailer else None
        if owner is not None and medium.block_size > blocks.of(owner.blocks).logical:
            raise Refused(
                Reason.STATE,
                f"{medium.path} is not used: it has logical blocks of {medium.block_size} bytes, and"
                f" {owner.name} of {blocks.of(owner.blocks).logical}",
                object=medium.path,
                hint="copy it onto a disk whose logical blocks are no larger than the volume's",
            )

    def close(self, uuid: bytes) -> None:
        """Gives up a medium that went away."""
        with self._floor.pool:
            medium = self._floor.media.pop(uuid, None)
            if medium is not None:
                medium.close()
