"""Who uses a disk on this host, and so whether it can be left: said before a job begins, and again
before the disk is taken back. Changes nothing.
"""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

from targetplugin.host import mounts, processes, stack
from targetplugin.host.errors import Refused
from targetplugin.host.mounts import Mount
from targetplugin.host.processes import PROC

NAMED = 5  # of those in the way, at most
PATIENCE = 3.0  # seconds that udev and its like may look at a device


def check_leavable(disk: str) -> None:
    """Raises Refused where what stands on the disk can't be taken down and up again here."""
    _check_swap(disk)
    for name in mounts.parts(disk):
        if stack.kind(name) == stack.OTHER:
            raise Refused(
                f"{stack.node(name)} stands on {disk}; this can't be taken down and up again here",
                "stop it first (mdadm --stop, cryptsetup close, dmsetup remove), then repeat",
            )
    others = stack.strangers(disk.removeprefix("/dev/"))
    if others:
        raise Refused(
            f"what stands on {disk} stands on {', '.join(map(stack.node, others))} too; "
            f"{disk} taken back alone would tear it",
            "lsblk -s shows what; move it onto one disk",
        )
    elsewhere = stack.groups_elsewhere(disk.removeprefix("/dev/"))
    if elsewhere:
        raise Refused(
            f"the volume group on {disk} has {', '.join(elsewhere)} on other disks: LVM would find "
            f"two ages of the group, were {disk} taken back",
            "vgsplit makes a group of this disk's volumes alone; or switch those off (lvchange -an)",
        )
    bare = mounts.unmade(disk)
    if bare:
        raise Refused(
            f"{bare[0]} is a bind mount of a file system on {disk} that is mounted nowhere as a whole",
            f"mount it as a whole too, or umount {bare[0]}",
        )
    _check_writers(disk)


def check_unused(disk: str) -> None:
    """Raises Refused where a job that fails could not be taken back, as the disk is in use now."""
    check_leavable(disk)
    found = mounts.mounts(disk)
    for mount in found:
        if mount.where == "/":
            raise Refused(f"{disk} holds this host's root file system, which can't be unmounted")
        who = in_the_way(mount, disk)
        if who:
            raise Refused(
                f"{mount.where} is in use, so that {disk} could not be taken back: {_named(who)}",
                "end what holds it, then repeat; nothing was done",
            )
    away = namespaces(disk)
    if away:
        raise Refused(
            f"{disk} is mounted out of reach, in a container or another mount namespace: {_named(away)}",
            "unmount it there, then repeat; nothing was done",
        )


def check_left(disk: str) -> None:
    """Raises Refused if the disk is in use although all was unmounted: somewhere out of sight."""
    _check_writers(disk)
    for name in mounts.parts(disk):
        if stack.number(name) and not stack.holders(name):
            _check_claimed(disk, stack.node(name))


def _check_claimed(disk: str, node: str) -> None:
    begin = time.monotonic()
    while True:
        try:
            os.close(os.open(node, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                return
        if time.monotonic() - begin > PATIENCE:
            away = namespaces(disk)
            raise Refused(
                f"{node} is still in use: " + (_named(away) or "the kernel does not say by what"),
                "look at lsblk, and for containers that have it mounted; then repeat",
            )
        time.sleep(0.2)


def unmount(mount: Mount, disk: str) -> None:
    """Raises Refused with who holds it, where it is busy."""
    try:
        mounts.unmount(mount)
    except Refused as refused:
        who = in_the_way(mount, disk)
        if not who:
            raise
        raise Refused(
            f"{mount.where} can't be unmounted: it is held by {_named(who)}", refused.hint
        ) from None


def in_the_way(mount: Mount, disk: str) -> list[str]:
    """What keeps a mount from being unmounted, in words."""
    try:
        device = os.stat(mount.where).st_dev
    except OSError:
        return []
    found = [str(one) for one in processes.holders(mount.where)]
    found += [f"swap file {path}" for path in _swaps() if _device_of(path) == device]
    found += [f"{n}, of {p}" for n, p in _loops() if _device_of(p) == device]
    found += [f"{path}, mounted below it" for path in mounts.nested([mount.where], disk)]
    found += [f"the NFS export {path}" for path in _exports() if _device_of(path) == device]
    return found


def namespaces(disk: str) -> list[str]:
    """Processes in whose mount namespace the disk is mounted so that an umount here is not felt."""
    numbers = mounts.devices(disk)
    here = _namespace("self")
    lines = mounts.table()
    groups = {tag.partition(":")[2] for line in lines for tag in line.propagation if ":" in tag}
    found: dict[str, str] = {}
    for process in processes.processes():
        space = _namespace(process.name)
        if space in ("", here) or space in found:
            continue
        found[space] = ""
        try:
            there = mounts.table(process.name)
            name = (process / "comm").read_text().strip()
        except OSError:
            continue
        by_number = {line.number: line for line in there}
        for line, _ in mounts.on(there, numbers):
            parent = by_number.get(line.parent)
            tags = parent.propagation if parent else ()
            if not groups.intersection(tag.partition(":")[2] for tag in tags if ":" in tag):
                found[space] = f"{name} (pid {process.name}, {line.where})"
                break
    return [text for text in found.values() if text]


def _namespace(process: str) -> str:
    try:
        return os.readlink(PROC / process / "ns/mnt")
    except OSError:
        return ""


def _check_swap(disk: str) -> None:
    numbers = mounts.devices(disk)
    names = mounts.parts(disk)
    for path in _swaps():
        try:
            info = os.stat(path)
            number = f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
        except OSError:
            number = ""
        if number in numbers or os.path.basename(os.path.realpath(path)) in names:
            raise Refused(f"{disk} is used as swap space: {path}", f"swapoff {path}")


def _check_writers(disk: str) -> None:
    who = processes.writers(mounts.devices(disk))
    if who:
        raise Refused(
            f"{disk} is open for writing: {_named([str(one) for one in who])}",
            "end what writes to it, then repeat",
        )
    for name, path in _loops():
        try:
            info = os.stat(path)
        except OSError:
            continue
        if f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}" in mounts.devices(disk):
            raise Refused(f"{name} stands on {path}", f"losetup -d {name}")


def _swaps() -> list[str]:
    try:
        lines = (PROC / "swaps").read_text().splitlines()[1:]
    except OSError:
        return []
    return [mounts.unescape(line.split()[0]) for line in lines if line.strip()]


def _loops() -> list[tuple[str, str]]:
    """Loop devices that are set up, and their files."""
    found = []
    for file in sorted((stack.SYS / "block").glob("loop*/loop/backing_file")):
        try:
            found.append((f"/dev/{file.parts[-3]}", file.read_text().strip()))
        except OSError:
            continue
    return found


def _exports() -> list[str]:
    try:
        lines = (PROC / "fs/nfsd/exports").read_text().splitlines()
    except OSError:
        return []
    return [mounts.unescape(line.split()[0]) for line in lines if line and line[0] == "/"]


def _device_of(path: str) -> int:
    try:
        return Path(path).stat().st_dev
    except OSError:
        return -1


def _named(who: list[str]) -> str:
    more = f" and {len(who) - NAMED} more" if len(who) > NAMED else ""
    return ", ".join(who[:NAMED]) + more
