"""Debian packages of peers that the lab's image does not have, brought into a machine without a network.

Owns which they are and where they are kept: in the lab's cache, fetched by apt once.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from . import state
from .lab import Lab

TCMU_RUNNER = ("libnl-genl-3-200", "libtcmu2", "tcmu-runner")
MD = ("mdadm",)
THIN = ("thin-provisioning-tools",)


def install(lab: Lab, *names: str) -> None:
    """On the target; their dependencies are in the image or among the names."""
    files = [fetched(name) for name in names]
    for file in files:
        lab.copy_to(file, "target", f"/root/{file.name}")
    there = " ".join(f"/root/{file.name}" for file in files)
    lab.shell(
        "target",
        f"dpkg --install {there} > /root/dpkg.log 2>&1 || {{ cat /root/dpkg.log; exit 1; }}",
    )


def fetched(name: str) -> Path:
    """A package's file; asks apt for it if it is not in the cache."""
    folder = state.cache_dir() / "packages"
    folder.mkdir(exist_ok=True)
    if not (found := sorted(folder.glob(f"{name}_*.deb"))):
        state.progress(f"fetching {name}")
        command = ["apt-get", "download", "-qq", name]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        found = sorted(folder.glob(f"{name}_*.deb"))
    return found[-1]
