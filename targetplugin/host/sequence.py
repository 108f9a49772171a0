"""A sequence of jobs as its journal has it: the steps, which of them are done, and on which save.

Owns what is written and read again; runs nothing and asks no disk.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from targetplugin.host import journal, mounts
from targetplugin.host.errors import Refused
from targetplugin.host.journal import Process
from targetplugin.host.mounts import Mount
from targetplugin.host.steps import Step

# Of a step. What is done stays done, unless it is taken back with a later step.
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
# Of a sequence: nothing of the next step began; its save is being made; it runs; it failed, and the
# disk is being taken back; the disk could not be taken back; all steps are done.
READY, SAVING, AT_WORK, RECOVERING, LEFT, OVER = (
    "ready", "saving", "running", "recovering", "left", "done",
)  # fmt: skip
ENDING = "jobs"


@dataclass
class Record:
    """A step and what became of it; generation: of the save that it ran on, 0 while there is none."""

    text: str
    command: list[str]
    digest: str
    shares: bool
    state: str = WAITING
    generation: int = 0
    began: float = 0.0
    ended: float = 0.0
    status: int | None = None
    tries: int = 0

    def step(self) -> Step:
        return Step(self.text, tuple(self.command), self.digest, self.shares)


@dataclass
class Kept:
    """A save that the sequence made and has not given up. step: the index, from 0, of the step that
    it was made before; split: it took a leg of the mirror.
    """

    step: int
    label: str
    generation: int
    split: bool = False


@dataclass
class Sequence:
    """See the module.

    Attributes:
        at: index of the step that runs, or is next. cwd: where the steps run.
        saves: those that are there, oldest first. saving: label of the save that is being made, legs: how
            many the mirror had before it.
    """

    disk: str
    path: str
    label: str
    to_start: bool
    cwd: str
    steps: list[Record]
    phase: str = READY
    at: int = 0
    saving: str = ""
    legs: int = 0
    saves: list[Kept] = field(default_factory=list)
    mounts: list[Mount] = field(default_factory=list)
    job: Process = field(default_factory=Process)
    began: float = field(default_factory=time.time)
    pid: int = field(default_factory=os.getpid)

    def write(self) -> None:
        """On stable storage when this returns."""
        journal.store(journal.path_of(self.disk, ENDING), asdict(self))

    def forget(self) -> None:
        journal.forget(journal.path_of(self.disk, ENDING))

    def alive(self) -> bool:
        """Whether its pitcopy runs, or a step that outlived it."""
        return journal.busy(self.disk) or self.job.alive()

    def shares(self, index: int) -> bool:
        """Whether no save is made before a step."""
        return index > 0 and (self.to_start or self.steps[index].shares)

    def back_to(self) -> int:
        """The step before which the disk is to be, should the present one fail."""
        index = min(self.at, len(self.steps) - 1)
        while self.shares(index):
            index -= 1
        return index

    def save_of(self, index: int) -> Kept | None:
        """The newest save made before a step."""
        return next((kept for kept in reversed(self.saves) if kept.step == index), None)

    def began_to_write(self) -> bool:
        """Whether a step may have written something that is yet to be taken back."""
        return self.phase in (AT_WORK, RECOVERING, LEFT)

    def where(self) -> str:
        """Where it stands, in words."""
        step = f"step {self.at + 1} of {len(self.steps)}"
        text = self.steps[self.at].text if self.at < len(self.steps) else ""
        return {
            READY: f"stands before {step} ({text})",
            SAVING: f"stands before {step} ({text})",
            AT_WORK: f"was interrupted in {step} ({text}), which may have written anything",
            RECOVERING: f"failed in {step} ({text}), and its recovery was interrupted",
            LEFT: f"failed in {step} ({text}), and the disk could not be left for recovery",
            OVER: f"is done: {len(self.steps)} steps",
        }[self.phase]

    def shown(self) -> dict[str, Any]:
        """For programs."""
        found = asdict(self)
        for number, step in enumerate(found["steps"], 1):
            step["number"] = number
        return {**found, "alive": self.alive(), "where": self.where()}


def read(disk: str) -> Sequence | None:
    """The newest sequence on a disk, whether it is over or not; None where there is none.

    Raises:
        Refused: there is one, and it can't be read.
    """
    path = journal.path_of(disk, ENDING)
    if not path.exists():
        return None
    data = journal.load(path)
    try:
        data["steps"] = [Record(**step) for step in data["steps"]]
        data["saves"] = [Kept(**kept) for kept in data["saves"]]
        data["mounts"] = [Mount(**mount) for mount in data["mounts"]]
        data["job"] = Process(**data["job"])
        found = Sequence(**data)
    except (TypeError, KeyError):
        raise Refused(
            f"{path}, where the sequence on {disk} stands, can't be read",
            f"pitcopy status {disk} lists its saves; then: pitcopy jobs {disk} --forget",
        ) from None
    found.mounts = [mounts.moved(mount, found.disk, disk) for mount in found.mounts]
    found.disk = disk
    return found


def unfinished(disk: str) -> Refused | None:
    """What a sequence that did not come to its end means for whoever wants to begin another."""
    try:
        found = read(disk)
    except Refused as refused:
        return refused
    if found is None or found.phase == OVER:
        return None
    if found.alive():
        return Refused(
            f"the sequence {found.path} runs on {disk}", f"pitcopy jobs {disk} --show shows it"
        )
    return Refused(
        f"the sequence {found.path} on {disk} {found.where()}",
        f"go on: pitcopy jobs {disk} --continue; or keep the disk as it is and forget the sequence: "
        f"pitcopy jobs {disk} --forget",
    )
