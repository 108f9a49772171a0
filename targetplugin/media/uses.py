"""Who has a file or block device: mounts, swap space, what is built on it. As this process sees the machine.

Reads nothing from it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from msgspec import Struct

from targetplugin.media import device

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


def uses(path: str) -> list[Finding]:
    """None of them can be forced. Raises OSError."""
    return [*(_block_uses(path) if stat.S_ISBLK(os.stat(path).st_mode) else _file_uses(path))]


def _block_uses(path: str) -> Iterator[Finding]:
    number = os.stat(path).st_rdev
    yield from _uses_of(os.path.basename(os.path.realpath(path)), number)
    for name, part in device.partitions(number).items():
        yield from _uses_of(name, part)


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
