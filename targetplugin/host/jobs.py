"""`pitcopy jobs`: a list of steps with a save before each; the disk is taken back where one fails,
and the list goes on from there.

What is written before what: a step is "running" in the journal before it begins; what it wrote is on
the disk before it is "done"; it is "done" before its save is given up. So whoever finds the journal
after a crash knows what must be taken back, and the save for it is there.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, replace

from targetplugin.host import job, journal, mounts, report, run, sequence, steps
from targetplugin.host.device import Disk
from targetplugin.host.errors import Refused, Stopped, Usage
from targetplugin.host.job import Ended, Watched
from targetplugin.host.journal import Process
from targetplugin.host.sequence import (
    AT_WORK,
    DONE,
    FAILED,
    LEFT,
    OVER,
    READY,
    RECOVERING,
    RUNNING,
    SAVING,
    WAITING,
    Kept,
    Record,
    Sequence,
)  # fmt: skip
from targetplugin.host.steps import Steps
from targetplugin.scsi import pitcopy

STANDARD_ERROR = 2


def begin(disk: Disk, path: str, label: str, to_start: bool, *, as_json: bool = False) -> int:
    """Runs a list. Returns the exit status: 0, or that of the step that failed.

    Raises:
        Refused: it did not begin, or stopped before a step; what the journal then says holds.
    """
    found = steps.read(path)
    label = label or run.fresh_label(disk, run.SEQUENCES)
    with job.aside() as cwd, journal.exclusive(disk.path):
        run.check(disk)
        if (earlier := sequence.unfinished(disk.path)) is not None:
            raise earlier
        _check_labels(disk, label, found)
        report_left_out(found)
        run.make_room(disk)
        plan = Sequence(
            disk.path, found.path, label, to_start, cwd, [_record(one) for one in found.steps],
            saves=_left_by_the_last(disk), mounts=mounts.mounts(disk.path),
        )  # fmt: skip
        plan.write()
        return _Runner(disk, plan, as_json).go()


def go_on(disk: Disk, path: str | None, changed: bool, *, as_json: bool = False) -> int:
    """Goes on with the sequence that was interrupted or failed. As `begin`.

    Args:
        path: where its list is now. changed: it may differ in what is not done.
    """
    if path is not None:
        path = os.path.abspath(path)
    with job.aside(), journal.exclusive(disk.path):
        plan = sequence.read(disk.path)
        if plan is None:
            raise Refused(
                f"{disk.path} has no sequence to go on with", f"pitcopy jobs {disk.path} FILE"
            )
        if plan.phase == OVER:
            report.say(f"the sequence {plan.path} {plan.where()}: there is nothing to go on with")
            return 0
        if plan.job.alive():
            raise Refused(
                f"step {plan.at + 1} ({plan.steps[plan.at].text}) still runs, as process {plan.job.pid}",
                "wait until it ends, or end it; then repeat",
            )
        if not os.path.isdir(plan.cwd):
            raise Refused(
                f"{plan.cwd}, where the steps run, is not there",
                "make it, or mount it; then repeat",
            )
        found = steps.read(path or plan.path)
        _check_changes(plan, found, changed)
        runner = _Runner(disk, plan, as_json)
        runner.find_saves()
        if plan.began_to_write():
            report.say(f"the sequence {plan.path} {plan.where()}")
            with job.held() as watched:
                if not runner.take_back():
                    return 1
                if told := job.pending(watched):
                    raise Stopped(told)
        _take_changes(plan, found)
        _mount_missing(disk, plan)
        run.check(disk)
        plan.pid = os.getpid()
        plan.write()
        return runner.go()


def forget(disk: str) -> Sequence | None:
    """Forgets the sequence; the disk stays as it is, and so do its saves. Returns what was forgotten.

    Raises:
        Refused: it runs.
    """
    with journal.exclusive(disk):
        try:
            found = sequence.read(disk)
        except Refused:
            found = None  # can't be read: what is left of it goes
        if found is not None and found.job.alive():
            raise Refused(
                f"step {found.at + 1} still runs, as process {found.job.pid}", "end it, then repeat"
            )
        journal.forget(journal.path_of(disk, sequence.ENDING))
        return found


def report_left_out(found: Steps) -> None:
    """Says which files of a directory are no steps."""
    if found.left_out:
        report.say(f"{found.path}: left out: {', '.join(found.left_out)}")


# --- before it goes -----------------------------------------------------------------------------


def _record(step: steps.Step) -> Record:
    return Record(step.text, list(step.command), step.digest, step.shares)


def _check_labels(disk: Disk, label: str, found: Steps) -> None:
    longest = f"{label}-{len(found.steps)}.99"
    if len(longest.encode()) > pitcopy.LABEL_LENGTH:
        room = pitcopy.LABEL_LENGTH - len(longest.encode()) + len(label.encode())
        raise Usage(
            f"the label {label!r} is too long: the number of a step is added to it",
            f"at most {room} bytes for a list of {len(found.steps)} steps",
        )
    wanted = {f"{label}-{number}" for number in range(1, len(found.steps) + 1)}
    for save in disk.saves():
        if save.label in wanted:
            raise Refused(
                f"the label {save.label} is taken by save {save.generation} of {disk.path}",
                f"use another --label, or give that save up: pitcopy release {disk.path} "
                f"--save {save.generation}",
            )


def _left_by_the_last(disk: Disk) -> list[Kept]:
    """Saves of the last sequence, which is over: the first save of this one makes them superfluous."""
    last = sequence.read(disk.path)
    return [replace(kept, step=-1) for kept in last.saves] if last else []


def _check_changes(plan: Sequence, found: Steps, changed: bool) -> None:
    """Raises Refused where the list is another than the sequence can go on with."""
    done = plan.back_to() if plan.began_to_write() else plan.at
    for number, text in steps.changes([record.step() for record in plan.steps], found.steps):
        if number <= done:
            raise Refused(
                f"the list {found.path} was changed where it is done already: {text}",
                f"put it back as it was (pitcopy jobs {plan.disk} --show), or forget the sequence: "
                f"pitcopy jobs {plan.disk} --forget",
            )
        if not changed:
            raise Refused(
                f"the list {found.path} was changed since: {text}",
                f"to go on with it as it is now: pitcopy jobs {plan.disk} --continue --changed",
            )
    if len(found.steps) <= done:
        raise Refused(
            f"the list {found.path} has no step left that is not done",
            f"pitcopy jobs {plan.disk} --forget",
        )


def _take_changes(plan: Sequence, found: Steps) -> None:
    """Lets the list as it is now be what is not done yet."""
    plan.path = found.path
    if [record.step() for record in plan.steps] == list(found.steps):
        return
    plan.steps[plan.at :] = [_record(step) for step in found.steps[plan.at :]]
    if plan.save_of(plan.back_to()) is None:
        plan.steps[plan.at].shares = False  # the save that it would share is given up


def _mount_missing(disk: Disk, plan: Sequence) -> None:
    """After a reboot, what was mounted when the sequence began may not be."""
    there = {mount.where for mount in mounts.mounts(disk.path)}
    missing = [mount for mount in plan.mounts if mount.where not in there]
    for mount in missing:
        report.say(f"mounting {mount.where}, as it was when the sequence began")
        if all(mount.device != one.device for one in mounts.mounts(disk.path)):
            mounts.check(mount)
        mounts.mount_again(mount)


# --- as it goes ---------------------------------------------------------------------------------


class _Runner:
    """A sequence at work on a disk."""

    def __init__(self, disk: Disk, plan: Sequence, as_json: bool) -> None:
        self._disk = disk
        self._plan = plan
        self._stdout = STANDARD_ERROR if as_json else None  # standard output is JSON's then

    def go(self) -> int:
        """Runs what is left. Returns the exit status."""
        plan = self._plan
        while plan.at < len(plan.steps):
            if not plan.shares(plan.at):
                self._save()
            ended, failed = self._step()
            if failed:
                if plan.phase == READY:
                    report.say(f"to go on from there: pitcopy jobs {self._disk.path} --continue")
                return ended.code
            if ended.told and plan.phase != OVER:
                report.refused(
                    f"stopped by signal {ended.told} before step {plan.at + 1}",
                    f"pitcopy jobs {self._disk.path} --continue",
                )
                return 128 + ended.told
        report.say(f"all {len(plan.steps)} steps are done; {self._kept()}")
        return 0

    def _kept(self) -> str:
        names = ", ".join(f"{kept.label} ({kept.generation})" for kept in self._plan.saves)
        return f"save {names} stays until the next sequence"

    # --- saves ----------------------------------------------------------------------------------

    def find_saves(self) -> None:
        """Asks the disk which saves of the sequence are there, one that was being made included.

        Raises:
            Refused: the one that is needed is not.
        """
        plan = self._plan
        there = self._disk.saves()
        plan.saves = [k for k in plan.saves if any(s.generation == k.generation for s in there)]
        made = next((s for s in there if s.label == plan.saving), None) if plan.saving else None
        if made is not None and all(k.generation != made.generation for k in plan.saves):
            split = len(self._disk.status().legs) < plan.legs
            plan.saves.append(Kept(plan.at, made.label, made.generation, split))
        plan.saving = ""
        needed = plan.back_to()
        if (plan.began_to_write() or plan.at != needed) and plan.save_of(needed) is None:
            raise Refused(
                f"the save before step {needed + 1} of {plan.path} is not on {self._disk.path} any "
                "more: the disk can't be taken back to it",
                "recover from another (pitcopy status), or keep the disk as it is; then forget the "
                f"sequence: pitcopy jobs {self._disk.path} --forget",
            )

    def _save(self) -> None:
        """Makes the save before the present step, and gives up what it makes superfluous."""
        plan, disk = self._plan, self._disk
        old = list(plan.saves)  # their steps are done, or taken back: none of them is needed
        if not run.spare_leg(disk):
            self._give_up([kept for kept in old if kept.split])
        taken = {save.label for save in disk.saves()}
        label = f"{plan.label}-{plan.at + 1}"
        again = next(n for n in range(2, len(taken) + 3) if f"{label}.{n}" not in taken)
        label = f"{label}.{again}" if label in taken else label
        plan.phase, plan.saving, plan.legs = SAVING, label, len(disk.status().legs)
        plan.write()
        save = run.save_with_room(disk, label, [kept.generation for kept in old])
        split = len(disk.status().legs) < plan.legs
        plan.saves.append(Kept(plan.at, label, save.generation, split))
        plan.phase, plan.saving = READY, ""
        plan.write()
        report.say(f"{disk.path} is saved as {label} (generation {save.generation})")
        report.event("saved", step=plan.at + 1, label=label, generation=save.generation)
        self._give_up([kept for kept in old if kept in plan.saves])

    def _give_up(self, old: list[Kept]) -> None:
        for kept in old:
            save = next((s for s in self._disk.saves() if s.generation == kept.generation), None)
            try:
                if save is not None:
                    as_leg = kept.split and save.fill == "whole"
                    run.give_up(self._disk, save, as_leg=as_leg)
            except Refused as refused:  # it stays; that is no reason to stop
                report.say(refused.message)
                continue
            self._plan.saves.remove(kept)
            self._plan.write()

    # --- a step ---------------------------------------------------------------------------------

    def _step(self) -> tuple[Ended, bool]:
        """Runs the present step; takes the disk back if it fails. Returns how it ended, and whether
        it failed.
        """
        plan = self._plan
        record = plan.steps[plan.at]
        kept = plan.save_of(plan.back_to())
        assert kept is not None
        with job.held() as watched:
            record.state, record.generation = RUNNING, kept.generation
            record.began, record.ended, record.status = time.time(), 0.0, None
            record.tries += 1
            plan.phase = AT_WORK
            plan.write()
            self._tell(record)
            ended = self._execute(record, watched)
            record.ended, record.status = time.time(), ended.code
            plan.job = Process()
            if ended.good:
                try:
                    mounts.flush(self._disk.path)
                except Refused as refused:
                    report.say(refused.message)
                    ended = Ended(1)
                    record.status = 1
            if not ended.good:
                record.state = FAILED
                plan.phase = RECOVERING
                plan.write()
                report.say(f"step {plan.at + 1} ({record.text}) {run.how(ended)}")
                self._tell(record)
                self.take_back()
                return ended, True
            record.state = DONE
            plan.at += 1
            plan.phase = READY if plan.at < len(plan.steps) else OVER
            plan.write()
            self._tell(record)
            told = ended.told or job.pending(watched)
            return Ended(0, told, True), False

    def _tell(self, record: Record) -> None:
        number = next(n for n, one in enumerate(self._plan.steps, 1) if one is record)
        if record.state == RUNNING:
            report.say(f"step {number} of {len(self._plan.steps)}: {record.text}")
        report.event("step", number=number, **asdict(record))

    def _execute(self, record: Record, watched: Watched) -> Ended:
        def began(pid: int) -> None:
            self._plan.job = journal.process(pid)
            self._plan.write()

        return job.execute(
            record.command, watched, cwd=self._plan.cwd, stdout=self._stdout, began=began
        )

    def take_back(self) -> bool:
        """Takes the disk back to before the step that failed or was interrupted, or to the save that
        it shares. Returns whether that could be done; what stood in its way is told.
        """
        plan, disk = self._plan, self._disk
        back = plan.back_to()
        kept = plan.save_of(back)
        assert kept is not None
        plan.phase = RECOVERING
        plan.write()
        report.say(f"taking {disk.path} back to {kept.label} (generation {kept.generation})")
        try:
            save = disk.save_named(str(kept.generation))
            changed, seconds = run.recover(disk, save, plan.mounts, no_undo=True)
        except Refused as refused:
            plan.phase = LEFT
            plan.write()
            report.refused(refused.message, refused.hint)
            report.say(
                f"{disk.path} is as the step left it; then: pitcopy jobs {disk.path} --continue"
            )
            return False
        for record in plan.steps[back : plan.at + 1]:
            if record.state != FAILED:
                record.state = WAITING
        plan.at, plan.phase = back, READY
        plan.write()
        report.say(
            f"{disk.path} is as it was before step {back + 1}: {changed} extents differed, in force "
            f"after {seconds:.2f} s"
        )
        report.event("recovered", step=back + 1, generation=kept.generation, extents=changed)
        return True
