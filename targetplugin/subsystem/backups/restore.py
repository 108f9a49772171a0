"""Restore: a spare is filled from an image beside the hosts, and compared with it.

It becomes a save of the volume, which a swap makes its data. What qemu-img is told is qemu_img.py's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from targetplugin.catalog import ALL, Generation, Operation, Save, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.media.layout import BLOCK
from targetplugin.media.trailer import Role
from targetplugin.subsystem.backups.imageruns import ENDED, PROOF, ImageRuns, Told
from targetplugin.subsystem.backups.registered import (
    IMAGE_BASE,
    Registered,
    check_registered,
    check_volume,
)
from targetplugin.subsystem.ground import names
from targetplugin.subsystem.ground.floor import Floor
from targetplugin.subsystem.ground.operations import Ask, Operations
from targetplugin.subsystem.ground.sizes import told
from targetplugin.subsystem.ground.states import Verb
from targetplugin.subsystem.ground.views import Shape, Views, now
from targetplugin.subsystem.images import qemu_img
from targetplugin.subsystem.mirror.pool import Pool
from targetplugin.subsystem.mirror.settle import Settle
from targetplugin.subsystem.saves.content import target


class Restores:
    """See the module."""

    def __init__(
        self,
        floor: Floor,
        views: Views,
        operations: Operations,
        pool: Pool,
        settle: Settle,
        runs: ImageRuns,
        registered: Registered,
    ) -> None:
        self._floor = floor
        self._views = views
        self._operations = operations
        self._pool = pool
        self._settle = settle
        self._runs = runs
        self._registered = registered

    def restore(
        self,
        ask: Ask,
        volume_name: str,
        image_path: str | None,
        format: str | None,
        number: int | None,
        onto: str | None,
        rate: int | None,
        force: bool,
    ) -> Shape:
        """See Subsystem.restore."""
        with self._floor.locked(self._floor.volume(volume_name)) as volume:
            ask.check_rights(volume)
            if (known := self._operations.again(ask)) is not None:
                return known
            ask.check_force(force)
            self._views.require_volume(Verb.RESTORE, volume)
            image, label = self._image(ask, volume, image_path, format, number, force)
            with ExitStack() as opened:
                opened.enter_context(image)
                return self._restore(ask, volume, image, label, onto, rate, opened)

    def _restore(
        self,
        ask: Ask,
        volume: Volume,
        image: qemu_img.Image,
        label: str,
        onto: str | None,
        rate: int | None,
        opened: ExitStack,
    ) -> Shape:
        if image.size > volume.size:
            raise Refused(
                Reason.STATE,
                f"the image {image.path} does not fit {volume.name}: it has {told(image.size)},"
                f" the volume {told(volume.size)}",
                object=image.path,
                hint="restore it to a volume that is as large",
            )
        with self._floor.pool:
            uuid = self._pool.take(volume, onto=onto)
            if ask.preview:
                return self._operations.preview(ask, volume, None)
            prepared = {
                "medium": uuid.hex(),
                "image": image.path,
                "format": image.format,
                "rate": rate,
            }
            with self._floor.catalog.transaction():
                row = self._operations.begin(ask, volume, None, prepared, bytes_total=image.size)
                save = self._add_image(volume, row, uuid, label)
                self._floor.catalog.operation_set(
                    row.id, save=save.generation, state="running", in_force=now()
                )
            try:
                self._settle.claim(uuid, Role.RESTORING, volume, row.id)
            except Refused as refused:
                self._runs.over(row, "failed", refused.message, 0.0, self._end)
                raise
        opened.pop_all()  # whoever reads it closes it
        self._begin(row, volume, lambda run, told: self._fill(run, told, volume, image, uuid))
        return self._operations.answer(row, {"save": self._views.save(volume, save)})

    def _image(
        self,
        ask: Ask,
        volume: Volume,
        path: str | None,
        format: str | None,
        number: int | None,
        force: bool,
    ) -> tuple[qemu_img.Image, str]:
        """The image that is meant and a label for it. A host names a number, never a path."""
        if (path is None) == (number is None) or (ask.door == "in-band" and path is not None):
            raise Refused(
                Reason.USAGE,
                "a restore needs an image or the number of a backup, one of them",
                object=volume.name,
                hint="backups list shows the numbers",
            )
        if path is not None:
            with ExitStack() as opened:
                image = opened.enter_context(qemu_img.look(path, format))
                if not force:
                    check_volume(volume, image)
                opened.pop_all()
            return image, self._label(volume, Path(path).stem)
        known = self._registered.get(number or 0, volume)
        with ExitStack() as opened:
            image = opened.enter_context(qemu_img.look(known.path, known.format))
            check_registered(known, image)
            opened.pop_all()
        return image, self._label(volume, known.label or Path(known.path).stem)

    def _label(self, volume: Volume, wanted: str) -> str:
        """The wanted label, where it can be one and is not taken; else none."""
        with suppress(Refused):
            names.check_label(wanted)
            if self._floor.catalog.save_by_label(volume.uuid, wanted) is None:
                return wanted
        return ""

    def _add_image(self, volume: Volume, row: Operation, uuid: bytes, label: str) -> Save:
        generation = IMAGE_BASE + row.id
        self._floor.catalog.generation_put(Generation(volume.uuid, generation, 0, ALL))
        return self._floor.catalog.save_add(
            Save(
                volume.uuid,
                generation,
                label=label,
                fill="filling",
                origin="image",
                created=now(),
                door=row.door,
                media=(uuid,),
            )
        )

    def _fill(
        self, run: qemu_img.Run, told: Told, volume: Volume, image: qemu_img.Image, uuid: bytes
    ) -> None:
        medium = self._floor.medium(uuid)
        with image:
            qemu_img.check(run, image)
            if image.size < volume.size:
                # First, as it may begin within a block, which the image's last bytes then are written into.
                start = image.size - image.size % BLOCK
                medium.write_zeros(start, volume.size - start)
            qemu_img.fill(run, image, target(medium, image.size), lambda f: told(f * (1 - PROOF)))
            os.fsync(medium.fd)
            window = target(medium, volume.size)
            same = qemu_img.same(run, image, window, lambda f: told(1 - PROOF + f * PROOF))
        if not same:
            raise Refused(
                Reason.ENVIRONMENT,
                f"{self._floor.medium_name(uuid)} does not hold what the image {image.path} holds",
                object=self._floor.medium_name(uuid),
                hint="restore again, onto another medium",
            )

    def _begin(
        self, row: Operation, volume: Volume, work: Callable[[qemu_img.Run, Told], None]
    ) -> None:
        self._runs.begin(row, volume, work, self._end)

    def _end(self, row: Operation, whole: bool) -> None:
        """Can be done twice: the operation ends later."""
        catalog = self._floor.catalog
        assert row.volume is not None
        assert row.save is not None
        if whole:
            catalog.save_set(row.volume, row.save, fill="whole")
        elif catalog.save_get(row.volume, row.save) is not None:
            catalog.save_remove(row.volume, row.save)
            catalog.generation_remove(row.volume, row.save)

    def drop(self, row: Operation) -> None:
        """At a start: what was under way when the daemon ended is undone. A half-filled medium is
        freed when the volume starts, for its record may know more of the media than the catalog.
        """
        self._runs.over(row, "failed", ENDED, row.progress, self._end, free_others=False)
