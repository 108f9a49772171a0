"""Many volumes in one process, without LIO: what control takes of the clock while all copy, and of memory.

Each volume has two legs on files; then each gets a third, one after the other, while the status of all is
asked for over and over.
"""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

from targetplugin.catalog import Catalog
from targetplugin.engine import Engine
from targetplugin.subsystem import Subsystem

from .footprint_volume import resident
from .table import Options, Spread, Table

COUNTS = (1, 16, 64)
THREADS = 2
MIB = 1 << 20
SIZE, ROOM = 64 * MIB, 4 * MIB  # of a volume, and what a medium has besides
QUIET = 1.0  # seconds of asking before
REST = 4.0  # seconds after which the engine has given memory for copies back


def run(options: Options) -> list[Table]:
    times = Table(
        "Milliseconds of the clock",
        (
            "volumes",
            "make one",
            "status",
            "pause of a save of all",
            "add a leg to one",
            "status meanwhile",
            "the longest",
        ),
        notes=[f"volumes of {SIZE // MIB} MiB, {THREADS} threads of the engine; files are cached"],
    )
    memory = Table(
        "MiB of memory of the process's own",
        ("volumes", "before", "while they copied", f"{REST:.0f} s later"),
    )
    for count in COUNTS[-1:] if options.quick else COUNTS:
        turns = [measure(count) for _ in range(options.turns)]
        figure = {name: Spread.of([turn[name] for turn in turns]) for name in turns[0]}
        times.rows.append(
            (
                count,
                *(figure[n] for n in ("make", "status", "pause", "add", "meanwhile", "longest")),
            )
        )
        memory.rows.append((count, *(figure[name] for name in ("before", "copied", "later"))))
    return [times, memory]


def measure(count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        catalog = Catalog(Path(folder) / "state")
        subsystem = Subsystem(catalog, lambda told: Engine(THREADS, lambda _: None, told))
        subsystem.start()
        try:
            return _measured(subsystem, Path(folder), count)
        finally:
            subsystem.stop()
            catalog.close()


def _measured(subsystem: Subsystem, folder: Path, count: int) -> dict[str, float]:
    names = [f"v{number}" for number in range(count)]
    begin = time.monotonic()
    for name in names:
        for leg in "abcd":
            subsystem.media_add(str(folder / f"{name}-{leg}"), size=SIZE + ROOM)
        subsystem.volume_create(name, SIZE, media=[f"{name}-a", f"{name}-b"])
    found = {"make": per(begin, count)}
    saved = subsystem.save_group(names, policy="copy")
    found["pause"] = saved["operation"]["pause_ms"]
    _until_all_is_copied(subsystem)
    time.sleep(REST)
    found["before"] = resident()
    asking = Asking(subsystem)
    time.sleep(QUIET)
    quiet, begin = len(asking.took), time.monotonic()
    for name in names:
        subsystem.leg_add(name)
    found["add"] = per(begin, count)
    found["copied"] = resident()
    _until_all_is_copied(subsystem)
    took = asking.end()
    found["status"] = 1000 * Spread.of(took[:quiet]).median
    found["meanwhile"] = 1000 * Spread.of(took[quiet:]).median
    found["longest"] = 1000 * max(took[quiet:])
    time.sleep(REST)
    found["later"] = resident()
    return found


class Asking:
    """Asks for the status of all, by a thread of its own. `took` is in seconds."""

    def __init__(self, subsystem: Subsystem) -> None:
        self.took: list[float] = []
        self._subsystem = subsystem
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def end(self) -> list[float]:
        self._over.set()
        self._thread.join()
        return self.took

    def _ask(self) -> None:
        while not self._over.is_set():
            begin = time.monotonic()
            self._subsystem.status()
            self.took.append(time.monotonic() - begin)


def per(begin: float, count: int) -> float:
    """Milliseconds since then for each."""
    return 1000 * (time.monotonic() - begin) / count


def _until_all_is_copied(subsystem: Subsystem) -> None:
    while any(
        volume["operation"] or any(leg["state"] != "in_sync" for leg in volume["legs"])
        for volume in subsystem.status()["volumes"]
    ):
        time.sleep(0.1)
