"""The service that runs hooks, as root: programs that only root can change, each told of one event.

It listens on a unix socket, to one user, and runs one program a connection, for as long as that is open. It
keeps no state. The system's own programs it does not run, and what a program reads is an event, whoever asks.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Sequence

from msgspec.structs import asdict

from targetplugin.hooks import asked
from targetplugin.hooks.run import Here
from targetplugin.service import answering, program


def converse(user: int) -> Callable[[socket.socket], None]:
    """What answers a connection.

    Args:
        user: number of the one user that may ask.
    """

    def performed(line: bytes, connection: socket.socket) -> tuple[bytes, list[int]]:
        return asked.line(_done(asked.request(line), connection)), []

    return answering.converse(user, performed, asked.refusal, "targetplugin-hooks")


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
