"""Disks that could be given as media: who uses them, what is on them, whether they are large enough.

Opens nothing for writing, and nothing exclusively.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from targetplugin.doctor.finding import Finding, ok, problem, warning
from targetplugin.doctor.machine import Machine
from targetplugin.errors import Refused
from targetplugin.media import device, probe
from targetplugin.media.by_path import by_path
from targetplugin.media.layout import layout
from targetplugin.media.names import stable_path

_NO_DISKS = ("loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd")
_WITHOUT = "Add a disk; or try it with a sparse file: targetplugin media add /srv/spare --size 1G"
GIB = 1 << 30


def look(machine: Machine, named: Sequence[str], size: int | None) -> Iterator[Finding]:
    """Args:
    named: disks that are to be given; none: all that this machine has, in one line.
    size: bytes of a volume that is to fit on each.
    """
    if not machine.is_root:
        return
    for path in named:
        yield one_disk(path, size)
    if not named:
        yield _all(machine, size)


def one_disk(path: str, size: int | None) -> Finding:
    """Whether media add would take it."""
    if not os.path.isabs(path):
        return problem("disk", f"{path!r} is not an absolute path.", "Give the path from /.")
    try:
        found = (by_path().uses(path) if os.path.exists(path) else []) or probe.findings(path)
        room = 0 if found else _room(path)
        if not found:
            layout(room, name=path)
    except Refused as refused:
        hint = refused.hint or "see the disks: ls /dev/disk/by-id"
        return problem("disk", f"{refused.message}.", hint)
    except OSError as error:
        return problem("disk", f"{path} can't be opened: {error.strerror}.", "Run it as root.")
    if found:
        why = "; ".join(one.what for one in found[:3])
        return problem("disk", f"{path} would not be taken: {why}.", found[0].hint)
    fits = layout(room, name=path).data_size
    if size is not None and fits < size:
        return problem(
            "disk",
            f"{path} is too small: a volume of {fits} bytes fits on it, not one of {size}.",
            "Take a larger disk, or make the volume smaller.",
        )
    return ok(
        "disk",
        f"{path} holds nothing; volumes of up to {fits / GIB:.2f} GiB fit on it.",
        f"targetplugin media add {stable_path(path)}",
    )


def _all(machine: Machine, size: int | None) -> Finding:
    names = [
        name
        for name in sorted(os.listdir("/sys/block"))
        if not name.startswith(_NO_DISKS) and machine.text(f"/sys/block/{name}/size") != "0"
    ]
    looked = [(name, one_disk(f"/dev/{name.replace('!', '/')}", size)) for name in names]
    free = [one.next.rpartition(" ")[2] for _, one in looked if one.level.value == "ok"]
    if free:
        return ok(
            "disks",
            f"{len(free)} of {len(looked)} disks hold nothing: {', '.join(free)}.",
            f"targetplugin media add {free[0]}",
        )
    seen = " ".join(one.what for _, one in looked[:3]) or "There is no disk."
    return warning("disks", f"No disk here could be given as it is. {seen}", _WITHOUT)


def _room(path: str) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return device.size(fd)
    finally:
        os.close(fd)
