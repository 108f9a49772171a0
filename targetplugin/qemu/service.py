"""The service that runs qemu-img for the daemon, on files that it is handed open.

So that what reads images that others made can reach nothing else. A run ends with the connection that asked
for it.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence

import msgspec

from targetplugin.errors import Refused
from targetplugin.qemu.conversation import MOST, Start, State, Turn, line
from targetplugin.qemu.launch import Child, child
from targetplugin.qemu.words import renumbered
from targetplugin.service import handed, program

SECONDS = 10.0  # that a peer may take to ask, or to take an answer

_log = logging.getLogger("targetplugin.images")


def converse(
    user: int, launch: Callable[[Sequence[str], Sequence[int], int, int], Child] = child
) -> Callable[[socket.socket], None]:
    """What talks with a peer.

    Args:
        user: number of the one user that may ask.
    """

    def talk(connection: socket.socket) -> None:
        connection.settimeout(SECONDS)
        peer = handed.user(connection)
        if peer != user:
            _log.warning("user %d may not ask, and was refused", peer)
            handed.send(connection, line(State(refused=f"user {peer} may not ask for it")))
            return
        first, descriptors = handed.receive(connection, MOST)
        try:
            run = _started(first, descriptors, launch)
        except Refused as refused:
            _log.warning("what was asked for is not done: %s", refused.message)
            handed.send(connection, line(State(refused=refused.message, hint=refused.hint)))
            return
        finally:
            handed.close(descriptors)
        try:
            handed.send(connection, line(State()))
            connection.settimeout(None)  # who asked lives as long as it is there
            while True:
                turn = msgspec.json.decode(handed.receive(connection)[0], type=Turn)
                _do(run, turn)
                handed.send(connection, line(State(run.moved(), run.poll())))
        finally:
            run.kill()
            run.wait()

    return talk


def _started(
    first: bytes,
    descriptors: Sequence[int],
    launch: Callable[[Sequence[str], Sequence[int], int, int], Child],
) -> Child:
    start = msgspec.json.decode(first, type=Start)
    if len(descriptors) != len(start.numbers) + 2:
        raise ValueError("descriptors are missing")
    *given, output, complaints = descriptors
    command = renumbered(start.command, dict(zip(start.numbers, given, strict=True)))
    return launch(command, given, output, complaints)


def _do(run: Child, turn: Turn) -> None:
    match turn.do:
        case "hold" | "go":
            run.hold(turn.do == "hold")
        case "end":
            run.end()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return program.parser("targetplugin-images", __doc__.splitlines()[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """See program.run."""
    os.umask(0o077)
    return program.run(parser(), converse, arguments)


if __name__ == "__main__":
    sys.exit(main())
