"""Media that lose in a power cut what was not flushed: each behind nbdkit's cache, killed with QEMU.

Owns these processes. What a disk's file holds while they run is what was flushed.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from . import processes
from .errors import LabError
from .state import disk_dir, run_dir

NBDKIT = "nbdkit"
START_SECONDS = 10.0
BLOCK = "4K"  # what is lost or kept as one


def socket(name: str) -> Path:
    """Where QEMU finds a medium."""
    return run_dir() / f"{name}.nbd"


def start(names: list[str], *, owned: bool) -> None:
    """Returns when all can be connected to. They end with QEMU, which alone connects to them."""
    if not shutil.which(NBDKIT):
        raise LabError(f"{NBDKIT} is not installed: apt-get install nbdkit")
    kill(names)
    started = [_start(name, owned) for name in names]
    deadline = time.monotonic() + START_SECONDS
    for name, process in zip(names, started, strict=True):
        while not socket(name).exists():
            if process.poll() is not None or time.monotonic() > deadline:
                said = _log(name).read_text(errors="replace").strip()
                raise LabError(f"{NBDKIT} of {name} did not start: {said}")
            time.sleep(0.02)


def kill(names: list[str]) -> None:
    """What they had not been told to flush is gone."""
    for name in names:
        processes.kill(str(socket(name)), f"{NBDKIT} of {name}")
        socket(name).unlink(missing_ok=True)


def _start(name: str, owned: bool) -> subprocess.Popen[bytes]:
    command = [NBDKIT, "--foreground", "--unix", str(socket(name)), "--filter=exitlast"]
    command += ["--filter=cache", "file", str(disk_dir() / f"{name}.raw")]
    command += ["cache=writeback", f"cache-min-block-size={BLOCK}"]
    return processes.start(command, _log(name), owned=owned)


def _log(name: str) -> Path:
    return run_dir() / f"{name}.nbdkit.log"
