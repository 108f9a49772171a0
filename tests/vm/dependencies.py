"""The project's Python dependencies as a small disk, cached under a hash of `requirements.txt`.

Nothing is fetched inside a guest. It must not hold the project's own code: that is shared from the
checkout.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .errors import LabError
from .state import CHECKOUT, cache_dir, locked, progress

GUEST_PYTHON = (3, 11)


def disk() -> Path:
    """The disk with what `requirements.txt` asks for; built if it is not in the cache."""
    requirements = CHECKOUT / "requirements.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    final = cache_dir() / f"site-{digest}.ext4"
    if not final.exists():
        with locked(cache_dir() / "site.lock", "waiting for another build of the dependencies"):
            if not final.exists():
                _build(requirements, final)
    return final


def _build(requirements: Path, final: Path) -> None:
    progress("fetching the Python dependencies, once")
    with tempfile.TemporaryDirectory(prefix="building-site-", dir=cache_dir()) as scratch:
        tree, draft = Path(scratch) / "tree", Path(scratch) / "site.ext4"
        pip = [_python_with_pip(), "-m", "pip", "install", "--quiet", "--target", str(tree)]
        pip += ["--disable-pip-version-check", "--no-warn-script-location"]
        _run([*pip, "--requirement", str(requirements)])
        mke2fs = shutil.which("mke2fs") or "/sbin/mke2fs"
        make = [mke2fs, "-q", "-t", "ext4", "-m", "0", "-O", "^has_journal", "-d", str(tree)]
        _run([*make, "-E", "root_owner=0:0,lazy_itable_init=0", str(draft), "256M"])
        draft.rename(final)


def _python_with_pip() -> str:
    """A Python of the guest's version, so that what pip builds or chooses runs there."""
    wanted = ".".join(map(str, GUEST_PYTHON))
    for python in (str(CHECKOUT / ".venv/bin/python"), sys.executable, f"python{wanted}"):
        probe = f"import sys, pip; sys.exit(sys.version_info[:2] != {GUEST_PYTHON})"
        try:
            if subprocess.run([python, "-c", probe], capture_output=True).returncode == 0:
                return python
        except OSError:
            continue
    raise LabError(f"No Python {wanted} with pip was found: run ./check once, it makes .venv.")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise LabError(f"Building the disk of Python dependencies failed:\n{said}")
