"""Which processes of this host use what: files under a mount, a device's node. Reads /proc; ends
nothing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Holder:
    """A process that keeps something busy, and by which file."""

    pid: int
    name: str
    file: str

    def __str__(self) -> str:
        own = " itself" if self.pid == os.getpid() else ""
        return f"{self.name}{own} (pid {self.pid}, {self.file})"


def processes() -> Iterator[Path]:
    for one in PROC.iterdir():
        if one.name.isdigit():
            yield one


def holders(where: str) -> list[Holder]:
    """Processes with an open file, directory or mapping under a mount."""
    device = os.stat(where).st_dev
    return _found((one, _held(one, device)) for one in processes())


def writers(numbers: Collection[str]) -> list[Holder]:
    """Processes that have one of these devices ("8:16") itself open, and may write to it."""
    return _found((one, _written(one, numbers)) for one in processes())


def _found(pairs: Iterator[tuple[Path, str | None]]) -> list[Holder]:
    found = []
    for process, file in pairs:
        if file is None:
            continue
        try:
            name = (process / "comm").read_text().strip()
        except OSError:
            continue  # it has ended meanwhile
        found.append(Holder(int(process.name), name, file))
    return found


def _held(process: Path, device: int) -> str | None:
    try:
        links = [process / "cwd", process / "root", process / "exe", *(process / "fd").iterdir()]
    except OSError:
        return None
    for link in links:
        try:
            if link.stat().st_dev == device:
                return os.readlink(link)
        except OSError:
            continue
    try:
        maps = (process / "maps").read_text()
    except OSError:
        return None
    short = f"{os.major(device):02x}:{os.minor(device):02x}"
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[3] == short:
            return fields[5]
    return None


def _written(process: Path, numbers: Collection[str]) -> str | None:
    try:
        links = list((process / "fd").iterdir())
    except OSError:
        return None
    for link in links:
        try:
            info = link.stat()
            device = f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
            if stat.S_ISBLK(info.st_mode) and device in numbers and _may_write(process, link.name):
                return os.readlink(link)
        except OSError:
            continue
    return None


def _may_write(process: Path, fd: str) -> bool:
    """Readers, such as those that watch a disk's paths, stand in nobody's way."""
    try:
        for line in (process / "fdinfo" / fd).read_text().splitlines():
            if line.startswith("flags:"):
                return int(line.split()[1], 8) & os.O_ACCMODE != os.O_RDONLY
    except OSError:
        pass
    return True


def started(pid: int) -> int:
    """When a process began, in ticks since the boot; 0 if there is none, or none that still runs."""
    fields = _stat(PROC / str(pid))
    return int(fields[19]) if fields and fields[0] not in "ZX" else 0


def descendants(pid: int) -> list[int]:
    """All processes that a process started, and those that these did, and that still run; parents
    before their children.
    """
    parents: dict[int, list[int]] = {}
    for one in processes():
        fields = _stat(one)
        if fields and fields[0] not in "ZX":
            parents.setdefault(int(fields[1]), []).append(int(one.name))
    found = list(parents.get(pid, []))
    for one_pid in found:
        found += parents.get(one_pid, [])
    return found


def _stat(process: Path) -> list[str]:
    """Fields of /proc/PID/stat from the state on; proc(5)."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def boot() -> str:
    """What names this boot of this host."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
