"""What every verb stands on: the catalog, the engine, the kernel, the open media and a lock for
each volume.

Looks things up and refuses what is not there; decides nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from msgspec import Struct, field

from targetplugin.catalog import Catalog, MediumRow, Save, Volume
from targetplugin.engine import ViewSpec, VolumeSpec
from targetplugin.errors import Reason, Refused
from targetplugin.media import discover
from targetplugin.media.medium import Medium
from targetplugin.media.patience import Patience
from targetplugin.subsystem.ground import names, write_cache
from targetplugin.subsystem.ground.clock import Clock
from targetplugin.subsystem.ground.extents import count_extents
from targetplugin.subsystem.ground.journal import Journal
from targetplugin.subsystem.ground.ports import Engine, Kernel, Rings


class Runtime(Struct):
    """What is known of a volume only while the daemon runs.

    Attributes:
        lock: held by every verb of the volume, and by what an event of the engine changes.
        handle: the engine's, or None while the volume is down; `why_down` then says why.
        ring: descriptor of its ring while it is served.
        tasks: how to stop what reads or fills a save outside the engine, by operation.
        progress: how far that is, 0.0 to 1.0; `left`: what gives the seconds that it still takes.
    """

    uuid: bytes
    lock: threading.RLock = field(default_factory=threading.RLock)
    handle: int | None = None
    why_down: str = "it is not started yet"
    ring: int | None = None
    tasks: dict[int, Callable[[], None]] = field(default_factory=dict)
    progress: dict[int, float] = field(default_factory=dict)
    left: dict[int, Callable[[], float | None]] = field(default_factory=dict)


class Floor:
    """See the module. The engine is set once, before anything is started."""

    engine: Engine

    def __init__(self, catalog: Catalog, kernel: Kernel | None, rings: Rings | None) -> None:
        self.catalog = catalog
        self.kernel = kernel
        self.rings = rings
        self.media: dict[bytes, Medium] = {}  # those that are open, by uuid
        self.older: set[bytes] = set()  # volumes of which the media know more than the catalog
        self.patience = Patience()
        self.clock = Clock()
        self.journal = Journal(catalog)
        self.pool = threading.RLock()  # who holds it may take a free medium; after a volume's lock
        self.told = 0  # how often an operation has changed
        self._changed = threading.Condition()  # and whoever waits for that
        self._adding = threading.Lock()  # an event may come before its volume's handle is known
        self._runtimes: dict[bytes, Runtime] = {}

    # --- volumes -----------------------------------------------------------------------------

    def volume(self, name: str) -> Volume:
        """The volume's row. Raises Refused (NOT_FOUND)."""
        row = self.catalog.volume_find(names.check_volume(name))
        if row is None or row.details.get("creating"):
            known = [one.name for one in self.catalog.volumes()]
            raise unknown("volume", name, "volumes", known, "create one with volume create")
        return row

    @contextmanager
    def locked(self, volume: Volume) -> Iterator[Volume]:
        """Holds a volume's lock; yields its row as it is then. Raises Refused where it has gone."""
        with self.runtime(volume.uuid).lock:
            yield self.volume(volume.name)

    def runtime(self, uuid: bytes) -> Runtime:
        """The volume's runtime, made when it is first asked for."""
        with self.pool:
            return self._runtimes.setdefault(uuid, Runtime(uuid))

    def forget(self, uuid: bytes) -> None:
        """The volume is no more."""
        with self.pool:
            self._runtimes.pop(uuid, None)

    def by_handle(self, handle: int) -> Runtime | None:
        """The volume that the engine knows by this number."""
        with self._adding:
            return next((r for r in list(self._runtimes.values()) if r.handle == handle), None)

    def serve(self, spec: VolumeSpec) -> int:
        """Gives the volume to the engine. Raises Refused, OSError."""
        runtime = self.runtime(spec.uuid)
        with self._adding:
            runtime.handle = self.engine.add_volume(spec)
        row = self.catalog.volume_get(spec.uuid)
        if row is not None and not write_cache.of(self.clock, row).now:
            self.engine.set_write_through(runtime.handle, True)
        return runtime.handle

    def show(self, spec: ViewSpec) -> int:
        """Gives a view to the engine; its runtime is that of its own identity. Raises Refused."""
        runtime = self.runtime(spec.uuid)
        with self._adding:
            runtime.handle = self.engine.add_view(spec)
            return runtime.handle

    def handle(self, volume: Volume) -> int:
        """The engine's number of a volume that is up. Raises Refused (STATE)."""
        runtime = self.runtime(volume.uuid)
        if runtime.handle is None:
            raise Refused(
                Reason.STATE,
                f"{volume.name} is down: {runtime.why_down}",
                object=volume.name,
                hint="status shows its media; bring back the one that is missing",
            )
        return runtime.handle

    def status(self, volume: Volume) -> Mapping[str, Any] | None:
        """The engine's view, or None while the volume is down."""
        handle = self.runtime(volume.uuid).handle
        try:
            return None if handle is None else self.engine.status(handle)
        except Refused as refused:
            if refused.reason is not Reason.NOT_FOUND:
                raise
            return None  # it went down, or was deleted, just now

    def extents(self, volume: Volume) -> int:
        return count_extents(volume.size, volume.extent_size)

    # --- saves -------------------------------------------------------------------------------

    def save(self, name: str) -> tuple[Volume, Save]:
        """The save that a name means; a bare volume means its newest.

        Raises Refused (NOT_FOUND, USAGE).
        """
        asked = names.parse(name)
        volume = self.volume(asked.volume)
        found: Save | None
        if asked.generation is not None:
            found = self.catalog.save_get(volume.uuid, asked.generation)
        elif asked.label is not None:
            found = self.catalog.save_by_label(volume.uuid, asked.label)
        else:
            found = self.newest(volume)
        return volume, found or self._no_save(volume, name)

    def owner(self, name: str) -> Volume:
        """The volume that a save's name begins with. Raises Refused (NOT_FOUND, USAGE)."""
        return self.volume(names.parse(name).volume)

    def newest(self, volume: Volume) -> Save | None:
        """The save that was taken last; images that were restored and not swapped in are none, nor is
        what a recover took for an undo.
        """
        saves = self.catalog.saves(volume.uuid)
        taken = [s for s in saves if s.origin == "host" and not s.undo]
        return taken[-1] if taken else None

    def _no_save(self, volume: Volume, name: str) -> NoReturn:
        known = ", ".join(save_name(volume, s) for s in self.catalog.saves(volume.uuid))
        text = f"there is no save {name}" if "@" in name else f"{name} has no save"
        hint = f"its saves: {known}" if known else f"take one with save {volume.name}"
        raise Refused(Reason.NOT_FOUND, text, object=name, hint=hint)

    # --- media -------------------------------------------------------------------------------

    def medium_row(self, name: str) -> MediumRow:
        """The medium of that name, path or uuid. Raises Refused (NOT_FOUND)."""
        row = self.catalog.medium_find(name)
        if row is None:
            known = [one.name for one in self.catalog.media()]
            raise unknown("medium", name, "media", known, "add one with media add")
        return row

    def medium_name(self, uuid: bytes) -> str:
        row = self.catalog.medium_get(uuid)
        return row.name if row else uuid.hex()

    def medium(self, uuid: bytes) -> Medium:
        """The open medium. Raises Refused (STATE) where it is missing."""
        found = self.media.get(uuid)
        if found is None:
            name = self.medium_name(uuid)
            raise Refused(
                Reason.STATE, f"the medium {name} is missing", object=name, hint="bring it back"
            )
        return found

    def check_answers(self, path: str) -> None:
        """Waits a while for a disk that is to be opened. Raises Refused (ENVIRONMENT) where it does
        not answer.
        """
        if not self.patience.ask(discover.answers, [path])[path]:
            raise Refused(
                Reason.ENVIRONMENT,
                f"{path} does not answer",
                object=path,
                hint="look at its cable, or at the kernel's log (journalctl -k)",
            )

    def check_over(self, media: Iterable[bytes]) -> None:
        """Refuses to do anything with media that do not answer: whoever asked them would wait with
        locks held, and what they still do late would spoil it. Raises Refused (BUSY).
        """
        silent = self.engine.silent()
        for uuid in media:
            if uuid in silent:
                name = self.medium_name(uuid)
                raise Refused(
                    Reason.BUSY,
                    f"the medium {name} does not answer: its last requests are not over",
                    object=name,
                    hint="wait until they are, or take its disk away",
                )

    def is_there(self, uuid: bytes) -> bool:
        """Whether a medium is open and its file or device still exists."""
        medium = self.media.get(uuid)
        return medium is not None and medium.is_there()

    def tell(self) -> None:
        """An operation has changed."""
        with self._changed:
            self.told += 1
            self._changed.notify_all()

    def wait_told(self, seen: int, seconds: float) -> bool:
        """Waits until an operation has changed since `told` was `seen`. False: none has.

        Look at the catalog before and after, not meanwhile: who tells may be in a transaction.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self.told != seen, max(0.0, seconds))


def save_name(volume: Volume, save: Save) -> str:
    """`ledger@3`."""
    return f"{volume.name}@{save.generation}"


def unknown(kind: str, name: str, kinds: str, known: Sequence[str], otherwise: str) -> Refused:
    """That there is none of that name, with those that there are, or how to make one."""
    hint = f"{kinds}: {', '.join(known)}" if known else otherwise
    return Refused(Reason.NOT_FOUND, f"there is no {kind} {name}", object=name, hint=hint)
