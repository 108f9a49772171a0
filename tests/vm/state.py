"""Where the lab keeps its things, and what it must remember between two commands.

Sockets, logs and the state file are in a run directory, disks and images in a cache directory.
Both are told apart by the checkout, so that two checkouts can have a lab each. Which machines
run is not remembered but looked up (see `machine.py`).
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .errors import LabError

CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass
class DiskState:
    """One medium of the target: whether it is plugged in, and its limit (0 = none)."""

    attached: bool = True
    iops: int = 0


@dataclass
class State:
    """What the last `up` made: the image it used, and how the target's disks stand.

    Attributes:
        volatile: whether the media lose in a power cut what was not flushed.
    """

    image: str = ""
    volatile: bool = False
    disks: dict[str, DiskState] = field(default_factory=dict)


def _checkout_name() -> str:
    return hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:12]


def run_dir() -> Path:
    """The directory of sockets and logs, made if it is not there; private to the user."""
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or "/tmp")
    path = base / f"targetplugin-lab-{os.getuid()}-{_checkout_name()}"
    path.mkdir(mode=0o700, exist_ok=True)
    if path.is_symlink() or path.stat().st_uid != os.getuid():
        raise LabError(f"{path} belongs to another user. Remove it, or set XDG_RUNTIME_DIR.")
    return path


def cache_dir() -> Path:
    """The directory of images, shared by all checkouts."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = base / "targetplugin" / "lab"
    path.mkdir(parents=True, exist_ok=True)
    return path


def disk_dir() -> Path:
    """The directory of this checkout's disks (in the cache: a run directory may be in memory)."""
    path = cache_dir() / f"disks-{_checkout_name()}"
    path.mkdir(exist_ok=True)
    return path


@contextlib.contextmanager
def locked(path: Path, waiting: str) -> Iterator[None]:
    """Holds a lock file; tells on stderr what is waited for if someone else holds it."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(waiting)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def progress(line: str) -> None:
    """One line for the person who waits."""
    with contextlib.suppress(OSError):
        os.write(2, f"lab: {line}\n".encode())


def load() -> State:
    """What the last `up` wrote; an empty state if there is none that can be read."""
    try:
        raw = json.loads((run_dir() / "state.json").read_text())
        disks = {name: DiskState(**disk) for name, disk in raw["disks"].items()}
        return State(image=raw["image"], volatile=raw["volatile"], disks=disks)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return State()


def save(state: State) -> None:
    """Puts the state into its file in one step."""
    path = run_dir() / "state.json"
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(asdict(state)))
    draft.replace(path)
