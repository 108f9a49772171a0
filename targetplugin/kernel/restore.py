"""Lets our exports follow LIO's own restore, which clears everything before it makes what it saved.

Knows systemd's units of that restore and when to look again; what is to be there it is not told.
"""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable

UNITS = ("rtslib-fb-targetctl.service", "target.service")  # Debian's name, and everybody else's
_AT_WORK = ("activating", "deactivating", "reloading")

_log = logging.getLogger(__name__)


def parse_pending(shown: str) -> bool:
    """Whether a unit in `systemctl show --property=ActiveState,Job` is at work or has a job."""
    lines = [line.partition("=") for line in shown.splitlines()]
    return any(
        (key == "ActiveState" and value in _AT_WORK) or (key == "Job" and value not in ("", "0"))
        for key, _, value in lines
    )


def restore_pending() -> bool:
    """Whether LIO's restore (or clear) runs or is about to. False where there is no systemd."""
    command = ["systemctl", "show", "--property=ActiveState,Job", *UNITS]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return False
    return parse_pending(done.stdout)


class Keeper:
    """Has exports made again when something takes them away.

    One thread of its own calls `ensure`: at the start, when poked, and now and then; never while
    LIO's restore runs.

    Args:
        ensure: makes what is missing; False if something could not be made, and it is to be tried
            again soon.
        pending: whether LIO's restore runs.
        period: seconds between two looks when all is well.
        retry: seconds to the next when not, or when the restore runs.
    """

    def __init__(
        self,
        ensure: Callable[[], bool],
        pending: Callable[[], bool] = restore_pending,
        period: float = 5.0,
        retry: float = 0.5,
    ) -> None:
        self._ensure = ensure
        self._pending = pending
        self._period = period
        self._retry = retry
        self._poked = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Looks at once."""
        self._thread.start()

    def poke(self) -> None:
        """Something has changed: look now. From any thread."""
        self._poked.set()

    def stop(self) -> None:
        """Returns when no `ensure` runs any more."""
        self._ending = True
        self._poked.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        well = False  # so that the first look asks whether the restore is still to come
        while not self._ending:
            well = self._look(well)
            self._poked.wait(self._period if well else self._retry)
            if self._poked.is_set():
                self._poked.clear()
                well = False

    def _look(self, well: bool) -> bool:
        """True if all is as it should be. In the quiet systemd is not asked."""
        if not well and self._pending():
            return False
        try:
            return self._ensure()
        except Exception:
            _log.exception("exports could not be looked after")
            return False
