"""Images in and out: a restore fills a spare from one, a backup writes a save to one; both compare
before they end.

Each runs on a thread of its own, beside the hosts, and can be aborted. What qemu-img is told is
images.py's.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from targetplugin.catalog import ALL, Generation, Operation, Save, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.media.medium import Medium
from targetplugin.media.trailer import Role
from targetplugin.subsystem import images, names
from targetplugin.subsystem.floor import Floor
from targetplugin.subsystem.operations import Ask, Operations
from targetplugin.subsystem.pool import Pool
from targetplugin.subsystem.settle import Settle
from targetplugin.subsystem.sizes import told
from targetplugin.subsystem.states import Verb, require
from targetplugin.subsystem.views import Shape, Views, now

IMAGE_BASE = (
    1_000_000_000  # restored images are counted from here: no generation of the engine's meets them
)


class Backups:
    """See the module."""

    def __init__(
        self, floor: Floor, views: Views, operations: Operations, pool: Pool, settle: Settle
    ) -> None:
        self._floor = floor
        self._views = views
        self._operations = operations
        self._pool = pool
        self._settle = settle
        self._threads: dict[int, threading.Thread] = {}
        self._stopping = False

    def stop(self) -> None:
        """Ends what runs and waits for it."""
        self._stopping = True
        for volume in self._floor.catalog.volumes():
            for stop in list(self._floor.runtime(volume.uuid).tasks.values()):
                stop()
        for thread in list(self._threads.values()):
            thread.join()

    # --- restore -----------------------------------------------------------------------------

    def restore(
        self,
        ask: Ask,
        volume_name: str,
        image_path: str | None,
        format: str | None,
        number: int | None,
        onto: str | None,
    ) -> Shape:
        """See Subsystem.restore."""
        volume = self._floor.volume(volume_name)
        with self._floor.runtime(volume.uuid).lock:
            volume = self._floor.volume(volume_name)
            ask.check_rights(volume)
            if (known := self._operations.again(ask)) is not None:
                return known
            require(Verb.RESTORE, volume.name, self._views.volume_state(volume))
            image, label = self._image(ask, volume, image_path, format, number)
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
                prepared = {"medium": uuid.hex(), "image": image.path, "format": image.format}
                with self._floor.catalog.transaction():
                    row = self._operations.begin(
                        ask, volume, None, prepared, bytes_total=image.size
                    )
                    save = self._add_image(volume, row, uuid, label)
                    self._floor.catalog.operation_set(
                        row.id, save=save.generation, state="running", in_force=now()
                    )
                try:
                    self._settle.claim(uuid, Role.RESTORING, volume, row.id)
                except Refused as refused:
                    self._over(row, "failed", refused.message, 0.0)
                    raise
            self._begin(row, volume, lambda run, told: self._fill(run, told, volume, image, uuid))
            return self._operations.answer(row, {"save": self._views.save(volume, save)})

    def _image(
        self, ask: Ask, volume: Volume, path: str | None, format: str | None, number: int | None
    ) -> tuple[images.Image, str]:
        """The image that is meant and a label for it. A host names a number, never a path."""
        if (path is None) == (number is None) or (ask.door == "in-band" and path is not None):
            raise Refused(
                Reason.USAGE,
                "a restore needs an image or the number of a backup, one of them",
                object=volume.name,
                hint="backups list shows the numbers",
            )
        if path is not None:
            return images.look(path, format), self._label(volume, Path(path).stem)
        known = self._floor.catalog.backup_get(number or 0)
        if known is None or known.volume != volume.uuid:
            raise Refused(
                Reason.NOT_FOUND,
                f"{volume.name} has no backup {number}",
                object=str(number),
                hint="backups list shows those that are registered",
            )
        wanted = known.label or Path(known.path).stem
        return images.look(known.path, known.format), self._label(volume, wanted)

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
        self,
        run: images.Run,
        told: Callable[[float], None],
        volume: Volume,
        image: images.Image,
        uuid: bytes,
    ) -> None:
        medium = self._floor.medium(uuid)
        images.fill(run, image, self._target(medium, image.size), lambda f: told(f / 2))
        if image.size < volume.size:
            medium.write_zeros(image.size, volume.size - image.size)
        os.fsync(medium.fd)
        target = self._target(medium, volume.size)
        if not images.same(run, image, target, lambda f: told(0.5 + f / 2)):
            raise Refused(
                Reason.ENVIRONMENT,
                f"{self._floor.medium_name(uuid)} does not hold what the image {image.path} holds",
                object=self._floor.medium_name(uuid),
                hint="restore again, onto another medium",
            )

    def _target(self, medium: Medium, size: int) -> images.Target:
        direct = bool(os.O_DIRECT & _flags(medium.fd))
        return images.Target(medium.fd, size, medium.kind == "block", direct)

    # --- backup ------------------------------------------------------------------------------

    def backup(
        self, ask: Ask, name: str, path: str, format: str, label: str, register: bool, force: bool
    ) -> Shape:
        """See Subsystem.backup."""
        names.check_label(label)
        with self._floor.runtime(self._floor.owner(name).uuid).lock:
            volume, save = self._floor.save(name)
            ask.check_rights(volume)
            self._views.require(Verb.BACKUP, volume, save)
            _check_path(path, format, force)
            there = [uuid for uuid in save.media if uuid in self._floor.media]
            medium = self._floor.medium(there[0] if there else save.media[0])
            if ask.preview:
                return self._operations.preview(ask, volume, save.generation)
            prepared = {"path": path, "format": format, "label": label, "register": register}
            row = self._operations.begin(
                ask, volume, save.generation, prepared, bytes_total=volume.size
            )
            self._floor.catalog.operation_set(row.id, state="running", in_force=now())
            self._begin(row, volume, lambda run, told: self._write(run, told, volume, medium, row))
            return self._operations.answer(row, {"save": self._views.save(volume, save)})

    def _write(
        self,
        run: images.Run,
        told: Callable[[float], None],
        volume: Volume,
        medium: Medium,
        row: Operation,
    ) -> None:
        path, format = row.prepared["path"], row.prepared["format"]
        beside = part_path(row)
        target = self._target(medium, volume.size)
        try:
            images.write(run, target, beside, format, lambda f: told(f / 2))
            written = images.look(beside, format)
            if not images.same(run, written, target, lambda f: told(0.5 + f / 2)):
                raise Refused(
                    Reason.ENVIRONMENT,
                    f"{path} does not hold what the save holds",
                    object=path,
                    hint="back it up again, to another disk",
                )
            os.rename(beside, path)
            _sync_directory(path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(beside)

    def register(self, volume_name: str, path: str, label: str, format: str | None) -> Shape:
        """See Subsystem.backup_register."""
        volume = self._floor.volume(volume_name)
        image = images.look(path, format)
        return self._views.backup(
            self._floor.catalog.backup_add(
                volume.uuid, path, names.check_label(label), image.format, image.size
            )
        )

    def forget(self, number: int) -> Shape:
        """See Subsystem.backup_forget."""
        row = self._floor.catalog.backup_get(number)
        if row is None:
            raise Refused(
                Reason.NOT_FOUND,
                f"there is no backup {number}",
                object=str(number),
                hint="backups list shows those that are registered",
            )
        self._floor.catalog.backup_remove(number)
        return self._views.backup(row)

    def all(self, volume_name: str | None) -> list[Shape]:
        """The registered ones, by number."""
        uuid = self._floor.volume(volume_name).uuid if volume_name else None
        return [self._views.backup(row) for row in self._floor.catalog.backups(uuid)]

    # --- the thread --------------------------------------------------------------------------

    def _begin(
        self,
        row: Operation,
        volume: Volume,
        work: Callable[[images.Run, Callable[[float], None]], None],
    ) -> None:
        run = images.Run()
        runtime = self._floor.runtime(volume.uuid)
        runtime.tasks[row.id] = run.stop
        runtime.progress[row.id] = 0.0

        def told(progress: float) -> None:
            runtime.progress[row.id] = progress

        def body() -> None:
            state, error = "done", None
            try:
                work(run, told)
            except images.Stopped:
                state, error = "aborted", "it was aborted"
                if self._stopping:
                    state, error = "failed", "the daemon was stopped"
            except Refused as refused:
                state, error = "failed", refused.message
            except OSError as failed:
                state, error = "failed", str(failed)
            with runtime.lock:
                self._over(row, state, error, runtime.progress[row.id])
                del runtime.tasks[row.id], runtime.progress[row.id]
            del self._threads[row.id]
            self._floor.tell()

        thread = threading.Thread(target=body, name=f"{row.verb}-{row.id}", daemon=True)
        self._threads[row.id] = thread
        thread.start()

    def _over(
        self,
        row: Operation,
        state: str,
        error: str | None,
        progress: float,
        *,
        free_others: bool = True,
    ) -> None:
        catalog = self._floor.catalog
        current = catalog.operation_get(row.id)
        assert current is not None
        assert current.volume is not None
        done = state == "done"
        with catalog.transaction():
            if row.verb == "restore":
                self._end_image(current, done)
            elif done and row.prepared["register"]:
                self._register(current)
        self._settle.trailers(current.volume, row.id, free_others=free_others)
        self._operations.end(
            row,
            state=state,
            error=error,
            progress=1.0 if done else progress,
            bytes_copied=current.bytes_total if done else 0,
        )

    def _end_image(self, row: Operation, whole: bool) -> None:
        """Can be done twice: the operation ends later."""
        catalog = self._floor.catalog
        assert row.volume is not None
        assert row.save is not None
        if whole:
            catalog.save_set(row.volume, row.save, fill="whole")
        elif catalog.save_get(row.volume, row.save) is not None:
            catalog.save_remove(row.volume, row.save)
            catalog.generation_remove(row.volume, row.save)

    def _register(self, row: Operation) -> None:
        assert row.volume is not None
        volume = self._floor.catalog.volume_get(row.volume)
        assert volume is not None
        prepared = row.prepared
        self._floor.catalog.backup_add(
            row.volume, prepared["path"], prepared["label"], prepared["format"], volume.size
        )

    def drop(self, row: Operation) -> None:
        """At a start: what was under way when the daemon ended is undone. A half-filled medium is
        freed when the volume starts, for its record may know more of the media than the catalog.
        """
        if row.verb == "backup":
            with suppress(FileNotFoundError):
                os.unlink(part_path(row))
        why = "the daemon ended before it was done"
        self._over(row, "failed", why, row.progress, free_others=False)


def part_path(row: Operation) -> str:
    """Where a backup is written until it is whole: beside its place, so that it can be renamed."""
    path = Path(row.prepared["path"])
    return str(path.with_name(f".{path.name}.{row.id}.part"))


def _flags(descriptor: int) -> int:

    return fcntl.fcntl(descriptor, fcntl.F_GETFL)


def _check_path(path: str, format: str, force: bool) -> None:
    """Raises Refused where no backup can be put."""
    if format not in images.FORMATS:
        raise Refused(Reason.USAGE, f"{format!r} is no format", hint="say raw or qcow2")
    if not os.path.isabs(path):
        raise Refused(
            Reason.USAGE, f"{path!r} is not an absolute path", object=path, hint="begin it with /"
        )
    if not os.path.isdir(os.path.dirname(path)):
        raise Refused(
            Reason.NOT_FOUND,
            f"there is no folder {os.path.dirname(path)}",
            object=path,
            hint="make it first",
        )
    if os.path.lexists(path) and (not force or not os.path.isfile(path)):
        raise Refused(
            Reason.EXISTS,
            f"{path} is there already",
            object=path,
            hint="use another path, or --force to overwrite a file",
        )


def _sync_directory(path: str) -> None:
    descriptor = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
