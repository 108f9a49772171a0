"""The service that runs hooks, as root: programs that only root can change, each told of one event.

It listens on a unix socket, to one user, and runs one program a connection, for as long as that is open. It
keeps no state. The system's own programs it does not run, and what a program reads is an event, whoever asks.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import socket
import sys
import threading
from collections.abc import Callable, Sequence

from msgspec.structs import asdict

from targetplugin.errors import Reason, Refused
from targetplugin.hooks import asked
from targetplugin.hooks.run import Here
from targetplugin.service import handed, program
from targetplugin.service.refusal import Refusal

SECONDS = 10.0  # that a peer may take to ask, or to take the answer

_log = logging.getLogger("targetplugin.hooks")


def converse(user: int) -> Callable[[socket.socket], None]:
    """What answers a connection.

    Args:
        user: number of the one user that may ask.
    """

    def answer(connection: socket.socket) -> None:
        connection.settimeout(SECONDS)
        peer = handed.user(connection)
        line, _ = handed.receive(connection) if peer == user else (b"", [])
        try:
            if peer != user:
                _log.warning("user %d may not ask, and was refused", peer)
                raise Refused(Reason.RIGHTS, f"User {peer} may not ask this service.")
            told = _done(asked.request(line), connection)
        except Refused as refused:
            told = asked.Answer(refused=Refusal.of(refused))
        connection.settimeout(SECONDS)
        handed.send(connection, asked.line(told))

    return answer


def _done(request: asked.AnyRequest, connection: socket.socket) -> asked.Answer:
    runner = Here()
    if isinstance(request, asked.Check):
        runner.check(request.program)
        return asked.Answer()
    connection.settimeout(None)
    over = threading.Event()

    def watch() -> None:
        """Nothing more is said by who asked: what is heard is that it went away."""
        with contextlib.suppress(OSError):
            connection.recv(1)
        if not over.is_set():
            runner.stop()

    threading.Thread(target=watch, daemon=True).start()
    try:
        return asked.Answer(runner.tell(request.program, asdict(request.event), request.seconds))
    finally:
        over.set()
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RD)  # the one who watches is done


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return program.parser("targetplugin-hooks", __doc__.splitlines()[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """See program.run."""
    return program.run(parser(), converse, arguments)


if __name__ == "__main__":
    sys.exit(main())
