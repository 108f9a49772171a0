"""Hooks: programs that are told of events. Each gets one event as JSON on its standard input.

One runs at a time, for a limited time, on a thread of its own: no verb and no engine waits for it.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import stat
import subprocess
import threading
from typing import Any

from targetplugin.catalog import Catalog, Hook
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.ground.journal import Journal
from targetplugin.subsystem.ground.views import Shape

log = logging.getLogger(__name__)
SECONDS = 10.0  # for one event
BACKLOG = 1000  # events that may wait; of more, the oldest are dropped
AT_ONCE = 50
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
OWN = "hook_"  # kinds of events that are about hooks, of which hooks are not told


class Hooks:
    """See the module."""

    def __init__(self, catalog: Catalog, journal: Journal, seconds: float = SECONDS) -> None:
        self._catalog = catalog
        self._journal = journal
        self._seconds = seconds
        self._at = journal.newest
        self._told: dict[str, dict[str, Any]] = {}  # what became of each program, since the start
        self._dropped = 0
        self._lock = threading.Lock()
        self._running: subprocess.Popen[bytes] | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="hooks", daemon=True)

    # --- which there are -----------------------------------------------------------------------

    def add(self, program: str) -> Shape:
        """See Subsystem.hook_add."""
        check(program)
        if any(hook.program == program for hook in self._catalog.hooks()):
            raise Refused(Reason.EXISTS, f"{program} is a hook already", object=program)
        return self._shape(self._catalog.hook_add(program))

    def remove(self, program: str) -> Shape:
        """See Subsystem.hook_remove."""
        for hook in self._catalog.hooks():
            if hook.program == program:
                self._catalog.hook_remove(program)
                return self._shape(hook)
        raise Refused(
            Reason.NOT_FOUND,
            f"{program} is no hook",
            object=program,
            hint="hook list shows them",
        )

    def all(self) -> list[Shape]:
        return [self._shape(hook) for hook in self._catalog.hooks()]

    def _shape(self, hook: Hook) -> Shape:
        """program, added, and since the daemon's start: runs, failures, the last failure, dropped."""
        told = self._told.get(hook.program, {})
        return {
            "program": hook.program,
            "added": hook.added,
            "runs": told.get("runs", 0),
            "failures": told.get("failures", 0),
            "error": told.get("error", ""),
            "dropped": self._dropped,
        }

    # --- running them --------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends the one that runs. What was not told is lost."""
        self._ended = True
        with self._lock:
            if self._running is not None:
                _kill(self._running)
        self._journal.wake()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._journal.wait_until(lambda: self._ended or self._journal.newest > self._at)
            if self._ended:
                return
            try:
                self._tell()
            except Exception:
                log.exception("hooks could not be told of events")
                self._at = self._journal.newest

    def _tell(self) -> None:
        programs = [hook.program for hook in self._catalog.hooks()]
        if not programs:
            self._at = self._journal.newest
            return
        waiting = self._journal.newest - self._at
        if waiting > BACKLOG:
            self._at = self._journal.newest - BACKLOG
            self._dropped += waiting - BACKLOG
            text = f"hooks are too slow: {waiting - BACKLOG} events were not told"
            log.warning("%s", text)
            self._journal.note(f"{OWN}dropped", text, door="policy")
        found = self._journal.after(self._at, None, AT_ONCE)
        if not found:  # it was written, and then undone with what it was about
            self._at = self._journal.newest
        for event in found:
            self._at = event["id"]
            for program in programs:
                if self._ended:
                    return
                if not event["kind"].startswith(OWN):
                    self._tell_one(program, event)

    def _tell_one(self, program: str, event: dict[str, Any]) -> None:
        told = self._told.setdefault(program, {"runs": 0, "failures": 0, "error": ""})
        told["runs"] += 1
        why = self._ran(program, event)
        if why:
            told["failures"] += 1
            told["error"] = why
            log.warning("the hook %s, told of event %d: %s", program, event["id"], why)

    def _ran(self, program: str, event: dict[str, Any]) -> str:
        """Runs a program to its end. Returns what went wrong, or ""."""
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
            return _told(child, json.dumps(event).encode() + b"\n", self._seconds)
        finally:
            with self._lock:
                self._running = None


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
    """Raises Refused unless nobody but root, and who the daemon runs as, can say what it does."""
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
