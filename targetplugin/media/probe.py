"""What is on a file or block device that we did not put there, and who uses it.

Reads only; opens nothing for writing.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator

from msgspec import Struct

from targetplugin.errors import Reason, Refused
from targetplugin.media import device
from targetplugin.media.discover import peek
from targetplugin.media.layout import layout
from targetplugin.media.trailer import Role

_EDGE = 1 << 20  # how much of each end must be zeros
_SAMPLES = 128  # pages between the ends that must be too, spread evenly: all would take hours
_PAGE = 4096
_PATIENCE = 60  # seconds for wipefs on a slow disk
_ESCAPE = re.compile(r"\\([0-7]{3})")


class Finding(Struct, frozen=True):
    """One thing that stands against taking a disk.

    Attributes:
        what: as it goes after "because": "it is mounted at /srv".
        forcible: whether --force may go over it.
        hint: what to do.
    """

    what: str
    forcible: bool = True
    hint: str = "look at what is on it; repeat with --force to overwrite it"


def check(path: str, *, force: bool = False) -> None:
    """Returns where the disk may be taken. A path that is not there yet may.

    Raises:
        Refused: DATA, with the findings in its message and the next step in its hint.
    """
    if not os.path.lexists(path):
        return
    found = [finding for finding in findings(path) if not (force and finding.forcible)]
    if found:
        raise Refused(
            Reason.DATA,
            f"{path} is not taken, because {'; '.join(finding.what for finding in found[:3])}",
            object=path,
            hint=found[0].hint,
        )


def findings(path: str) -> list[Finding]:
    """All that is found, what can't be forced first.

    Raises:
        Refused: NOT_FOUND; USAGE, neither file nor block device; ENVIRONMENT, unreadable.
    """
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        raise Refused(Reason.NOT_FOUND, f"{path} is not there", object=path) from None
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISBLK(mode) and not stat.S_ISREG(mode):
        raise Refused(
            Reason.USAGE,
            f"{path} is neither a file nor a block device",
            object=path,
            hint="give a disk, a partition, a logical volume or a file",
        )
    return [*uses(path), *_partitions(path), *_content(path)]


# --- who uses it: never forced --------------------------------------------------------------------


def uses(path: str) -> list[Finding]:
    """Who has a file or block device, as far as can be seen without reading from it."""
    return [*(_block_uses(path) if stat.S_ISBLK(os.stat(path).st_mode) else _file_uses(path))]


def _block_uses(path: str) -> Iterator[Finding]:
    number = os.stat(path).st_rdev
    yield from _uses_of(os.path.basename(os.path.realpath(path)), number)
    for name, part in device.partitions(number).items():
        yield from _uses_of(name, part)


def _partitions(path: str) -> Iterator[Finding]:
    found = os.stat(path)
    partitions = device.partitions(found.st_rdev) if stat.S_ISBLK(found.st_mode) else {}
    if partitions:
        yield Finding(
            f"it has partitions: {', '.join(partitions)}",
            False,
            f"give one of them, or delete them with wipefs --all {path}, and repeat",
        )


def _uses_of(name: str, number: int) -> Iterator[Finding]:
    for place in _mounts(number):
        yield Finding(f"{name} is mounted at {place}", False, f"umount {place}, and repeat")
    for swap in _swaps():
        if _number(swap) == number:
            yield Finding(f"{name} is swap space", False, f"swapoff {swap}, and repeat")
    for holder in device.holders(number):
        yield Finding(
            f"{name} is part of {holder}", False, f"take {holder} down (lsblk shows it), and repeat"
        )


def _file_uses(path: str) -> Iterator[Finding]:
    for swap in _swaps():
        if os.path.exists(swap) and os.path.samefile(swap, path):
            yield Finding("it is swap space", False, f"swapoff {swap}, and repeat")
    for name in sorted(os.listdir("/sys/block")):
        try:
            with open(f"/sys/block/{name}/loop/backing_file") as file:
                backing = file.read().rstrip("\n")
        except OSError:
            continue
        if backing == os.path.realpath(path):
            yield Finding(
                f"it is behind /dev/{name}", False, f"losetup -d /dev/{name}, or give /dev/{name}"
            )


def _mounts(number: int) -> Iterator[str]:
    """Mount points of a block device (proc(5): mountinfo)."""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            device_number, place = left.split()[2], left.split()[4]
            # A file system of several devices (btrfs) has a number of its own; its source tells.
            source = _unescaped(right.split()[1])
            if device_number == f"{os.major(number)}:{os.minor(number)}" or (
                source.startswith("/dev/") and _number(source) == number
            ):
                yield _unescaped(place)


def _swaps() -> list[str]:
    try:
        with open("/proc/swaps") as file:
            return [_unescaped(line.split()[0]) for line in file.readlines()[1:] if line.strip()]
    except OSError:
        return []


def _unescaped(text: str) -> str:
    """proc(5) writes blanks and the like as three octal digits."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text)


def _number(path: str) -> int | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_rdev if stat.S_ISBLK(found.st_mode) else None


# --- what is on it: may be forced ----------------------------------------------------------------


def _content(path: str) -> Iterator[Finding]:
    try:
        ours = peek(path)
    except Refused as refused:
        ours = None
        yield Finding(refused.message, hint=refused.hint)
    if ours and ours.role is not Role.FREE:
        kind = {Role.LEG: "a leg", Role.STORE: "the store of saves without fill"}.get(
            ours.role, f"save {ours.generation} {ours.label}".strip()
        )
        yield Finding(
            f"it is {kind} of volume {ours.volume_name} ({ours.volume.hex()})",
            hint=f"release it where {ours.volume_name} is served; --force takes it and loses that",
        )
    for kind, where in signatures(path):
        yield Finding(f"it has the signature of {kind} at {where}")
    try:
        first, last, between = _data(path, without_trailer=ours is not None)
    except OSError as error:
        raise _unreadable(path, error) from error
    if first:
        yield Finding("its first MiB holds data")
    if last:
        yield Finding("its last MiB holds data")
    if between is not None:
        yield Finding(f"it holds data at {between:#x}")


def signatures(path: str) -> list[tuple[str, str]]:
    """File systems, partition tables, RAID and LVM members: (type, offset)."""
    try:
        done = subprocess.run(
            ["wipefs", "--no-act", "--json", path],
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            env={"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            check=True,
        )
        found = json.loads(done.stdout)["signatures"] if done.stdout.strip() else []
        return [(str(one["type"]), str(one["offset"])) for one in found]
    except FileNotFoundError as error:
        raise Refused(
            Reason.ENVIRONMENT,
            f"{path} can't be looked at: wipefs is not there",
            object=path,
            hint="install util-linux",
        ) from error
    except (subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        told = str(getattr(error, "stderr", None) or "").strip().rpartition("\n")[2]
        raise Refused(
            Reason.ENVIRONMENT,
            f"{path} can't be looked at: {told or 'wipefs failed'}",
            object=path,
            hint=f"see what `wipefs --no-act {path}` says",
        ) from error


def _data(path: str, *, without_trailer: bool) -> tuple[bool, bool, int | None]:
    """Whether the first and the last MiB hold anything but zeros, and where a page between them does."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = device.size(fd)
        end = layout(size).data_size if without_trailer else size
        last = max(0, end - _EDGE)
        apart = (last - _EDGE) // _SAMPLES // _PAGE * _PAGE
        pages = range(_EDGE, last, apart) if apart > 0 else range(0)
        return (
            any(os.pread(fd, min(_EDGE, end), 0)),
            any(os.pread(fd, end - last, last)),
            next((at for at in pages if any(os.pread(fd, _PAGE, at))), None),
        )
    finally:
        os.close(fd)


def _unreadable(path: str, error: OSError) -> Refused:
    return Refused(
        Reason.ENVIRONMENT,
        f"{path} can't be read: {error.strerror or error}",
        object=path,
        hint="look at the disk and at the kernel's log (dmesg)",
    )
