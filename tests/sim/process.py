"""The simulator in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path


def simulate(
    folder: Path, *words: str, timeout: float | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs `python3 -m tests.sim WORDS...` on the core that is built in `folder`, whatever comes of it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.sim", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)  # its workers too
        process.wait()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)
