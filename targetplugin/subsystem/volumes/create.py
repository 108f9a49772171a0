"""Volumes: created on free media, deleted, shown. Their verbs are elsewhere."""

from __future__ import annotations

import uuid as uuids

from targetplugin.catalog import ALL, LIVE, Volume
from targetplugin.engine import VolumeSpec
from targetplugin.errors import Reason, Refused
from targetplugin.media.length import shrink_back
from targetplugin.media.trailer import Role
from targetplugin.subsystem.ground import blocks, names
from targetplugin.subsystem.ground.floor import Floor, save_name
from targetplugin.subsystem.ground.identity import naa
from targetplugin.subsystem.ground.operations import RIGHTS
from targetplugin.subsystem.ground.sizes import told
from targetplugin.subsystem.ground.views import Shape, Views, now
from targetplugin.subsystem.mirror.legs import MAX_LEGS
from targetplugin.subsystem.mirror.pool import Pool
from targetplugin.subsystem.mirror.settle import Settle, left_to_the_next_start
from targetplugin.subsystem.saves.holds import Holds

POLICIES = ("split", "copy")
EXTENT_SIZES = [1 << shift for shift in range(12, 21)]
SIZE_UNIT = 4096


class Volumes:
    """See the module."""

    def __init__(
        self, floor: Floor, views: Views, pool: Pool, settle: Settle, holds: Holds
    ) -> None:
        self._floor = floor
        self._holds = holds
        self._views = views
        self._pool = pool
        self._settle = settle

    def create(
        self,
        name: str,
        size: int,
        mirror: int,
        media: list[str] | None,
        extent_size: int,
        policy: str,
        rights: str,
        format: str,
    ) -> Shape:
        """See Subsystem.volume_create."""
        names.check_volume(name)
        blocks.check(name, format)
        number = len(media) if media is not None else mirror
        check_shape(name, size, number, media, extent_size, policy, rights)
        uuid = uuids.uuid4().bytes
        with self._floor.runtime(uuid).lock:
            with self._floor.pool:
                if self._floor.catalog.volume_find(name) is not None:
                    raise Refused(
                        Reason.EXISTS,
                        f"there is a volume {name} already",
                        object=name,
                        hint="use another name, or delete that one",
                    )
                block = blocks.of(format).logical
                legs = [r.uuid for r in self._pool.choose(size, block, number, media, name)]
                row = Volume(
                    uuid,
                    name,
                    naa(uuid),
                    size,
                    extent_size,
                    policy,
                    rights,
                    number,
                    created=now(),
                    details={"creating": True},
                    blocks=format,
                )
                self._floor.catalog.volume_add(row, legs)
                try:
                    for leg in legs:
                        self._settle.claim(leg, Role.LEG, row, 0)
                except (Refused, OSError):
                    self.undo_create(row)
                    raise
            return self._begin(row, legs)

    def _begin(self, row: Volume, legs: list[bytes]) -> Shape:
        """Makes the legs equal, all zeros, and starts the volume on them."""
        try:
            for leg in legs:
                self._floor.medium(leg).write_zeros(0, row.size)
            self._floor.serve(
                VolumeSpec(
                    uuid=row.uuid,
                    size=row.size,
                    extent_shift=row.extent_size.bit_length() - 1,
                    block_size=blocks.of(row.blocks).logical,
                    record=None,
                    media=[self._floor.medium(leg).spec() for leg in legs],
                    maps=[],
                    same_content=True,
                )
            )
        except (Refused, OSError):
            self.undo_create(row)
            raise
        row = self._floor.catalog.volume_set(row.uuid, details={})
        self._settle.trailers(row.uuid, 0)
        return self._views.volume(row)

    def set(
        self,
        name: str,
        policy: str | None,
        rights: str | None,
        mirror: int | None,
        replace_failed: bool | None,
        replace_after: int | None,
    ) -> Shape:
        """See Subsystem.volume_set."""
        with self._floor.locked(self._floor.volume(name)) as volume:
            _check_settings(name, policy, rights, mirror, replace_after)
            details = dict(volume.details)
            if replace_failed is not None:
                details["replace_failed"] = replace_failed
            if replace_after is not None:
                details["replace_after"] = replace_after
            wanted = {"policy": policy, "rights": rights, "mirror": mirror, "details": details}
            changes = {
                key: value
                for key, value in wanted.items()
                if value is not None and value != getattr(volume, key)
            }
            if changes:
                volume = self._floor.catalog.volume_set(volume.uuid, **changes)
            return self._views.volume(volume)

    def undo_create(self, row: Volume, why: str = "the daemon ended before it was there") -> None:
        """A volume that was not created to the end has no trace. `why` is told of what made it."""
        catalog = self._floor.catalog
        legs = [leg.medium for leg in catalog.legs(row.uuid)]
        if "adopting" in row.details:
            self._give_back(row, legs)
            return
        for leg in legs:
            self._settle.free(leg, 0)
        with catalog.transaction():
            for one in catalog.operations(row.uuid, running=True):
                catalog.operation_set(one.id, state="failed", error=why)
                if one.request is not None:
                    catalog.request_forget(one.request)
            catalog.volume_remove(row.uuid)
        self._floor.forget(row.uuid)

    def _give_back(self, row: Volume, legs: list[bytes]) -> None:
        """What was to be adopted is as it was, and no medium: it has data, and is nobody's spare."""
        runtime = self._floor.runtime(row.uuid)
        if runtime.handle is not None:
            self._floor.engine.remove_volume(runtime.handle)
            runtime.handle = None
        for uuid in legs:
            medium = self._floor.media.pop(uuid, None)
            if medium is not None:
                with left_to_the_next_start(f"the end of {medium.path}"):
                    medium.clear_trailer()
                medium.close()
        path, before = row.details["adopting"]["path"], row.details["adopting"]["length"]
        with left_to_the_next_start(f"the length of {path}"):
            shrink_back(path, before)
        with self._floor.catalog.transaction():
            if self._floor.catalog.volume_get(row.uuid) is not None:
                self._floor.catalog.volume_remove(row.uuid)
            for uuid in legs:
                self._floor.catalog.medium_remove(uuid)
        self._floor.forget(row.uuid)

    def delete(self, name: str, force: bool, preview: bool) -> Shape:
        """See Subsystem.volume_delete."""
        volume = self._floor.volume(name)
        runtime = self._floor.runtime(volume.uuid)
        with runtime.lock:
            volume = self._floor.volume(name)
            if self._floor.catalog.export_get(volume.uuid) is not None:
                raise Refused(
                    Reason.STATE,
                    f"{name} is exported",
                    object=name,
                    hint=f"withdraw the export first: unexport {name}",
                )
            if runtime.ring is not None:
                raise Refused(
                    Reason.STATE,
                    f"{name} is a storage object of LIO, made with targetcli",
                    object=name,
                    hint=f"delete that first: targetcli /backstores/user:targetplugin delete {name}",
                )
            if shown := self._floor.catalog.shown(volume.uuid):
                kept = f"{name}@{shown[0].generation}"
                raise Refused(
                    Reason.STATE,
                    f"{kept} is shown to hosts",
                    object=kept,
                    hint=f"withdraw it from them first: unexport {kept}",
                )
            if clones := self._views.clones(volume):
                clone = clones[0]
                copying = self._views.running(clone)
                raise Refused(
                    Reason.BUSY,
                    f"{clone.name} is still being copied from {clone.details['clone_of']}",
                    object=name,
                    hint=f"wait until it is, or delete {clone.name} first",
                    progress=self._views.progress(copying)[0] if copying else None,
                )
            busy = self._views.running(volume)
            if runtime.tasks and busy is not None:
                raise Refused(
                    Reason.BUSY,
                    f"{name} has a {busy.verb} that runs",
                    object=name,
                    hint="wait until it is done, or abort it",
                    progress=self._views.progress(busy)[0],
                )
            self._holds.check_none(volume)
            self._check_lost(volume, force)
            shape = self._views.volume(volume)
            media = [leg.medium for leg in self._floor.catalog.legs(volume.uuid)]
            for save in self._floor.catalog.saves(volume.uuid):
                media += save.media
            media += self._views.fills(volume.uuid)  # that wait for their medium
            if (store := self._floor.catalog.store_get(volume.uuid)) is not None:
                media.append(store)
            self._floor.check_over(media)
            if preview:
                return shape
            if runtime.handle is not None:
                self._floor.engine.remove_volume(runtime.handle)
                runtime.handle = None
            with self._floor.catalog.transaction():
                for row in self._floor.catalog.operations(volume.uuid, running=True):
                    self._floor.catalog.operation_set(
                        row.id, state="aborted", error="the volume was deleted"
                    )
                self._floor.catalog.volume_set(volume.uuid, details={"creating": True})
            frozen = [g.map for g in self._floor.catalog.generations(volume.uuid)]
            for uuid in media:
                self._settle.free(uuid, 0)
                row_there = self._floor.catalog.medium_get(uuid)
                if row_there is not None and uuid in self._floor.media:
                    self._floor.catalog.medium_set(uuid, state="free")
            self._floor.catalog.volume_remove(volume.uuid)
            for name_of_map in frozen:
                if name_of_map not in (LIVE, ALL):
                    self._floor.catalog.maps.remove(name_of_map)
            self._floor.forget(volume.uuid)
            self._floor.tell()
            return shape

    def _check_lost(self, volume: Volume, force: bool) -> None:
        """Raises Refused (DATA) naming what would be lost, unless forced or nothing was ever
        written.
        """
        saves = [save_name(volume, s) for s in self._floor.catalog.saves(volume.uuid)]
        status = self._floor.status(volume)
        untouched = volume.generation == 1 and status is not None and not status["changed"]
        untouched = untouched and not volume.details.get("adopted")
        if force or (untouched and not saves):
            return
        lost = f"the volume's {told(volume.size)}"
        if saves:
            lost += f" and its saves {', '.join(saves)}"
        raise Refused(
            Reason.DATA,
            f"deleting {volume.name} would lose {lost}",
            object=volume.name,
            hint="use --force to lose them",
        )

    def give_up_leg(self, name: str) -> None:
        """Forgets a leg whose medium is missing, where another is in sync; else does nothing."""
        medium = self._floor.medium_row(name)
        for volume in self._floor.catalog.volumes():
            legs = [leg.medium for leg in self._floor.catalog.legs(volume.uuid)]
            if medium.uuid not in legs or self._floor.is_there(medium.uuid):
                continue
            with self._floor.runtime(volume.uuid).lock:
                handle = self._floor.handle(volume)
                self._floor.engine.drop_leg(handle, medium.uuid)
                legs = [leg.medium for leg in self._floor.catalog.legs(volume.uuid)]
                stay = [uuid for uuid in legs if uuid != medium.uuid]
                self._floor.catalog.legs_set(volume.uuid, stay)

    def all(self) -> list[Shape]:
        """All volumes, by name."""
        rows = [v for v in self._floor.catalog.volumes() if not v.details.get("creating")]
        return [self._views.volume(v) for v in sorted(rows, key=lambda v: v.name)]

    def show(self, name: str) -> Shape:
        return self._views.volume(self._floor.volume(name))


def check_shape(
    name: str,
    size: int,
    number: int,
    media: list[str] | None,
    extent_size: int,
    policy: str,
    rights: str,
) -> None:
    """Raises Refused (USAGE)."""
    why = ""
    if size <= 0 or size % SIZE_UNIT:
        why = f"its size {size} is no positive multiple of {SIZE_UNIT}"
    elif not 1 <= number <= MAX_LEGS:
        why = f"it may have 1 to {MAX_LEGS} legs, not {number}"
    elif media is not None and len(set(media)) < len(media):
        why = "a medium is named twice"
    elif extent_size not in EXTENT_SIZES:
        why = f"its extent size {extent_size} is no power of two from 4096 to 1048576"
    if why:
        raise Refused(Reason.USAGE, f"{name} can't be made: {why}", object=name)
    _check_settings(name, policy, rights, None, None)


def _check_settings(
    name: str,
    policy: str | None,
    rights: str | None,
    mirror: int | None,
    replace_after: int | None,
) -> None:
    """Raises Refused (USAGE)."""
    why = ""
    if policy is not None and policy not in POLICIES:
        why = f"its policy {policy!r} is neither split nor copy"
    elif rights is not None and rights not in RIGHTS:
        why = f"its rights {rights!r} are none of {', '.join(RIGHTS)}"
    elif mirror is not None and not 1 <= mirror <= MAX_LEGS:
        why = f"it may have 1 to {MAX_LEGS} legs, not {mirror}"
    elif replace_after is not None and replace_after < 0:
        why = f"a leg can't be replaced {-replace_after} s before it fails"
    if why:
        raise Refused(Reason.USAGE, f"{name} can't be so: {why}", object=name)
