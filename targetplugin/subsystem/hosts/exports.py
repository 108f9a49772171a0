"""What hosts may see: kept in the catalog, made in the kernel.

Rings are attached here; their content is the engine's.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from targetplugin import logs
from targetplugin.catalog import Export, Initiator, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.kernel.tcmu import configuration
from targetplugin.subsystem.ground import blocks
from targetplugin.subsystem.ground.floor import Floor
from targetplugin.subsystem.ground.ports import Kernel, Rings
from targetplugin.subsystem.ground.views import Shape, Views

log = logging.getLogger(__name__)

# Seconds between two whole looks at an export that seems to stand as it was left.
WHOLE_LOOK = 60.0


class Host(Struct, frozen=True):
    """A host that may log in, as the kernel is told."""

    iqn: str
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        """Without the password: values end up in logs."""
        return f"Host(iqn={self.iqn!r}, user={self.user!r})"


class Asked(Struct, frozen=True):
    """How something is to be exported; see Subsystem.export."""

    initiators: list[str]
    chap: dict[str, str] | None = None
    portals: list[str] | None = None
    target: str | None = None
    preview: bool = False

    def __repr__(self) -> str:
        """Without the password: values end up in logs."""
        return f"Asked(initiators={self.initiators!r}, portals={self.portals!r})"


class Left(Struct, frozen=True):
    """How an export was left."""

    export: Export
    standing: tuple[int, ...]  # kernel.lio.Lio.standing
    looked: float  # at all of it; time.monotonic


class Offered(Protocol):
    """What a storage object stands for: a volume, or a save that is shown (shown.py)."""

    @property
    def uuid(self) -> bytes:
        """Its identity: hosts know it by this."""

    @property
    def name(self) -> str:
        """The storage object's."""

    @property
    def blocks(self) -> str:
        """Name of the format of its blocks."""

    @property
    def size(self) -> int:
        """Bytes."""


Put = Callable[[Export | None], None]  # writes an export down; None: that there is none


class Exports:
    """See the module."""

    def __init__(self, floor: Floor, views: Views) -> None:
        self._floor = floor
        self._views = views
        self._told: dict[str, str] = {}  # what can't be exported, so that it is logged once
        self._left: dict[bytes, Left] = {}

    def export(self, name: str, asked: Asked) -> Shape:
        """See Subsystem.export."""
        with self._floor.locked(self._floor.volume(name)) as volume:
            self._floor.handle(volume)
            old = self._floor.catalog.export_get(volume.uuid)
            row = self.merged(volume, old, asked)
            if not asked.preview:
                self.offer(volume, old, row, lambda export: self._put(volume, export))
            return {**self._views.export(volume.name, volume.uuid, row), "changed": row != old}

    def _put(self, volume: Volume, export: Export | None) -> None:
        if export is not None:
            self._floor.catalog.export_put(export)
        elif self._floor.catalog.export_get(volume.uuid) is not None:
            self._floor.catalog.export_remove(volume.uuid)

    def offer(self, one: Offered, old: Export | None, row: Export, put: Put) -> None:
        """Writes an export down, then makes it in the kernel: nothing is there that the catalog does
        not know, whenever the daemon ends. Refused, all is as it was before.
        """
        self._check_ours(one)
        put(row)
        try:
            self._make(one, row)
        except Refused:
            if old is None:
                self._unmake(one, row.target)
            else:
                self._make(one, old)
            put(old)
            raise

    def _check_ours(self, one: Offered) -> None:
        """Refuses what is there already and was not made here, before anything is made that would have to
        be taken back: that would take it away.
        """
        if self._floor.kernel is None:
            return
        config = self._floor.kernel.storage_object(one.name)
        if config in (None, configuration(one.uuid.hex())):
            return
        remove = f"targetcli /backstores/user:targetplugin delete {one.name}"
        if config == configuration(one.name):
            what = "was made with targetcli, and is the volume's already"
            hint = f"export it with targetcli; or {remove}, then export it again"
        else:
            what = "is another volume's, which was called so too"
            hint = f"if nothing uses it: {remove}"
        raise Refused(
            Reason.EXISTS,
            f"the storage object {one.name} {what}",
            object=one.name,
            hint=hint,
        )

    def merged(self, one: Offered, old: Export | None, asked: Asked) -> Export:
        """The export as it was, with these hosts added; where it stood stays, unless it is said
        anew.
        """
        if not asked.initiators:
            raise Refused(
                Reason.USAGE,
                f"an export of {one.name} needs the name of a host",
                object=one.name,
                hint="name the initiators that may log in, such as iqn.2026-01.org.example:host",
            )
        if old is not None and asked.target is not None and asked.target != old.target:
            raise Refused(
                Reason.EXISTS,
                f"{one.name} is exported under {old.target}",
                object=one.name,
                hint="withdraw that export first",
            )
        chap = asked.chap
        user, password = (chap["user"], chap["password"]) if chap else (None, None)
        hosts = {host.iqn: host for host in (old.initiators if old else ())}
        hosts.update({iqn: Initiator(iqn, user, password) for iqn in asked.initiators})
        portals = asked.portals
        where = list(old.portals) if old and not portals else self._parts()[0].portals(portals)
        return Export(
            one.uuid,
            (old.target if old else None) or asked.target or self._target(one),
            tuple(where),
            0,
            tuple(hosts.values()),
        )

    def _target(self, one: Offered) -> str:
        """LIO's own scheme of names, with this machine's and the volume's."""
        machine = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().partition(".")[0].lower())
        short = re.sub(r"[^a-z0-9.-]+", "-", one.name.lower())
        name = f"iqn.2003-01.org.linux-iscsi.{machine.strip('-') or 'localhost'}:{short}"
        taken = {row.target for row in self._floor.catalog.exports()}
        taken |= {row.export.target for row in self._floor.catalog.shown()}
        return name if name not in taken else f"{name}.{one.uuid.hex()[:8]}"

    def unexport(
        self, name: str, initiators: list[str] | None, force: bool, preview: bool
    ) -> Shape:
        """See Subsystem.unexport."""
        volume = self._floor.volume(name)
        with self._floor.runtime(volume.uuid).lock:
            row = self._floor.catalog.export_get(volume.uuid)
            left = self.withdraw(
                volume, row, initiators, force, preview, lambda export: self._put(volume, export)
            )
            return self._views.export(volume.name, volume.uuid, left)

    def withdraw(
        self,
        one: Offered,
        row: Export | None,
        initiators: list[str] | None,
        force: bool,
        preview: bool,
        put: Put,
    ) -> Export:
        """Takes hosts, or all, out of an export. Returns what is left of it, or with `preview` would
        be.
        """
        name = one.name
        if row is None:
            raise Refused(
                Reason.STATE, f"{name} is not exported", object=name, hint="status shows it"
            )
        leaving = set(initiators) if initiators is not None else {i.iqn for i in row.initiators}
        unknown = leaving - {i.iqn for i in row.initiators}
        if unknown:
            raise Refused(
                Reason.NOT_FOUND,
                f"{name} is not exported to {', '.join(sorted(unknown))}",
                object=name,
                hint="status lists its hosts",
            )
        self._check_in_use(name, row.target, leaving, force)
        stay = tuple(i for i in row.initiators if i.iqn not in leaving)
        left = replace(row, initiators=stay)
        if preview:
            return left
        if stay:
            put(left)
            self._make(one, left)
        else:
            self._unmake(one, row.target)
            put(None)
        return left

    def _check_in_use(self, name: str, target: str, leaving: set[str], force: bool) -> None:
        kernel = self._floor.kernel
        hosts = kernel.logged_in(target) & leaving if kernel else set()
        if hosts and not force:
            raise Refused(
                Reason.HOSTS,
                f"{', '.join(sorted(hosts))} is logged in to {name}",
                object=name,
                hint="log it out there, or use --force to take the disk away from under it",
            )

    # --- the kernel --------------------------------------------------------------------------

    def _make(self, one: Offered, row: Export) -> None:
        kernel, _ = self._parts()
        self.serve(one, make=True)
        hosts = [Host(i.iqn, i.chap_user or "", i.chap_password or "") for i in row.initiators]
        kernel.ensure_export(one.name, row.target, list(row.portals), hosts)

    def _unmake(self, one: Offered, target: str) -> None:
        """The ring is served until no host has it any more."""
        kernel, _ = self._parts()
        kernel.remove_export(target)
        self.ring_gone(one)
        kernel.remove_storage_object(one.name)
        self._left.pop(one.uuid, None)
        self._told.pop(one.name, None)

    def serve(self, one: Offered, *, make: bool) -> None:
        """Serves the volume's ring, unless that is done already; makes the storage object first if
        asked to.

        The media are open, so a dead daemon's last writes are over (rule 19) and the ring may be
        reset.
        """
        kernel, rings = self._parts()
        runtime = self._floor.runtime(one.uuid)
        made = False
        if make:
            serial = one.uuid.hex()
            block = blocks.of(one.blocks).logical
            made = kernel.ensure_storage_object(one.name, serial, one.size, serial, block)
        if runtime.ring is not None and not made:
            return
        if runtime.handle is None:
            return
        if runtime.ring is not None:
            self.ring_gone(one)
        descriptor, length = rings.open(one.name)
        try:
            kernel.reset_ring(one.name)
            kernel.grow(one.name, one.size)
            self._floor.engine.attach_ring(runtime.handle, descriptor, length)
            kernel.unblock(one.name)
        except BaseException:
            self._floor.engine.detach_ring(runtime.handle)
            os.close(descriptor)
            raise
        runtime.ring = descriptor

    def ring_gone(self, one: Offered) -> None:
        """The storage object is to go, or went: lets its ring go."""
        runtime = self._floor.runtime(one.uuid)
        if runtime.ring is None:
            return
        if runtime.handle is not None:
            self._floor.engine.detach_ring(runtime.handle)
        os.close(runtime.ring)
        runtime.ring = None

    def hold(self, one: Offered) -> None:
        """Lets the ring go and has hosts wait, until it is served again."""
        if self._floor.runtime(one.uuid).ring is not None:
            self.ring_gone(one)
            self._parts()[0].reset_ring(one.name)

    def adopt(self, one: Offered) -> None:
        """Serves the ring of a storage object that outlived the daemon, that someone else restored, or
        that targetcli made of the volume's name.
        """
        if self._floor.kernel is None or self._floor.rings is None:
            return
        config = self._floor.kernel.storage_object(one.name)
        if config is None:
            return
        if config != configuration(one.uuid.hex()):
            try:
                block = blocks.of(one.blocks).logical
                self._floor.kernel.check_made_by_name(one.name, one.size, block)
            except Refused as error:
                log.error("%s It is not served. %s", error.message, error.hint)
                return
        self.serve(one, make=False)

    def stranger(self, name: str) -> None:
        """A storage object has come of which no volume is called so."""
        if self._floor.kernel is None:
            return
        config = self._floor.kernel.storage_object(name) or ""
        named = config.partition("/")[2]
        if self._floor.catalog.volume_find(named) is None:
            log.error("The storage object %s is not served: there is no volume %s.", name, named)
        else:
            log.error(
                "The storage object %s is not served: it must be called as its volume is, %s.",
                name,
                named,
            )

    def made(self, name: str) -> None:
        """A storage object was made a moment ago. That it is not there is the only sign of a refusal."""
        if self._floor.kernel is not None and self._floor.kernel.storage_object(name) is None:
            log.warning(
                "The storage object %s was gone as soon as it was made. Where tcmu-runner runs, its library"
                " refuses those that it does not know: export the volume with targetplugin export, or give"
                " targetcli's create control=nl_reply_supported=-1 besides",
                name,
            )

    def size_told(self, name: str, size: int) -> None:
        """Somebody set the size, in bytes, that LIO shows of a storage object. It changes nothing now,
        but saveconfig would keep it.
        """
        volume = self._floor.catalog.volume_find(name)
        if volume is not None and volume.size != size:
            log.warning(
                "LIO was told that %s has %d bytes; it has %d, and hosts are told so. Set it right before"
                " you save the configuration, or it is not served after a reboot: targetcli"
                " /backstores/user:targetplugin/%s set attribute dev_size=%d",
                name,
                size,
                volume.size,
                name,
                volume.size,
            )

    def restore(self) -> bool:
        """Makes in the kernel what the catalog has. What can't be made does not stop the rest.

        Returns:
            False: something could not be made and is to be tried again. Volumes that are down are
            not looked at; they are served when they come up.
        """
        complete = True
        for row in self._floor.catalog.exports():
            volume = self._floor.catalog.volume_get(row.volume)
            if volume is None:
                continue
            with self._floor.runtime(volume.uuid).lock, logs.about(volume=volume.name):
                current = self._floor.catalog.export_get(volume.uuid)
                if current is not None:
                    complete = self.restore_one(volume, current) and complete
        return complete

    def restore_one(self, one: Offered, export: Export) -> bool:
        """The same of one, under its lock."""
        if self._floor.runtime(one.uuid).handle is None or self._stands(one, export):
            return True
        try:
            self._make(one, export)
            self._left[one.uuid] = Left(
                export, self._parts()[0].standing(export.target), time.monotonic()
            )
            self._told.pop(one.name, None)
        except Refused as error:
            if self._told.get(one.name) != error.message:
                log.error("%s can't be exported: %s", one.name, error.message)
            self._told[one.name] = error.message
            return False
        return True

    def _stands(self, one: Offered, export: Export) -> bool:
        """Whether it is served and seems to be as it was left a short time ago."""
        left = self._left.get(one.uuid)
        if left is None or left.export != export or self._floor.runtime(one.uuid).ring is None:
            return False
        if not left.standing or time.monotonic() - left.looked > WHOLE_LOOK:
            return False
        return self._parts()[0].standing(export.target) == left.standing

    def _parts(self) -> tuple[Kernel, Rings]:
        if self._floor.kernel is None or self._floor.rings is None:
            raise Refused(
                Reason.ENVIRONMENT,
                "this subsystem runs without the kernel's target",
                hint="start targetplugind on a machine with LIO",
            )
        return self._floor.kernel, self._floor.rings
