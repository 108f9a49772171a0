"""The registered backups: which image holds which point of a volume, and what stands on what.

A backup is trusted for a point where its stamp and the catalog agree. Writes no image.
"""

from __future__ import annotations

import os

from targetplugin.catalog import Backup, Save, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.media.by_path import by_path
from targetplugin.subsystem.ground import names
from targetplugin.subsystem.ground.floor import Floor, save_name
from targetplugin.subsystem.ground.views import Shape, Views
from targetplugin.subsystem.images import qemu_img
from targetplugin.subsystem.images.chain import MOST_LINKS, Image
from targetplugin.subsystem.images.qcow2 import Stamp

IMAGE_BASE = (
    1_000_000_000  # restored images are counted from here: no generation of the engine's meets them
)


class Registered:
    """See the module."""

    def __init__(self, floor: Floor, views: Views) -> None:
        self._floor = floor
        self._catalog = floor.catalog
        self._views = views

    # --- the list ----------------------------------------------------------------------------

    def all(self, volume_name: str | None) -> list[Shape]:
        """The registered ones, by number."""
        uuid = self._floor.volume(volume_name).uuid if volume_name else None
        return [self._views.backup(row) for row in self._catalog.backups(uuid)]

    def get(self, number: int, volume: Volume | None = None) -> Backup:
        """Raises Refused (NOT_FOUND): no such number, or another volume's."""
        row = self._catalog.backup_get(number)
        if row is None or (volume is not None and row.volume != volume.uuid):
            whose = f"{volume.name} has no" if volume else "there is no"
            raise Refused(
                Reason.NOT_FOUND,
                f"{whose} backup {number}",
                object=str(number),
                hint="backups list shows those that are registered",
            )
        return row

    def register(
        self, volume_name: str, path: str, label: str, format: str | None, force: bool
    ) -> Shape:
        """See Subsystem.backup_register."""
        volume = self._floor.volume(volume_name)
        names.check_label(label)
        with qemu_img.look(path, format) as image:
            if not force:
                check_volume(volume, image)
            backing = image.links[0].backing
            seen = by_path().look(path)
            folder = image.folder if seen is not None and seen.link else os.path.dirname(path)
            facts = {
                "format": image.format,
                "size": image.size,
                "generation": self._point(volume, image.stamp),
                "image": image.stamp.image if image.stamp else "",
                "backing": os.path.join(folder, backing) if backing else "",
            }
        with self._catalog.transaction():
            for row in self._catalog.backups(volume.uuid):
                if row.path != path:
                    continue
                if (row.image, row.format, row.size) != (facts["image"], image.format, image.size):
                    self._catalog.backup_remove(row.number)  # it is another image
                    continue
                if not row.image:
                    facts["generation"] = row.generation
                facts["label"] = label or row.label  # looked at again: it keeps its number
                return self._views.backup(self._catalog.backup_set(row.number, **facts))
            return self._views.backup(
                self._catalog.backup_add(volume.uuid, path, label, **facts)  # type: ignore[arg-type]
            )

    def forget(self, number: int) -> Shape:
        """See Subsystem.backup_forget."""
        row = self.get(number)
        self.check_unneeded(row.path, f"backup {number} can't be forgotten")
        shape = self._views.backup(row)
        self._catalog.backup_remove(number)
        return shape

    def replace(self, path: str) -> None:
        """Another image is at this path now: no number means what was there before."""
        for row in self._catalog.backups():
            if row.path == path:
                self._catalog.backup_remove(row.number)

    def check_unneeded(self, path: str, what: str) -> None:
        """Raises Refused where other backups stand on the file, or one is being written onto it.

        Args:
            what: what can't be done therefore, for the text.
        """
        needing = [
            row.number
            for row in self._catalog.backups()
            if row.backing and _same_place(row.backing, path)
        ]
        if needing:
            numbers = ", ".join(map(str, needing))
            raise Refused(
                Reason.STATE,
                f"{what}: backup {numbers} stands on it"
                if len(needing) == 1
                else f"{what}: backups {numbers} stand on it",
                object=path,
                hint="forget those first; or put them onto an older one with qemu-img rebase, and"
                " register them again",
            )
        for operation in self._catalog.operations(running=True, limit=1 << 30):
            base = operation.prepared.get("base")
            if operation.verb == "backup" and base and _same_place(base["path"], path):
                raise Refused(
                    Reason.BUSY,
                    f"{what}: operation {operation.id} writes a backup onto it",
                    object=path,
                    hint="wait until the operation is done, or abort it",
                )

    # --- lineage -----------------------------------------------------------------------------

    def _point(self, volume: Volume, stamp: Stamp | None) -> int:
        """The volume's point that an image holds, where its stamp can be believed; else 0."""
        if stamp is None or stamp.volume != volume.uuid:
            return 0
        for row in self._catalog.backups(volume.uuid):
            if row.image == stamp.image and row.generation == stamp.generation:
                return row.generation
        # A lost catalog counts restored images from the beginning again, but not generations.
        frozen = {row.number for row in self._catalog.generations(volume.uuid)}
        frozen -= {volume.generation}
        known = stamp.generation in frozen and stamp.generation < IMAGE_BASE
        return stamp.generation if known else 0

    def base(
        self, volume: Volume, save: Save, path: str, since: str | None, number: int | None
    ) -> Backup:
        """The backup that an increment is to stand on. Raises Refused: there is none that can.

        Args:
            since: an older save by its name; the newest backup of it beside `path` is taken.
            number: or the backup itself.
        """
        if since is not None and number is not None:
            raise Refused(
                Reason.USAGE, "an increment has one base: name a save or a backup's number"
            )
        (folder,) = by_path().real([os.path.dirname(path)])
        if number is not None:
            row = self.get(number, volume)
        else:
            row = self._newest(volume, since or "", folder)
        if not row.generation:
            raise Refused(
                Reason.STATE,
                f"nobody knows which point of {volume.name} backup {row.number} holds",
                object=str(row.number),
                hint="write a whole backup first, and increments onto that",
            )
        if row.generation == save.generation:
            raise Refused(
                Reason.USAGE,
                f"backup {row.number} holds {save_name(volume, save)} already",
                object=str(row.number),
                hint="take a save of the volume as it is now, and back that up",
            )
        if not _lies_in(row.path, folder):
            raise Refused(
                Reason.USAGE,
                f"backup {row.number}, {row.path}, is not in the folder of {path}",
                object=path,
                hint="an increment stands beside its base: write it into the same folder",
            )
        return row

    def _newest(self, volume: Volume, since: str, folder: str) -> Backup:
        """The newest backup of a save, which may be released meanwhile; one in the folder first."""
        asked = names.parse(since)
        if asked.volume != volume.name:
            raise Refused(
                Reason.USAGE,
                f"{since} is no save of {volume.name}",
                object=since,
                hint=f"name an older save of {volume.name}",
            )
        generation = asked.generation
        if generation is None:
            generation = self._floor.save(since)[1].generation
        found = [r for r in self._catalog.backups(volume.uuid) if r.generation == generation]
        beside = [r for r in found if _lies_in(r.path, folder)]
        if not found:
            raise Refused(
                Reason.NOT_FOUND,
                f"{since} has no registered backup that an increment could stand on",
                object=since,
                hint=f"back it up first: targetplugin backup {since} --to PATH",
            )
        return (beside or found)[-1]


def check_base(volume: Volume, row: Backup, image: Image) -> None:
    """Refuses a file that is not the registered image any more, or on which nothing can stand."""
    check_registered(row, image)
    if image.size != volume.size:
        raise Refused(
            Reason.STATE,
            f"the image {row.path} has {image.size} bytes, {volume.name} has {volume.size}",
            object=row.path,
            hint="write a whole backup first, and increments onto that",
        )
    if len(image.links) == MOST_LINKS:
        raise Refused(
            Reason.STATE,
            f"backup {row.number} is the {MOST_LINKS}th of its chain, and no more can stand on it",
            object=row.path,
            hint="write a whole backup, and begin a new chain with it",
        )
    if ":" in image.links[0].name:
        raise Refused(
            Reason.STATE,
            f"nothing can stand on {row.path}: to readers its name looks like a protocol",
            object=row.path,
            hint="rename it to a name without ':', and register it again",
        )


def check_registered(row: Backup, image: Image) -> None:
    """Refuses a file that is not the one that was registered under the number."""
    found = image.stamp.image if image.stamp else ""
    if found != row.image or (not row.image and image.size != row.size):
        raise Refused(
            Reason.DATA,
            f"the image {row.path} is not the one that is registered as backup {row.number}",
            object=row.path,
            hint=f"put that back, or register this one: targetplugin backups register VOLUME {row.path}",
        )


def check_volume(volume: Volume, image: Image) -> None:
    """Refuses a backup of another volume."""
    if image.stamp is not None and image.stamp.volume != volume.uuid:
        raise Refused(
            Reason.STATE,
            f"the image {image.path} is a backup of another volume than {volume.name}",
            object=image.path,
            hint="name the volume that it is of, or use --force to take it nevertheless",
        )


def _same_place(one: str, other: str) -> bool:
    if one == other:
        return True
    first, second = by_path().real([one, other])
    return first == second


def _lies_in(path: str, folder: str) -> bool:
    (real,) = by_path().real([path])
    return os.path.dirname(real) == folder
