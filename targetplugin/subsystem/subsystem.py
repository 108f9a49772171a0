"""The subsystem as its doors see it: one method a verb, each put together from the parts.

Decides nothing itself.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import targetplugin
from targetplugin.catalog import Catalog, Volume
from targetplugin.hooks.run import Runner
from targetplugin.subsystem.asker import Asker
from targetplugin.subsystem.backups.backup import Backups
from targetplugin.subsystem.backups.fills import Fills
from targetplugin.subsystem.backups.imageruns import ImageRuns
from targetplugin.subsystem.backups.registered import Registered
from targetplugin.subsystem.backups.restore import Restores
from targetplugin.subsystem.ground.differentials import Differentials
from targetplugin.subsystem.ground.floor import Floor
from targetplugin.subsystem.ground.hooks import Hooks
from targetplugin.subsystem.ground.operations import Ask, Operations
from targetplugin.subsystem.ground.ports import Kernel, MakeEngine, Rings
from targetplugin.subsystem.ground.views import Shape, Views, serves
from targetplugin.subsystem.ground.write_cache import WriteCache
from targetplugin.subsystem.hosts.exports import Asked, Exports
from targetplugin.subsystem.hosts.groups import Groups
from targetplugin.subsystem.hosts.modes import Modes
from targetplugin.subsystem.hosts.shown import Shown
from targetplugin.subsystem.mirror.legs import Legs
from targetplugin.subsystem.mirror.pool import Pool
from targetplugin.subsystem.mirror.replace import Replace
from targetplugin.subsystem.mirror.scrub import Scrub
from targetplugin.subsystem.mirror.settle import Settle
from targetplugin.subsystem.points.committed import Committed
from targetplugin.subsystem.points.point import Points
from targetplugin.subsystem.points.swapped import Swapped
from targetplugin.subsystem.points.taken_back import TakenBack
from targetplugin.subsystem.points.together import Together
from targetplugin.subsystem.points.transfers import Transfers
from targetplugin.subsystem.points.undo import Undo
from targetplugin.subsystem.saves.holds import Hold, Holds
from targetplugin.subsystem.saves.release import Saves
from targetplugin.subsystem.saves.retain import Retain
from targetplugin.subsystem.saves.retention import Rules
from targetplugin.subsystem.saves.stores import Stores
from targetplugin.subsystem.start.bring_up import Start
from targetplugin.subsystem.start.comeback import Comeback
from targetplugin.subsystem.start.prepared import Prepared
from targetplugin.subsystem.volumes.adopt import Adopt
from targetplugin.subsystem.volumes.clones import Clones
from targetplugin.subsystem.volumes.create import Volumes
from targetplugin.subsystem.volumes.resize import Resize

__all__ = ["Subsystem"]


class Subsystem:
    """Volumes on media, and their verbs. Methods may be called from any thread and raise Refused.

    A save is named `ledger@night` (label), `ledger@3` (generation) or `ledger` (its newest).
    Verbs return {"operation": Operation, ...}; a verb with `preview` answers as the real one
    would, and does nothing; where it copies what differs, with `bytes` and an `estimate` (rates.py).
    The shapes of what is returned are described in views.py.

    Args:
        catalog: what survives; stays the caller's to close, after stop().
        make_engine: makes the engine, given what it is to call with its events.
        kernel, rings: the kernel's target and where rings are found; None where volumes are not
            exported.
        runner: runs hooks; None: this process does.
    """

    def __init__(
        self,
        catalog: Catalog,
        make_engine: MakeEngine,
        kernel: Kernel | None = None,
        rings: Rings | None = None,
        runner: Runner | None = None,
    ) -> None:
        self._floor = floor = Floor(catalog, kernel, rings)
        self._views = views = Views(floor)
        self._settle = settle = Settle(floor)
        self._operations = operations = Operations(floor, views)
        self._pool = pool = Pool(floor, views)
        self._stores = stores = Stores(floor, views, pool, settle)
        self._holds = Holds(floor, views, operations, stores)
        self._volumes = Volumes(floor, views, pool, settle, self._holds)
        self._adopt = Adopt(floor, views, pool, settle, self._volumes)
        self._differentials = Differentials(floor, views)
        self._legs = Legs(floor, views, operations, pool, settle)
        self._saves = Saves(floor, views, operations, settle, stores)
        self._retain = Retain(floor, views, self._saves)
        superseded = self._saves.release_superseded
        undo = Undo(floor, views, pool, settle, stores)
        self._points = Points(
            floor, views, operations, pool, settle, undo, stores, self._holds, superseded
        )
        self._groups = Groups(floor)
        self._modes = Modes(floor)
        self._together = Together(
            floor,
            views,
            operations,
            settle,
            self._groups,
            self._points,
            self._saves,
            stores,
            self._holds,
        )
        committed = Committed(floor, operations, settle, self._together)
        self._taken_back = TakenBack(
            floor,
            views,
            operations,
            settle,
            self._points,
            undo,
            self._together,
            committed,
            superseded,
        )
        self._swapped = Swapped(floor, operations, settle, self._points, self._together, committed)
        self._image_runs = runs = ImageRuns(floor, operations, settle)
        self._registered = registered = Registered(floor, views)
        self._restores = Restores(floor, views, operations, pool, settle, runs, registered)
        self._backups = Backups(floor, views, operations, runs, registered)
        self._exports = Exports(floor, views)
        self._shown = shown = Shown(floor, views, operations, self._exports)
        self._fills = Fills(floor, views, operations, pool, settle, runs, stores, shown)
        self._clones = Clones(floor, views, operations, pool, settle, self._volumes)
        self._scrub = Scrub(floor, views, operations)
        self._resize = Resize(
            floor,
            views,
            operations,
            runs,
            self._exports,
            self._serve,
        )
        self._transfers = Transfers(
            floor, views, operations, settle, stores, self._lost, self._is_over
        )
        self._start = Start(
            floor,
            operations,
            pool,
            settle,
            self._volumes,
            self._legs,
            Prepared(
                floor,
                operations,
                settle,
                self._saves,
                self._legs,
                self._backups,
                self._restores,
                self._fills,
                self._resize,
            ),
            self._transfers,
            self._exports,
            self._saves,
            self._together,
            committed,
            self._shown,
            stores,
            self._fills,
        )
        self._hooks = Hooks(catalog, floor.journal, runner=runner)
        self._replace = Replace(floor, self._legs, self._tell)
        self._comeback = Comeback(
            floor, pool, settle, self._start, self._exports, self._shown, self._fills
        )
        floor.patience.answered = lambda path: self._comeback.soon()
        floor.engine = make_engine(self._transfers.take)

    # --- the daemon --------------------------------------------------------------------------

    def start(self) -> None:
        """Starts the engine, opens the media, starts the volumes and serves the rings that are
        there already.
        """
        self._floor.engine.start()
        self._hooks.start()
        self._transfers.start()
        self._holds.count_anew()
        self._comeback.start()
        self._start.everything()
        self._retain.start()
        self._comeback.lost()
        self._replace.start()
        self._scrub.resume()

    def restore_exports(self) -> bool:
        """Makes in the kernel what should be exported; call it after LIO's own restore, again and
        again. False: something could not be made, and is to be tried again soon.
        """
        volumes = self._exports.restore()
        return self._shown.restore() and volumes

    def stop(self) -> None:
        """Ends what reads images, closes the volumes cleanly, lets rings and media go.

        Exports stay: hosts wait.
        """
        self._replace.stop()
        self._scrub.stop()
        self._comeback.stop()
        self._retain.stop()
        self._image_runs.stop()
        for volume in self._floor.catalog.volumes():
            with self._floor.runtime(volume.uuid).lock:
                self._exports.ring_gone(volume)
        self._shown.rings_gone()
        self._floor.engine.stop()
        self._transfers.stop()
        self._hooks.stop()
        for uuid in list(self._floor.media):
            self._pool.close(uuid)

    def disks_changed(self) -> None:
        """A disk was plugged in, or pulled; returns at once."""
        self._comeback.soon()

    def ring_changed(self, name: str, present: bool) -> None:
        """A storage object of the volume or shown save `name` was made or removed by someone else."""
        if "@" in name:
            self._shown.ring_changed(name, present)
            return
        volume = self._floor.catalog.volume_find(name)
        if volume is None:
            if present:
                self._exports.stranger(name)
            return
        with self._floor.runtime(volume.uuid).lock:
            if present:
                self._exports.adopt(volume)
            else:
                self._exports.ring_gone(volume)

    def object_made(self, name: str) -> None:
        """Somebody, or we, made the storage object `name` a moment ago."""
        self._exports.made(name)

    def size_told(self, name: str, size: int) -> None:
        """Somebody else set the size, in bytes, that LIO shows of the storage object `name`."""
        self._exports.size_told(name, size)

    def volume_of(self, handle: int) -> str | None:
        """The name of the volume, or of the shown save, that the engine knows by this number."""
        runtime = self._floor.by_handle(handle)
        if runtime is None:
            return None
        row = self._floor.catalog.volume_get(runtime.uuid)
        return row.name if row else self._shown.name_of(runtime.uuid)

    def settled(self) -> None:
        """Waits until the events that the engine has told so far are handled, and what they
        brought about is done.
        """
        self._transfers.settled()
        self._retain.settled()

    def _lost(self) -> None:
        self._comeback.lost()
        self._replace.wake()

    def _is_over(self, volume: Volume) -> None:
        self._saves.release_superseded(volume)
        self._shown.begin_all(volume, set())

    def _serve(self, volume: Volume) -> bool:
        up = self._start.try_volume(volume)
        if not up:
            self._comeback.lost()  # which tries again
        return up

    def _tell(self, volume: Volume, what: str, text: str) -> None:
        self._floor.journal.note(what, text, door="policy", volume=volume.name)

    def asked(self, door: str, who: str = "", volume: str = "") -> Any:
        """These verbs for one asker: what it asks is noted in the journal. See asker.py."""
        return Asker(self, self._floor.journal, door, who, volume)

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

    def media_remove(self, medium: str, *, force: bool = False, preview: bool = False) -> Shape:
        """Takes a free medium back. `force`: forget one that is missing, a leg too where another is
        in sync.
        """
        if force and not preview:
            self._volumes.give_up_leg(medium)
        return self._pool.remove(medium, force, preview)

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
        blocks: str = "512e",
        force: bool = False,
    ) -> Shape:
        """Makes a volume of zeros on `mirror` free media, the smallest that fit, or on the named
        ones.

        Args:
            size: bytes, a multiple of 4096.
            extent_size: bytes, a power of two from 4096 to 1048576.
            policy: what a save takes: "split", a leg; "copy", a spare.
            rights: what hosts may ask for: "none", "status", "save", "all".
            blocks: how it is divided for hosts: "512n", logical and physical blocks of 512 bytes; "512e",
                logical ones of 512 on physical ones of 4096; "4kn", both of 4096. It stays so.
        """
        return self._volumes.create(name, size, mirror, media, extent_size, policy, rights, blocks)

    def volume_delete(self, name: str, *, force: bool = False, preview: bool = False) -> Shape:
        """Deletes a volume that is not exported and of which no save is held, with its saves.
        `force`: although data is lost.
        """
        shape = self._volumes.delete(name, force, preview)
        if not preview:
            self._together.decide()  # what it did with others ends without it
        return shape

    def volume_adopt(
        self,
        name: str,
        path: str,
        *,
        size: int | None = None,
        extent_size: int = 65536,
        policy: str = "split",
        rights: str = "all",
        blocks: str | None = None,
        preview: bool = False,
    ) -> Shape:
        """Makes a volume of one leg of a disk or file with data, which it keeps: nothing is written
        before its end. A file is made longer for the trailer; a disk must have room behind its data.

        Args:
            size: bytes that are kept, a multiple of 4096, on the caller's word; None: a file whole, a
                disk up to where the trailer begins, where a file system or partition table says
                that it ends before.
            blocks: as of volume_create; None: "4kn" for a disk of 4096-byte logical blocks, else "512e".
        """
        return self._adopt.adopt(name, path, size, extent_size, policy, rights, preview, blocks)

    def volume_set(
        self,
        name: str,
        *,
        policy: str | None = None,
        rights: str | None = None,
        mirror: int | None = None,
        replace_failed: bool | None = None,
        replace_after: int | None = None,
    ) -> Shape:
        """Changes what is given, at once. Returns a Volume.

        Args:
            policy, rights: as volume_create has them.
            mirror: how many legs it is to have; leg_add and leg_remove bring it there.
            replace_failed: a spare takes the place of a leg that failed or is missing.
            replace_after: seconds in which that leg may come back.
        """
        made = self._volumes.set(name, policy, rights, mirror, replace_failed, replace_after)
        self._replace.wake()
        return made

    def volume_resize(
        self,
        name: str,
        size: int,
        *,
        rate: int | None = None,
        door: str = "terminal",
        request: bytes | None = None,
        preview: bool = False,
    ) -> Shape:
        """A volume gets more room at its end while hosts use it; its saves do too, and have zeros there.
        It never gets smaller.

        Args:
            size: bytes, a multiple of 4096, that every leg and every save's medium has room for.
            rate: bytes a second at most in which the new part is zeroed; see operation_rate.

        Returns:
            {"operation" (None where it has that size already), "volume", "size", "before"}.
        """
        ask = Ask("volume resize", {"volume": name, "size": size}, door, request, preview)
        return self._resize.resize(ask, name, size, rate)

    def volume_list(self) -> list[Shape]:
        return self._volumes.all()

    def volume_show(self, name: str) -> Shape:
        return self._volumes.show(name)

    def volume_counters(self, name: str) -> Shape:
        """What the engine has counted of hosts' commands since it serves the volume."""
        status = self._floor.status(self._floor.volume(name)) or {}
        return dict(status.get("ring", {}))

    def write_cache(self, name: str) -> WriteCache:
        """Whether hosts of the volume have a write cache: now, and when the machine has started again."""
        return self._modes.write_cache(name)

    def write_cache_set(self, name: str, on: bool, *, save: bool) -> None:
        """Hosts have a write cache, or none: then what they are told is written is on stable storage,
        from before this returns. `save`: also when the machine has started again.
        """
        self._modes.set_write_cache(name, on, save)

    def save_shown(self, name: str) -> Shape:
        """name, naa, size and lengths of blocks of a save as hosts see it, whether they do or not."""
        return self._shown.show(name)

    def save_read(self, name: str, offset: int, length: int) -> bytes:
        """What a save that is shown holds, whole or not. Raises Refused.

        Args:
            offset, length: bytes, multiples of a logical block.
        """
        return self._shown.read(name, offset, length)

    def leg_add(
        self,
        volume: str,
        *,
        medium: str | None = None,
        door: str = "terminal",
        request: bytes | None = None,
        preview: bool = False,
    ) -> Shape:
        """A spare becomes a leg of the mirror, and is brought in while hosts work.

        Args:
            medium: the free medium; None: the smallest that fits.
        """
        ask = Ask("leg add", {"volume": volume, "medium": medium}, door, request, preview)
        return self._legs.add(ask, volume, medium)

    def leg_remove(
        self,
        volume: str,
        medium: str,
        *,
        door: str = "terminal",
        request: bytes | None = None,
        preview: bool = False,
    ) -> Shape:
        """A leg leaves the mirror, and its medium is free. Never the last leg in sync."""
        ask = Ask("leg remove", {"volume": volume, "medium": medium}, door, request, preview)
        return self._legs.remove(ask, volume, medium)

    def scrub(
        self,
        volume: str,
        *,
        rate: int | None = None,
        door: str = "terminal",
        request: bytes | None = None,
        preview: bool = False,
    ) -> Shape:
        """Compares the legs in sync with each other, and whole saves with one of them where nothing has
        changed since, while hosts work; tells what differs. Mends nothing.

        Args:
            rate: bytes of the volume a second, at most; None: 32 MiB.
        """
        ask = Ask("scrub", {"volume": volume, "rate": rate}, door, request, preview)
        return self._scrub.scrub(ask, volume, rate)

    def export(
        self,
        volume: str,
        initiators: list[str],
        *,
        chap: dict[str, str] | None = None,
        portals: list[str] | None = None,
        target: str | None = None,
        preview: bool = False,
    ) -> Shape:
        """Lets hosts log in, beside those that may already. Returns an Export, and whether that
        changed anything; the kernel is brought in line with it in any case.

        Args:
            volume: or a save, `ledger@night`: shown to them read-only, as a disk of its own.
            initiators: iSCSI names of hosts.
            chap: {"user", "password"} for all of these; None: without CHAP.
            portals: "ip:port"; None: as it is, or the one address of this machine.
            target: its iSCSI name; None: as it is, or made of this machine's name and the volume's.
        """
        asked = Asked(initiators, chap, portals, target, preview)
        part: Exports | Shown = self._shown if "@" in volume else self._exports
        return part.export(volume, asked)

    def unexport(
        self,
        volume: str,
        initiators: list[str] | None = None,
        *,
        force: bool = False,
        preview: bool = False,
    ) -> Shape:
        """Withdraws an export from these hosts, or all. `force`: although they are logged in."""
        part: Exports | Shown = self._shown if "@" in volume else self._exports
        return part.unexport(volume, initiators, force, preview)

    # --- groups ------------------------------------------------------------------------------

    def group_create(self, name: str, volumes: list[str]) -> Shape:
        """Lets hosts that see these volumes name them together in-band. Returns a Group."""
        return self._groups.create(name, volumes)

    def group_delete(self, name: str) -> Shape:
        """Takes that back; the volumes and their saves stay."""
        return self._groups.delete(name)

    def group_list(self) -> list[Shape]:
        return self._groups.all()

    def group_limit(self, volume: str) -> int:
        """How many volumes a host may name together with this one, itself included; 1: none."""
        return self._groups.limit(volume)

    def group_reach(self, volume: str, naas: list[str]) -> list[str]:
        """This volume's name and those of others that a host names together with it, by their NAA (32
        hex digits). Raises Refused (RIGHTS) where it may not.
        """
        return self._groups.reach(volume, naas)

    # --- points ------------------------------------------------------------------------------

    def save(
        self,
        volume: str,
        *,
        label: str = "",
        policy: str | None = None,
        onto: str | None = None,
        replace: str | None = None,
        hold_seconds: int | None = None,
        hold_until: datetime | None = None,
        door: str = "terminal",
        request: bytes | None = None,
        preview: bool = False,
    ) -> Shape:
        """Fixes the volume as it is: by splitting a leg in sync, or onto a spare that fills in the
        background, or onto an older save's medium, to which only what differs is copied.

        Args:
            policy: "split" or "copy" instead of the volume's; or "sparse": without fill, in the store
                that the volume's saves of this kind share, which is made with the first.
            onto: the free medium, or the leg, that is to be the save.
            replace: the older save, which ends with this one; its label stays where none is given.
            hold_seconds, hold_until: one of them: the save is held from its first moment, see hold().
        """
        hold = _held(hold_seconds, hold_until)
        body = {"volume": volume, "label": label, "policy": policy, "onto": onto}
        body = _with(body, replace=replace, hold=hold.text() if hold else "")
        ask = Ask("save", body, door, request, preview)
        return self._points.save(ask, volume, label, policy, onto, replace, hold)

    def save_group(
        self,
        volumes: list[str],
        *,
        label: str = "",
        policy: str | None = None,
        deadline_ms: int | None = None,
        hold_seconds: int | None = None,
        hold_until: datetime | None = None,
        door: str = "terminal",
        request: bytes | None = None,
        preview: bool = False,
    ) -> Shape:
        """Fixes several volumes as they are at one instant, all or none.

        Args:
            label: of each of the saves.
            policy: "split", "copy" or "sparse" instead of each volume's.
            deadline_ms: for how long writes of any may be held for it at most, 1 to 5000; then it
                is called off and nothing has changed. None: 500.
            hold_seconds, hold_until: as in save.

        Returns:
            {"operation": of all, "operations": one a volume, "saves": in the order of `volumes`}.
        """
        hold = _held(hold_seconds, hold_until)
        body = {"volumes": volumes, "label": label, "policy": policy, "deadline": deadline_ms}
        body = _with(body, hold=hold.text() if hold else "")
        ask = Ask("save", body, door, request, preview)
        return self._together.save(ask, volumes, label, policy, deadline_ms, hold)

    def recover_group(
        self,
        saves: list[str],
        *,
        deadline_ms: int | None = None,
        door: str = "terminal",
        request: bytes | None = None,
        force: bool = False,
        no_undo: bool = False,
        preview: bool = False,
    ) -> Shape:
        """Several volumes are these saves of theirs from here on, all at one instant, or none.

        What they were is kept as undo saves, of all or, where spares do not suffice, of none.

        Args:
            deadline_ms: as in save_group. force, no_undo: as in recover.

        Returns:
            As save_group, with {"undos": those saves, "undo_why": why there are none}.
        """
        body = _with({"saves": saves, "deadline": deadline_ms}, no_undo=no_undo)
        ask = Ask("recover", body, door, request, preview)
        return self._taken_back.recover(ask, saves, force, no_undo, deadline_ms)

    def undo_group(
        self,
        volumes: list[str],
        *,
        op: int | None = None,
        deadline_ms: int | None = None,
        door: str = "terminal",
        request: bytes | None = None,
        force: bool = False,
        no_undo: bool = False,
        preview: bool = False,
    ) -> Shape:
        """Takes the last recover of all these volumes back, or the last undo, all at one instant, or none.

        Args:
            volumes: all that were recovered as one.
            op: the operation that is meant, or one volume's part of it.
            deadline_ms, force, no_undo: as of recover_group.

        Returns:
            As recover_group, with {"undone": the operation's number}.
        """
        body = _with({"volumes": volumes, "op": op, "deadline": deadline_ms}, no_undo=no_undo)
        ask = Ask("undo", body, door, request, preview)
        return self._taken_back.undo(ask, volumes, op, force, no_undo, deadline_ms)

    def swap_group(
        self,
        saves: list[str],
        *,
        deadline_ms: int | None = None,
        door: str = "terminal",
        request: bytes | None = None,
        force: bool = False,
        preview: bool = False,
    ) -> Shape:
        """The media of these saves become their volumes, all at one instant, or none.

        Args:
            saves: as swap takes one of each volume. deadline_ms: as in save_group. force: as in swap.

        Returns:
            As save_group: the saves keep what the volumes were.
        """
        ask = Ask("swap", {"saves": saves, "deadline": deadline_ms}, door, request, preview)
        return self._swapped.swap(ask, saves, force, deadline_ms)

    def diff(
        self,
        save: str,
        *,
        since: str | None = None,
        to: str | None = None,
        door: str = "terminal",
    ) -> Shape:
        """What differs between two points, as a count, in bytes and as a list of runs: exact or
        larger, never smaller.

        Args:
            save: the save to begin at; or with `since` the volume alone.
            since, to: a label, a generation or "now", which `to` is where it is not given.
        """
        return self._differentials.diff(Ask("diff", door=door), save, since, to)

    def recover(
        self,
        save: str,
        *,
        door: str = "terminal",
        request: bytes | None = None,
        force: bool = False,
        no_undo: bool = False,
        preview: bool = False,
    ) -> Shape:
        """The volume is the save from here on; differing extents are copied in the background; the
        save stays.

        What the volume was is kept as an undo save where there is a spare: {"operation", "save", "undo":
        Save or None, "undo_why": why there is none}.

        Args:
            force: although hosts of several names are logged in (terminal only).
            no_undo: take no undo save.
        """
        ask = Ask("recover", _with({"save": save}, no_undo=no_undo), door, request, preview)
        return self._points.recover(ask, save, force, no_undo)

    def undo(
        self,
        volume: str,
        *,
        op: int | None = None,
        door: str = "terminal",
        request: bytes | None = None,
        force: bool = False,
        no_undo: bool = False,
        preview: bool = False,
    ) -> Shape:
        """Takes the last recover back, or the last undo: a recover from the undo save that it took. One that
        still copies is taken back at once, and then no undo save is taken.

        Args:
            op: the operation that is meant; refused where it is not the last recover of the volume.
            force, no_undo: as of recover.
        """
        body = _with({"volume": volume, "op": op}, no_undo=no_undo)
        ask = Ask("undo", body, door, request, preview)
        return self._points.undo(ask, volume, op, force, no_undo)

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

    def clone(
        self,
        save: str,
        name: str,
        *,
        onto: str | None = None,
        door: str = "terminal",
        request: bytes | None = None,
        preview: bool = False,
    ) -> Shape:
        """Makes a whole save a volume of its own, to be written to: usable at once, on one leg, and
        independent when it is copied. Returns {"operation", "volume"}.

        Args:
            name: the new volume's.
            onto: the free medium that is to be its leg.
        """
        body = {"save": save, "name": name, "onto": onto}
        return self._clones.clone(Ask("clone", body, door, request, preview), save, name, onto)

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

    def fill(
        self,
        save: str,
        *,
        onto: str | None = None,
        rate: int | None = None,
        door: str = "terminal",
        request: bytes | None = None,
        preview: bool = False,
    ) -> Shape:
        """Makes a save without fill whole on a spare, beside the hosts; then it needs the store no more.
        A daemon that ends goes on with it at its next start.

        Args:
            onto: the free medium to fill.
            rate: bytes a second at most; see operation_rate.
        """
        ask = Ask("fill", {"save": save, "onto": onto}, door, request, preview)
        return self._fills.fill(ask, save, onto, rate)

    def hold(
        self,
        save: str,
        *,
        seconds: int | None = None,
        until: datetime | None = None,
        force: bool = False,
    ) -> Shape:
        """Keeps a save from being released, resynced, swapped away or overwritten, and its volume
        from being deleted, by anyone before a time. Returns {"save"}.

        Args:
            seconds, until: one of them; `until` with its time zone.
            force: although it is held for longer now.
        """
        return self._holds.hold(save, seconds, until, force)

    def unhold(self, save: str, *, force: bool = False) -> Shape:
        """Ends a hold; one that is not over only with `force`. Returns {"save"}."""
        return self._holds.unhold(save, force)

    def holds(self, volume: str | None = None) -> list[Shape]:
        """The saves that are held."""
        return self._holds.all(volume)

    def retain(
        self,
        volume: str,
        *,
        last: int | None = None,
        hourly: int | None = None,
        daily: int | None = None,
        weekly: int | None = None,
        monthly: int | None = None,
        keep_labelled: bool = False,
        off: bool = False,
        now: bool = False,
        preview: bool = False,
    ) -> Shape:
        """Sets which saves of a volume stay; the others are released after the next save that is
        whole, and each one then. Without rules, `off` or `now` shows them.

        Args:
            last, hourly, daily, weekly, monthly: how many of each; they replace all that were set.
            keep_labelled: what has a label stays too.
            off: takes the rules away.
            now: release at once what they do not keep.
            preview: say what these rules, or those that are set, keep, and do nothing.
        """
        counts = {
            "last": last,
            "hourly": hourly,
            "daily": daily,
            "weekly": weekly,
            "monthly": monthly,
        }
        given = {name: count for name, count in counts.items() if count}
        rules = Rules(**given, keep_labelled=keep_labelled) if given or keep_labelled else None
        return self._retain.retain(volume, rules, off, now, preview)

    def abort(self, op: int) -> Shape:
        """Stops an operation. A restore's, save's, fill's or resync's medium is free then; a backup's image
        is gone; what a scrub found is kept.

        One that is over stays as it is. A recover can't be aborted.
        """
        if self._scrub.abort(op):
            return {"operation": self._operations.get(op)}
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
        """{volumes, groups, media, operations that run, version}; of one volume if it is named."""
        volumes = [self._volumes.show(volume)] if volume else self._volumes.all()
        uuid = self._floor.volume(volume).uuid if volume else None
        running = self._floor.catalog.operations(uuid, running=True)
        media = self._pool.all()
        if volume:
            media = [m for m in media if serves(m, volume)]
        groups = self._groups.all()
        if volume:
            groups = [group for group in groups if volume in group["volumes"]]
        # One that a volume tells of is not looked at again: an answer says one thing of it.
        told = {v["operation"]["id"]: v["operation"] for v in volumes if v["operation"]}
        return {
            "volumes": volumes,
            "groups": groups,
            "media": media,
            "operations": [told.get(row.id) or self._views.operation(row) for row in running],
            "version": targetplugin.__version__,
        }

    def event_list(
        self, *, volume: str | None = None, limit: int = 100, after: int | None = None
    ) -> list[Shape]:
        """The newest events, the oldest of them first; or those after one, from it on."""
        if after is not None:
            return self._floor.journal.after(after, volume, limit)
        return self._floor.journal.all(volume, limit)

    def event_wait(
        self, after: int, timeout: float, *, volume: str | None = None, limit: int = 100
    ) -> list[Shape]:
        """The events after one; where there are none, the first within `timeout` seconds."""
        return self._floor.journal.wait(after, volume, timeout, limit)

    def hook_add(self, program: str) -> Shape:
        """A program that is told of every event from now on. Returns a Hook.

        Args:
            program: absolute path of a file that nobody but root can change.
        """
        return self._hooks.add(program)

    def hook_remove(self, program: str) -> Shape:
        return self._hooks.remove(program)

    def hook_list(self) -> list[Shape]:
        return self._hooks.all()

    def operation(self, op: int) -> Shape:
        return self._operations.get(op)

    def operations(self, volume: str | None = None, limit: int = 50) -> list[Shape]:
        """Newest first."""
        return self._operations.all(volume, limit)

    def operation_rate(self, op: int, *, rate: int | None = None) -> Shape:
        """Changes how many bytes a second a backup, restore or fill that runs may move, each way.

        None: no limit. Returns the Operation.
        """
        return self._image_runs.set_rate(op, rate)

    def operation_wait(self, op: int, timeout: float) -> Shape:
        """The operation when it is over, or as it is after `timeout` seconds."""
        return self._operations.wait(op, timeout)


def _held(seconds: int | None, until: datetime | None) -> Hold | None:
    return None if seconds is None and until is None else Hold(seconds, until)


def _with(body: Shape, **more: object) -> Shape:
    """A request's body with what was asked beside, left out where it was not: so that a request of an
    older version of this program stays the same request.
    """
    return {**body, **{key: value for key, value in more.items() if value}}
