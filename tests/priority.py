"""Who goes first where tests of several kinds run side by side: machines of the lab, other tests, the
simulator. A kernel that schedules by session heeds a priority within a session only: so each has a
session of its own, and gives way as a whole.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

MACHINES, TESTS, LEAST = 0, 3, 19


def of_its_own() -> None:
    """This process gets a session of its own, unless it has one."""
    with contextlib.suppress(OSError):
        os.setsid()


def of_session(priority: int) -> None:
    with contextlib.suppress(OSError):  # another kernel does not know it
        Path("/proc/self/autogroup").write_text(str(priority))
