"""What of this host stands on a disk: mounts, swap, holders, processes. Finds and undoes; asks
nothing of the disk.
"""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from targetplugin.host.errors import Refused

FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
BLKFLSBUF, BLKRRPART = 0x1261, 0x125F


@dataclass(frozen=True)
class Mount:
    """A mount of the disk or a part of it: device, where, type, options as mount(8) takes them."""

    device: str
    where: str
    kind: str
    options: str


@dataclass(frozen=True)
class Holder:
    """A process that keeps a file system busy."""

    pid: int
    name: str
    file: str


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def parts(disk: str) -> list[str]:
    """Names of the disk, its partitions, and what stands on them (device mapper and so on)."""
    name = os.path.basename(disk)
    found = [name]
    for one in found:
        place = Path("/sys/class/block", one)
        if not place.exists():
            continue
        found += [p.name for p in place.iterdir() if (p / "partition").exists()]
        holders = place / "holders"
        found += [p.name for p in holders.iterdir()] if holders.exists() else []
    return list(dict.fromkeys(found))


def mounts(disk: str) -> list[Mount]:
    """Mounts that stand on the disk, in the order in which they were made."""
    numbers = {}
    for name in parts(disk):
        try:
            numbers[Path("/sys/class/block", name, "dev").read_text().strip()] = f"/dev/{name}"
        except OSError:
            continue
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        fields, after = left.split(), right.split()
        if fields[2] in numbers and fields[3] == "/":
            options = ",".join(dict.fromkeys((fields[5] + "," + after[2]).split(",")))
            found.append(Mount(numbers[fields[2]], _unescape(fields[4]), after[0], options))
    return found


def check_leavable(disk: str) -> None:
    """Raises Refused where the disk is used in a way that can't be left: swap, or a device on top."""
    names = parts(disk)
    for line in Path("/proc/swaps").read_text().splitlines()[1:]:
        if os.path.basename(os.path.realpath(line.split()[0])) in names:
            raise Refused(f"{disk} is used as swap space", f"swapoff {line.split()[0]}")
    for name in names:
        if name.startswith(("dm-", "md")):
            raise Refused(
                f"/dev/{name} stands on {disk}; this can't be taken down and up again here",
                "stop it first (vgchange -an, mdadm --stop), then repeat",
            )


def holders(where: str) -> list[Holder]:
    """Processes with an open file, directory or mapping under a mount."""
    device = os.stat(where).st_dev
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        file = _held(process, device)
        if file is not None:
            try:
                name = (process / "comm").read_text().strip()
            except OSError:
                continue
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


def freeze(where: str) -> None:
    """Writes a file system out and holds its writers. Raises Refused."""
    _ioctl(where, FIFREEZE, "can't be frozen")


def thaw(where: str) -> None:
    _ioctl(where, FITHAW, "can't be thawed")


def _ioctl(where: str, number: int, what: str) -> None:
    try:
        fd = os.open(where, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, number, 0)
        finally:
            os.close(fd)
    except OSError as error:
        raise Refused(f"{where} {what}: {os.strerror(error.errno or 5)}") from None


def unmount(mount: Mount) -> None:
    """Raises Refused with who holds it, where it is busy."""
    done = subprocess.run(["umount", mount.where], capture_output=True, text=True)
    if done.returncode == 0:
        return
    who = holders(mount.where)
    names = ", ".join(f"{h.name} (pid {h.pid}, {h.file})" for h in who[:5])
    raise Refused(
        f"{mount.where} can't be unmounted: "
        + (f"it is held by {names}" if who else done.stderr.strip()),
        "end what holds it, then repeat",
    )


def mount_again(mount: Mount) -> None:
    command = ["mount", "-t", mount.kind, "-o", mount.options, mount.device, mount.where]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Refused(
            f"{mount.where} can't be mounted again: {done.stderr.strip()}", " ".join(command)
        )


def check(mount: Mount) -> None:
    """Replays the journal and repairs what is safe to repair. Raises Refused where more is wrong."""
    if not mount.kind.startswith("ext"):
        return
    done = subprocess.run(["e2fsck", "-p", mount.device], capture_output=True, text=True)
    if done.returncode & ~3:
        raise Refused(
            f"the file system on {mount.device} is damaged: {(done.stdout or done.stderr).strip()}",
            f"e2fsck -f {mount.device}",
        )


def drop_caches(disk: str) -> None:
    """Forgets what this host has cached of the disk and its partitions, which the disk took back."""
    for name in parts(disk):
        try:
            fd = os.open(f"/dev/{name}", os.O_RDONLY)
        except OSError:
            continue
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            fcntl.ioctl(fd, BLKFLSBUF, 0)
        except OSError:
            pass
        finally:
            os.close(fd)
