"""LIO and rings for a daemon that has no rights to them: what changes them is asked of the service that has.

What can be read by anyone is read here.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from targetplugin.errors import Refused
from targetplugin.kernel import asked
from targetplugin.kernel.hotplug import Hotplug, Ring
from targetplugin.kernel.lio import Initiator, Lio
from targetplugin.service.asking import PATIENCE, Asker

UNIT = "targetplugin-lio"
LONGEST = 60.0  # seconds for an answer: the kernel may wait for hosts meanwhile
BRIEF = 5.0  # for what is not worth a longer wait

log = logging.getLogger(__name__)


class _Host(Protocol):
    @property
    def iqn(self) -> str: ...
    @property
    def user(self) -> str: ...
    @property
    def password(self) -> str: ...


class Service:
    """Where requests go.

    Args:
        path: of the service's socket.
        patience: seconds to ask again while nobody is there.
    """

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self.path = path
        self._asker = Asker(path, UNIT, "may change LIO", patience)

    def ask(self, request: asked.AnyRequest, longest: float = LONGEST) -> asked.Answer:
        """The answer to a request with which no descriptor comes. Raises Refused."""
        return self._asker.ask(asked.line(request), _read, longest)[0]

    def ask_for_one(self, request: asked.AnyRequest) -> tuple[asked.Answer, int]:
        """The answer, and the descriptor that comes with it. Raises Refused."""
        answer, descriptors = self._asker.ask(asked.line(request), _read, LONGEST, 1)
        if len(descriptors) != 1:
            raise self._asker.trouble("it handed no descriptor over")
        return answer, descriptors[0]


def _read(line: bytes) -> asked.Answer:
    return asked.told(asked.answer(line))


class RemoteLio:
    """As kernel.lio.Lio.

    Args:
        service: is asked for what changes anything.
        lio: what is read from configfs is read with it.
    """

    def __init__(self, service: Service, lio: Lio) -> None:
        self._service = service
        self._lio = lio

    def ensure_storage_object(
        self, name: str, volume: str, size: int, serial: str, block_size: int = 512
    ) -> bool:
        if volume != serial or block_size not in (512, 4096):
            raise ValueError(
                "a storage object's serial is its volume's identity; blocks: 512, 4096"
            )
        blocks: asked.Block = 4096 if block_size == 4096 else 512
        request = asked.EnsureStorageObject(name, volume, size, blocks)
        return self._service.ask(request).changed

    def check_made_by_name(self, name: str, size: int, block_size: int) -> None:
        self._lio.check_made_by_name(name, size, block_size)

    def storage_object(self, name: str) -> str | None:
        return self._lio.storage_object(name)

    def remove_storage_object(self, name: str) -> None:
        self._service.ask(asked.RemoveStorageObject(name))

    def standing(self, target: str) -> tuple[int, ...]:
        return self._lio.standing(target)

    def portals(self, named: Sequence[str] | None) -> list[str]:
        return self._lio.portals(named)

    def reset_ring(self, name: str) -> None:
        self._service.ask(asked.ResetRing(name))

    def free_buffers(self, name: str, command: int) -> None:
        try:
            self._service.ask(asked.FreeBuffers(name, command), BRIEF)
        except Refused as refused:
            log.warning("the buffers of command %d of %s: %s", command, name, refused.message)

    def grow(self, name: str, size: int) -> None:
        self._service.ask(asked.Grow(name, size))

    def unblock(self, name: str) -> None:
        self._service.ask(asked.Unblock(name))

    def ensure_export(
        self, name: str, target: str, portals: Sequence[str], initiators: Sequence[_Host]
    ) -> bool:
        hosts = [Initiator(host.iqn, host.user, host.password) for host in initiators]
        request = asked.EnsureExport(name, target, list(portals), hosts)
        return self._service.ask(request).changed

    def remove_export(self, target: str) -> None:
        self._service.ask(asked.RemoveExport(target))

    def logged_in(self, target: str) -> set[str]:
        return self._lio.logged_in(target)

    def restoring(self) -> bool:
        """Where nobody tells, it may be: nothing is made then."""
        try:
            return self._service.ask(asked.Restoring()).changed
        except Refused as refused:
            log.warning("whether LIO is being restored is not known: %s", refused.message)
            return True


class RemoteRings:
    """As kernel.hotplug.Hotplug, to open rings with: it waits for one here, and has it opened there."""

    def __init__(self, service: Service, hotplug: Hotplug) -> None:
        self._service = service
        self._hotplug = hotplug

    def open(self, name: str, timeout: float = 10.0) -> tuple[int, int]:
        ring: Ring = self._hotplug.wait(name, timeout)
        answer, descriptor = self._service.ask_for_one(asked.OpenRing(ring.name))
        return descriptor, answer.length
