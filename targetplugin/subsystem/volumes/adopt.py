"""Adopting: a disk or file with data becomes a new volume's single leg, with its data kept.

Writes nothing before the end of what is adopted; refuses where the trailer has no room behind it.
"""

from __future__ import annotations

import os
import uuid as uuids

from msgspec.structs import replace

from targetplugin.catalog import MediumRow, Volume
from targetplugin.engine import VolumeSpec
from targetplugin.errors import Reason, Refused
from targetplugin.media import device, discover, ends
from targetplugin.media import names as media_names
from targetplugin.media.by_path import by_path
from targetplugin.media.layout import layout
from targetplugin.media.length import grow, length_for
from targetplugin.media.medium import Medium
from targetplugin.media.trailer import Role
from targetplugin.subsystem.ground import blocks, names
from targetplugin.subsystem.ground.floor import Floor
from targetplugin.subsystem.ground.identity import naa
from targetplugin.subsystem.ground.sizes import told
from targetplugin.subsystem.ground.views import Shape, Views, now
from targetplugin.subsystem.mirror.pool import Pool
from targetplugin.subsystem.mirror.settle import Settle, left_to_the_next_start
from targetplugin.subsystem.volumes.create import SIZE_UNIT, Volumes, check_shape


class Adopt:
    """See the module."""

    def __init__(
        self, floor: Floor, views: Views, pool: Pool, settle: Settle, volumes: Volumes
    ) -> None:
        self._floor = floor
        self._views = views
        self._pool = pool
        self._settle = settle
        self._volumes = volumes

    def adopt(
        self,
        name: str,
        path: str,
        size: int | None,
        extent_size: int,
        policy: str,
        rights: str,
        preview: bool,
        format: str | None,
    ) -> Shape:
        """See Subsystem.volume_adopt."""
        names.check_volume(name)
        if format is not None:
            blocks.check(name, format)
        if not os.path.isabs(path):
            raise Refused(Reason.USAGE, f"{path!r} is not an absolute path", object=path)
        self._check_there(path)
        self._floor.check_answers(path)
        with self._floor.pool:
            self._pool.check_known(path)
            self._check_ours(path)
            size, before, length = self._fit(path, size)
            format = self._format(path, format)
            check_shape(name, size, 1, None, extent_size, policy, rights)
            if self._floor.catalog.volume_find(name) is not None:
                raise Refused(
                    Reason.EXISTS,
                    f"there is a volume {name} already",
                    object=name,
                    hint="use another name",
                )
            if preview:
                return {"name": name, "path": path, "size": size, "grown_by": length - before}
        uuid = uuids.uuid4().bytes
        row = Volume(
            uuid,
            name,
            naa(uuid),
            size,
            extent_size,
            policy,
            rights,
            1,
            created=now(),
            details={"creating": True, "adopting": {"path": path, "length": before}},
            blocks=format,
        )
        with self._floor.runtime(uuid).lock:
            try:
                with self._floor.pool:
                    self._take(row, path, before, length)
                return self._begin(row)
            except BaseException:
                self._volumes.undo_create(row)
                raise

    # --- what there is -------------------------------------------------------------------------

    def _check_there(self, path: str) -> None:
        seen = by_path().look(path)
        if seen is None or seen.kind == "nothing":
            raise Refused(Reason.NOT_FOUND, f"{path} is not there", object=path)
        if seen.kind not in ("block", "file"):
            raise Refused(Reason.USAGE, f"{path} is neither a file nor a block device", object=path)

    def _check_ours(self, path: str) -> None:
        """Raises Refused (DATA) where someone uses it, or a subsystem has it."""
        used = by_path().uses(path)
        if used:
            raise Refused(
                Reason.DATA,
                f"{path} is not adopted, because {'; '.join(one.what for one in used[:3])}",
                object=path,
                hint=used[0].hint,
            )
        trailer = discover.peek(path)
        if trailer is not None:
            whose = f" of {trailer.volume_name}" if trailer.volume_name else ""
            raise Refused(
                Reason.DATA,
                f"{path} is a medium{whose} already",
                object=path,
                hint="bring its volume back, or media add it to use it as a spare",
            )

    def _fit(self, path: str, asked: int | None) -> tuple[int, int, int]:
        """The volume's size, and how long the file or device is, and is to be.

        Raises:
            Refused: DATA, the trailer would lie where data is, or nobody knows whether; USAGE.
        """
        fd = by_path().read(path, direct=False)
        try:
            before, block = device.size(fd), device.is_block(fd)
        finally:
            os.close(fd)
        if asked is not None and (asked <= 0 or asked % SIZE_UNIT or asked > before + SIZE_UNIT):
            raise Refused(
                Reason.USAGE,
                f"{path} can't be adopted as {asked} bytes: it has {before}, and a volume's size is"
                f" a multiple of {SIZE_UNIT}",
                object=path,
            )
        if not block:
            size = asked or before + -before % SIZE_UNIT
            if not size:
                raise Refused(Reason.USAGE, f"{path} is empty", object=path)
            return size, before, length_for(size, before)
        room = layout(before, name=path).data_size
        end = ends.end_of(path)
        size = asked or room
        behind = [kind for kind, at in end.signatures if at >= size]
        if behind:
            raise Refused(
                Reason.DATA,
                f"{path} is not adopted: {behind[0]} lies at its end, where the trailer goes",
                object=path,
                hint=_copy(before),
            )
        if asked is None and end.at is None:
            what = f"how far {end.what} on it reaches" if end.what else "where its data ends"
            raise Refused(
                Reason.DATA,
                f"{path} is not adopted: nobody can tell {what}",
                object=path,
                hint=f"say it with --size, {told(room)} ({room} bytes) at most: what is behind is"
                f" overwritten; or {_copy(before)}",
            )
        if size > room or (asked is None and end.at is not None and end.at > room):
            reaches = told(asked or end.at or 0)
            shrink = end.shrink.format(kib=room // 1024)
            raise Refused(
                Reason.DATA,
                f"{path} is not adopted: {end.what or 'what is asked for'} reaches to {reaches},"
                f" and the trailer needs what is behind {told(room)}",
                object=path,
                hint=(f"shrink it first: {shrink}; or " if shrink else "") + _copy(before),
            )
        return size, before, before

    def _format(self, path: str, asked: str | None) -> str:
        """The format of the volume's blocks: the one that is asked for, else that of what is on the disk.
        Raises Refused (USAGE) where the disk has larger blocks.
        """
        fd = by_path().read(path, direct=False)
        try:
            block, is_block = device.block_size(fd), device.is_block(fd)
        finally:
            os.close(fd)
        format = asked or blocks.name_for(block if is_block else 512)
        if block > blocks.of(format).logical:
            raise Refused(
                Reason.USAGE,
                f"{path} can't be adopted as {format}: its disk has logical blocks of {block} bytes",
                object=path,
                hint="leave --blocks out, or say 4kn"
                if is_block
                else "copy it onto a disk of 512-byte logical blocks; --blocks 4kn, where it was a disk of"
                " such blocks before",
            )
        return format

    # --- taking it -----------------------------------------------------------------------------

    def _take(self, row: Volume, path: str, before: int, length: int) -> None:
        """The catalog knows of it before the first byte is written, so that a start can undo it."""
        catalog = self._floor.catalog
        medium_uuid = uuids.uuid4().bytes
        stable = by_path().stable(path)
        taken = [known.name for known in catalog.media()]
        seen = by_path().look(path)
        kind = seen.kind if seen is not None else "file"
        where = layout(length, name=path)
        with catalog.transaction():
            catalog.medium_add(
                MediumRow(
                    medium_uuid,
                    media_names.medium_name(stable, taken),
                    stable,
                    kind,
                    where.capacity,
                    where.data_size,
                    state="in use",
                    added=now(),
                )
            )
            catalog.volume_add(row, [medium_uuid])
        if length > before:
            grow(path, before, length)
        medium = Medium.open(path)
        self._floor.media[medium_uuid] = medium
        medium.zero_trailer_room()
        medium.write_trailer(
            replace(
                medium.fresh_trailer(),
                uuid=medium_uuid,
                role=Role.LEG,
                volume=row.uuid,
                volume_name=row.name,
                volume_size=row.size,
                extent_shift=row.extent_size.bit_length() - 1,
            )
        )

    def _begin(self, row: Volume) -> Shape:
        (leg,) = self._floor.catalog.legs(row.uuid)
        self._floor.serve(
            VolumeSpec(
                uuid=row.uuid,
                size=row.size,
                extent_shift=row.extent_size.bit_length() - 1,
                block_size=blocks.of(row.blocks).logical,
                record=None,
                media=[self._floor.medium(leg.medium).spec()],
                maps=[],
                same_content=True,
            )
        )
        row = self._floor.catalog.volume_set(row.uuid, details={"adopted": True})
        with left_to_the_next_start("the trailer of what was adopted"):
            self._settle.trailers(row.uuid, 0)
        return self._views.volume(row)


def _copy(size: int) -> str:
    return f"copy it onto a new volume of {size + -size % SIZE_UNIT} bytes"
