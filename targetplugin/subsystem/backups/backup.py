"""Backup: a save is written to an image beside the hosts, whole or what differs from an older backup,
and compared with it before it gets its name.

What qemu-img is told is qemu_img.py's, which backup holds what is registered.py's.
"""

from __future__ import annotations

import logging
import os
import uuid as uuids
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from targetplugin.catalog import Backup, Operation, Save, Volume, maps
from targetplugin.catalog.rows import moment
from targetplugin.errors import Reason, Refused
from targetplugin.media.by_path import by_path
from targetplugin.subsystem.backups.imageruns import ENDED, PROOF, ImageRuns, Told
from targetplugin.subsystem.backups.registered import Registered, check_base
from targetplugin.subsystem.ground import extents, names
from targetplugin.subsystem.ground.floor import Floor
from targetplugin.subsystem.ground.operations import Ask, Operations
from targetplugin.subsystem.ground.states import Verb
from targetplugin.subsystem.ground.views import Shape, Views, now
from targetplugin.subsystem.images import increment, qemu_img
from targetplugin.subsystem.images.chain import MOST_LINKS
from targetplugin.subsystem.images.qcow2 import Stamp
from targetplugin.subsystem.saves.content import Content

log = logging.getLogger(__name__)


class Backups:
    """See the module."""

    def __init__(
        self,
        floor: Floor,
        views: Views,
        operations: Operations,
        runs: ImageRuns,
        registered: Registered,
    ) -> None:
        self._floor = floor
        self._views = views
        self._operations = operations
        self._runs = runs
        self._registered = registered

    # --- backup ------------------------------------------------------------------------------

    def backup(
        self,
        ask: Ask,
        name: str,
        path: str,
        format: str,
        label: str,
        register: bool,
        force: bool,
        since: str | None,
        base: int | None,
        rate: int | None,
    ) -> Shape:
        """See Subsystem.backup."""
        names.check_label(label)
        with self._floor.runtime(self._floor.owner(name).uuid).lock:
            volume, save = self._floor.save(name)
            ask.check_rights(volume)
            self._views.require(Verb.BACKUP, volume, save)
            _check_path(path, format, force)
            onto = None
            total, bits = volume.size, b""
            if since is not None or base is not None:
                onto = self._base(volume, save, path, format, since, base)
                bits = self._views.differential(volume, onto.generation, save.generation)
                total = extents.byte_count(bits, volume.extent_size, volume.size)
            self._registered.check_unneeded(path, f"{path} can't be written over")
            content = Content(self._floor, volume, save)
            prepared = {
                "path": path,
                "format": format,
                "label": label,
                "register": register,
                "force": force,
                "rate": rate,
                "image": uuids.uuid4().hex,
                "base": {"number": onto.number, "path": onto.path} if onto else None,
            }
            if ask.preview:
                answer = self._operations.preview(ask, volume, save.generation)
                answer["operation"] |= {
                    "bytes_total": total,
                    "extents_changed": maps.count(bits),
                }
                return answer
            row = self._operations.begin(ask, volume, save.generation, prepared, bytes_total=total)
            self._floor.catalog.operation_set(
                row.id, state="running", in_force=now(), extents_changed=maps.count(bits)
            )
            self._begin(
                row,
                volume,
                lambda run, told: self._write(run, told, volume, save, content, row, onto, bits),
            )
            return self._operations.answer(row, {"save": self._views.save(volume, save)})

    def _base(
        self,
        volume: Volume,
        save: Save,
        path: str,
        format: str,
        since: str | None,
        number: int | None,
    ) -> Backup:
        """The backup that an increment stands on, looked at."""
        if format != "qcow2":
            raise Refused(
                Reason.USAGE,
                "an increment is a qcow2 image",
                object=path,
                hint="leave the format out, or write a whole backup",
            )
        found = self._registered.base(volume, save, path, since, number)
        with qemu_img.look(found.path, found.format) as image:
            check_base(volume, found, image)
            for link in image.links:
                if by_path().real([path]) == [os.path.join(image.folder, link.name)]:
                    raise Refused(
                        Reason.USAGE,
                        f"{path} can't be written over: the backup would stand on it",
                        object=path,
                        hint="use another path",
                    )
        return found

    def _write(
        self,
        run: qemu_img.Run,
        told: Told,
        volume: Volume,
        save: Save,
        content: Content,
        row: Operation,
        base: Backup | None,
        bits: bytes,
    ) -> None:
        path, format = row.prepared["path"], row.prepared["format"]
        beside = part_path(row)
        stamp = Stamp(volume.uuid, save.generation, row.prepared["image"], volume.size, moment())
        proof = PROOF
        if base is not None:
            proof = volume.size / (volume.size + row.bytes_total)
        try:
            if base is None:
                with content.opened() as place:
                    stamped = stamp if format == "qcow2" else None
                    qemu_img.write(
                        run, place, beside, format, lambda f: told(f * (1 - proof)), stamped
                    )
            else:
                self._write_increment(
                    run, lambda f: told(f * (1 - proof)), volume, content, beside, stamp, base, bits
                )
            with qemu_img.look(beside, format) as written:
                qemu_img.check(run, written, below=False)
                with content.opened() as place:
                    same = qemu_img.same(run, written, place, lambda f: told(1 - proof + f * proof))
            if not same:
                raise Refused(
                    Reason.ENVIRONMENT,
                    f"{path} does not hold what the save holds"
                    + (f", on backup {base.number}" if base else ""),
                    object=path,
                    hint="back it up again, whole, to another disk",
                )
            self._put_in_place(row, beside)
        except BaseException:
            with suppress(OSError, Refused):
                by_path().drop(beside)
            raise

    def _write_increment(
        self,
        run: qemu_img.Run,
        told: Told,
        volume: Volume,
        content: Content,
        beside: str,
        stamp: Stamp,
        base: Backup,
        bits: bytes,
    ) -> None:
        with qemu_img.look(base.path, base.format) as below:
            check_base(volume, base, below)
            link = below.links[0]
        if link.stamp is not None:
            older = (link.stamp.image, *link.stamp.older)[:MOST_LINKS]
            stamp = replace(stamp, base=link.stamp.image, older=older)
        stamp = replace(stamp, base_name=link.name)
        cluster = increment.cluster_of(volume.size, volume.extent_size)
        runs = extents.byte_runs(bits, volume.extent_size, volume.size)
        spans = list(increment.pieces(runs, volume.size, cluster))
        total, done = sum(length for _, length in spans), 0

        def moved(count: int) -> None:
            nonlocal done
            done += count
            told(done / total)
            run.moved(count)

        descriptor = by_path().part(beside)
        try:
            image = increment.Increment(descriptor, volume.size, cluster)
            increment.write(image, spans, content.read, moved)
            image.end((link.name, link.format), stamp)
        except OSError as error:
            raise Refused(
                Reason.ENVIRONMENT,
                f"{beside} can't be written: {error.strerror}",
                object=beside,
                hint="make room there, and back it up again",
            ) from error
        finally:
            os.close(descriptor)

    def _put_in_place(self, row: Operation, beside: str) -> None:
        """Gives a whole image its name. That it is whole is durable first: a start goes on here."""
        path = row.prepared["path"]
        if not row.prepared["force"] and by_path().look(path) is not None:
            raise Refused(
                Reason.EXISTS,
                f"{path} appeared while the backup was written",
                object=path,
                hint="back it up again, to another path",
            )
        self._registered.check_unneeded(path, f"{path} can't be written over any more")
        current = self._floor.catalog.operation_get(row.id)
        assert current is not None
        identity = _identity(beside)
        whole = {**current.prepared, "whole": identity}
        self._floor.catalog.operation_set(row.id, prepared=whole)
        by_path().put(beside, path, identity or [])

    def _begin(
        self, row: Operation, volume: Volume, work: Callable[[qemu_img.Run, Told], None]
    ) -> None:
        self._runs.begin(row, volume, work, self._end)

    # --- the end ---------------------------------------------------------------------------

    def _end(self, row: Operation, done: bool) -> None:
        """Can be done twice: the operation ends later."""
        if done:
            self._registered.replace(row.prepared["path"])
            if row.prepared["register"]:
                self._register(row)

    def _register(self, row: Operation) -> None:
        assert row.volume is not None
        volume = self._floor.catalog.volume_get(row.volume)
        assert volume is not None
        prepared = row.prepared
        path, backing = prepared["path"], ""
        base = prepared["base"]
        if base:
            backing = os.path.join(os.path.dirname(path), os.path.basename(base["path"]))
        self._floor.catalog.backup_add(
            row.volume,
            path,
            prepared["label"],
            prepared["format"],
            volume.size,
            generation=row.save or 0,
            image=prepared["image"] if prepared["format"] == "qcow2" else "",
            backing=backing,
        )

    def drop(self, row: Operation) -> None:
        """At a start: what was under way when the daemon ended is undone, but for a backup that was
        whole and had only to get its name.
        """
        beside, path = part_path(row), row.prepared["path"]
        why = f"{ENDED}; nothing was written to {path}"
        try:
            if whole := row.prepared.get("whole"):
                if _identity(beside) == whole:
                    by_path().put(beside, path, whole)
                if _identity(path) == whole:
                    self._runs.over(row, "done", None, 1.0, self._end, free_others=False)
                    return
            by_path().drop(beside)
        except (OSError, Refused) as error:  # its disk may be away, and hosts need theirs
            log.warning("%s may be left: %s", beside, error)
        self._runs.over(row, "failed", why, row.progress, self._end, free_others=False)


def part_path(row: Operation) -> str:
    """Where a backup is written until it is whole: beside its place, so that it can be renamed."""
    path = Path(row.prepared["path"])
    return str(path.with_name(f".{path.name}.{row.id}.part"))


def _identity(path: str) -> list[int] | None:
    """What tells a file from others after a restart; None: there is none."""
    seen = by_path().look(path)
    return seen.identity if seen is not None and not seen.link else None


def _check_path(path: str, format: str, force: bool) -> None:
    """Raises Refused where no backup can be put."""
    if format not in qemu_img.FORMATS:
        raise Refused(Reason.USAGE, f"{format!r} is no format", hint="say raw or qcow2")
    if not os.path.isabs(path):
        raise Refused(
            Reason.USAGE, f"{path!r} is not an absolute path", object=path, hint="begin it with /"
        )
    folder = by_path().look(os.path.dirname(path))
    if folder is None or folder.kind != "folder":
        raise Refused(
            Reason.NOT_FOUND,
            f"there is no folder {os.path.dirname(path)}",
            object=path,
            hint="make it first",
        )
    seen = by_path().look(path)
    if seen is not None and (not force or seen.kind != "file"):
        raise Refused(
            Reason.EXISTS,
            f"{path} is there already",
            object=path,
            hint="use another path, or --force to overwrite a file",
        )
