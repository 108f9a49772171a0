"""What hosts may see: kept in the catalog, made in the kernel.

Rings are attached here; their content is the engine's.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from dataclasses import dataclass, replace

from targetplugin.catalog import Export, Initiator, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.floor import Floor
from targetplugin.subsystem.ports import Kernel, Rings
from targetplugin.subsystem.views import Shape, Views

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Host:
    """A host that may log in, as the kernel is told."""

    iqn: str
    user: str = ""
    password: str = ""


class Exports:
    """See the module."""

    def __init__(self, floor: Floor, views: Views) -> None:
        self._floor = floor
        self._views = views
        self._told: dict[str, str] = {}  # what can't be exported, so that it is logged once

    def export(
        self,
        name: str,
        initiators: list[str],
        chap: dict[str, str] | None,
        portals: list[str] | None,
        target: str | None,
    ) -> Shape:
        """See Subsystem.export."""
        volume = self._floor.volume(name)
        if not initiators:
            raise Refused(
                Reason.USAGE,
                f"an export of {name} needs the name of a host",
                object=name,
                hint="name the initiators that may log in, such as iqn.2026-01.org.example:host",
            )
        with self._floor.runtime(volume.uuid).lock:
            volume = self._floor.volume(name)
            self._floor.handle(volume)
            old = self._floor.catalog.export_get(volume.uuid)
            row = self._merged(volume, old, initiators, chap, portals, target)
            try:
                self._make(volume, row)
            except Refused:
                if old is None:
                    self._unmake(volume, row.target)
                else:
                    self._make(volume, old)
                raise
            self._floor.catalog.export_put(row)
            return self._views.export(volume, row)

    def _merged(
        self,
        volume: Volume,
        old: Export | None,
        initiators: list[str],
        chap: dict[str, str] | None,
        portals: list[str] | None,
        target: str | None,
    ) -> Export:
        """The export as it was, with these hosts added; where it stood stays, unless it is said
        anew.
        """
        if old is not None and target is not None and target != old.target:
            raise Refused(
                Reason.EXISTS,
                f"{volume.name} is exported under {old.target}",
                object=volume.name,
                hint="withdraw that export first",
            )
        user, password = (chap["user"], chap["password"]) if chap else (None, None)
        hosts = {one.iqn: one for one in (old.initiators if old else ())}
        hosts.update({iqn: Initiator(iqn, user, password) for iqn in initiators})
        where = list(old.portals) if old and not portals else self._parts()[0].portals(portals)
        return Export(
            volume.uuid,
            (old.target if old else None) or target or self._target(volume),
            tuple(where),
            0,
            tuple(hosts.values()),
        )

    def _target(self, volume: Volume) -> str:
        """LIO's own scheme of names, with this machine's and the volume's."""
        machine = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().partition(".")[0].lower())
        short = re.sub(r"[^a-z0-9.-]+", "-", volume.name.lower())
        name = f"iqn.2003-01.org.linux-iscsi.{machine.strip('-') or 'localhost'}:{short}"
        taken = {row.target for row in self._floor.catalog.exports()}
        return name if name not in taken else f"{name}.{volume.uuid.hex()[:8]}"

    def unexport(self, name: str, initiators: list[str] | None, force: bool) -> Shape:
        """See Subsystem.unexport."""
        volume = self._floor.volume(name)
        with self._floor.runtime(volume.uuid).lock:
            row = self._floor.catalog.export_get(volume.uuid)
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
                    hint="volume show lists its hosts",
                )
            self._check_in_use(name, row.target, leaving, force)
            stay = tuple(i for i in row.initiators if i.iqn not in leaving)
            left = replace(row, initiators=stay)
            if stay:
                self._floor.catalog.export_put(left)
                self._make(volume, left)
            else:
                self._floor.catalog.export_remove(volume.uuid)
                self._unmake(volume, row.target)
            return self._views.export(volume, left)

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

    def _make(self, volume: Volume, row: Export) -> None:
        kernel, _ = self._parts()
        self.serve(volume, make=True)
        hosts = [Host(i.iqn, i.chap_user or "", i.chap_password or "") for i in row.initiators]
        kernel.ensure_export(volume.name, row.target, list(row.portals), hosts)

    def _unmake(self, volume: Volume, target: str) -> None:
        """The ring is served until no host has it any more."""
        kernel, _ = self._parts()
        kernel.remove_export(target)
        self.ring_gone(volume)
        kernel.remove_storage_object(volume.name)

    def serve(self, volume: Volume, *, make: bool) -> None:
        """Serves the volume's ring, unless that is done already; makes the storage object first if
        asked to.

        The media are open, so a dead daemon's last writes are over (rule 19) and the ring may be
        reset.
        """
        kernel, rings = self._parts()
        runtime = self._floor.runtime(volume.uuid)
        made = False
        if make:
            serial = volume.uuid.hex()
            made = kernel.ensure_storage_object(volume.name, serial, volume.size, serial)
        if runtime.ring is not None and not made:
            return
        if runtime.handle is None:
            return
        if runtime.ring is not None:
            self.ring_gone(volume)
        descriptor, length = rings.open(volume.name)
        try:
            kernel.reset_ring(volume.name)
            self._floor.engine.attach_ring(runtime.handle, descriptor, length)
            kernel.unblock(volume.name)
        except BaseException:
            self._floor.engine.detach_ring(runtime.handle)
            os.close(descriptor)
            raise
        runtime.ring = descriptor

    def ring_gone(self, volume: Volume) -> None:
        """The storage object is to go, or went: lets its ring go."""
        runtime = self._floor.runtime(volume.uuid)
        if runtime.ring is None:
            return
        if runtime.handle is not None:
            self._floor.engine.detach_ring(runtime.handle)
        os.close(runtime.ring)
        runtime.ring = None

    def adopt(self, volume: Volume) -> None:
        """At a start: serves the ring of a storage object that outlived the daemon, or that someone
        else restored.
        """
        if self._floor.kernel is None or self._floor.rings is None:
            return
        if volume.name in self._floor.kernel.storage_objects():
            self.serve(volume, make=False)

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
            runtime = self._floor.runtime(volume.uuid)
            with runtime.lock:
                current = self._floor.catalog.export_get(volume.uuid)
                if runtime.handle is None or current is None:
                    continue
                try:
                    self._make(volume, current)
                    self._told.pop(volume.name, None)
                except Refused as error:
                    complete = False
                    if self._told.get(volume.name) != error.message:
                        log.error("%s can't be exported: %s", volume.name, error.message)
                    self._told[volume.name] = error.message
        return complete

    def _parts(self) -> tuple[Kernel, Rings]:
        if self._floor.kernel is None or self._floor.rings is None:
            raise Refused(
                Reason.ENVIRONMENT,
                "this subsystem runs without the kernel's target",
                hint="start targetplugind on a machine with LIO",
            )
        return self._floor.kernel, self._floor.rings
