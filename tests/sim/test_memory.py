"""The core reads and writes no memory but its own, whatever crashes: the simulator on a core that the
compiler has made watch itself.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.sim.left_out import build
from tests.sim.process import simulate

SEEDS = 8  # some 1500 crash points
FLAGS = ["-g", "-fsanitize=address,undefined", "-fno-sanitize=alignment", "-fno-sanitize-recover"]


def library(name: str) -> str:
    """Where the compiler's library is: it must be loaded before Python."""
    asked = ["gcc", f"-print-file-name={name}"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def test_the_core_keeps_to_its_own_memory(tmp_path: Path, told: Callable[[str], None]) -> None:
    build(tmp_path, FLAGS)
    first = int(time.time()) % 1_000_000 * 1000
    done = simulate(
        tmp_path,
        f"--seeds={first}:{first + SEEDS}",
        PYTHONMALLOC="malloc",  # else its own small objects hide what is beside them
        LD_PRELOAD=f"{library('libasan.so')} {library('libubsan.so')}",
        ASAN_OPTIONS="detect_leaks=0",
    )
    told(f"watching its memory, seeds from {first}: {done.stdout.splitlines()[:1]}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing wrong" in done.stdout
