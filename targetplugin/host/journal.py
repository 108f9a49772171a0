"""What pitcopy must know again after it was killed, or its host: kept on the host, by the disk's
identity, and never on the disk that is taken back. Written whole or not at all. Decides nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from targetplugin.host import mounts, processes, stack
from targetplugin.host.errors import Refused
from targetplugin.host.mounts import Mount

FOLDER = Path(os.environ.get("PITCOPY_STATE_DIR", "/var/lib/pitcopy")).absolute()
_mine: set[str] = set()  # disks that this process holds


@dataclass(frozen=True)
class Process:
    """A process as it can be found again: its id, when it began, and in which boot of the host."""

    pid: int = 0
    started: int = 0
    boot: str = ""

    def alive(self) -> bool:
        """Whether it still runs."""
        if not self.pid or self.boot != processes.boot():
            return False
        return self.started == processes.started(self.pid) != 0


def process(pid: int) -> Process:
    """That process, to be found again."""
    return Process(pid, processes.started(pid), processes.boot())


@dataclass
class Entry:
    """A run: its disk, process, phase, save, command and the mounts to be made again.

    Phases: "saving", "running", "recovering" (the job failed), "left" (it failed, and the disk
    could not be left).
    """

    disk: str
    pid: int
    phase: str
    label: str
    generation: int
    command: list[str]
    mounts: list[Mount] = field(default_factory=list)
    job: Process = field(default_factory=Process)

    def alive(self) -> bool:
        """Whether the pitcopy that wrote it still runs, or its command."""
        return busy(self.disk) or self.job.alive()

    def write(self) -> None:
        """Puts it where the next pitcopy finds it, whole or not at all."""
        store(path_of(self.disk, "json"), asdict(self))

    def remove(self) -> None:
        forget(path_of(self.disk, "json"))


def read(disk: str) -> Entry | None:
    """The entry of a disk, or None where there is none, or none that can be read."""
    data = load(path_of(disk, "json"))
    try:
        if data is None:
            return None
        found = [Mount(**mount) for mount in data.pop("mounts")]
        job = Process(**data.pop("job", {}))
        entry = Entry(**data, mounts=found, job=job)
    except (ValueError, TypeError, KeyError):
        return None
    entry.mounts = [mounts.moved(mount, entry.disk, disk) for mount in found]
    entry.disk = disk
    return entry


# --- files --------------------------------------------------------------------------------------


def path_of(disk: str, ending: str) -> Path:
    """The file about a disk: named by its NAA, as /dev/sdb may be another disk tomorrow."""
    name = stack.identity(disk.removeprefix("/dev/"))
    return FOLDER / f"{name or disk.strip('/').replace('/', '_')}.{ending}"


def store(path: Path, value: Any) -> None:
    """Writes JSON, on stable storage when this returns. Raises Refused."""
    draft = path.with_name(path.name + ".new")
    try:
        FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(draft, "w", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            json.dump(value, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        _sync(path.parent)
    except OSError as error:
        raise Refused(
            f"{path} can't be written: {os.strerror(error.errno or 5)}",
            f"make room in {FOLDER}, or set PITCOPY_STATE_DIR to a directory that outlives a reboot",
        ) from None


def load(path: Path) -> Any:
    """What was stored; None where there is nothing that can be read."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def forget(path: Path) -> None:
    path.unlink(missing_ok=True)
    with suppress(OSError):
        _sync(path.parent)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# --- one at a time ------------------------------------------------------------------------------


@contextmanager
def exclusive(disk: str) -> Iterator[None]:
    """Holds the disk for one run, or one sequence of jobs. Raises Refused where another has it, or
    where the journal is on that very disk.
    """
    try:
        FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = _lock(disk)
    except OSError as error:
        raise Refused(
            f"{FOLDER} can't be written: {os.strerror(error.errno or 5)}",
            "set PITCOPY_STATE_DIR to a directory that outlives a reboot",
        ) from None
    if fd is None:
        raise Refused(
            f"another pitcopy is at work on {disk}",
            f"pitcopy status {disk} shows it; wait until it is done",
        )
    _mine.add(disk)
    try:
        _check_elsewhere(disk)
        yield
    finally:
        _mine.discard(disk)
        os.close(fd)


def busy(disk: str) -> bool:
    """Whether a run, or a sequence, of another pitcopy is at work on the disk."""
    if disk in _mine:
        return False
    try:
        fd = _lock(disk)
    except OSError:
        return False
    if fd is not None:
        os.close(fd)
    return fd is None


def _lock(disk: str) -> int | None:
    fd = os.open(path_of(disk, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _check_elsewhere(disk: str) -> None:
    for mount in mounts.mounts(disk):
        with suppress(OSError):
            if os.stat(mount.where).st_dev == FOLDER.stat().st_dev:
                raise Refused(
                    f"{FOLDER}, where pitcopy keeps what it has done, is on {disk} itself",
                    "set PITCOPY_STATE_DIR to a directory on another disk",
                )
