"""A command that is run, with all that it starts: signals passed on to it, and how it ended.

Knows nothing of disks. The signals that stop pitcopy are held meanwhile, and what the caller does
afterwards: a disk that is being taken back is not left half-way.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

from targetplugin.host import processes

NOT_FOUND, NOT_RUNNABLE = 127, 126  # what a shell says
STOPPING = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
PASSED = (signal.SIGUSR1, signal.SIGUSR2)
GRACE = 10.0  # seconds that what a job started has to end, once it was told to
FROM_KERNEL = (
    0x80  # SI_KERNEL, <asm-generic/siginfo.h>: a terminal's key, felt by all in front of it
)
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, <linux/prctl.h>
Watched = set[signal.Signals]


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        status: as a shell says it: an exit status, or 128 + the number of the signal that ended it.
        told: the number of the signal by which pitcopy was told to stop meanwhile; 0: it was not.
        by_key: it was a key of the terminal, so that the command was told too and its status says
            what it made of that.
    """

    status: int
    told: int = 0
    by_key: bool = False

    @property
    def good(self) -> bool:
        """Whether what it did counts: a command that was stopped half-way may yet end with 0."""
        return self.status == 0 and (not self.told or self.by_key)

    @property
    def code(self) -> int:
        """What pitcopy ends with."""
        return self.status or (128 + self.told if self.told else 0)


@contextmanager
def held() -> Iterator[Watched]:
    """Holds the signals that stop pitcopy, and yields those that are; what comes is let go of at
    the end. Those that it was started to ignore, as by nohup, stay ignored by it and its commands.
    """
    watched = {one for one in (*STOPPING, *PASSED) if signal.getsignal(one) != signal.SIG_IGN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched | {signal.SIGCHLD})
    children = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield watched
    finally:
        pending((watched | {signal.SIGCHLD}) - before)  # what is held further out is told there
        signal.signal(signal.SIGCHLD, children)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def pending(watched: Collection[int]) -> int:
    """Takes the held signals that came; the number of the last that says stop, or 0."""
    told = 0
    while (info := signal.sigtimedwait(watched, 0)) is not None:
        told = info.si_signo if info.si_signo in STOPPING else told
    return told


def execute(
    command: Sequence[str],
    watched: Watched,
    *,
    cwd: str | None = None,
    stdout: int | IO[str] | None = None,
    began: Callable[[int], None] | None = None,
) -> Ended:
    """Runs a command to its end. Call it in `held`.

    Args:
        began: is told the process's id before the command is waited for.
    """
    _adopt()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ()) - watched - {signal.SIGCHLD}
    try:
        process = subprocess.Popen(
            list(command),
            cwd=cwd,
            stdout=stdout,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask) and None,
        )
    except FileNotFoundError:
        return Ended(NOT_FOUND)
    except OSError:
        return Ended(NOT_RUNNABLE)
    if began is not None:
        began(process.pid)
    told, by_key = 0, True
    knowing: set[int] = set()
    while (status := _reap(process.pid)) is None:
        info = signal.sigwaitinfo(watched | {signal.SIGCHLD})
        number = info.si_signo
        if number == signal.SIGCHLD:
            continue
        key = info.si_code == FROM_KERNEL and number in (signal.SIGINT, signal.SIGQUIT)
        if number in STOPPING:
            told, by_key = number, by_key and key
        if not key:
            knowing |= _tell(number, process.pid)
    process.returncode = status
    if told and not by_key:
        _wait_for_the_rest(told, knowing)
    return Ended(status, told, by_key and bool(told))


@contextmanager
def aside() -> Iterator[str]:
    """Leaves the working directory, which may be on the disk, to the commands; yields it."""
    cwd = os.getcwd()
    os.chdir("/")
    try:
        yield cwd
    finally:
        with suppress(OSError):
            os.chdir(cwd)


def _adopt() -> None:
    """What a command starts and leaves is this process's, so that it is found and told to stop."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)


def _tell(number: int, child: int) -> set[int]:
    everyone = processes.descendants(os.getpid()) if number in STOPPING else [child]
    _kill(everyone, number)
    return set(everyone)


def _kill(everyone: Sequence[int], number: int) -> None:
    """Tells parents before their children: a shell whose child ends first goes on with its script
    as if nobody had told it to stop, and may come to the end of it.
    """
    for one in everyone:
        with suppress(ProcessLookupError):
            os.kill(one, number)


def _reap(child: int) -> int | None:
    """Takes the children that ended; the status of that one, as a shell says it, if it did."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            found = 128 - code if code < 0 else code


def _wait_for_the_rest(number: int, knowing: set[int]) -> None:
    """Waits for what a command left. What it started just as it was told, and so was not told
    itself, is told now: while the command lived that might have been its way of tidying up.
    """
    end = time.monotonic() + GRACE
    while (left := processes.descendants(os.getpid())) and time.monotonic() < end:
        _kill([one for one in left if one not in knowing], number)
        knowing.update(left)
        _reap(0)
        time.sleep(0.05)
