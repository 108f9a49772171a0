"""The verb `pitcopy jobs`: its options and help, and how a sequence is shown. Decides nothing."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from targetplugin.host import device, jobs, report, sequence
from targetplugin.host.device import Disk
from targetplugin.host.errors import Refused, Usage
from targetplugin.host.sequence import Sequence

TEXT = """Runs the steps of a list one after the other, with a save of the disk before each. When a step fails
(exit status not 0, or a signal), the disk is taken back to what it was before that step, and
--continue goes on from there; steps that are done are not run again. The exit status is that of the
step that failed. Once a step is done its save is given up, and its medium serves the next."""
MORE = """a list is a FILE with a command a line, each run by /bin/sh -c:

  # blank lines and lines with # are left out
  /usr/local/bin/load-orders
  /usr/local/bin/sum-up --day yesterday
  + /usr/local/bin/check-sums      "+ ": no save before it; it shares that of the line above,
                                   and both are taken back together

or a DIRECTORY, whose programs are the steps as run-parts takes them: executable, in the order of
their names, of letters, digits, _ and - alone (others are left out, and named).

examples:
  pitcopy jobs /dev/sdb /etc/night.list
  pitcopy jobs /dev/sdb /etc/night.d --to-start      whatever fails, the disk is as before it all
  pitcopy jobs /dev/sdb --show                       which steps ran, on which save
  pitcopy jobs /dev/sdb --continue                   after a failure, a signal, or a crash of the host
  pitcopy jobs /dev/sdb --continue --changed         the failed step was mended in the list
  pitcopy jobs /dev/sdb --forget                     keep the disk as it is

SIGTERM, SIGHUP (a terminal that goes away) and SIGINT are passed on to the step and all that it
started; then the disk is taken back, whatever the step's exit status. Ctrl-C reaches the step by
itself, and its exit status counts. Started by nohup, it goes on without its terminal. Where a
sequence stands is kept in /var/lib/pitcopy (PITCOPY_STATE_DIR), which must not be on the disk."""


def add(verbs: Any) -> None:
    """Adds the verb to the command line."""
    one = verbs.add_parser(
        "jobs",
        help="run a list of steps with a save before each; go on where one failed",
        description=TEXT,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    one.add_argument(
        "device", metavar="DEVICE", help="the disk, or what stands on it: /dev/sdb, /dev/vg/data"
    )
    one.add_argument("list", metavar="FILE|DIRECTORY", nargs="?", help="the steps")
    what = one.add_mutually_exclusive_group()
    what.add_argument(
        "--continue", dest="go_on", action="store_true", help="go on with the last list"
    )
    what.add_argument("--show", action="store_true", help="show where the last list stands")
    what.add_argument(
        "--forget", action="store_true", help="forget the last list; the disk stays as it is"
    )
    one.add_argument(
        "--to-start",
        action="store_true",
        help="one save, before the first step; the disk is taken back to that",
    )
    one.add_argument(
        "--changed",
        action="store_true",
        help="with --continue: take the list as it is now, but for what is done",
    )
    one.add_argument(
        "--label", help="of the saves; the step's number is added. Else jobs-DATE-TIME"
    )
    one.add_argument(
        "--json",
        action="store_true",
        help="print JSON for programs: the list as --show has it; events on standard error, and the "
        "steps' own output too",
    )


def listed(options: argparse.Namespace, more: list[str]) -> bool:
    """Takes the list where it stands behind options: argparse looks for it before them alone."""
    if options.verb != "jobs" or options.list is not None or len(more) > 1 or more[0][:1] == "-":
        return False
    options.list = more[0]
    return True


def do(options: argparse.Namespace, checked: Callable[[str], str]) -> int:
    """Does what the command line asks for. Returns the exit status."""
    _check(options)
    if options.show or options.forget:  # the disk need not answer
        path = device.whole_disk(options.device)
        if options.forget:
            return _forget(path, options)
        _show(_last(path), options)
        return 0
    disk = Disk(options.device)
    if options.go_on:
        status = jobs.go_on(disk, options.list, options.changed, as_json=options.json)
    else:
        label = checked(options.label or "")
        status = jobs.begin(disk, options.list, label, options.to_start, as_json=options.json)
    if options.json:
        report.show(_last(disk.path).shown())
    return status


def _check(options: argparse.Namespace) -> None:
    again = options.go_on or options.show or options.forget
    if not again and options.list is None:
        raise Usage(
            "there is no list of steps",
            "pitcopy jobs DEVICE FILE|DIRECTORY, or --continue, --show, --forget",
        )
    if (options.show or options.forget) and options.list is not None:
        raise Usage("--show and --forget are about the last list, and take none", "leave it out")
    if again and (options.to_start or options.label):
        raise Usage(
            "--to-start and --label belong to a list's begin, and stay as they were then",
            "leave them out",
        )
    if options.changed and not options.go_on:
        raise Usage("--changed goes with --continue", "pitcopy jobs DEVICE --continue --changed")


def _last(disk: str) -> Sequence:
    found = sequence.read(disk)
    if found is None:
        raise Refused(f"{disk} has no sequence", f"pitcopy jobs {disk} FILE|DIRECTORY")
    return found


def _show(found: Sequence, options: argparse.Namespace) -> None:
    if options.json:
        report.show(found.shown())
        return
    running = found.phase != sequence.OVER and found.alive()
    where = f"runs: step {found.at + 1} of {len(found.steps)}" if running else found.where()
    how = ", back to its start where it fails" if found.to_start else ""
    print(f"{found.path} on {found.disk}{how}: {where}")
    report.table(
        ("STEP", "STATE", "ON SAVE", "BEGAN", "TOOK", "STATUS", "COMMAND"),
        [
            (
                number,
                step.state,
                step.generation or "-",
                report.when(int(step.began)) if step.began else "-",
                report.duration(step.ended - step.began) if step.ended else "-",
                "-" if step.status is None else step.status,
                ("+ " if step.shares else "") + step.text,
            )
            for number, step in enumerate(found.steps, 1)
        ],
    )
    if found.saves:
        print("saves: " + ", ".join(f"{kept.label} ({kept.generation})" for kept in found.saves))
    if found.phase != sequence.OVER and not running:
        print(f"next: pitcopy jobs {found.disk} --continue, or --forget")


def _forget(disk: str, options: argparse.Namespace) -> int:
    found = jobs.forget(disk)
    if options.json:
        report.show({"forgotten": found.shown() if found else None})
    elif found is None:
        report.say(f"no sequence is remembered on {disk}")
    else:
        kept = ", ".join(one.label for one in found.saves)
        report.say(f"{found.path} is forgotten; {disk} stays as it is")
        if kept:
            report.say(f"its saves stay: {kept}; pitcopy release {disk} --save LABEL")
    return 0
