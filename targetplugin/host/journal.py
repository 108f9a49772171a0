"""What an interrupted `pitcopy run` leaves behind: where it stood, and how the disk was mounted.
Decides nothing.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from targetplugin.host.mounts import Mount

FOLDER = Path(os.environ.get("PITCOPY_RUN_DIR", "/run/pitcopy"))


@dataclass
class Entry:
    """A run: its disk, process, phase, save, command and the mounts to be made again.

    Phases: "saving", "running", "recovering" (the job failed), "left" (it failed, and the disk
    could not be left).
    """

    disk: str
    pid: int
    phase: str
    label: str
    generation: int
    command: list[str]
    mounts: list[Mount] = field(default_factory=list)

    def alive(self) -> bool:
        """Whether the process that wrote it still runs."""
        try:
            return b"pitcopy" in Path("/proc", str(self.pid), "cmdline").read_bytes()
        except OSError:
            return False

    def write(self) -> None:
        """Puts it where the next pitcopy finds it, whole or not at all."""
        FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = _path(self.disk).with_suffix(".new")
        with open(draft, "w", opener=lambda p, f: os.open(p, f, 0o600)) as file:
            json.dump(asdict(self), file)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(_path(self.disk))

    def remove(self) -> None:
        _path(self.disk).unlink(missing_ok=True)


def _path(disk: str) -> Path:
    return FOLDER / (disk.strip("/").replace("/", "_") + ".json")


def read(disk: str) -> Entry | None:
    """The entry of a disk, or None where there is none, or none that can be read."""
    try:
        data = json.loads(_path(disk).read_text())
        mounts = [Mount(**mount) for mount in data.pop("mounts")]
        return Entry(**data, mounts=mounts)
    except (OSError, ValueError, TypeError, KeyError):
        return None
