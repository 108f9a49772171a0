"""Processes of the lab that outlive a command: started, found by a word on their command line, killed.

Nothing is remembered in files, so nothing can be wrong about it; and what is not this user's, or does
not have that very word, is never touched.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from pathlib import Path

from .errors import LabError

KILL_MILLISECONDS = 10_000


def start(command: list[str], log: Path, *, owned: bool) -> subprocess.Popen[bytes]:
    """Starts one in a session of its own, with what it says in `log`; `owned`: it ends with us."""
    if owned:
        command = ["setpriv", "--pdeathsig", "KILL", *command]
    with open(log, "wb") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
        )


def having(word: str) -> list[int]:
    """This user's processes that have `word` as one of their arguments."""
    mark = word.encode()
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            arguments = Path(entry.path, "cmdline").read_bytes().split(b"\0")
            if mark in arguments and entry.stat().st_uid == os.getuid():
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def kill(word: str, what: str) -> bool:
    """Kills them at once; returns when they are gone, and whether there was any."""
    pids = having(word)
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            # The id may have been given to another process since: look again, now that it is held.
            if pid in having(word):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                gone = select.poll()
                gone.register(handle, select.POLLIN)
                if not gone.poll(KILL_MILLISECONDS):
                    raise LabError(f"{what} (process {pid}) does not end when killed.")
        except ProcessLookupError:
            pass
        finally:
            os.close(handle)
    return bool(pids)
