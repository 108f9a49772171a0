"""A subsystem on files in a folder, with a real catalog, real media and a synchronous engine.

Can be killed and started.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from targetplugin.catalog import Catalog
from targetplugin.subsystem import Subsystem
from targetplugin.subsystem.ground.floor import Floor
from tests.unit.fake_engine import PowerCut, buffered_read
from tests.unit.fake_store import Store, StoreEngine

MIB = 1 << 20
EXTENT = 65536


class House:
    """Everything below one folder. `subsystem` is what doors see."""

    def __init__(self, folder: Path, kernel: Any = None, rings: Any = None) -> None:
        self.folder = folder
        self.kernel = kernel
        self.rings = rings
        self.engine: StoreEngine
        self.stores: dict[bytes, Store] = {}  # they outlive the daemon
        self.boot()

    def boot(self) -> None:
        self.catalog = Catalog(self.folder / "state")
        self.subsystem = Subsystem(self.catalog, self._make_engine, self.kernel, self.rings)
        self.subsystem.start()

    def _make_engine(self, on_event: Any) -> StoreEngine:
        self.engine = StoreEngine(on_event, self.stores)
        return self.engine

    @property
    def floor(self) -> Floor:
        return self.subsystem._floor

    def kill(self) -> None:
        """The daemon is gone between two instructions: nothing is ended cleanly, the kernel closes
        what was open.
        """
        self.subsystem._replace.stop()
        self.subsystem._hooks.stop()
        self.subsystem._scrub._keep = lambda row, found: None  # type: ignore[method-assign]
        self.subsystem._scrub.stop()
        self.subsystem._comeback.stop()
        self.subsystem._retain.stop()
        self.end_fills()
        for medium in list(self.floor.media.values()):
            medium.close()
        self.floor.media.clear()
        for volume in self.catalog.volumes():
            runtime = self.floor.runtime(volume.uuid)
            with runtime.lock:
                runtime.handle = None
        self.subsystem._transfers.stop()
        self.catalog.close()

    def end_fills(self) -> None:
        """Their threads end with the process: without a word of how far they are."""
        runs = self.subsystem._image_runs
        runs._stopping = True
        self.subsystem._fills._note = lambda row, volume, end: None  # type: ignore[method-assign]
        for number, thread in list(runs._threads.items()):
            row = self.catalog.operation_get(number)
            if row is not None and row.verb == "fill":
                runs._runs[number].stop()
                thread.join()

    def end(self) -> None:
        """Ends the daemon as it should."""
        self.finish()
        self.subsystem.stop()
        self.catalog.close()

    def restart(self) -> None:
        self.kill()
        self.boot()

    def killed_in(self, verb: str, *, in_force: bool, run: Any) -> None:
        """Runs a verb during which the daemon dies: before its point is in force, or right after;
        then starts again.
        """
        if in_force:
            self.engine.cut_after = verb
        else:
            self.engine.cut_before = verb
        try:
            run()
        except PowerCut:
            self.restart()
        else:
            raise AssertionError("the verb did not reach the engine")

    # --- what tests say ------------------------------------------------------------------------

    def media(self, *names: str, size: int = 12 * MIB) -> None:
        for name in names:
            self.subsystem.media_add(str(self.folder / name), size=size)

    def volume(self, name: str = "ledger", size: int = 8 * MIB, **options: Any) -> dict[str, Any]:
        return self.subsystem.volume_create(name, size, **options)

    def handle(self, name: str = "ledger") -> int:
        handle = self.floor.runtime(self.floor.volume(name).uuid).handle
        assert handle is not None
        return handle

    def write(self, extent: int, letter: str, name: str = "ledger") -> None:
        """A host fills an extent with a letter."""
        self.engine.write(self.handle(name), extent * EXTENT, letter.encode() * EXTENT)

    def read(self, extent: int, name: str = "ledger") -> str:
        """The letter that an extent is filled with, as a host reads it; "" for zeros."""
        return letter_of(self.engine.read(self.handle(name), extent * EXTENT, EXTENT))

    def on_medium(self, medium: str, extent: int) -> str:
        """The letter that an extent of a medium is filled with."""
        row = self.floor.medium_row(medium)
        fd = self.floor.media[row.uuid].fd
        return letter_of(buffered_read(fd, extent * EXTENT, EXTENT))

    def finish(self) -> None:
        """Lets copies in the background come to their end."""
        self.engine.release_copies()
        self.subsystem.settled()

    def show(self, name: str = "ledger") -> dict[str, Any]:
        return self.subsystem.volume_show(name)

    def saves(self, name: str = "ledger") -> list[str]:
        return [save["name"] for save in self.show(name)["saves"]]

    def states(self) -> dict[str, str]:
        """Of each medium: its state and use."""
        rows = self.subsystem.media_list()
        return {row["name"]: row["use"] or row["state"] for row in rows}

    def wait(self, answer: dict[str, Any]) -> dict[str, Any]:
        done = self.subsystem.operation_wait(answer["operation"]["id"], 30)
        assert done["state"] not in ("prepared", "running"), done
        return done


def letter_of(data: bytes) -> str:
    letters = set(data)
    assert len(letters) == 1, "the extent is of one piece"
    return "" if letters == {0} else chr(letters.pop())


def image(path: Path, letters: str, format: str = "raw") -> str:
    """An image of one extent a letter."""
    raw = path if format == "raw" else path.with_suffix(".tmp")
    raw.write_bytes(b"".join(letter.encode() * EXTENT for letter in letters))
    if format != "raw":
        assert os.system(f"qemu-img convert -q -f raw -O {format} {raw} {path}") == 0
        raw.unlink()
    return str(path)
