"""pitcopy: save, run a job, and take the disk back, asked in-band by SCSI commands on the disk itself.

examples:
  pitcopy status /dev/sdb
  pitcopy run /dev/sdb -- /usr/local/bin/night-job   if it fails, the disk is as before
  pitcopy jobs /dev/sdb /etc/night.list              a save before each step; --continue goes on
  pitcopy save /dev/sdb --label before-upgrade
  pitcopy save /dev/sdb /dev/sdc --label night       both at one instant, or none
  pitcopy save /dev/sdb --no-fill                    keeps only what is overwritten from now on
  pitcopy save /dev/sdb --label quarter --hold 90d   nobody takes it away before (right all)
  pitcopy diff /dev/sdb --save before-upgrade
  pitcopy recover /dev/sdb --save before-upgrade     unmounts, recovers, mounts again
  pitcopy undo /dev/sdb                              takes that back, in the same way
  pitcopy swap /dev/sdb /dev/sdc --save night        both at one instant; recover and undo likewise
  pitcopy restore /dev/sdb --backup 3 --wait; pitcopy swap /dev/sdb

DEVICE is the disk, or a partition, LVM volume or multipath device on it. With --json standard output
is one JSON value; what happens meanwhile is told on standard error, as one JSON event a line.

Exit status: 0 done, 1 refused, 2 wrong usage; of `run` and `jobs`, the command's own; 128 + N: told
to stop by signal N. Needs root (CAP_SYS_RAWIO).
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from targetplugin.host import jobs_verb, journal, report, ritual, run, sequence, together
from targetplugin.host.device import Disk, whole_disk
from targetplugin.host.errors import Refused, Stopped, Usage
from targetplugin.scsi.pitcopy import MAX_HOLD, Operation, OutAction, Save


def parser() -> argparse.ArgumentParser:
    """The command line."""
    first, _, rest = (__doc__ or "").partition("\n")
    top = argparse.ArgumentParser(
        prog="pitcopy",
        description=first,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(
        name: str, text: str, *, save: bool = False, wait: bool = False, many: bool = False
    ) -> Any:
        one = verbs.add_parser(name, help=text, description=text)
        one.add_argument(
            "device",
            metavar="DEVICE",
            nargs="+" if many else None,
            help="the disk, as in /dev/sdb or /dev/disk/by-id/...",
        )
        one.add_argument("--json", action="store_true", help="print JSON for programs")
        if many:
            one.add_argument(
                "--deadline",
                type=int,
                default=0,
                metavar="MS",
                help="of several disks: how long writes may be paused for it, 1 to 5000 ms",
            )
        if save:
            one.add_argument(
                "--save",
                metavar="LABEL|GENERATION",
                help="which save; the newest where none is named",
            )
        if wait:
            one.add_argument(
                "--wait", action="store_true", help="until the copy in the background is over"
            )
        return one

    verb("status", "show the volume, its legs, saves, and an interrupted run")
    one = verb(
        "save",
        "save the disk as it is now, at once; several disks at one instant, all or none",
        wait=True,
        many=True,
    )
    one.add_argument("--label", default="", help="at most 32 bytes, not all digits")
    how = one.add_mutually_exclusive_group()
    how.add_argument(
        "--no-fill",
        action="store_true",
        help="keep only what is overwritten from now on, beside the other saves of this kind",
    )
    how.add_argument(
        "--replace",
        metavar="LABEL|GENERATION",
        help="an older save, which is given up: only what differs is copied to its medium",
    )
    one.add_argument(
        "--hold",
        type=_duration,
        default=0,
        metavar="TIME",
        help="nobody takes it away for that long: 14d, 36h, 1w2d or 90m (minutes); needs the right all",
    )
    verb("diff", "list what changed since a save", save=True)
    one = verb(
        "recover",
        "take the disk back to a save: unmount, recover, mount again; several at one instant",
        save=True,
        wait=True,
        many=True,
    )
    one.add_argument("--no-undo", action="store_true", help="keep nothing for `pitcopy undo`")
    one = verb(
        "undo",
        "take the last recover back: unmount, undo, mount again; several that were recovered as one",
        wait=True,
        many=True,
    )
    one.add_argument("--no-undo", action="store_true", help="keep nothing for a second undo")
    one = verb("restore", "restore a backup onto a spare while work goes on; then swap", wait=True)
    one.add_argument(
        "--backup", type=int, metavar="N", help="its number; the newest where none is given"
    )
    verb(
        "swap",
        "make a save, or a restored backup, the disk; a second swap undoes it; several at one instant",
        save=True,
        many=True,
    )
    verb("resync", "give a save up: its medium is a leg of the mirror again", save=True, wait=True)
    verb("release", "give a save up: its medium is free", save=True)
    verb("operations", "list what was asked of the volume, newest first")
    verb("backups", "list the backups that may be restored")
    verb("keep", "forget an interrupted run, and keep what it wrote")
    jobs_verb.add(verbs)
    one = verbs.add_parser(
        "run",
        help="save, run a command, and take the disk back if it fails",
        description="Saves the disk with its file systems still, runs COMMAND, and if that fails unmounts, "
        "recovers, checks and mounts again. The exit status is the command's. The save stays; when the "
        "mirror has no leg to spare, the save of an earlier run is given up first. Where something keeps "
        "a file system busy, it is named and the save is left for `pitcopy recover`; what does so before "
        "the command begins is refused then. SIGTERM, SIGHUP (a terminal that goes away; not under nohup) "
        "and SIGINT are passed on to the command and all that it started, and the disk is taken back; "
        "Ctrl-C reaches the command by itself, and its exit status counts.",
    )
    one.add_argument("device", metavar="DEVICE")
    one.add_argument("--label", help="of the save; else run-DATE-TIME")
    one.add_argument("command", nargs="*", metavar="-- COMMAND...")
    return top


def _duration(text: str) -> int:
    """Seconds of `14d` or `1w2d`. An argparse type."""
    seconds = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}
    if not re.fullmatch(r"([0-9]{1,9}[wdhms])+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 14d, 36h, 1w2d or 90m")
    total = sum(int(n) * seconds[unit] for n, unit in re.findall(r"([0-9]+)([wdhms])", text))
    if not 0 < total <= MAX_HOLD:
        raise argparse.ArgumentTypeError(f"{text!r} is no time up to a hundred years")
    return total


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    command: list[str] = []
    if words[:1] == ["run"] and "--" in words:  # what follows is the command's, options too
        at = words.index("--")
        words, command = words[:at], words[at + 1 :]
    top = parser()
    options, more = top.parse_known_args(words)
    if more and not jobs_verb.listed(options, more):
        top.error(f"unrecognized arguments: {' '.join(more)}")
    report.as_events(getattr(options, "json", False))
    try:
        with _stoppable():
            return _do(options, command)
    except Refused as refused:
        report.refused(refused.message, refused.hint)
        return refused.status
    except (Stopped, KeyboardInterrupt) as stop:
        report.refused("interrupted", f"pitcopy status {options.device} shows where things stand")
        return 128 + (stop.number if isinstance(stop, Stopped) else signal.SIGINT)
    except BrokenPipeError:
        return 1


def _do(options: argparse.Namespace, command: list[str]) -> int:
    if options.verb == "run":
        command = command or options.command
        if not command:
            raise Usage("there is no command to run", "pitcopy run DEVICE -- COMMAND...")
        label = checked(options.label or "")
        return run.run(Disk(options.device), command, label)
    if options.verb == "jobs":
        return jobs_verb.do(options, checked)
    if options.verb == "keep":
        return _keep(options)
    if isinstance(options.device, list):
        options.others = options.device[1:]
        options.device = options.device[0]
    result = VERBS[options.verb](Disk(options.device), options)
    if options.json:
        report.show(result)
    return 0


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and SIGHUP end what is under way as Ctrl-C does: with all thawed and mounted again."""

    def stop(number: int, frame: object) -> None:
        raise Stopped(number)

    before = {
        number: signal.signal(number, stop)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) == signal.SIG_DFL
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- looking ------------------------------------------------------------------------------------


def _status(disk: Disk, options: argparse.Namespace) -> dict[str, Any]:
    status, can, saves = disk.status(), disk.capabilities(), disk.saves()
    entry = journal.read(disk.path)
    found = {
        "device": disk.path,
        "rights": can.rights,
        **asdict(status),
        "legs": [{"state": state, "lacks": lacks} for state, lacks in status.legs],
        "saves": [asdict(save) for save in saves],
        "run": {**asdict(entry), "alive": entry.alive()} if entry else None,
    }
    if options.json:
        steps = sequence.read(disk.path)
        return {**found, "jobs": steps.shown() if steps else None}
    changed = report.size(status.changed * status.extent_size)
    print(f"{disk.path}: {status.state}, generation {status.generation}, {changed} changed in it")
    print("legs: " + ", ".join(s + (f" (lacks {n} extents)" if n else "") for s, n in status.legs))
    if status.verb:
        print(f"running: {status.verb} (operation {status.operation}), {status.progress:.0%}")
    rows = [
        (s.generation, s.label or "-", report.when(s.time), s.fill, f"{s.percent}%", s.activity,
         report.size(s.changed * status.extent_size), report.when(s.held) if s.held else "-")
        for s in saves
    ]  # fmt: skip
    if rows:
        heads = ("SAVE", "LABEL", "TAKEN", "FILL", "%", "IN USE FOR", "CHANGED SINCE", "HELD UNTIL")
        report.table(heads, rows)
    else:
        print("no saves")
    for refused in (run.interrupted(disk.path), sequence.unfinished(disk.path)):
        if refused:
            print(f"{refused.message}\nnext: {refused.hint}")
    return found


def _diff(disk: Disk, options: argparse.Namespace) -> dict[str, Any]:
    save = disk.save_named(options.save)
    found = disk.differential(save)
    block = disk.block_size()
    runs = [{"offset": lba * block, "length": blocks * block} for lba, blocks in found.runs]
    total = sum(one["length"] for one in runs)
    extents = sum(-(-one["length"] // found.extent_size) for one in runs)
    if not options.json:
        report.table(("OFFSET", "LENGTH"), [(r["offset"], r["length"]) for r in runs])
        print(
            f"{extents} extents, {report.size(total)}, changed since {save.label or save.generation}"
        )
    return {
        "save": save.generation,
        "generation": found.live,
        "extent_size": found.extent_size,
        "extents": extents,
        "bytes": total,
        "list": runs,
    }


def _operations(disk: Disk, options: argparse.Namespace) -> list[dict[str, Any]]:
    found = disk.operations()
    if not options.json:
        report.table(
            ("NUMBER", "VERB", "SAVE", "STATE", "PROGRESS"),
            [(o.number, o.verb, o.generation or "-", o.state, f"{o.progress:.0%}") for o in found],
        )
    return [{**asdict(o), "request": o.request.hex(), "sense": o.sense.hex()} for o in found]


def _backups(disk: Disk, options: argparse.Namespace) -> list[dict[str, Any]]:
    found = disk.backups()
    if not options.json:
        report.table(
            ("NUMBER", "LABEL", "MADE", "SIZE", "FITS"),
            [
                (
                    b.number,
                    b.label or "-",
                    report.when(b.time),
                    report.size(b.size),
                    "yes" if b.fits else "no",
                )
                for b in found
            ],
        )
    return [asdict(backup) for backup in found]


def checked(label: str) -> str:
    """A label that can be asked for."""
    if label.isdigit():
        raise Usage(f"{label} can't be a label: it would look like a generation", "add a letter")
    return label


# --- verbs --------------------------------------------------------------------------------------


def _save(disk: Disk, options: argparse.Namespace) -> dict[str, Any] | list[dict[str, Any]]:
    label = checked(options.label)
    if options.others:
        return _save_together([disk, *map(Disk, options.others)], label, options)
    _no_deadline(options)
    before = {save.generation for save in disk.saves()}
    older = disk.save_named(options.replace) if options.replace else None
    replaced = older.generation if older else 0
    label = label or (older.label if older else "")

    def ask() -> None:
        with ritual.frozen(disk.path):
            disk.request(
                OutAction.SAVE,
                label=label,
                generation=replaced,
                no_fill=options.no_fill,
                hold=options.hold,
            )

    report.patiently("waiting for the volume", ask) if options.wait else ask()
    save = next(save for save in disk.saves() if save.generation not in before)
    if not options.json:
        held = f", held until {report.when(save.held)}" if save.held else ""
        called = label or save.generation
        print(f"{disk.path} is saved as {called} (generation {save.generation}){held}")
    if options.wait:
        _wait(disk, "save", options)
    return asdict(save)


def _no_deadline(options: argparse.Namespace) -> None:
    if options.deadline:
        raise Usage(
            "--deadline is for several disks",
            f"pitcopy {options.verb} DEVICE DEVICE... --deadline MS",
        )


def _save_together(
    disks: list[Disk], label: str, options: argparse.Namespace
) -> list[dict[str, Any]]:
    saves = together.save(
        disks,
        label,
        options.deadline,
        no_fill=options.no_fill,
        hold=options.hold,
        wait=options.wait,
    )
    for disk, save in zip(disks, saves, strict=True):
        if not options.json:
            print(f"{disk.path} is saved as {label or save.generation} ({save.generation})")
    for disk in disks if options.wait else []:
        _wait(disk, "save", options)
    return [{"device": d.path, **asdict(s)} for d, s in zip(disks, saves, strict=True)]


def _recover_together(disks: list[Disk], options: argparse.Namespace) -> list[dict[str, Any]]:
    for disk in disks:
        _check_idle(disk)
    saves, seconds = together.recover(
        disks, options.save, options.deadline, no_undo=options.no_undo
    )
    for disk, save in zip(disks, saves, strict=True):
        if not options.json:
            print(f"{disk.path} is back at {save.label or save.generation}")
    if not options.json:
        print(f"all at one instant, in force after {seconds:.2f} s")
        _tell_undo(disks)
    for disk in disks if options.wait else []:
        _wait(disk, "recover", options)
    return [
        {"device": disk.path, "save": asdict(save), "seconds_in_force": seconds}
        for disk, save in zip(disks, saves, strict=True)
    ]


def _recover(disk: Disk, options: argparse.Namespace) -> dict[str, Any] | list[dict[str, Any]]:
    if options.others:
        return _recover_together([disk, *map(Disk, options.others)], options)
    _no_deadline(options)
    _check_idle(disk)
    save = disk.save_named(options.save)
    entry = journal.read(disk.path)
    changed, seconds = run.recover(
        disk, save, entry.mounts if entry else None, no_undo=options.no_undo
    )
    if entry:
        entry.remove()
    if not options.json:
        print(
            f"{disk.path} is back at {save.label or save.generation}: {changed} extents differed, "
            f"in force after {seconds:.2f} s"
        )
        _tell_undo([disk])
    if options.wait:
        _wait(disk, "recover", options)
    return {"save": asdict(save), "extents_changed": changed, "seconds_in_force": seconds}


def _undoable(disk: Disk) -> tuple[Operation, Save]:
    """What an undo of a disk takes back, and the save that it goes back to."""
    _check_idle(disk)
    last = _last(disk)
    if last is None:
        raise Refused(f"{disk.path} was not recovered, so there is nothing to undo")
    save = next((s for s in disk.saves() if s.undo and s.generation == last.undo), None)
    if save is None:
        raise Refused(
            f"{disk.path}: the {last.verb} (operation {last.number}) can't be undone: "
            + ("its undo save was given up" if last.undo else "it took no undo save"),
            f"pitcopy status {disk.path} lists the saves that it can be taken back to",
        )
    return last, save


def _undo_together(disks: list[Disk], options: argparse.Namespace) -> list[dict[str, Any]]:
    found = [_undoable(disk) for disk in disks]
    number = found[0][0].number
    seconds = together.undo(disks, number, options.deadline, no_undo=options.no_undo)
    if not options.json:
        for disk, (last, _) in zip(disks, found, strict=True):
            print(f"{disk.path} is as it was before operation {last.number}")
        print(f"all at one instant, in force after {seconds:.2f} s")
        _tell_undo(disks)
    for disk in disks if options.wait else []:
        _wait(disk, "undo", options)
    return [
        {
            "device": disk.path,
            "undone": last.number,
            "save": asdict(save),
            "seconds_in_force": seconds,
        }
        for disk, (last, save) in zip(disks, found, strict=True)
    ]


def _undo(disk: Disk, options: argparse.Namespace) -> dict[str, Any] | list[dict[str, Any]]:
    if options.others:
        return _undo_together([disk, *map(Disk, options.others)], options)
    _no_deadline(options)
    last, save = _undoable(disk)
    # One that still copies is waited for while the file systems are at work.
    report.patiently(
        "waiting for the volume",
        lambda: disk.request(
            OutAction.UNDO, generation=last.number, no_undo=options.no_undo, preview=True
        ),
    )
    changed, seconds = run.recover(
        disk, save, action=OutAction.UNDO, number=last.number, no_undo=options.no_undo
    )
    if not options.json:
        print(
            f"{disk.path} is as it was before operation {last.number}: {changed} extents differed, "
            f"in force after {seconds:.2f} s"
        )
        _tell_undo([disk])
    if options.wait:
        _wait(disk, "undo", options)
    return {
        "undone": last.number,
        "save": asdict(save),
        "extents_changed": changed,
        "seconds_in_force": seconds,
    }


def _last(disk: Disk) -> Operation | None:
    """What replaced the disk's content last, and may be undone."""
    done = (o for o in disk.operations() if o.state in ("running", "done"))
    return next((o for o in done if o.verb in ("recover", "undo")), None)


def _tell_undo(disks: list[Disk]) -> None:
    last = [_last(disk) for disk in disks]
    kept = [str(one.undo) for one in last if one is not None and one.undo]
    if len(kept) == len(disks):
        how = "pitcopy undo " + " ".join(disk.path for disk in disks)
        print(f"what it was is kept (generation {', '.join(kept)}); back to it: {how}")
    else:
        print("no undo save was taken: this can't be undone")


def _check_idle(disk: Disk) -> None:
    """Raises Refused while a run or a sequence is at work: it takes the disk back by itself."""
    entry = journal.read(disk.path)
    if journal.busy(disk.path) or (entry and entry.alive()):
        raise Refused(
            f"a pitcopy run, or jobs, is at work on {disk.path}",
            "wait until it is done, or stop it: told by SIGTERM it takes the disk back",
        )


def _restore(disk: Disk, options: argparse.Namespace) -> dict[str, Any]:
    backups = disk.backups()
    number = options.backup
    if number is None:
        if not backups:
            raise Refused(
                f"{disk.path} has no registered backup",
                "the operator registers one: targetplugin backups register VOLUME IMAGE",
            )
        number = max(backup.number for backup in backups)
    elif number not in [backup.number for backup in backups]:
        raise Refused(
            f"{disk.path} has no backup {number}", f"pitcopy backups {disk.path} lists them"
        )
    disk.request(OutAction.RESTORE, backup=number)
    if options.wait:
        _wait(disk, "restore", options)
    if not options.json:
        how = "is restored" if options.wait else "is being restored"
        print(f"backup {number} {how} beside {disk.path}; then: pitcopy swap {disk.path}")
    return {"backup": number}


def _swap_together(disks: list[Disk], options: argparse.Namespace) -> list[dict[str, Any]]:
    for disk in disks:
        _check_idle(disk)
    saves, seconds = together.swap(disks, options.save, options.deadline)
    if not options.json:
        for disk, save in zip(disks, saves, strict=True):
            print(f"{disk.path} is {save.label or save.generation} now")
        print(f"all at one instant, in force after {seconds:.2f} s; a second swap undoes it")
    return [
        {"device": disk.path, "save": asdict(save), "seconds_in_force": seconds}
        for disk, save in zip(disks, saves, strict=True)
    ]


def _swap(disk: Disk, options: argparse.Namespace) -> dict[str, Any] | list[dict[str, Any]]:
    if options.others:
        return _swap_together([disk, *map(Disk, options.others)], options)
    _no_deadline(options)
    _check_idle(disk)
    save = disk.save_named(options.save)
    ritual.left(disk.path, lambda: _ask(disk, OutAction.SWAP, save.generation))
    if not options.json:
        print(f"{disk.path} is {save.label or save.generation} now; a second swap undoes it")
    return {"save": asdict(save)}


def _ask(disk: Disk, action: OutAction, generation: int) -> None:
    disk.request(action, generation=generation)


def _give_up(disk: Disk, options: argparse.Namespace) -> dict[str, Any]:
    save = disk.save_named(options.save)
    action = OutAction.RESYNC if options.verb == "resync" else OutAction.RELEASE
    disk.request(action, generation=save.generation)
    if not options.json:
        becomes = "becomes a leg again" if action is OutAction.RESYNC else "is free"
        print(f"{save.label or save.generation} is given up; its medium {becomes}")
    if action is OutAction.RESYNC and options.wait:
        _wait(disk, "resync", options)
    return {"save": asdict(save)}


def _keep(options: argparse.Namespace) -> int:
    disk = whole_disk(options.device)
    entry = journal.read(disk)
    if entry is not None and not entry.alive():
        entry.remove()
    report.say(f"no run is remembered on {disk}")
    return 0


def _wait(disk: Disk, verb: str, options: argparse.Namespace) -> None:
    """Shows progress until the volume's operation is over, and says if it failed."""
    progress = report.Progress(verb)
    while (status := disk.status()).verb == verb:
        progress(status.progress)
        time.sleep(report.PAUSE)
    progress.end()
    last = next((o for o in disk.operations() if o.verb == verb), None)
    if last is not None and last.state in ("failed", "aborted"):
        raise Refused(f"the {verb} (operation {last.number}) {last.state}", "ask the operator why")


VERBS = {
    "status": _status,
    "save": _save,
    "diff": _diff,
    "recover": _recover,
    "undo": _undo,
    "restore": _restore,
    "swap": _swap,
    "resync": _give_up,
    "release": _give_up,
    "operations": _operations,
    "backups": _backups,
}

if __name__ == "__main__":
    sys.exit(main())
