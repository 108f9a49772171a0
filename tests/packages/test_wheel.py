"""A wheel is made of the sdist alone, and what is installed of it has the engine and its programs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from targetplugin import __version__

CHECKOUT = Path(__file__).parents[2]
NAME = f"targetplugin-{__version__}"


def python(*words: str, cwd: Path, compiler: str = "cc") -> None:
    done = subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "CC": compiler},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def copied(folder: Path) -> Path:
    """The files of the checkout that git knows, as a fresh clone has them."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=CHECKOUT, check=True, capture_output=True).stdout
    for name in names.decode().split("\0"):
        if name and (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, folder / name)
    return folder


def test_an_sdist_builds_a_wheel_that_runs(tmp_path: Path) -> None:
    clone = copied(tmp_path / "clone")
    python("setup.py", "-q", "sdist", "--dist-dir", str(tmp_path), cwd=clone)
    with tarfile.open(tmp_path / f"{NAME}.tar.gz") as archive:
        archive.extractall(tmp_path)
    source = tmp_path / NAME
    there, packed = CHECKOUT / "targetplugin/engine", source / "targetplugin/engine"
    sources = {path.relative_to(there) for path in there.rglob("*.p[xy]*")}
    assert {path.relative_to(packed) for path in packed.rglob("*")} >= sources
    assert not list(source.rglob("*.so"))
    quick = tmp_path / "cc"  # nobody runs what comes of it, so it need not be fast
    quick.write_text('#!/bin/sh\nexec cc "$@" -O0\n')
    quick.chmod(0o755)
    wheel = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    python(*wheel, "-w", str(tmp_path), ".", cwd=source, compiler=str(quick))
    (made,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(made) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "there")
    assert [name for name in names if name.startswith("tests/")] == []
    assert any(name.startswith("targetplugin/engine/executor.") for name in names)
    assert "targetplugin/py.typed" in names
    about = (tmp_path / "there" / f"{NAME}.dist-info/METADATA").read_text()
    assert "\nLicense: Apache-2.0\n" in about
    assert any(name.endswith("licenses/LICENSE") for name in names)
    entries = (tmp_path / "there" / f"{NAME}.dist-info/entry_points.txt").read_text()
    assert "pitcopy = targetplugin.host.pitcopy:main" in entries
    look = "import targetplugin.engine.executor as one; print(one.__file__)"
    python(
        "-c", f"{look}; assert one.__file__.startswith({str(tmp_path)!r})", cwd=tmp_path / "there"
    )
