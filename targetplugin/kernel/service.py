"""The service that has root's rights to LIO and to rings, and does what the daemon asks with them.

It listens on a unix socket, to one user, and does one request a connection. It keeps no state, so it may be
killed and started again at any time. It reads no disk, and no host's command.
"""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Callable, Sequence

from targetplugin import logs
from targetplugin.errors import Reason, Refused
from targetplugin.kernel import asked
from targetplugin.kernel.hotplug import Hotplug, open_ring
from targetplugin.kernel.lio import Lio
from targetplugin.service import answering, program


class Performer:
    """Does requests, those that are about objects of ours."""

    def __init__(self, lio: Lio, hotplug: Hotplug) -> None:
        self._lio = lio
        self._hotplug = hotplug

    def perform(self, request: asked.AnyRequest) -> tuple[asked.Answer, list[int]]:
        """The answer, and the descriptors to hand over, which are the caller's to close. Raises Refused."""
        with logs.about(volume=getattr(request, "name", "").partition("@")[0]):
            return self._perform(request)

    def _perform(self, request: asked.AnyRequest) -> tuple[asked.Answer, list[int]]:
        changed = False
        match request:
            case asked.EnsureStorageObject(name, identity, size, block_size):
                if size % block_size:
                    raise Refused(
                        Reason.USAGE, f"{name} has no whole number of blocks.", object=name
                    )
                changed = self._lio.ensure_storage_object(
                    name, identity, size, identity, block_size
                )
            case asked.RemoveStorageObject(name):
                self._lio.remove_storage_object(name)
            case asked.ResetRing(name):
                self._lio.reset_ring(name)
            case asked.FreeBuffers(name, command):
                self._check_ours(name)
                self._lio.free_buffers(name, command)
            case asked.Grow(name, size):
                self._lio.grow(name, size)
            case asked.Unblock(name):
                self._lio.unblock(name)
            case asked.EnsureExport(name, target, portals, initiators):
                self._check_ours(name)
                changed = self._lio.ensure_export(name, target, portals, initiators)
            case asked.RemoveExport(target):
                self._lio.remove_export(target)
            case asked.Restoring():
                changed = self._lio.restoring()
            case asked.OpenRing(name):
                return self._open(name)
        return asked.Answer(changed), []

    def _check_ours(self, name: str) -> None:
        if self._lio.storage_object(name) is None:
            raise Refused(
                Reason.NOT_FOUND,
                f"There is no storage object {name} of targetplugin's.",
                object=name,
            )

    def _open(self, name: str) -> tuple[asked.Answer, list[int]]:
        ring = self._hotplug.find(name)
        if ring is None:
            raise Refused(
                Reason.NOT_FOUND, f"There is no ring of {name}, or it is not ours.", object=name
            )
        descriptor, length = open_ring(ring)
        return asked.Answer(length=length), [descriptor]


def converse(
    user: int, perform: Callable[[asked.AnyRequest], tuple[asked.Answer, list[int]]]
) -> Callable[[socket.socket], None]:
    """What answers a connection.

    Args:
        user: number of the one user that may ask.
        perform: as Performer.perform.
    """

    def performed(line: bytes, _: socket.socket) -> tuple[bytes, list[int]]:
        answer, descriptors = perform(asked.request(line))
        return asked.line(answer), descriptors

    return answering.converse(user, performed, asked.refusal, "targetplugin-lio")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return program.parser("targetplugin-lio", __doc__.splitlines()[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """See program.run."""
    perform = Performer(Lio(), Hotplug()).perform
    return program.run(parser(), lambda user: converse(user, perform), arguments)


if __name__ == "__main__":
    sys.exit(main())
