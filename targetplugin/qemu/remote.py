"""qemu-img run by the service that does nothing else: it is handed all that it opens.

As launch.here, for a daemon that may not, and that qemu-img is to be kept away from.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from targetplugin.errors import Reason, Refused
from targetplugin.qemu.conversation import Start, State, Turn, line
from targetplugin.service import handed

SECONDS = 60.0  # for an answer
_TICK = 0.02  # seconds between two looks whether it has ended
GONE = -9  # as of one that was killed


class Images:
    """Where it is run.

    Args:
        path: of the service's socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def launch(
        self, command: Sequence[str], descriptors: Sequence[int], output: int, complaints: int
    ) -> Away:
        """See launch.Launch. Raises Refused."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(SECONDS)
            connection.connect(str(self._path))
            start = line(Start(list(command), list(descriptors)))
            handed.send(connection, start, [*descriptors, output, complaints])
            state = _state(connection)
        except (OSError, EOFError, ValueError) as error:
            connection.close()
            why = getattr(error, "strerror", None) or str(error)
            raise Refused(
                Reason.ENVIRONMENT,
                f"The service that runs qemu-img can't be asked at {self._path}: {why}",
                object=str(self._path),
                hint="systemctl start targetplugin-images.socket;"
                " journalctl -u targetplugin-images says more",
            ) from error
        if state.refused:
            connection.close()
            raise Refused(Reason.ENVIRONMENT, state.refused, hint=state.hint)
        return Away(connection)


class Away:
    """A run at the other end of a connection. Where that ends the run does, and seems killed."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._last = State()

    def moved(self) -> int:
        return self._say("look").moved

    def hold(self, on: bool) -> None:
        self._say("hold" if on else "go")

    def end(self) -> None:
        self._say("end")

    def wait(self) -> int:
        while (status := self._say("look").status) is None:
            time.sleep(_TICK)
        self._connection.close()
        return status

    def _say(self, do: Literal["look", "hold", "go", "end"]) -> State:
        with self._lock:
            if self._last.status is None:
                try:
                    handed.send(self._connection, line(Turn(do)))
                    self._last = _state(self._connection)
                except (OSError, EOFError, ValueError):
                    self._last = State(self._last.moved, GONE)
            return self._last


def _state(connection: socket.socket) -> State:
    return msgspec.json.decode(handed.receive(connection)[0], type=State)
