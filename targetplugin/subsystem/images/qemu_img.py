"""Images: running qemu-img to fill a medium, to write a backup and to compare both, no faster than
it may.

Files are opened by chain.py and given to qemu-img as descriptors, so that the content of an image
can name no other file. Knows descriptors and paths; no save, volume or catalog.
"""

from __future__ import annotations

import json
import os
import re
import select
import threading
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from targetplugin.errors import Reason, Refused
from targetplugin.media.by_path import by_path
from targetplugin.qemu import running
from targetplugin.qemu.launch import Launched
from targetplugin.subsystem.images import qcow2
from targetplugin.subsystem.images.chain import FORMATS, Image, open_image
from targetplugin.subsystem.images.pace import Pace
from targetplugin.subsystem.images.qcow2 import Stamp, refuse

__all__ = [
    "FORMATS",
    "Image",
    "Offered",
    "Place",
    "Run",
    "Stopped",
    "Target",
    "fill",
    "look",
    "same",
    "write",
]

_PROGRESS = re.compile(rb"\(\s*([0-9.]+)/100%\)")
_TICK, _IDLE_TICK = 0.01, 0.25  # seconds between two looks at a run with a limit, and without


class Stopped(Exception):
    """The run was aborted by whoever asked for it."""


class Target(Struct, frozen=True):
    """A medium as qemu-img sees it: the first `size` bytes behind an open descriptor."""

    descriptor: int
    size: int
    block_device: bool
    direct: bool


class Offered(Struct, frozen=True):
    """What is read at the other end of a socket that is open here; see nbd.py."""

    descriptor: int
    size: int


Place = Target | Offered


def _window(place: Place) -> str:
    """A place as qemu-img is told of it; its descriptor is passed on under the same number."""
    if isinstance(place, Offered):
        server = {"type": "fd", "str": str(place.descriptor)}
        return "json:" + json.dumps({"driver": "nbd", "server": server})
    node = {
        "driver": "raw",
        "offset": 0,
        "size": place.size,
        "file": {
            "driver": "host_device" if place.block_device else "file",
            "filename": running.place(place.descriptor),
            "cache": {"direct": place.direct},
        },
    }
    return "json:" + json.dumps(node)


def look(path: str, format: str | None = None) -> Image:
    """What an image is; it stays open, and is the caller's to close.

    Args:
        format: "raw" or "qcow2"; None: by its first bytes.
    Raises:
        Refused: as open_image; or qemu-img can't open it.
    """
    image = open_image(path, format)
    try:
        alone = image.opened(only=0)  # qemu-img info takes nothing below it
        facts: dict[str, Any] = json.loads(
            _run(["qemu-img", "info", "--output=json", "-U", alone], *image.descriptors)
        )
    except Refused as refused:
        image.close()
        told = refused.message.rpartition("': ")[2]  # not the long name that it was given
        raise refuse(path, f"can't be opened: {told}", refused.hint, refused.reason) from refused
    image.size = int(facts["virtual-size"])
    return image


def _run(command: list[str], *descriptors: int) -> bytes:
    done = running.ended(command, *descriptors)
    if done.status:
        raise _failed(command, done.status, done.complaint)
    return done.output


def _failed(command: list[str], code: int, told: bytes) -> Refused:
    last = told.decode(errors="replace").strip().splitlines()[-1:] or [f"it ended with {code}"]
    return Refused(
        Reason.ENVIRONMENT,
        f"{' '.join(command[:2])} failed: {last[0]}",
        hint="check the image and the disk that it is on",
    )


class Run:
    """One run of work on images that can be followed, slowed down and stopped.

    Attributes:
        pace: how fast it may be; can be changed at any time.
    """

    def __init__(self, rate: int | None = None) -> None:
        self.pace = Pace(rate)
        self._launched: Launched | None = None
        self._stopped = threading.Event()

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def stop(self) -> None:
        """Ends what runs, and lets nothing start any more; the one who waits gets Stopped."""
        self._stopped.set()
        launched = self._launched
        if launched is not None:
            launched.end()

    def moved(self, count: int) -> None:
        """So many bytes were moved here; waits until more may be. Raises Stopped."""
        self.pace.took(count)
        while not self._stopped.is_set() and (owed := self.pace.owed()):
            self._stopped.wait(min(owed, _IDLE_TICK))
        if self._stopped.is_set():
            raise Stopped

    def follow(
        self,
        command: list[str],
        progress: Callable[[float], None],
        *descriptors: int,
        fine: tuple[int, ...] = (0, 1),
        sides: int = 1,
    ) -> int:
        """Runs a command of qemu-img with -p. Returns its exit status; progress gets 0.0 to 1.0.

        It dies with this process.

        Args:
            fine: the exit statuses that are answers; others are failures.
            sides: how many disks of the same size it reads: what it moves is a part of that.
        """
        self.moved(0)  # what came before may be owed still
        with running.launched(command, descriptors) as (launched, output, complaints):
            self._launched = launched
            if self._stopped.is_set():
                launched.end()
            held = _Held(launched, self.pace, sides)
            while True:
                wait = _TICK if self.pace.rate else _IDLE_TICK
                if select.select([output], [], [], wait)[0]:
                    told = os.read(output.fileno(), 4096)
                    if not told:
                        break
                    found = _PROGRESS.findall(told)
                    if found:
                        progress(float(found[-1]) / 100)
                held.look(self._stopped.is_set())
            complaint = complaints.read()
            self._launched = None
            status = launched.wait()
        if self._stopped.is_set():
            raise Stopped
        if status not in fine or (status == 1 and complaint):
            raise _failed(command, status, complaint)
        return status


class _Held:
    """Lets a process go on only as fast as it may: it is stopped while it is ahead of its pace."""

    def __init__(self, launched: Launched, pace: Pace, sides: int) -> None:
        self._launched = launched
        self._pace = pace
        self._sides = sides
        self._seen = 0
        self._held = False

    def look(self, ends: bool) -> None:
        """Call it every few milliseconds. `ends`: it is to end, and is held no more."""
        moved = self._launched.moved() // self._sides
        self._pace.took(max(0, moved - self._seen))
        self._seen = moved
        hold = self._pace.owed() > 0 and not ends
        if hold != self._held:
            self._held = hold
            self._launched.hold(hold)


def fill(run: Run, image: Image, target: Target, progress: Callable[[float], None]) -> None:
    """Writes the image's disk onto the medium from offset 0; what lies behind it is not touched."""
    window = _window(replace(target, size=image.size))
    run.follow(
        ["qemu-img", "convert", "-p", "-n", "-U", "-O", "raw", image.opened(), window],
        progress,
        target.descriptor,
        *image.descriptors,
    )


def check(run: Run, image: Image, *, below: bool = True) -> None:
    """Reads the tables of each file of the image; without `below`, of the first alone.

    Raises:
        Refused: DATA, one is damaged, or ends before what they name.
    """
    for number, link in enumerate(image.links):
        if link.format != "qcow2" or (number and not below):
            continue
        command = ["qemu-img", "check", "-q", "-U", image.opened(only=number)]
        answer = run.follow(command, lambda _: None, *image.descriptors, fine=(0, 2, 3))
        if answer == 2:  # 3 is room that is lost, and no data
            raise refuse(f"{image.folder}/{link.name}", "is damaged or truncated")


def write(
    run: Run,
    source: Place,
    path: str,
    format: str,
    progress: Callable[[float], None],
    stamped: Stamp | None = None,
) -> None:
    """Writes what is there to a new image, with a stamp or without; on stable storage when it returns."""
    try:
        descriptor = by_path().part(path)
    except OSError as error:
        why = f"can't be written: {error.strerror}"
        raise refuse(path, why, "check the folder", Reason.ENVIRONMENT) from error
    try:
        place = running.place(descriptor)
        command = ["qemu-img", "convert", "-p", "-O", format, _window(source), place]
        run.follow(command, progress, source.descriptor, descriptor)
        if stamped is not None:
            stamp(descriptor, path, stamped)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stamp(descriptor: int, path: str, stamp: Stamp) -> None:
    """Writes a stamp into a qcow2 image that was just written and stands for itself; durable."""
    cluster = qcow2.read(descriptor, path).cluster
    first = os.pread(descriptor, cluster, 0)
    length = os.fstat(descriptor).st_size
    os.pwrite(descriptor, qcow2.stamped(first, replace(stamp, length=length), path), 0)
    os.fsync(descriptor)


def same(run: Run, image: Image, place: Place, progress: Callable[[float], None]) -> bool:
    """Whether what is there is the image's disk, followed by zeros."""
    command = ["qemu-img", "compare", "-p", "-U", image.opened(), _window(place)]
    sides = 2 if isinstance(place, Target) else 1  # what comes by a socket is not counted
    descriptors = (place.descriptor, *image.descriptors)
    return run.follow(command, progress, *descriptors, sides=sides) == 0
