"""Media that come back: a leg takes up again and gets what it missed alone, a volume that was down
starts. One whose last legs are pulled is down until then.

Looks when a disk is plugged in or pulled, and after a leg was lost again and again, ever more rarely. Copies
nothing itself.
"""

from __future__ import annotations

import logging
import threading
from contextlib import nullcontext

from targetplugin import logs
from targetplugin.catalog import Volume
from targetplugin.errors import Reason, Refused
from targetplugin.media import discover
from targetplugin.media.medium import Medium
from targetplugin.media.trailer import Role
from targetplugin.subsystem.backups.fills import Fills
from targetplugin.subsystem.ground.floor import Floor
from targetplugin.subsystem.hosts.exports import Exports
from targetplugin.subsystem.hosts.shown import Shown
from targetplugin.subsystem.mirror.pool import Pool
from targetplugin.subsystem.mirror.settle import Settle, left_to_the_next_start
from targetplugin.subsystem.start.bring_up import Start

log = logging.getLogger(__name__)
FIRST_WAIT = 2.0  # seconds
LONGEST_WAIT = 300.0


class Comeback:
    """See the module."""

    def __init__(
        self,
        floor: Floor,
        pool: Pool,
        settle: Settle,
        start: Start,
        exports: Exports,
        shown: Shown,
        fills: Fills,
    ) -> None:
        self._floor = floor
        self._pool = pool
        self._settle = settle
        self._start = start
        self._exports = exports
        self._shown = shown
        self._fills = fills
        self._wake = threading.Event()
        self._ended = False
        self._wait = FIRST_WAIT
        self._said = logs.Said()
        self._thread = threading.Thread(target=self._run, name="comeback", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended = True
        self._wake.set()
        self._thread.join()

    def lost(self) -> None:
        """A leg was lost, or answers again: looks for it after a while."""
        self._wake.set()

    def soon(self) -> None:
        """A disk was plugged in, or pulled: looks soon."""
        self._wait = 0.2
        self._wake.set()

    def _run(self) -> None:
        self._wake.wait()
        while not self._ended:
            self._wake.clear()
            if self._wake.wait(self._wait) and not self._ended and self._wait > FIRST_WAIT:
                self._wait = FIRST_WAIT
                continue
            if self._ended:
                return
            try:
                complete = self.look()
                self._said.forget("look")
            except Refused as refused:  # the catalog takes nothing
                complete = False
                if self._said.new("look", refused.message):
                    text = "media can't be looked for now: %s"
                    log.error(text, refused.message, extra=logs.came_from(refused))
            except Exception:
                log.exception("media could not be looked for")
                complete = False
            if complete:
                self._wait = FIRST_WAIT
                self._wake.wait()
            elif self._start.held:
                self._wait = FIRST_WAIT  # hosts wait
            else:
                self._wait = min(max(self._wait * 2, FIRST_WAIT), LONGEST_WAIT)

    def look(self) -> bool:
        """Takes up what is there. True when nothing is missing."""
        for volume in self._floor.catalog.volumes():
            self._stop_without_legs(volume)
        self._give_up_dead()
        came = self._start.open_media(0.0)
        complete, started = True, False
        for volume in self._floor.catalog.volumes():
            if volume.details.get("creating"):
                continue
            runtime = self._floor.runtime(volume.uuid)
            if runtime.handle is None:
                up = self._start.try_volume(volume)
                complete, started = up and complete, up or started
                continue
            with runtime.lock, logs.about(volume=volume.name):
                complete = self._legs(volume) and complete
                complete = self._shown.begin_all(volume, self._start.held) and complete
                if came:
                    self._settle.trailers(volume.uuid, 0)
                self._fills.go_on(volume)
        if started:
            self._start.decide()
        return complete and all(r.uuid in self._floor.media for r in self._floor.catalog.media())

    def _stop_without_legs(self, volume: Volume) -> None:
        """Stops a volume all of whose legs in sync were pulled: the engine never gives up the last one,
        and its descriptor stays dead when the disk is back. Hosts wait until then, as for one that is
        down at a start.
        """
        runtime = self._floor.runtime(volume.uuid)
        with runtime.lock, logs.about(volume=volume.name):
            status = self._floor.status(volume)
            if runtime.handle is None or status is None:
                return
            legs = [uuid for uuid, leg in status["legs"].items() if leg["state"] == "in_sync"]
            media = [self._floor.media.get(uuid) for uuid in legs]
            if not media or not all(medium is not None and medium.is_gone() for medium in media):
                return
            names = ", ".join(self._floor.medium_name(uuid) for uuid in legs)
            log.error("%s is down: %s is gone", volume.name, names)
            self._shown.volume_down(volume)
            try:
                self._exports.hold(volume)
            except Refused as error:
                log.error("hosts of %s can't be made to wait: %s", volume.name, error.message)
            self._floor.engine.remove_volume(runtime.handle)
            runtime.handle = None
            for uuid in legs:
                self._pool.close(uuid)
        self._floor.tell()

    def _give_up_dead(self) -> None:
        """Closes media whose device was pulled; the engine tells by itself of those that it has.

        Nothing may take a medium meanwhile, since its descriptor's number is used again: the lock
        of its volume is held, or the pool's where it is free.
        """
        owners = self._owners()
        silent = self._floor.engine.silent()
        open_now = {u: m.path for u, m in list(self._floor.media.items()) if u not in silent}
        answered = self._floor.patience.ask(discover.answers, set(open_now.values()))
        for uuid, path in open_now.items():
            if not answered[path]:
                continue  # asked under a lock whether it lives, it would keep all verbs waiting
            owner = owners.get(uuid)
            with self._floor.runtime(owner).lock if owner else nullcontext(), self._floor.pool:
                medium = self._floor.media.get(uuid)
                if self._owners().get(uuid) != owner:
                    continue  # another has it since
                if medium is not None and not self._held(uuid, owner) and not _alive(medium):
                    name = self._floor.medium_name(uuid)
                    log.warning("%s is gone", name, extra=logs.extra({"medium": name}))
                    self._shown.lost(uuid)
                    self._pool.close(uuid)

    def _owners(self) -> dict[bytes, bytes]:
        """The volume of each medium that has one."""
        catalog = self._floor.catalog
        legs = {leg.medium: v.uuid for v in catalog.volumes() for leg in catalog.legs(v.uuid)}
        stores = {catalog.store_get(v.uuid): v.uuid for v in catalog.volumes()}
        legs |= {store: owner for store, owner in stores.items() if store is not None}
        return legs | {uuid: save.volume for save in catalog.saves() for uuid in save.media}

    def _held(self, uuid: bytes, owner: bytes | None) -> bool:
        """Whether the engine or an image's thread has a medium, or someone has just taken it."""
        if owner is None:
            trailer = self._floor.media[uuid].trailer
            return trailer is None or trailer.role is not Role.FREE
        if uuid in self._sources():
            return True
        runtime = self._floor.runtime(owner)
        if runtime.handle is None:
            return False
        status = self._floor.engine.status(runtime.handle)
        source = status["recover"]["source"] if status["recover"] else None
        engaged = set(status["legs"]) | set(status["saves"]) | {source}
        if status.get("store"):
            engaged.add(status["store"]["uuid"])
        return uuid in engaged or bool(runtime.tasks)

    def _sources(self) -> set[bytes]:
        """The media of other volumes' saves that clones are being copied from."""
        found = set()
        for clone in self._floor.catalog.cloning():
            status = self._floor.status(clone)
            if status and status["recover"]:
                found.add(status["recover"]["source"])
        return found

    def _legs(self, volume: Volume) -> bool:
        """Brings back the legs that the engine goes without. False if one stays away."""
        status = self._floor.status(volume)
        handle = self._floor.runtime(volume.uuid).handle
        complete = True
        silent = self._floor.engine.silent()
        for leg in self._floor.catalog.legs(volume.uuid):
            seen = status["legs"].get(leg.medium) if status else None
            if handle is None or seen is None or seen["state"] not in ("stale", "missing"):
                continue
            if leg.medium in silent:
                complete = False
                continue
            old = self._floor.media.get(leg.medium)
            medium = None
            try:
                medium = self._reopened(leg.medium)
                self._floor.engine.add_leg(handle, medium.spec(), None)
            except (Refused, OSError) as error:
                if self._said.new(leg.medium, str(error)):
                    log.info("%s stays away: %s", self._floor.medium_name(leg.medium), error)
                if medium is not None and medium is not old:
                    medium.close()  # or it could not be opened again
                complete = False
                continue
            self._said.forget(leg.medium)
            log.info("%s is back", self._floor.medium_name(leg.medium))
            self._floor.media[leg.medium] = medium
            if old is not None and old is not medium:
                old.close()
            with left_to_the_next_start(f"where {self._floor.medium_name(leg.medium)} is"):
                self._floor.catalog.medium_set(leg.medium, state="in use", path=medium.stable_path)
        return complete

    def _reopened(self, uuid: bytes) -> Medium:
        """The medium on a descriptor that works: a new one, or the one that is held if the device
        is the same.

        Raises:
            Refused, OSError: it is not there, or still fails.
        """
        row = self._floor.catalog.medium_get(uuid)
        held = self._floor.media.get(uuid)
        path = row.path if row else ""
        if row is not None and held is None:
            wanted = [discover.Wanted(uuid, row.path)]
            path = discover.find(wanted, self._floor.patience)[uuid].path
        self._floor.check_answers(path)
        try:
            return Medium.open(path, uuid=uuid)
        except Refused as error:
            if error.reason is not Reason.BUSY or held is None:
                raise
        if held.read_trailer() is None:
            raise Refused(Reason.ENVIRONMENT, f"{path} can't be read", object=path)
        return held


def _alive(medium: Medium) -> bool:
    """Whether a medium can be read."""
    try:
        return medium.read_trailer() is not None
    except (Refused, OSError):
        return False
