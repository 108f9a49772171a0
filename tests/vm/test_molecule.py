"""The roles as Molecule plays them on both machines: converged, idempotent, verified, cleaned up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.collection.place import COLLECTION

from .lab import Lab
from .long import long
from .state import CHECKOUT

BIN = Path(sys.executable).parent
PATH = f"{BIN}:{os.environ['PATH']}"
pytestmark = [
    long,
    pytest.mark.skipif(
        not shutil.which("molecule", path=PATH), reason="requirements-dev.txt has Molecule"
    ),
]


def test_molecule_s_whole_sequence_passes(lab: Lab, tmp_path: Path) -> None:
    place = tmp_path / "ansible_collections/targetplugin/iscsi"
    shutil.copytree(COLLECTION, place)
    where = {
        "HOME": str(tmp_path),
        "PATH": PATH,
        "PYTHONPATH": str(CHECKOUT),
        "ANSIBLE_HOME": str(tmp_path / "home"),
        "ANSIBLE_COLLECTIONS_PATH": str(tmp_path),
        "ANSIBLE_CONNECTION_PLUGINS": str(CHECKOUT / "tests/vm/ansible"),
        "ANSIBLE_PIPELINING": "1",
        "LAB_CONNECTION": "lab",
        "NO_COLOR": "1",
    }
    done = subprocess.run(
        ["molecule", "test"],
        cwd=place,
        env={**os.environ, **where},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "correct-horse-battery" not in said
    assert "is logged in to ledger" in said, "what is not safe to remove is kept, and told"
    assert lab.shell("target", "targetplugin volume list --json").stdout.strip() == "[]"
