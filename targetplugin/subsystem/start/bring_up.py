"""Bringing everything up when the daemon starts: media anew, then each volume from its newest
record (rules 7, 13, 19, 20).

An operation that was prepared is finished where the record has its number, and dropped where it has
not.
"""

from __future__ import annotations

import logging
from collections.abc import Set

from msgspec import Struct
from msgspec.structs import replace

from targetplugin import logs
from targetplugin.catalog import ALL, Generation, Operation, Volume
from targetplugin.engine import (
    LegState,
    Record,
    SaveState,
    VolumeSpec,
    decode_record,
)
from targetplugin.errors import Reason, Refused
from targetplugin.media import discover, fence
from targetplugin.media.by_path import by_path, exists
from targetplugin.media.layout import slots_for
from targetplugin.media.medium import Medium
from targetplugin.media.trailer import Role
from targetplugin.subsystem.backups.fills import Fills
from targetplugin.subsystem.ground import blocks
from targetplugin.subsystem.ground.floor import Floor
from targetplugin.subsystem.ground.operations import JOINING, Operations
from targetplugin.subsystem.hosts.exports import Exports
from targetplugin.subsystem.hosts.shown import Shown
from targetplugin.subsystem.mirror.legs import Legs
from targetplugin.subsystem.mirror.pool import Pool
from targetplugin.subsystem.mirror.settle import Settle, left_to_the_next_start
from targetplugin.subsystem.points.committed import Committed
from targetplugin.subsystem.points.together import Together
from targetplugin.subsystem.points.transfers import Transfers
from targetplugin.subsystem.saves.release import Saves
from targetplugin.subsystem.saves.stores import Stores
from targetplugin.subsystem.start.prepared import Prepared
from targetplugin.subsystem.volumes.create import Volumes

log = logging.getLogger(__name__)
LATE_WRITES = 10.0  # seconds to wait for a medium that a killed daemon's last requests still hold


class Newest(Struct, frozen=True):
    """The record that counts: decoded, and as it is on disk. `unread` are the media that could not
    be asked.
    """

    record: Record
    block: bytes
    unread: frozenset[bytes] = frozenset()


class Start:
    """See the module."""

    def __init__(
        self,
        floor: Floor,
        operations: Operations,
        pool: Pool,
        settle: Settle,
        volumes: Volumes,
        legs: Legs,
        prepared: Prepared,
        transfers: Transfers,
        exports: Exports,
        saves: Saves,
        together: Together,
        committed: Committed,
        shown: Shown,
        stores: Stores,
        fills: Fills,
    ) -> None:
        self._floor = floor
        self._catalog = floor.catalog
        self._operations = operations
        self._pool = pool
        self._settle = settle
        self._volumes = volumes
        self._legs = legs
        self._prepared = prepared
        self._transfers = transfers
        self._exports = exports
        self._saves = saves
        self._together = together
        self._committed = committed
        self._shown = shown
        self._stores = stores
        self._fills = fills
        self._said = logs.Said()  # of media and volumes: they are looked at again and again
        self.held: set[bytes] = set()  # media of which a dead process's requests may not be over

    def everything(self) -> None:
        """Opens what is there and starts what can be started; what can't is logged and shown as
        down.
        """
        self.open_media(LATE_WRITES)
        for volume in self._catalog.volumes():
            if volume.details.get("creating"):
                self._volumes.undo_create(volume)
        self._catalog.maps.sweep(self._catalog.map_names())
        self._prepared.mark_interrupted()
        self._prepared.drop_beside()
        for volume in self._catalog.volumes():
            self.try_volume(volume)
        self.decide()
        self._free_strays()

    def decide(self) -> None:
        """What several volumes did as one, once all of them are there. Holds no volume's lock."""
        self._together.decide()

    def open_media(self, wait: float) -> list[bytes]:
        """Opens the known media that are not open, wherever they are now.

        Returns those that came.
        """
        rows = {r.uuid: r for r in self._catalog.media() if r.uuid not in self._floor.media}
        came = []
        patience = self._floor.patience
        found = discover.find([discover.Wanted(r.uuid, r.path) for r in rows.values()], patience)
        for uuid, row in rows.items():
            at = found[uuid]
            with logs.about(medium=row.name):
                why = at.why or row.path
                if at.path:
                    why = self._pool.open_known(row, at.path, wait)
                if not why:
                    came.append(uuid)
                    if self._said.forget(uuid):
                        log.info("the medium %s is back", row.name)
                elif self._said.new(uuid, why):
                    log.warning("the medium %s is missing: %s", row.name, why)
        # Not what is ours by another name now, as names of disks are given anew at each boot.
        ours = set(by_path().real([medium.path for medium in self._floor.media.values()]))
        paths = {uuid: found[uuid].path or row.path for uuid, row in rows.items()}
        reals = by_path().real(list(paths.values()))
        paths = {
            uuid: path
            for (uuid, path), real in zip(paths.items(), reals, strict=True)
            if uuid not in self._floor.media and real not in ours
        }
        held = patience.ask(fence.held, {path for path in paths.values() if exists(path)})
        # Where even that has no answer, nobody knows.
        self.held = {uuid for uuid, path in paths.items() if held.get(path, False) is not False}
        return came

    def _check_held(self, volume: Volume) -> None:
        """Rule 19. Raises Refused (BUSY) while requests of a daemon that ended may read into the
        memory of the volume's ring, which would be other commands' by then.
        """
        mine = {leg.medium for leg in self._catalog.legs(volume.uuid)}
        mine |= {uuid for save in self._catalog.saves(volume.uuid) for uuid in save.media}
        mine |= self._source_media(volume) | self._store_medium(volume)
        if held := mine & self.held:
            names = ", ".join(sorted(self._floor.medium_name(uuid) for uuid in held))
            raise Refused(
                Reason.BUSY,
                f"requests of a daemon that ended are not over on {names}",
                object=volume.name,
                hint="hosts wait; they are over when the disk answers or its driver gives them up"
                " (journalctl -k); if something else has it open, end that",
            )

    def _store_medium(self, volume: Volume) -> set[bytes]:
        store = self._catalog.store_get(volume.uuid)
        return {store} if store else set()

    def _source_media(self, volume: Volume) -> set[bytes]:
        """Of the save that a clone is being copied from."""
        source = volume.details.get("source")
        owner = bytes.fromhex(source["volume"]) if source else b""
        save = self._catalog.save_get(owner, source["generation"]) if source else None
        return set(save.media) if save else set()

    def try_volume(self, volume: Volume) -> bool:
        """Starts a volume that is down. False where it can't be; why is kept to be shown."""
        runtime = self._floor.runtime(volume.uuid)
        with runtime.lock, logs.about(volume=volume.name):
            if runtime.handle is not None:
                return True
            try:
                self._start(volume)
            except (Refused, OSError) as error:
                if runtime.handle is not None:
                    self._floor.engine.remove_volume(runtime.handle)
                    runtime.handle = None
                runtime.why_down = error.message if isinstance(error, Refused) else str(error)
                if self._said.new(volume.uuid, runtime.why_down):
                    log.error("%s is down: %s", volume.name, runtime.why_down)
                self._shown.begin_all(volume, self.held)  # its saves need none of its legs
                return False
            if self._said.forget(volume.uuid):
                log.info("%s is up", volume.name)
            self._shown.begin_all(volume, self.held)
            try:
                self._exports.adopt(volume)
            except Refused as error:
                log.error("the ring of %s is not served: %s", volume.name, error.message)
            self._fills.go_on(volume)
            return True

    def _start(self, volume: Volume) -> None:
        self._check_held(volume)
        newest = self._newest(volume)
        if newest is None:
            self._start_new(volume)
            return
        record = newest.record
        there = self._floor.media.keys() - newest.unread
        self._check_complete(volume, record, there)
        for row in self._catalog.operations(volume.uuid, running=True):
            if row.state == "prepared":
                self._prepared.end(row, record)
        volume = self._agree(volume, record)
        named = [leg.uuid for leg in record.legs] + [save.uuid for save in record.saves]
        store = record.store.uuid if record.store else None
        if store is not None:
            named.append(store)
        if record.recover is not None and record.recover[0] not in named:
            named.append(record.recover[0])
        media: list[Medium] = []
        slots: list[bytes] = []
        number = slots_for(volume.size, volume.extent_size)
        for uuid in named:
            if uuid not in there:
                continue
            medium = self._floor.media[uuid]
            saved = uuid == store or any(save.uuid == uuid for save in record.saves)
            if saved and not _is_of(medium, volume):
                log.error("%s holds no save of %s any more", medium.path, volume.name)
                continue
            state = next((g.state for g in record.legs if g.uuid == uuid), None)
            try:
                if uuid == store:
                    slots += medium.read_store(volume.extent_size)
                elif state in (None, LegState.IN_SYNC):
                    slots += medium.read_map_slots(slots=number)
            except Refused as error:
                if record.recover is not None and record.recover[0] == uuid:
                    raise
                log.error("%s starts without it: %s", volume.name, error.message)
                continue
            media.append(medium)
        handle = self._floor.serve(
            VolumeSpec(
                uuid=volume.uuid,
                size=volume.size,
                extent_shift=volume.extent_size.bit_length() - 1,
                block_size=blocks.of(volume.blocks).logical,
                record=newest.block,
                media=[medium.spec() for medium in media],
                maps=slots,
            )
        )
        with left_to_the_next_start(f"what the catalog lacks of {volume.name}"):
            self._legs.let_go_replaced(volume)
            self._catch_up(volume, record, handle)
            self._stores.settle(volume, handle, record.op)
        self._saves.release_superseded(volume)
        self._settle.trailers(volume.uuid, record.op)
        self._committed.go_on(volume, handle, self._is_in_force)

    def _is_in_force(self, part: Operation) -> bool | None:
        """Whether the newest record of a volume has this operation; None where a newer one may be on
        media that are not there.
        """
        volume = self._catalog.volume_get(part.volume) if part.volume else None
        if part.in_force is not None or volume is None:
            return part.in_force is not None
        try:
            newest = self._newest(volume)
        except Refused:
            return None
        if newest is not None and newest.record.op == part.id:
            return True
        there = self._floor.media.keys() - (newest.unread if newest else frozenset())
        media = {leg.medium for leg in self._catalog.legs(volume.uuid)}
        media |= {bytes.fromhex(leg) for leg in part.prepared.get("legs", [])}  # a swap's new ones
        return False if media <= there else None

    def _start_new(self, volume: Volume) -> None:
        """The daemon ended between a volume's creation and its first record."""
        media = [self._floor.medium(leg.medium) for leg in self._catalog.legs(volume.uuid)]
        self._floor.serve(
            VolumeSpec(
                uuid=volume.uuid,
                size=volume.size,
                extent_shift=volume.extent_size.bit_length() - 1,
                block_size=blocks.of(volume.blocks).logical,
                record=None,
                media=[medium.spec() for medium in media],
                same_content=True,
            )
        )

    # --- which record counts ---------------------------------------------------------------------

    def _newest(self, volume: Volume) -> Newest | None:
        """Rule 20: the record with the highest events counter, of all media that carry one of this
        volume.

        None: there is none on any of its legs, so nothing was ever written: no write goes out
            before a record.
        """
        best: Newest | None = None
        unread = set()
        for uuid, medium in self._floor.media.items():
            try:
                blocks = medium.read_records()
            except Refused as error:  # it counts as one that is missing
                if self._said.new((uuid, "records"), error.message):
                    log.error("%s", error.message)
                unread.add(uuid)
                continue
            for block in blocks:
                record = decode_record(block)
                if record is None or record.volume != volume.uuid:
                    continue
                key = (record.events, record.sequence)
                if best is None or key > (best.record.events, best.record.sequence):
                    best = Newest(record, block)
        legs = [leg.medium for leg in self._catalog.legs(volume.uuid)]
        there = self._floor.media.keys() - unread
        complete = volume.generation == 1 and all(uuid in there for uuid in legs)
        if best is None and not complete:
            raise Refused(
                Reason.STATE,
                f"no medium of {volume.name} is there",
                object=volume.name,
                hint="bring its media back: "
                + ", ".join(self._floor.medium_name(uuid) for uuid in legs),
            )
        return best and replace(best, unread=frozenset(unread))

    def _check_complete(self, volume: Volume, record: Record, there: Set[bytes]) -> None:
        """Raises Refused (STATE) where what is missing may be all that is right."""
        legs = [leg.uuid for leg in record.legs]
        missing = [uuid for uuid in legs if uuid not in there]
        missing += [
            g.medium
            for g in self._catalog.legs(volume.uuid)
            if g.medium not in there and g.medium not in missing
        ]
        names = ", ".join(self._floor.medium_name(uuid) for uuid in missing)
        if record.events < volume.events and missing:
            raise Refused(
                Reason.STATE,
                f"{volume.name} was last written without what is there: {names} is missing",
                object=volume.name,
                hint=f"bring {names} back",
            )
        if record.recover is not None and record.recover[0] not in there:
            source = self._floor.medium_name(record.recover[0])
            raise Refused(
                Reason.STATE,
                f"{volume.name} still takes its data from {source}, which is missing",
                object=volume.name,
                hint=f"bring {source} back",
            )
        source_of = volume.details.get("source")
        if record.recover is not None and source_of is not None:
            trailer = self._floor.media[record.recover[0]].trailer
            if trailer is None or trailer.volume.hex() != source_of["volume"]:
                source = self._floor.medium_name(record.recover[0])
                raise Refused(
                    Reason.STATE,
                    f"{volume.name} still takes its data from {source}, which holds"
                    f" {volume.details['clone_of']} no more",
                    object=volume.name,
                    hint=f"volume delete {volume.name} --force, and clone another save",
                )

    def _agree(self, volume: Volume, record: Record) -> Volume:
        """The catalog as the record has it, where the record knows better; then differentials
        become "all".
        """
        volume = self._catalog.volume_get(volume.uuid) or volume
        legs = [g.uuid for g in record.legs if self._catalog.medium_get(g.uuid) is not None]
        others = [g.medium for g in self._catalog.legs(volume.uuid)] != legs
        grown = (
            record.size > volume.size
        )  # the other way round, its growing comes with the next record
        if not others and not grown and record.generation == volume.generation:
            return volume  # and its disk may be full
        with self._catalog.transaction():
            if grown:
                log.warning("%s: the catalog is older than the media", volume.name)
                volume = self._catalog.volume_set(volume.uuid, size=record.size)
            if others:
                for uuid in legs:
                    save = self._catalog.save_on(uuid)
                    if save is not None:
                        self._catalog.save_remove(save.volume, save.generation)
                self._catalog.legs_set(volume.uuid, legs)
            if record.generation != volume.generation:
                log.warning("%s: the catalog is older than the media", volume.name)
                self._floor.older.add(volume.uuid)
                volume = self._jump(volume, record)
        return volume

    def _jump(self, volume: Volume, record: Record) -> Volume:
        self._catalog.generation_put(Generation(volume.uuid, volume.generation, volume.parent, ALL))
        known = {g.number for g in self._catalog.generations(volume.uuid)}
        if record.parent not in known and record.parent:
            self._catalog.generation_put(Generation(volume.uuid, record.parent, 0, ALL))
        self._catalog.generation_put(Generation(volume.uuid, record.generation, record.parent))
        return self._catalog.volume_set(
            volume.uuid, generation=record.generation, parent=record.parent, op=record.op
        )

    def _catch_up(self, volume: Volume, record: Record, handle: int) -> None:
        """What ended while the catalog was not looking: saves whole or broken, recovers and resyncs
        over.
        """
        status = self._floor.engine.status(handle)
        filling = {save.uuid: save.state for save in record.saves}
        for save in self._catalog.saves(volume.uuid):
            if save.origin != "host" or save.fill != "filling":
                continue
            for uuid in save.media:
                if filling.get(uuid) is None:
                    self._transfers.save_is_whole(volume, uuid)
                elif filling[uuid] is SaveState.BROKEN:
                    self._transfers.save_is_broken(volume, uuid)
        source = status["recover"]["source"] if status["recover"] else None
        for uuid, seen in list(status["saves"].items()):
            if seen["state"] == "broken":
                self._transfers.save_is_broken(volume, uuid)
                if uuid != source:  # what a recover reads of it is whole, and it still reads
                    self._floor.engine.detach_save(handle, uuid)
        if record.recover is None:
            self._transfers.recover_is_over(volume)
        named = {leg.uuid for leg in record.legs}
        for row in [r for verb in JOINING for r in self._operations.running(volume.uuid, verb)]:
            legs = [bytes.fromhex(medium) for medium in row.prepared["media"]]
            if not named & set(legs):
                self._operations.end(row, state="aborted")
            elif all(status["legs"].get(u, {}).get("state") == "in_sync" for u in legs):
                self._operations.end(row, extents_copied=row.prepared["pending"])
        for leg in self._catalog.legs(volume.uuid):
            seen = status["legs"].get(leg.medium, {})
            state = "in use" if seen.get("state") in ("in_sync", "syncing") else "stale"
            known = self._catalog.medium_get(leg.medium)
            if known is not None and known.state != state:
                self._catalog.medium_set(leg.medium, state=state)
        if status.get("events", 0) > volume.events:
            self._catalog.volume_set(volume.uuid, events=status["events"])

    def _free_strays(self) -> None:
        """Media that a volume of ours gave up while they were away.

        What another identity wrote is left alone, and so is a volume's that is down: its record may
        still say that they are its own.
        """
        volumes = [volume.uuid for volume in self._catalog.volumes()]
        known = {uuid for uuid in volumes if self._floor.runtime(uuid).handle is not None}
        used = {leg.medium for v in self._catalog.volumes() for leg in self._catalog.legs(v.uuid)}
        used |= {uuid for save in self._catalog.saves() for uuid in save.media}
        used |= {store for v in self._catalog.volumes() for store in self._store_medium(v)}
        used |= self._fills.media()
        for uuid, medium in list(self._floor.media.items()):
            trailer = medium.trailer
            if uuid in used or trailer is None or trailer.role is Role.FREE:
                continue
            if trailer.volume in known and trailer.volume not in self._floor.older:
                self._settle.free(uuid, 0)


def _is_of(medium: Medium, volume: Volume) -> bool:
    """Whether a medium's own word is that it serves the volume."""
    return medium.trailer is not None and medium.trailer.volume == volume.uuid
