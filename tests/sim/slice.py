"""A slice of the simulator, at the lowest priority, beside the lab's tests: machines mostly wait."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from tests import priority
from tests.sim.left_out import CHECKOUT

SECONDS = float(os.environ.get("SIM_SECONDS", "60"))


def give_way() -> None:
    """In the child."""
    os.nice(priority.LEAST)
    priority.of_session(priority.LEAST)


class Slice:
    """One run of the simulator, with new seeds each time. Begun once; ended when asked for."""

    def __init__(self) -> None:
        self.first = int(time.time()) % 1_000_000 * 1000
        self._process: subprocess.Popen[str] | None = None

    def begin(self) -> None:
        """Starts it, unless it runs already."""
        if self._process is not None:
            return
        words = ["--seeds", f"{self.first}:{self.first + 999999}", "--seconds", str(SECONDS)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.sim", *words, "--jobs", str(os.cpu_count() or 1)],
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=give_way,
            start_new_session=True,
        )

    def end(self) -> subprocess.CompletedProcess[str]:
        """What came of it. Waits until it has run for its time."""
        self.begin()
        process = self._process
        assert process is not None
        stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def stop(self) -> None:
        """Ends it where nobody asked: the session was interrupted."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, 15)
            self._process.wait()
