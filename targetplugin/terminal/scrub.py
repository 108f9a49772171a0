"""`targetplugin scrub`: the legs of a mirror, and its whole saves, compared."""

from __future__ import annotations

import argparse

from targetplugin.control.client import ControlError
from targetplugin.terminal import grammar, outcome, results
from targetplugin.terminal.progress import has_ended
from targetplugin.terminal.session import Session
from targetplugin.terminal.sizes import format_size, parse_size
from targetplugin.terminal.tables import draw, say
from targetplugin.terminal.times import format_duration


def declare(verbs: grammar.Verbs) -> None:
    scrub = grammar.verb(
        verbs,
        "scrub",
        _scrub,
        "compare the legs of a volume, and its whole saves, while hosts work",
        more=(
            "The legs in sync are compared with each other, then each whole save with a leg where nothing\n"
            "has changed since. What differs, or can't be read, is told with its place, here and in the\n"
            "events, and left as it is: nobody knows which is right. It goes on after a restart of the\n"
            "daemon; abort stops it. With --wait the exit status is 1 where something was found."
        ),
        examples=["scrub ledger --wait", "scrub ledger --rate 100M", "scrub ledger --preview"],
    )
    grammar.volume(scrub)
    scrub.add_argument(
        "--rate", type=parse_size, help="bytes of the volume a second, at most (default: 32M)"
    )
    grammar.preview(scrub)
    grammar.waits(scrub, default=False, what="wait until all is compared")


def _scrub(session: Session, args: argparse.Namespace) -> None:
    result = session.call("scrub", volume=args.volume, rate=args.rate, preview=args.preview)

    def would(result: results.Fields) -> None:
        operation = result["operation"]
        took = format_duration(operation.get("seconds_left"))
        size = format_size(operation["bytes_total"])
        say(f"{size} of {args.volume} would be compared, in about {took}; nothing was done now.")

    def done(result: results.Fields) -> None:
        operation = result["operation"]
        found = operation.get("result") or {"list": []}
        if has_ended(operation) and not found["list"]:
            say(f"Nothing differs in the {format_size(found['compared'])} that were compared.")
        elif not has_ended(operation):
            say(f"{args.volume} is compared. {results.copied(operation)}")
        rows = [
            [r["offset"], r["length"], r["what"], ", ".join(r["media"]), r.get("save", "-")]
            for r in found["list"]
        ]
        draw("Found", ("offset", "length", "what", "media", "save"), rows)

    result = outcome.show(session, args, result, would=would, done=done)
    found = result["operation"].get("result") or {}
    if args.wait and (found.get("different") or found.get("unreadable")):
        raise ControlError(
            "data",
            f"of what {args.volume} and its saves should hold {found['different']} extents differ,"
            f" {found['unreadable']} can't be read",
            object=args.volume,
            hint="find out which medium is right (the disks' logs, a backup). Take a wrong leg out:"
            f" leg remove {args.volume} MEDIUM, and bring it in anew: leg add {args.volume} MEDIUM;"
            " release a wrong save",
        )
