"""Asking a service: a line and its answer, one connection a request.

So a service may be started anew at any time: who waits for an answer that does not come asks again.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from targetplugin.errors import Reason, Refused
from targetplugin.service import handed

Answer = TypeVar("Answer")

PATIENCE = (
    10.0  # seconds to ask again while nobody is there; systemd starts the service again at once
)
_AGAIN = 0.1


class Asker:
    """Where requests go.

    Args:
        path: of the service's socket.
        unit: systemd's name of the service.
        does: what it does, as in "The service that may change LIO".
        patience: seconds to ask again while nobody is there.
    """

    def __init__(self, path: Path, unit: str, does: str, patience: float = PATIENCE) -> None:
        self.path = path
        self._unit = unit
        self._does = does
        self._patience = patience

    def ask(
        self,
        line: bytes,
        read: Callable[[bytes], Answer],
        longest: float | None,
        most: int = 0,
    ) -> tuple[Answer, list[int]]:
        """The answer, and the descriptors that come with it, which are the caller's.

        Args:
            read: makes the answer of its line; ValueError, where it is none. What else it raises goes on.
            longest: seconds for an answer; None: for ever.
            most: descriptors that may come.

        Raises:
            Refused: ENVIRONMENT, it can't be asked.
        """
        patience = self._patience if longest is None else min(self._patience, longest)
        until = time.monotonic() + patience
        while True:
            try:
                return self._once(line, read, longest, most)
            except TimeoutError as error:
                raise self.trouble(f"it did not answer within {longest or 0:.0f} s") from error
            except (ConnectionError, FileNotFoundError, EOFError) as error:
                if time.monotonic() > until:
                    why = getattr(error, "strerror", None) or str(error)
                    raise self.trouble(why) from error
            except OSError as error:
                raise self.trouble(error.strerror or str(error)) from error
            time.sleep(_AGAIN)

    def _once(
        self, line: bytes, read: Callable[[bytes], Answer], longest: float | None, most: int
    ) -> tuple[Answer, list[int]]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(longest)
            connection.connect(str(self.path))
            handed.send(connection, line)
            told, descriptors = handed.receive(connection, most)
        try:
            return read(told), descriptors
        except ValueError as error:
            handed.close(descriptors)
            raise self.trouble(f"its answer can't be read: {error}") from error
        except BaseException:
            handed.close(descriptors)
            raise

    def trouble(self, why: str) -> Refused:
        """Why it can't be asked."""
        return Refused(
            Reason.ENVIRONMENT,
            f"The service that {self._does} can't be asked at {self.path}: {why}.",
            object=str(self.path),
            hint=f"systemctl start {self._unit}.socket; journalctl -u {self._unit} says more.",
        )
