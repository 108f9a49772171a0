"""What LIO tells of user-backed storage objects on netlink: a listener, for the kernel wants one.

When rtslib restores a configuration it sets each attribute, also those that are right; three of a
user-backed object the kernel takes only where somebody hears of it. Nothing is ever answered: whether the
kernel waits for answers is one switch for all handlers of the machine, and another's.

Source: uapi/linux/target_core_user.h, uapi/linux/genetlink.h, and target_core_user.c of Linux 6.1.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from targetplugin.kernel import netlink
from targetplugin.kernel.tcmu import SUBTYPE, parse_name

REFUSED_WITHIN = 1.0  # seconds that another handler takes at most to refuse a storage object

log = logging.getLogger(__name__)

_FAMILY, _GROUP = "TCM-USER", "config"
_GENERIC = struct.Struct("=BBH")  # command, version, reserved
_CONTROLLER, _GETFAMILY, _NEWFAMILY = 16, 3, 1
_FAMILY_NAME, _GROUPS, _GROUP_NAME, _GROUP_ID = 2, 7, 1, 2  # CTRL_ATTR_*, CTRL_ATTR_MCAST_GRP_*
_ADDED, _RECONFIGURED = 1, 3  # TCMU_CMD_ADDED_DEVICE, TCMU_CMD_RECONFIG_DEVICE
_DEVICE, _SIZE = 1, 5  # TCMU_ATTR_*
_NETLINK_GENERIC, _SOL_NETLINK, _ADD_MEMBERSHIP = 16, 270, 1


class Resized(Struct, frozen=True):
    """Somebody set the size that LIO shows of a storage object of ours: bytes."""

    name: str
    size: int


class Made(Struct, frozen=True):
    """A storage object of ours is being made. It comes to nothing where another handler refuses it."""

    name: str


class TcmuEvents:
    """Listens from `start` on, on a thread of its own.

    Args:
        on_resized: is told at once.
        on_made: is told when another handler has had its time to refuse it.
    """

    def __init__(
        self, on_resized: Callable[[Resized], None], on_made: Callable[[Made], None]
    ) -> None:
        self._on_resized = on_resized
        self._on_made = on_made
        self._made: deque[tuple[float, Made]] = deque()  # and when they are told
        self._socket: socket.socket | None = None
        self._ending = os.eventfd(0)
        self._thread = threading.Thread(target=self._listen, name="tcmu-events", daemon=True)

    def start(self) -> None:
        """Where the kernel has no such group, or lets nobody join it, that is logged and all."""
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_GENERIC)
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _group(self._socket))
        except OSError as error:
            log.info("LIO's events are not listened to: %s", error.strerror or error)
        else:
            self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            os.eventfd_write(self._ending, 1)
            self._thread.join()
        if self._socket is not None:
            self._socket.close()

    def _listen(self) -> None:
        assert self._socket is not None
        while True:
            wait = max(0.0, self._made[0][0] - time.monotonic()) if self._made else None
            ready, _, _ = select.select([self._socket.fileno(), self._ending], [], [], wait)
            if self._ending in ready:
                return
            if ready:
                self._take(self._socket)
            while self._made and self._made[0][0] <= time.monotonic():
                self._tell(self._made.popleft()[1])

    def _take(self, there: socket.socket) -> None:
        try:
            data = there.recv(netlink.PIECE)
        except OSError:  # ENOBUFS: more came than there was room for
            return
        for event in events(data):
            if isinstance(event, Resized):
                self._tell(event)
            else:
                self._made.append((time.monotonic() + REFUSED_WITHIN, event))

    def _tell(self, event: Resized | Made) -> None:
        try:
            if isinstance(event, Resized):
                self._on_resized(event)
            else:
                self._on_made(event)
        except Exception:
            log.exception("what LIO told of %s could not be looked at", event.name)


def events(data: bytes) -> list[Resized | Made]:
    """What a message of the group says of our objects."""
    found: list[Resized | Made] = []
    for _, message in netlink.parts(data, netlink.HEAD):
        told = dict(netlink.parts(message[_GENERIC.size :], netlink.ATTRIBUTE))
        parsed = parse_name(_text(told.get(_DEVICE, b"")))
        if not parsed or parsed[2].split("/")[0] != SUBTYPE:
            continue
        if message[0] == _ADDED:
            found.append(Made(parsed[1]))
        elif message[0] == _RECONFIGURED and len(told.get(_SIZE, b"")) == 8:
            found.append(Resized(parsed[1], int(struct.unpack("=Q", told[_SIZE])[0])))
    return found


def _group(asked: socket.socket) -> int:
    """The number of TCMU's group, as this kernel has it."""
    body = _GENERIC.pack(_GETFAMILY, 1, 0)
    body += netlink.attribute(_FAMILY_NAME, _FAMILY.encode() + b"\0")
    for _, message in netlink.ask(asked, _CONTROLLER, 0, body):
        told = dict(netlink.parts(message[_GENERIC.size :], netlink.ATTRIBUTE))
        for _, group in netlink.parts(told.get(_GROUPS, b""), netlink.ATTRIBUTE):
            one = dict(netlink.parts(group, netlink.ATTRIBUTE))
            if _text(one.get(_GROUP_NAME, b"")) == _GROUP:
                return int(struct.unpack("=I", one[_GROUP_ID])[0])
    raise OSError(f"the kernel has no group {_GROUP} of {_FAMILY}")


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
