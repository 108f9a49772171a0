"""File systems of this host that stand on a disk: found, frozen, unmounted, checked and mounted again.
Who keeps one busy is users.py's to say; asks nothing of the disk.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import subprocess
from collections.abc import Collection
from dataclasses import dataclass, replace

from targetplugin.host import stack
from targetplugin.host.errors import Refused
from targetplugin.host.processes import PROC, holders

__all__ = ["Mount", "holders", "mounts", "parts"]
FIFREEZE, FITHAW = 0xC0045877, 0xC0045878
BLKFLSBUF = 0x1261


@dataclass(frozen=True)
class Mount:
    """A mount of the disk or a part of it: device, where, type, options as mount(8) takes them.

    Attributes:
        bound: of a bind mount: the directory of another mount of the disk that it shows.
    """

    device: str
    where: str
    kind: str
    options: str
    bound: str = ""


@dataclass(frozen=True)
class Line:
    """A line of /proc/PID/mountinfo; proc(5)."""

    number: str
    parent: str
    device: str
    root: str
    where: str
    options: str
    propagation: tuple[str, ...]
    kind: str
    source: str
    super_options: str

    @property
    def bind(self) -> bool:
        """Whether it shows a directory of a file system, and not all of one or of a subvolume."""
        return self.root != "/" and f"subvol={self.root}" not in self.super_options.split(",")


def unescape(text: str) -> str:
    """A path as /proc/mounts and /proc/swaps write it."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def table(process: str = "self") -> list[Line]:
    """What is mounted where that process is, in the order in which it was made."""
    found = []
    for line in (PROC / process / "mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        a, b = left.split(), right.split()
        found.append(
            Line(
                a[0], a[1], a[2], unescape(a[3]), unescape(a[4]), a[5], tuple(a[6:]),
                b[0], unescape(b[1]), b[2] if len(b) > 2 else "",
            )
        )  # fmt: skip
    return found


def parts(disk: str) -> list[str]:
    """Names of the disk, other paths to it, its partitions, and what stands on them, bottom up."""
    return stack.above(disk.removeprefix("/dev/"))


def devices(disk: str) -> dict[str, str]:
    """Of all parts of a disk: their number, as in "8:16", and their path below /dev."""
    return {n: stack.node(name) for name in parts(disk) if (n := stack.number(name))}


def on(lines: list[Line], numbers: dict[str, str]) -> list[tuple[Line, str]]:
    """Lines that are about these devices, and which."""
    found = []
    for line in lines:
        if line.device in numbers:
            found.append((line, numbers[line.device]))
        elif line.source.startswith("/dev/"):  # btrfs has a number of its own
            try:
                info = os.stat(line.source)
            except OSError:
                continue
            number = f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
            if line.kind == "btrfs" and number in numbers:
                found.append((line, numbers[number]))
    return found


def mounts(disk: str) -> list[Mount]:
    """Mounts that stand on the disk, in an order in which they can be made again."""
    whole: list[Mount] = []
    bound: list[Mount] = []
    mine = on(table(), devices(disk))
    for line, device in mine:
        options = ",".join(dict.fromkeys((line.options + "," + line.super_options).split(",")))
        mount = Mount(device, line.where, line.kind, options)
        if not line.bind:
            whole.append(mount)
            continue
        main = next((o for o, d in mine if d == device and not o.bind), None)
        shown = main.where.rstrip("/") + line.root if main else ""
        bound.append(replace(mount, options=line.options, bound=shown or line.root))
    return whole + bound


def unmade(disk: str) -> list[str]:
    """Bind mounts that could not be made again: what they show is not mounted as a whole."""
    mine = on(table(), devices(disk))
    return [
        line.where
        for line, device in mine
        if line.bind and not any(d == device and not o.bind for o, d in mine)
    ]


def nested(where: Collection[str], disk: str) -> list[str]:
    """Mounts of other devices below these mounts of the disk."""
    lines = table()
    mine = {line.number for line, _ in on(lines, devices(disk))}
    tops = {line.number for line in lines if line.number in mine and line.where in where}
    return [line.where for line in lines if line.parent in tops and line.number not in mine]


def moved(mount: Mount, was: str, now: str) -> Mount:
    """A remembered mount where the disk, since a reboot, has another name."""
    if was == now or not re.fullmatch(re.escape(was) + r"(p?\d+)?", mount.device):
        return mount
    part = mount.device.removeprefix(was).lstrip("p")
    between = "p" if part and now[-1].isdigit() else ""
    return replace(mount, device=now + between + part)


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
        raise Refused(
            f"{where} {what}: {os.strerror(error.errno or 5)}",
            "unmount it first, if its kind of file system knows no freezing",
        ) from None


def flush(disk: str) -> None:
    """Brings all that was written to the disk onto it. Raises Refused where it can't be."""
    try:
        for where in {mount.where for mount in mounts(disk)}:
            fd = os.open(where, os.O_RDONLY)
            try:
                if ctypes.CDLL(None, use_errno=True).syncfs(fd):
                    raise OSError(ctypes.get_errno(), where)
            finally:
                os.close(fd)
        for node in devices(disk).values():
            fd = os.open(node, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
    except OSError as error:
        raise Refused(
            f"what was written to {disk} did not get there: {os.strerror(error.errno or 5)}",
            "look at dmesg",
        ) from None


def unmount(mount: Mount) -> None:
    """Raises Refused where it is busy; users.py says with whom."""
    done = subprocess.run(["umount", mount.where], capture_output=True, text=True)
    if done.returncode:
        raise Refused(
            f"{mount.where} can't be unmounted: {done.stderr.strip()}",
            "end what holds it, then repeat",
        )


def mount_again(mount: Mount) -> None:
    """Raises Refused with the command that would do it."""
    commands = [["mount", "-t", mount.kind, "-o", mount.options, mount.device, mount.where]]
    if mount.bound:
        commands = [
            ["mount", "--bind", mount.bound, mount.where],
            ["mount", "-o", f"remount,bind,{mount.options}", mount.where],
        ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Refused(
                f"{mount.where} can't be mounted again: {done.stderr.strip()}", " ".join(command)
            )


def check(mount: Mount) -> None:
    """Replays the journal and repairs what is safe to repair. Raises Refused where more is wrong."""
    if mount.bound or not mount.kind.startswith("ext"):
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
            fd = os.open(stack.node(name), os.O_RDONLY)
        except OSError:
            continue
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            fcntl.ioctl(fd, BLKFLSBUF, 0)
        except OSError:
            pass
        finally:
            os.close(fd)


def reread_partitions(disk: str) -> None:
    """Lets the kernel know the partitions that the disk has now, which may be others than before."""
    if any(name.startswith("dm-") for name in parts(disk)):
        return  # multipath has partitions of its own above the paths
    for name in stack.paths(disk.removeprefix("/dev/")):
        if stack.number(name) and not _partx("-u", name):
            _partx("-d", name)  # there is no table, so that there are no partitions


def _partx(option: str, name: str) -> bool:
    try:
        return (
            subprocess.run(["partx", option, stack.node(name)], capture_output=True).returncode == 0
        )
    except FileNotFoundError:
        return True
