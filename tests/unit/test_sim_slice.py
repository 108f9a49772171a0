"""The simulator's slice gives way to what runs beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.priority import LEAST
from tests.sim.slice import give_way

AUTOGROUP = Path("/proc/self/autogroup")


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel does not schedule by session")
def test_its_session_gives_way_to_others_as_a_whole() -> None:
    before = AUTOGROUP.read_text()
    words = ["import os", "print(os.nice(0), open('/proc/self/autogroup').read())"]
    done = subprocess.run(
        [sys.executable, "-c", "; ".join(words)],
        preexec_fn=give_way,
        start_new_session=True,
        capture_output=True,
        text=True,
        check=True,
    )
    least = min(LEAST, os.nice(0) + LEAST)
    assert done.stdout.split()[0] == str(least)
    assert done.stdout.rstrip().endswith(f"nice {LEAST}")
    assert AUTOGROUP.read_text() == before
