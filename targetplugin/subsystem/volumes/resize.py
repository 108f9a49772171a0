"""Growing: a volume gets more room at its end while hosts use it.

What is new is zeros on every medium of the volume, its saves' too, durably, before the catalog has the new
size, which is the moment that counts. Then it is as if the volume had always been so large: no map, record
or save has to be changed. The engine gets the size by a start in between, for which hosts are held.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from msgspec import Struct, field

from targetplugin.catalog import Operation, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.media import discover
from targetplugin.media.medium import Medium
from targetplugin.subsystem.backups.imageruns import ImageRuns, Told
from targetplugin.subsystem.ground.extents import count_extents
from targetplugin.subsystem.ground.floor import Floor, save_name
from targetplugin.subsystem.ground.operations import Ask, Operations
from targetplugin.subsystem.ground.sizes import told
from targetplugin.subsystem.ground.states import Verb
from targetplugin.subsystem.ground.views import Shape, Views, now
from targetplugin.subsystem.hosts.exports import Exports
from targetplugin.subsystem.images.qemu_img import Run
from targetplugin.subsystem.mirror.settle import left_to_the_next_start
from targetplugin.subsystem.volumes.create import SIZE_UNIT

log = logging.getLogger(__name__)
PIECE = 64 << 20  # bytes that are zeroed at once: verbs of the volume wait for one at most
STORE_EXTENTS = (1 << 32) - 2  # that a store of saves without fill can tell apart
CAPACITY_DATA_HAS_CHANGED = (0x2A, 0x09)  # additional sense (SPC-4)

Serve = Callable[[Volume], bool]


class Zeroed(Struct):
    """How far each medium is zeroed, and the sequence of its superblock then: another one means that it
    was something else in between.
    """

    ends: dict[bytes, tuple[int, int]] = field(default_factory=dict)

    def end(self, medium: Medium, begin: int) -> int:
        """Up to where it is, at least `begin`."""
        assert medium.trailer is not None
        sequence, end = self.ends.get(medium.uuid, (-1, begin))
        return end if sequence == medium.trailer.sequence else begin

    def note(self, medium: Medium, end: int) -> None:
        assert medium.trailer is not None
        self.ends[medium.uuid] = (medium.trailer.sequence, end)


class Resize:
    """See the module.

    Args:
        serve: starts a volume that is down; says whether it is up.
    """

    def __init__(
        self,
        floor: Floor,
        views: Views,
        operations: Operations,
        runs: ImageRuns,
        exports: Exports,
        serve: Serve,
    ) -> None:
        self._floor = floor
        self._views = views
        self._operations = operations
        self._runs = runs
        self._exports = exports
        self._serve = serve

    def resize(self, ask: Ask, name: str, size: int, rate: int | None) -> Shape:
        """See Subsystem.volume_resize."""
        with self._floor.locked(self._floor.volume(name)) as volume:
            if (known := self._operations.again(ask)) is not None:
                return known
            _check_size(volume, size)
            told_of = {"volume": name, "size": size, "before": volume.size}
            if size == volume.size:
                return {"operation": None, **told_of}
            media = self._check(volume, size, None)
            total = (size - volume.size) * len(media)
            if ask.preview:
                made = self._operations.preview(ask, volume, None)
                made["operation"]["bytes_total"] = total
                return {**made, **told_of}
            prepared = {"size": size, "before": volume.size, "rate": rate}
            row = self._operations.begin(ask, volume, None, prepared, bytes_total=total)
            row = self._floor.catalog.operation_set(row.id, state="running")
            self._runs.begin(
                row, volume, lambda run, told: self._grow(run, told, row), lambda row, done: None
            )
            return self._operations.answer(row, told_of)

    # --- what must be so ---------------------------------------------------------------------

    def _check(self, volume: Volume, size: int, own: Operation | None) -> list[Medium]:
        """Raises Refused unless the volume may grow now. Returns its media.

        Args:
            own: the operation that asks, once it has begun.
        """
        self._floor.handle(volume)
        self._views.require_volume(Verb.RESIZE, volume)
        for save in self._floor.catalog.saves(volume.uuid):
            self._views.require_save(Verb.RESIZE, volume, save)
        self._operations.check_recorded(volume)
        for row in self._floor.catalog.operations(volume.uuid, running=True):
            if own is None or row.id != own.id:
                raise Refused(
                    Reason.BUSY,
                    f"{volume.name} can't grow now: operation {row.id}, a {row.verb}, runs",
                    object=volume.name,
                    hint="wait until it is done, or abort it",
                    progress=self._views.progress(row)[0],
                )
        for leg in self._views.legs(volume, self._floor.status(volume)):
            if leg["state"] != "in_sync":
                raise Refused(
                    Reason.STATE,
                    f"{volume.name} can't grow now: its leg {leg['medium']} is {leg['state']}",
                    object=leg["medium"],
                    hint="wait until it is in sync, or take it out:"
                    f" leg remove {volume.name} {leg['medium']}",
                )
        few = count_extents(size, volume.extent_size) < STORE_EXTENTS
        if not few and self._floor.catalog.store_get(volume.uuid) is not None:
            raise Refused(
                Reason.STATE,
                f"{volume.name} can't have {told(size)}: its saves without fill have no room for so"
                f" many extents of {told(volume.extent_size)}",
                object=volume.name,
                hint="release or fill them first",
            )
        return self._media(volume, size)

    def _media(self, volume: Volume, size: int) -> list[Medium]:
        """All that hold the volume or a save of it. Raises Refused (STATE) where one is missing or has
        no room.
        """
        catalog = self._floor.catalog
        kept = {leg.medium: "" for leg in catalog.legs(volume.uuid)}
        for save in catalog.saves(volume.uuid):
            kept |= {uuid: save_name(volume, save) for uuid in save.media}
        self._floor.check_over(kept)
        found = []
        for uuid, save_on_it in kept.items():
            medium = self._floor.medium(uuid)
            if medium.data_size < size:
                name = self._floor.medium_name(uuid)
                larger = f"bring in a larger one, leg add {volume.name} --wait, then take this out:"
                raise Refused(
                    Reason.STATE,
                    f"{volume.name} can't have {told(size)}: {name} holds {told(medium.data_size)}",
                    object=name,
                    hint=f"release {save_on_it}, which is on it"
                    if save_on_it
                    else f"{larger} leg remove {volume.name} {name}",
                )
            found.append(medium)
        return found

    # --- doing it ----------------------------------------------------------------------------

    def _grow(self, run: Run, progress: Told, row: Operation) -> None:
        """Zeroes what is new, piece by piece, with the volume's lock held for each: who has it may give
        a medium to something else. What changed meanwhile is looked at again.
        """
        assert row.volume is not None
        zeroed, done = Zeroed(), 0
        while True:
            with self._floor.runtime(row.volume).lock:
                volume = self._floor.catalog.volume_get(row.volume)
                if volume is None:
                    raise Refused(Reason.NOT_FOUND, f"{row.volume_name} was deleted")
                moved = self._zero(volume, row.prepared["size"], zeroed)
                if not moved:
                    self._switch(volume, row)
                    return
            done += moved
            progress(min(done / (row.bytes_total or 1), 1.0))
            run.moved(moved)

    def _zero(self, volume: Volume, size: int, zeroed: Zeroed) -> int:
        """Makes the next piece zeros, durably. How many bytes; 0: all are."""
        for medium in self._media(volume, size):
            at = zeroed.end(medium, volume.size)
            if at < size:
                end = min(at + PIECE, size)
                medium.write_zeros(at, end - at)
                zeroed.note(medium, end)
                return end - at
        return 0

    def _switch(self, volume: Volume, row: Operation) -> None:
        """The catalog has the new size, and then the engine and the kernel. Hosts are held meanwhile."""
        runtime = self._floor.runtime(volume.uuid)
        self._check(volume, row.prepared["size"], row)
        self._check_answering()
        began = time.monotonic()
        try:
            self._exports.hold(volume)
            if runtime.handle is not None:
                handle, runtime.handle = runtime.handle, None
                runtime.why_down = "it gets its new size"
                self._floor.engine.remove_volume(handle)
            with self._floor.catalog.transaction():
                self._floor.catalog.volume_set(volume.uuid, size=row.prepared["size"])
                self._floor.catalog.operation_set(row.id, in_force=now())
        except (Refused, OSError):
            self._serve_as_it_is(volume)
            raise
        if not self._serve_as_it_is(volume):
            log.error("%s has its new size, and is down", volume.name)
            return
        pause = int((time.monotonic() - began) * 1e6)
        if runtime.ring is not None and runtime.handle is not None:
            self._floor.engine.set_sense_ua(runtime.handle, *CAPACITY_DATA_HAS_CHANGED)
        with left_to_the_next_start("how long hosts were held"):
            self._floor.catalog.operation_set(row.id, pause_us=pause)

    def _serve_as_it_is(self, volume: Volume) -> bool:
        """Whether the volume is up, with the size that the catalog has."""
        row = self._floor.catalog.volume_get(volume.uuid)
        assert row is not None
        up = self._serve(row)
        if up and self._floor.runtime(volume.uuid).ring is None:
            try:
                self._exports.adopt(row)  # it was up, and hosts were only made to wait
            except Refused as error:
                log.error("the ring of %s is not served: %s", volume.name, error.message)
        return up

    def _check_answering(self) -> None:
        """A start reads all media: one that is silent would keep hosts waiting. Raises Refused (BUSY)."""
        paths = {medium.path for medium in list(self._floor.media.values())}
        answered = self._floor.patience.ask(discover.answers, paths)
        if silent := sorted(path for path in paths if not answered[path]):
            raise Refused(
                Reason.BUSY,
                f"{silent[0]} does not answer",
                object=silent[0],
                hint="wait until it does, or take the disk away",
            )

    # --- a start -----------------------------------------------------------------------------

    def drop(self, row: Operation) -> None:
        """The daemon ended meanwhile: the volume has its new size, or nothing has happened."""
        if row.in_force is not None:
            self._operations.end(row)
        else:
            self._operations.drop(row, "the daemon ended before it was in force")


def _check_size(volume: Volume, size: int) -> None:
    """Raises Refused (USAGE, STATE)."""
    if size <= 0 or size % SIZE_UNIT:
        raise Refused(
            Reason.USAGE,
            f"{volume.name} can't have {size} bytes: that is no positive multiple of {SIZE_UNIT}",
            object=volume.name,
        )
    if size < volume.size:
        raise Refused(
            Reason.STATE,
            f"{volume.name} has {told(volume.size)} and can't be made smaller, {told(size)}: what"
            " hosts and saves have behind the new end would be lost",
            object=volume.name,
            hint="make a smaller volume, and copy on a host what is to be kept",
        )
