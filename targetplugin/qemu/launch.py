"""Starting qemu-img, or another that looks at a disk, and having it in hand: how far it is, held, ended."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from targetplugin.errors import Reason, Refused

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"  # after what there is: where the programs are
_PACKAGES = {"qemu-img": "qemu-utils", "wipefs": "util-linux", "sfdisk": "fdisk"}
_MOVED = re.compile(rb"^[rw]char: (\d+)$", re.MULTILINE)


class Launched(Protocol):
    """A program that runs, or has ended."""

    def moved(self) -> int:
        """Bytes that it read or wrote, whichever is more; at the end what was seen last."""

    def hold(self, on: bool) -> None:
        """Stops it, until it is let go on. Once it ended this does nothing, nor does end."""

    def end(self) -> None:
        """Has it end soon, held or not."""

    def wait(self) -> int:
        """Its exit status, negative for a signal, when it has ended. To be called once, at last."""


# The program's words; the descriptors that it has; where its output and its complaints go. They stay the
# caller's, and nobody but the program keeps one.
Launch = Callable[[Sequence[str], Sequence[int], int, int], Launched]


class Child:
    """One that is a child of this process."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._seen = 0

    def moved(self) -> int:
        with suppress(OSError), open(f"/proc/{self._process.pid}/io", "rb") as file:
            counted = [int(number) for number in _MOVED.findall(file.read())]
            self._seen = max(counted, default=self._seen)
        return self._seen

    def hold(self, on: bool) -> None:
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGSTOP if on else signal.SIGCONT)

    def end(self) -> None:
        self._process.terminate()
        self._process.send_signal(signal.SIGCONT)  # one that is held hears nothing before

    def kill(self) -> None:
        self._process.kill()

    def poll(self) -> int | None:
        """Its exit status, if it has ended."""
        return self._process.poll()

    def wait(self) -> int:
        return self._process.wait()


def here(command: Sequence[str], descriptors: Sequence[int], output: int, complaints: int) -> Child:
    """Starts it as a child that dies with this process. Raises Refused."""
    if shutil.which("setpriv") is None:
        raise Refused(
            Reason.ENVIRONMENT, "setpriv is not installed", hint="install the package util-linux"
        )
    _check(command)
    return child(["setpriv", "--pdeathsig", "KILL", *command], descriptors, output, complaints)


def child(
    command: Sequence[str], descriptors: Sequence[int], output: int, complaints: int
) -> Child:
    """Starts it as a child. It keeps the descriptors until its last request is over, and with them the lock
    that lets nobody else open the medium (rule 19). Raises Refused.
    """
    _check(command)
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=complaints,
        pass_fds=descriptors,
        umask=0o077,  # an image is a disk that others may not read
        env={**os.environ, "PATH": _path(), "LC_ALL": "C"},
    )
    return Child(process)


def _check(command: Sequence[str]) -> None:
    package = _PACKAGES.get(command[0])
    if package is not None and shutil.which(command[0], path=_path()) is None:
        raise Refused(
            Reason.ENVIRONMENT,
            f"{command[0]} is not installed",
            hint=f"install the package {package}",
        )


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:{_PATH}"
