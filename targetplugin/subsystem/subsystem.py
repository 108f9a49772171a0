"""The subsystem as its doors see it: one method a verb, each put together from the parts.

Decides nothing itself.
"""

from __future__ import annotations

import targetplugin
from targetplugin.catalog import Catalog
from targetplugin.subsystem.backups import Backups
from targetplugin.subsystem.comeback import Comeback
from targetplugin.subsystem.exports import Exports
from targetplugin.subsystem.floor import Floor
from targetplugin.subsystem.imageruns import ImageRuns
from targetplugin.subsystem.operations import Ask, Operations
from targetplugin.subsystem.points import Points
from targetplugin.subsystem.pool import Pool
from targetplugin.subsystem.ports import Kernel, MakeEngine, Rings
from targetplugin.subsystem.prepared import Prepared
from targetplugin.subsystem.registered import Registered
from targetplugin.subsystem.restores import Restores
from targetplugin.subsystem.saves import Saves
from targetplugin.subsystem.settle import Settle
from targetplugin.subsystem.start import Start
from targetplugin.subsystem.transfers import Transfers
from targetplugin.subsystem.views import Shape, Views, serves
from targetplugin.subsystem.volumes import Volumes

__all__ = ["Subsystem"]


class Subsystem:
    """Volumes on media, and their verbs. Methods may be called from any thread and raise Refused.

    A save is named `ledger@night` (label), `ledger@3` (generation) or `ledger` (its newest).
    Verbs return {"operation": Operation, ...}; a verb with `preview` answers as the real one
    would, and does nothing.
    The shapes of what is returned are described in views.py.

    Args:
        catalog: what survives; stays the caller's to close, after stop().
        make_engine: makes the engine, given what it is to call with its events.
        kernel, rings: the kernel's target and where rings are found; None where volumes are not
            exported.
    """

    def __init__(
        self,
        catalog: Catalog,
        make_engine: MakeEngine,
        kernel: Kernel | None = None,
        rings: Rings | None = None,
    ) -> None:
        self._floor = floor = Floor(catalog, kernel, rings)
        self._views = views = Views(floor)
        self._settle = settle = Settle(floor)
        self._operations = operations = Operations(floor, views)
        self._pool = pool = Pool(floor, views)
        self._volumes = Volumes(floor, views, pool, settle)
        self._points = Points(floor, views, operations, pool, settle)
        self._saves = Saves(floor, views, operations, settle)
        self._image_runs = runs = ImageRuns(floor, operations, settle)
        self._registered = registered = Registered(floor, views)
        self._restores = Restores(floor, views, operations, pool, settle, runs, registered)
        self._backups = Backups(floor, views, operations, runs, registered)
        self._exports = Exports(floor, views)
        self._transfers = Transfers(floor, views, operations, settle, self._lost)
        self._start = Start(
            floor,
            operations,
            pool,
            settle,
            self._volumes,
            Prepared(floor, operations, settle, self._saves, self._backups, self._restores),
            self._transfers,
            self._exports,
        )
        self._comeback = Comeback(floor, pool, settle, self._start)
        floor.patience.answered = lambda path: self._comeback.appeared()
        floor.engine = make_engine(self._transfers.take)

    # --- the daemon --------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the engine, opens the media, starts the volumes and serves the rings that are
        there already.
        """
        self._floor.engine.start()
        self._transfers.start()
        self._comeback.start()
        self._start.everything()
        self._comeback.lost()

    def restore_exports(self) -> bool:
        """Makes in the kernel what should be exported; call it after LIO's own restore, again and
        again. False: something could not be made, and is to be tried again soon.
        """
        return self._exports.restore()

    def stop(self) -> None:
        """Ends what reads images, closes the volumes cleanly, lets rings and media go.

        Exports stay: hosts wait.
        """
        self._comeback.stop()
        self._image_runs.stop()
        for volume in self._floor.catalog.volumes():
            with self._floor.runtime(volume.uuid).lock:
                self._exports.ring_gone(volume)
        self._floor.engine.stop()
        self._transfers.stop()
        for uuid in list(self._floor.media):
            self._pool.close(uuid)

    def disk_appeared(self) -> None:
        """A disk was plugged in; returns at once."""
        self._comeback.appeared()

    def ring_changed(self, name: str, present: bool) -> None:
        """A storage object of the volume `name` was made or removed by someone else."""
        volume = self._floor.catalog.volume_find(name)
        if volume is None:
            return
        with self._floor.runtime(volume.uuid).lock:
            if present:
                self._exports.adopt(volume)
            else:
                self._exports.ring_gone(volume)

    def volume_of(self, handle: int) -> str | None:
        """The name of the volume that the engine knows by this number."""
        runtime = self._floor.by_handle(handle)
        row = self._floor.catalog.volume_get(runtime.uuid) if runtime else None
        return row.name if row else None

    def settled(self) -> None:
        """Waits until the events that the engine has told so far are handled."""
        self._transfers.settled()

    def _lost(self) -> None:
        self._comeback.lost()

    # --- media -------------------------------------------------------------------------------

    def media_add(
        self, path: str, *, size: int | None = None, force: bool = False, name: str | None = None
    ) -> Shape:
        """Gives a file or block device to the subsystem: a spare from now on. Returns a Medium.

        Args:
            path: absolute. With `size`, a sparse file of so many bytes is made where nothing is.
            force: take it although it holds data; what it holds is lost.
        """
        return self._pool.add(path, size, force, name)

    def media_remove(self, medium: str, *, force: bool = False) -> Shape:
        """Takes a free medium back. `force`: forget one that is missing, a leg too where another is
        in sync.
        """
        if force:
            self._volumes.give_up_leg(medium)
        return self._pool.remove(medium, force)

    def media_list(self) -> list[Shape]:
        return self._pool.all()

    # --- volumes -----------------------------------------------------------------------------

    def volume_create(
        self,
        name: str,
        size: int,
        *,
        mirror: int = 2,
        media: list[str] | None = None,
        extent_size: int = 65536,
        policy: str = "split",
        rights: str = "all",
        force: bool = False,
    ) -> Shape:
        """Makes a volume of zeros on `mirror` free media, the smallest that fit, or on the named
        ones.

        Args:
            size: bytes, a multiple of 4096.
            extent_size: bytes, a power of two from 4096 to 1048576.
            policy: what a save takes: "split", a leg; "copy", a spare.
            rights: what hosts may ask for: "none", "status", "save", "all".
        """
        return self._volumes.create(name, size, mirror, media, extent_size, policy, rights)

    def volume_delete(self, name: str, *, force: bool = False) -> Shape:
        """Deletes a volume that is not exported, with its saves. `force`: although data is lost."""
        return self._volumes.delete(name, force)

    def volume_list(self) -> list[Shape]:
        return self._volumes.all()

    def volume_show(self, name: str) -> Shape:
        return self._volumes.show(name)

    def export(
        self,
        volume: str,
        initiators: list[str],
        *,
        chap: dict[str, str] | None = None,
        portals: list[str] | None = None,
        target: str | None = None,
    ) -> Shape:
        """Lets hosts log in, beside those that may already. Returns an Export.

        Args:
            initiators: iSCSI names of hosts.
            chap: {"user", "password"} for all of these; None: without CHAP.
            portals: "ip:port"; None: as it is, or the one address of this machine.
            target: its iSCSI name; None: as it is, or made of this machine's name and the volume's.
        """
        return self._exports.export(volume, initiators, chap, portals, target)

    def unexport(
        self, volume: str, initiators: list[str] | None = None, *, force: bool = False
    ) -> Shape:
        """Withdraws an export from these hosts, or all. `force`: although they are logged in."""
        return self._exports.unexport(volume, initiators, force)

    # --- points ------------------------------------------------------------------------------

    def save(
        self,
        volume: str,
        *,
        label: str = "",
        policy: str | None = None,
        onto: str | None = None,
        door: str = "terminal",
        request: bytes | None = None,
        preview: bool = False,
    ) -> Shape:
        """Fixes the volume as it is: by splitting a leg in sync, or onto a spare that fills in the
        background.

        Args:
            policy: "split" or "copy" instead of the volume's.
            onto: the free medium, or the leg, that is to be the save.
        """
        body = {"volume": volume, "label": label, "policy": policy, "onto": onto}
        ask = Ask("save", body, door, request, preview)
        return self._points.save(ask, volume, label, policy, onto)

    def diff(self, save: str, *, door: str = "terminal") -> Shape:
        """What changed since a save, as a count, in bytes and as a list of runs."""
        return self._points.diff(Ask("diff", door=door), save)

    def recover(
        self,
        save: str,
        *,
        door: str = "terminal",
        request: bytes | None = None,
        force: bool = False,
        preview: bool = False,
    ) -> Shape:
        """The volume is the save from here on; differing extents are copied in the background; the
        save stays.

        Args:
            force: although hosts of several names are logged in (terminal only).
        """
        ask = Ask("recover", {"save": save}, door, request, preview)
        return self._points.recover(ask, save, force)

    def swap(
        self,
        save: str,
        *,
        door: str = "terminal",
        request: bytes | None = None,
        force: bool = False,
        preview: bool = False,
    ) -> Shape:
        """The save's media become the volume, and the old legs a save; a second swap undoes the
        first.

        Args:
            save: a bare volume means its newest restored image that was not swapped in, else its
                newest save.
            force: although hosts of several names are logged in (terminal only).
        """
        ask = Ask("swap", {"save": save}, door, request, preview)
        return self._points.swap(ask, save, force)

    # --- saves and images ----------------------------------------------------------------------

    def resync(
        self,
        save: str,
        *,
        door: str = "terminal",
        request: bytes | None = None,
        preview: bool = False,
    ) -> Shape:
        """Gives a save up: its medium becomes a leg again, and only what differs is copied."""
        return self._saves.resync(Ask("resync", {"save": save}, door, request, preview), save)

    def release(
        self,
        save: str,
        *,
        door: str = "terminal",
        request: bytes | None = None,
        force: bool = False,
        preview: bool = False,
    ) -> Shape:
        """Gives a save up: its medium is free. `force`: although its medium is missing."""
        ask = Ask("release", {"save": save}, door, request, preview)
        return self._saves.release(ask, save, force)

    def abort(self, op: int) -> Shape:
        """Stops an operation: a restore's, save's or resync's medium is free then; a backup's image
        is gone.

        One that is over stays as it is. A recover can't be aborted.
        """
        return self._saves.abort(op)

    def restore(
        self,
        volume: str,
        *,
        image: str | None = None,
        format: str | None = None,
        backup: int | None = None,
        onto: str | None = None,
        rate: int | None = None,
        door: str = "terminal",
        request: bytes | None = None,
        force: bool = False,
        preview: bool = False,
    ) -> Shape:
        """Fills a spare from an image and compares them, beside the hosts; swap makes it the
        volume.

        Args:
            image: absolute path of a raw or qcow2 image, which may stand on others of its folder;
                format None: by its first bytes.
            backup: or the number of one that is registered for this volume.
            onto: the free medium to fill.
            rate: bytes a second at most; see operation_rate.
            force: although it is a backup of another volume (terminal only).
        """
        body = {"volume": volume, "image": image, "format": format, "backup": backup, "onto": onto}
        ask = Ask("restore", body, door, request, preview)
        return self._restores.restore(ask, volume, image, format, backup, onto, rate, force)

    def backup(
        self,
        save: str,
        path: str,
        *,
        format: str = "qcow2",
        label: str = "",
        register: bool = True,
        force: bool = False,
        since: str | None = None,
        base: int | None = None,
        rate: int | None = None,
        preview: bool = False,
    ) -> Shape:
        """Writes a save to an image and compares them, beside the hosts.

        Args:
            path: absolute; it appears there when it is whole. `force`: in the place of a file.
            register: so that a host can ask for it by number.
            since: an older save: only what differs from it is written, as a qcow2 image that stands
                on the newest backup of that save in the same folder.
            base: or the number of the backup that it is to stand on.
            rate: bytes a second at most; see operation_rate.
        """
        ask = Ask("backup", preview=preview)
        return self._backups.backup(
            ask, save, path, format, label, register, force, since, base, rate
        )

    def backup_register(
        self,
        volume: str,
        path: str,
        *,
        label: str = "",
        format: str | None = None,
        force: bool = False,
    ) -> Shape:
        """Lets hosts of a volume ask for an image by number. Returns a Backup.

        One that is registered already is looked at again, and keeps its number.

        Args:
            force: although it is a backup of another volume.
        """
        return self._registered.register(volume, path, label, format, force)

    def backup_forget(self, number: int) -> Shape:
        """Takes that back; the image stays. Refused while others stand on it."""
        return self._registered.forget(number)

    def backup_list(self, volume: str | None = None) -> list[Shape]:
        return self._registered.all(volume)

    # --- looking -----------------------------------------------------------------------------

    def resolve(self, volume: str, generation: int) -> str:
        """The name of the save that froze this generation, whether it is there or not."""
        return f"{volume}@{generation}"

    def status(self, volume: str | None = None) -> Shape:
        """{volumes, media, operations that run, version}; of one volume if it is named."""
        volumes = [self._volumes.show(volume)] if volume else self._volumes.all()
        uuid = self._floor.volume(volume).uuid if volume else None
        running = self._floor.catalog.operations(uuid, running=True)
        media = self._pool.all()
        if volume:
            media = [m for m in media if serves(m, volume)]
        return {
            "volumes": volumes,
            "media": media,
            "operations": [self._views.operation(row) for row in running],
            "version": targetplugin.__version__,
        }

    def operation(self, op: int) -> Shape:
        return self._operations.get(op)

    def operations(self, volume: str | None = None, limit: int = 50) -> list[Shape]:
        """Newest first."""
        return self._operations.all(volume, limit)

    def operation_rate(self, op: int, *, rate: int | None = None) -> Shape:
        """Changes how many bytes a second a backup or restore that runs may move, each way.

        None: no limit. Returns the Operation.
        """
        return self._image_runs.set_rate(op, rate)

    def operation_wait(self, op: int, timeout: float) -> Shape:
        """The operation when it is over, or as it is after `timeout` seconds."""
        return self._operations.wait(op, timeout)
