"""Running a hook in this process' name: one program, one line on its standard input, a limited time.

Only programs that nobody but root, and who runs them, can change.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import stat
import subprocess
import threading
from typing import Any, Protocol

from targetplugin.errors import Reason, Refused

log = logging.getLogger(__name__)
# Shells and the like among them would take what an event says for commands.
SYSTEM = ("/bin/", "/lib", "/sbin/", "/usr/")
NOT_SYSTEM = "/usr/local/"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


class Runner(Protocol):
    """Runs one at a time."""

    def check(self, program: str) -> None:
        """Raises Refused where it can be no hook."""

    def tell(self, program: str, event: dict[str, Any], seconds: float) -> str:
        """Runs it to its end, or for so long. Returns what went wrong, or ""."""

    def stop(self) -> None:
        """Ends the one that runs. From any thread; none is run after that."""


class Here:
    """See Runner."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._ended = False

    def check(self, program: str) -> None:
        check(program)

    def tell(self, program: str, event: dict[str, Any], seconds: float) -> str:
        try:
            check(program)
            with self._lock:
                if self._ended:
                    return ""
                child = self._running = subprocess.Popen(
                    [program],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    env=ENVIRONMENT,
                    start_new_session=True,
                )
        except (Refused, OSError) as error:
            return str(error)
        try:
            return _told(child, json.dumps(event).encode() + b"\n", seconds)
        finally:
            with self._lock:
                self._running = None

    def stop(self) -> None:
        self._ended = True
        with self._lock:
            if self._running is not None:
                _kill(self._running)


def _told(child: subprocess.Popen[bytes], line: bytes, seconds: float) -> str:
    """Gives a program its line and waits for its end. Returns what went wrong, or ""."""
    assert child.stdin is not None
    # A pipe has room for 64 KiB. A line that does not fit is not waited for.
    os.set_blocking(child.stdin.fileno(), False)
    try:
        child.stdin.write(line)
        child.stdin.close()
    except OSError:
        pass  # it does not read, which is its own affair
    try:
        status = child.wait(seconds)
    except subprocess.TimeoutExpired:
        _kill(child)
        return f"it did not end within {seconds:g} s, and was killed"
    _kill(child)  # what it left behind
    return f"it ended with status {status}" if status else ""


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Kills a program with all that it began, and waits a little for its end."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except OSError:
        return
    try:
        child.wait(1.0)
    except subprocess.TimeoutExpired:
        log.warning("a hook, process %d, does not end though it was killed", child.pid)


def check(program: str) -> None:
    """Raises Refused unless nobody but root, and who this process runs as, can say what it does."""
    why = ""
    try:
        real = os.path.realpath(program, strict=True)
        for path in [real, *_folders(real)]:
            found = os.stat(path)
            writable = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            kept = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
            if found.st_uid not in (0, os.geteuid()):
                why = f"{path} does not belong to root"
            elif writable and not kept:
                why = f"{path} can be written by others"
        if not why and not stat.S_ISREG(os.stat(real).st_mode):
            why = "it is no file"
        if not why and not os.access(real, os.X_OK):
            why = "it can't be executed"
        if not why and real.startswith(SYSTEM) and not real.startswith(NOT_SYSTEM):
            raise Refused(
                Reason.RIGHTS,
                f"{program} can be no hook: {real} is the system's own program",
                object=program,
                hint="write a script that runs it, in /usr/local/sbin for one",
            )
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        raise Refused(
            Reason.RIGHTS,
            f"{program} can be no hook: {why}",
            object=program,
            hint="it is run as root: let it, and the folders above it, belong to root, and chmod go-w",
        )


def _folders(path: str) -> list[str]:
    found = []
    while (path := os.path.dirname(path)) not in found:
        found.append(path)
    return found
