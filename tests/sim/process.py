"""The simulator in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def simulate(
    folder: Path, *words: str, timeout: float | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Runs `python3 -m tests.sim WORDS...` on the core that is built in `folder`, whatever comes of it."""
    return subprocess.run(
        [sys.executable, "-m", "tests.sim", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
