"""Hooks run by the service that has root's rights for it, for a daemon that has not. See run.Runner."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from targetplugin.errors import Refused
from targetplugin.hooks import asked
from targetplugin.service import handed
from targetplugin.service.asking import PATIENCE, Asker

UNIT = "targetplugin-hooks"
SECONDS = 10.0  # for an answer, besides what the program may take
_AGAIN = 0.2


class RemoteRunner:
    """Args:
    path: of the service's socket.
    patience: seconds to ask again while nobody is there.
    """

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self.path = path
        self._patience = patience
        self._asker = Asker(path, UNIT, "runs hooks", patience)
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._ended = threading.Event()

    def check(self, program: str) -> None:
        answer, _ = self._asker.ask(asked.line(asked.Check(program)), asked.answer, SECONDS)
        if answer.refused is not None:
            raise answer.refused.refused()

    def tell(self, program: str, event: dict[str, Any], seconds: float) -> str:
        """It is asked once: a hook that may have been told is not told again."""
        try:
            told = msgspec.convert(event, asked.Event)
            with self._connected(seconds + SECONDS) as connection:
                handed.send(connection, asked.line(asked.Tell(program, told, seconds)))
                answer = asked.answer(handed.receive(connection)[0])
        except Refused as refused:
            return refused.message
        except (OSError, EOFError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            return "" if self._ended.is_set() else self._asker.trouble(why).message
        return answer.refused.message if answer.refused else answer.trouble

    def stop(self) -> None:
        self._ended.set()
        with self._lock, contextlib.suppress(OSError):
            if self._connection is not None:
                self._connection.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def _connected(self, seconds: float) -> Any:
        until = time.monotonic() + self._patience
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(seconds)
                connection.connect(str(self.path))
                break
            except (ConnectionError, FileNotFoundError) as error:
                connection.close()
                if time.monotonic() > until:
                    raise self._asker.trouble(error.strerror or str(error)) from error
            if self._ended.wait(_AGAIN):
                raise ConnectionAbortedError
        with connection:
            with self._lock:
                self._connection = connection
            try:
                if self._ended.is_set():
                    raise ConnectionAbortedError
                yield connection
            finally:
                with self._lock:
                    self._connection = None
