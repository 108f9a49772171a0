"""Hooks: programs that are told of events. Each gets one event as JSON on its standard input.

One runs at a time, for a limited time, on a thread of its own: no verb and no engine waits for it.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from targetplugin.catalog import Catalog, Hook
from targetplugin.errors import Reason, Refused
from targetplugin.hooks.run import Here, Runner
from targetplugin.subsystem.ground.journal import Journal
from targetplugin.subsystem.ground.views import Shape

log = logging.getLogger(__name__)
SECONDS = 10.0  # for one event
BACKLOG = 1000  # events that may wait; of more, the oldest are dropped
AT_ONCE = 50
OWN = "hook_"  # kinds of events that are about hooks, of which hooks are not told


class Hooks:
    """See the module."""

    def __init__(
        self,
        catalog: Catalog,
        journal: Journal,
        seconds: float = SECONDS,
        runner: Runner | None = None,
    ) -> None:
        self._catalog = catalog
        self._journal = journal
        self._seconds = seconds
        self._at = journal.newest
        self._told: dict[str, dict[str, Any]] = {}  # what became of each program, since the start
        self._dropped = 0
        self._runner: Runner = runner or Here()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="hooks", daemon=True)

    # --- which there are -----------------------------------------------------------------------

    def add(self, program: str) -> Shape:
        """See Subsystem.hook_add."""
        self._runner.check(program)
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
        self._runner.stop()
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
        why = self._runner.tell(program, event, self._seconds)
        if why:
            told["failures"] += 1
            told["error"] = why
            log.warning("the hook %s, told of event %d: %s", program, event["id"], why)
