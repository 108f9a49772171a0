"""The tree of verbs: its grammar, and running one that was parsed. Each group of verbs has its file."""

from __future__ import annotations

import argparse

from targetplugin import __version__
from targetplugin.control.client import DEFAULT_SOCKET, ControlError
from targetplugin.terminal import (
    backups,
    completion,
    doctor,
    errors,
    events,
    exports,
    fates,
    grammar,
    groups,
    keeping,
    legs,
    media,
    operations,
    recovers,
    saves,
    scrub,
    volumes,
)
from targetplugin.terminal.session import Session

_ABOUT = """\
Save a volume, run a job, and take the volume back if the job fails.

With no verb it opens a shell: a tree of volumes, saves, groups, media and operations."""

_EXAMPLES = """\
from disks to a saved job:
  targetplugin media add /dev/disk/by-id/virtio-media-a
  targetplugin media add /dev/disk/by-id/virtio-media-b
  targetplugin volume create ledger --size 512M --mirror 2
  targetplugin export ledger --initiator iqn.2026-01.org.example:host --chap
  targetplugin save ledger --label before-night-run
  targetplugin diff ledger
  targetplugin recover ledger@before-night-run
when something does not work:
  targetplugin doctor

exit status: 0 done, 1 refused by the state or the environment, 2 usage"""


def build_parser() -> grammar.Parser:
    """The whole grammar."""
    parser = grammar.Parser(prog="targetplugin", description=_ABOUT, epilog=_EXAMPLES)
    parser.add_argument("--version", action="version", version=f"targetplugin {__version__}")
    socket = parser.add_argument(
        "--socket", default=DEFAULT_SOCKET, metavar="PATH", help="the daemon's control socket"
    )
    grammar.completed(socket, "file")
    parser.set_defaults(run=None, json=False)
    verbs = parser.add_subparsers(metavar="VERB", title="verbs")
    operations.declare_status(verbs)
    for part in (
        media,
        volumes,
        legs,
        exports,
        saves,
        recovers,
        fates,
        keeping,
        groups,
        backups,
        operations,
        events,
        scrub,
        doctor,
    ):
        part.declare(verbs)
    completion.declare(verbs, parser)
    return parser


def run(session: Session, args: argparse.Namespace) -> int:
    """Runs a parsed verb. Returns its exit status; what is wrong was told."""
    session.as_json = args.json
    try:
        return args.run(session, args) or errors.DONE
    except ControlError as error:
        return errors.tell(error, as_json=args.json)
