"""`targetplugin doctor`: what a machine lacks before anything is asked of it, line by line."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from targetplugin.terminal import errors, grammar
from targetplugin.terminal.session import Session
from targetplugin.terminal.sizes import parse_size
from targetplugin.terminal.tables import printable, say

if TYPE_CHECKING:
    from targetplugin.doctor.finding import Finding

_STATE_DIR = "/var/lib/targetplugin"
_MARKS = {"ok": "32", "warning": "33", "problem": "31"}  # the colours of ECMA-48, 8.3.117


def declare(verbs: grammar.Verbs) -> None:
    parser = grammar.verb(
        verbs,
        "doctor",
        _doctor,
        "look at this machine, and say what is in the way and what to do",
        more=(
            "Kernel, modules, configfs, programs, the state directory, the daemon, the port, logins that\n"
            "were refused, and disks. Changes nothing, and works without the daemon. Say what you are\n"
            "about to do, and that is looked at, too.\n\n"
            "Exit status: 0 nothing is in the way, or warnings alone; 1 a problem."
        ),
        examples=[
            "doctor",
            "doctor --disk /dev/vdb --size 10G --initiator iqn.2026-01.org.example:host",
        ],
    )
    disk = parser.add_argument(
        "--disk",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH",
        help="disks that are to be media (default: any)",
    )
    grammar.completed(disk, "file")
    text = "of the volume that is to fit on each, as 512M"
    parser.add_argument("--size", type=parse_size, help=text)
    parser.add_argument(
        "--initiator",
        nargs="+",
        action="extend",
        default=[],
        metavar="IQN",
        help="names of hosts that are to log in",
    )
    parser.add_argument(
        "--portal",
        nargs="+",
        action="extend",
        default=[],
        metavar="IP[:PORT]",
        help="where exports are to listen (default: port 3260 of every address)",
    )
    state = parser.add_argument(
        "--state-dir",
        default=_STATE_DIR,
        type=grammar.path,
        metavar="DIR",
        help="the daemon's, where it is not the default one",
    )
    grammar.completed(state, "file")


def _doctor(session: Session, args: argparse.Namespace) -> int:
    from targetplugin.doctor.examine import Intended, examine
    from targetplugin.doctor.finding import Level, worst
    from targetplugin.doctor.machine import Machine

    intended = Intended(args.disk, args.size, args.initiator, args.portal)
    found = examine(Machine(), intended, session.socket, args.state_dir)
    level = worst(found)
    result = {
        "worst": level.value,
        "checks": [
            {"check": one.check, "level": one.level.value, "what": one.what, "next": one.next}
            for one in found
        ],
    }
    session.show(result, lambda _: _tell(found))
    return errors.REFUSED if level is Level.PROBLEM else errors.DONE


def _tell(found: list[Finding]) -> None:
    for one in found:
        print(f"{_mark(one.level.value)} {one.check + ':':<10} {printable(one.what)}")
        if one.next:
            say(f"{'':<19}{'What to do: ' if one.level.value != 'ok' else ''}{one.next}")
    counts = {level: sum(one.level.value == level for one in found) for level in _MARKS}
    print()
    say(f"{_count(counts['problem'], 'problem')}, {_count(counts['warning'], 'warning')}.")


def _count(number: int, name: str) -> str:
    return f"{number or 'no'} {name}{'' if number == 1 else 's'}"


def _mark(level: str) -> str:
    padded = f"{level:<8}"
    return f"\x1b[{_MARKS[level]}m{padded}\x1b[0m" if sys.stdout.isatty() else padded
