"""A service's socket, and a thread for each peer that comes to it."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from targetplugin.errors import Reason, Refused

FIRST_DESCRIPTOR = 3  # sd_listen_fds(3)
_AGAIN = 0.5  # seconds, where the kernel gives no descriptor
ENDING = 5.0  # seconds that a stop waits for what is being done

_log = logging.getLogger(__name__)


class Listener:
    """Takes peers from a socket.

    Args:
        listening: a unix socket that listens; stays the caller's.
        converse: is called with each connection, in a thread of its own, and closed when it returns.
    """

    def __init__(self, listening: socket.socket, converse: Callable[[socket.socket], None]) -> None:
        self._listening = listening
        self._converse = converse
        self._ears, self._mouth = socket.socketpair()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()

    def run(self) -> None:
        """Serves until stop is called; what is being done then may end."""
        while True:
            ready, _, _ = select.select([self._listening, self._ears], [], [])
            if self._ears in ready:
                break
            try:
                connection, _ = self._listening.accept()
            except OSError as error:
                _log.warning("nobody is listened to just now: %s", error.strerror)
                time.sleep(_AGAIN)
                continue
            thread = threading.Thread(target=self._peer, args=(connection,), daemon=True)
            with self._lock:
                self._threads.add(thread)
            thread.start()
        end = time.monotonic() + ENDING
        with self._lock:
            left = list(self._threads)
        for thread in left:
            thread.join(max(0.0, end - time.monotonic()))

    def stop(self) -> None:
        """From any thread, or a signal's handler."""
        self._mouth.send(b"!")

    def _peer(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._converse(connection)
        except (OSError, EOFError, ValueError) as error:
            _log.debug("a peer was not answered: %s", error)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())


def listening(path: Path | None, unit: str) -> socket.socket:
    """systemd's socket, or one that is made at a path. Raises Refused.

    Args:
        unit: systemd's name of the service.
    """
    if path is None:
        if os.environ.get("LISTEN_PID") == str(os.getpid()) and os.environ["LISTEN_FDS"] == "1":
            return socket.socket(fileno=FIRST_DESCRIPTOR)
        raise Refused(
            Reason.ENVIRONMENT,
            "There is no socket to listen on: systemd handed none over, and none is named",
            hint=f"systemctl start {unit}.socket, or --socket PATH",
        )
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        made.bind(str(path))
        made.listen(64)
    except OSError as error:
        made.close()
        raise Refused(
            Reason.ENVIRONMENT,
            f"{path} can't be listened on: {error.strerror}",
            object=str(path),
            hint="name a path in a folder of yours",
        ) from error
    finally:
        os.umask(before)
    return made
