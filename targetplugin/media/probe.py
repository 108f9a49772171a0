"""What is on a file or block device that we did not put there, and who uses it.

Reads only; opens nothing for writing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from targetplugin.errors import Reason, Refused
from targetplugin.media import device
from targetplugin.media.by_path import Seen, by_path, found
from targetplugin.media.discover import peek
from targetplugin.media.layout import layout
from targetplugin.media.trailer import Role
from targetplugin.media.uses import Finding
from targetplugin.qemu import running

_EDGE = 1 << 20  # how much of each end must be zeros
_SAMPLES = 128  # pages between the ends that must be too, spread evenly: all would take hours
_PAGE = 4096
_PATIENCE = 60  # seconds for wipefs on a slow disk


def check(path: str, *, force: bool = False) -> None:
    """Returns where the disk may be taken. A path that is not there yet may.

    Raises:
        Refused: DATA, with the findings in its message and the next step in its hint.
    """
    if by_path().look(path) is None:
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
        seen = found(path)
        used = by_path().uses(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    return [*used, *_partitions(path, seen), *([] if used else _content(path))]


# --- who uses it: never forced --------------------------------------------------------------------


def _partitions(path: str, seen: Seen) -> Iterator[Finding]:
    partitions = device.partitions(seen.number) if seen.kind == "block" else {}
    if partitions:
        yield Finding(
            f"it has partitions: {', '.join(partitions)}",
            False,
            f"give one of them, or delete them with wipefs --all {path}, and repeat",
        )


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
        fd = by_path().read(path, direct=False)
    except OSError as error:
        raise _unreadable(path, error) from error
    try:
        words = ["wipefs", "--no-act", "--json", running.place(fd)]
        done = running.ended(words, fd, seconds=_PATIENCE)
    except Refused as refused:
        message = f"{path} can't be looked at: {refused.message}"
        raise Refused(refused.reason, message, object=path, hint=refused.hint) from refused
    finally:
        os.close(fd)
    try:
        if done.status:
            raise ValueError(done.status)
        found = json.loads(done.output)["signatures"] if done.output.strip() else []
        return [(str(one["type"]), str(one["offset"])) for one in found]
    except (ValueError, KeyError, TypeError) as error:
        told = done.complaint.decode(errors="replace").strip().rpartition("\n")[2]
        raise Refused(
            Reason.ENVIRONMENT,
            f"{path} can't be looked at: {told or 'wipefs failed'}",
            object=path,
            hint=f"see what `wipefs --no-act {path}` says",
        ) from error


def _data(path: str, *, without_trailer: bool) -> tuple[bool, bool, int | None]:
    """Whether the first and the last MiB hold anything but zeros, and where a page between them does."""
    fd = by_path().read(path, direct=False)
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
