"""Finds the uio device of a TCMU storage object, and tells of rings and disks that come and go.

The only importer of pyudev. Opens rings; must not read or write what is in them.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pyudev
from msgspec import Struct

from targetplugin.errors import Reason, Refused

from .tcmu import SUBTYPE, parse_name


class Ring(Struct, frozen=True):
    """The uio device of one storage object."""

    node: Path  # /dev/uioN
    hba: int  # N of configfs' user_N
    name: str  # the storage object's
    config: str  # <subtype>/<the rest>
    map_length: int  # bytes to map, at offset 0


class RingChange(Struct, frozen=True):
    """A storage object's uio device was made (`present`) or taken away."""

    name: str
    config: str
    present: bool


class DiskChange(Struct, frozen=True):
    """A block device was plugged in (`present`) or taken away."""

    node: str  # /dev/vdb
    links: frozenset[str]  # its names under /dev/disk
    present: bool


def open_ring(ring: Ring) -> tuple[int, int]:
    """See Hotplug.open."""
    try:
        return os.open(ring.node, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK), ring.map_length
    except OSError as error:
        hint = "See what `dmesg` says of it."
        if isinstance(error, PermissionError):
            hint = "Run as root."
        elif error.errno == 16:  # EBUSY: a uio device of TCMU has one opener
            hint = f"Another handler has it open: `fuser {ring.node}` says which; stop that."
        raise Refused(
            Reason.ENVIRONMENT,
            f"{ring.node}, the ring of {ring.name}, can't be opened: {error.strerror}.",
            object=ring.name,
            hint=hint,
        ) from error


class Hotplug:
    """Looks devices up in sysfs and, once `watch` was called, reports udev's events.

    Args:
        sysfs: where sysfs is mounted.
        dev: where device nodes are.
    """

    def __init__(self, sysfs: Path = Path("/sys"), dev: Path = Path("/dev")) -> None:
        self._sysfs = sysfs
        self._dev = dev
        self._names: dict[str, tuple[str, str]] = {}  # uioN -> storage object, configuration
        self._observer: pyudev.MonitorObserver | None = None

    def rings(self) -> list[Ring]:
        """All uio devices of storage objects that carry our subtype."""
        found = []
        for entry in sorted((self._sysfs / "class" / "uio").glob("uio*")):
            ring = self._ring(entry)
            if ring and ring.config.split("/")[0] == SUBTYPE:
                found.append(ring)
        return found

    def find(self, name: str) -> Ring | None:
        """The uio device of the storage object `name`, if there is one now."""
        return next((ring for ring in self.rings() if ring.name == name), None)

    def wait(self, name: str, timeout: float = 10.0) -> Ring:
        """The uio device of `name`, waiting up to `timeout` seconds for udev to announce it.

        Raises:
            Refused: ENVIRONMENT if none came.
        """
        ring = self.find(name)
        if ring:
            return ring
        monitor = pyudev.Monitor.from_netlink(pyudev.Context())
        monitor.filter_by("uio")
        monitor.start()
        came = threading.Event()
        observer = pyudev.MonitorObserver(monitor, callback=lambda _: came.set(), name="uio-wait")
        observer.start()
        try:
            ring = self.find(name)  # it may have come before the monitor listened
            if not ring and came.wait(timeout):
                ring = self.find(name)
        finally:
            observer.stop()
        if ring:
            return ring
        raise Refused(
            Reason.ENVIRONMENT,
            f"The kernel made no uio device for {name} within {timeout:.0f} s.",
            object=name,
            hint="Look at `dmesg` for target_core_user, and whether systemd-udevd runs.",
        )

    def open(self, name: str, timeout: float = 10.0) -> tuple[int, int]:
        """The open descriptor of the ring of `name`, and its map's length in bytes.

        Raises:
            Refused: ENVIRONMENT if there is none, or if another process serves it.
        """
        return open_ring(self.wait(name, timeout))

    def watch(
        self,
        on_ring: Callable[[RingChange], None] | None = None,
        on_disk: Callable[[DiskChange], None] | None = None,
    ) -> None:
        """Reports changes from now on, on one thread of its own, in their order."""
        monitor = pyudev.Monitor.from_netlink(pyudev.Context())
        if on_ring:
            monitor.filter_by("uio")
        if on_disk:
            monitor.filter_by("block")
        monitor.start()
        for ring in self.rings():  # a device's name can't be read any more when it is gone
            self._names[ring.node.name] = (ring.name, ring.config)

        def report(device: pyudev.Device) -> None:
            if device.subsystem == "uio" and on_ring:
                change = self._ring_change(device.action, device.sys_name)
                if change:
                    on_ring(change)
            elif device.subsystem == "block" and on_disk and device.action in ("add", "remove"):
                links = frozenset(device.device_links)
                on_disk(DiskChange(device.device_node or "", links, device.action == "add"))

        self._observer = pyudev.MonitorObserver(monitor, callback=report, name="hotplug")
        self._observer.start()

    def close(self) -> None:
        """Ends the reports."""
        if self._observer:
            self._observer.stop()
            self._observer = None

    def _ring_change(self, action: str, uio: str) -> RingChange | None:
        if action == "add":
            ring = self._ring(self._sysfs / "class" / "uio" / uio)
            if ring and ring.config.split("/")[0] == SUBTYPE:
                self._names[uio] = (ring.name, ring.config)
                return RingChange(ring.name, ring.config, present=True)
        elif action == "remove" and uio in self._names:
            name, config = self._names.pop(uio)
            return RingChange(name, config, present=False)
        return None

    def _ring(self, entry: Path) -> Ring | None:
        with contextlib.suppress(FileNotFoundError, OSError):  # it may vanish while it is read
            parsed = parse_name((entry / "name").read_text())
            if parsed:
                hba, name, config = parsed
                length = int((entry / "maps" / "map0" / "size").read_text(), 0)
                return Ring(self._dev / entry.name, hba, name, config, length)
        return None
