"""The verbs that say how long saves are kept: hold, unhold, holds."""

from __future__ import annotations

import argparse

from targetplugin.terminal import grammar, results
from targetplugin.terminal.session import Session
from targetplugin.terminal.tables import say
from targetplugin.terminal.times import parse_date, parse_duration


def declare(verbs: grammar.Verbs) -> None:
    hold = grammar.verb(
        verbs,
        "hold",
        _hold,
        "keep a save from going before a time, whoever asks",
        more=(
            "Before it ends no verb and no host can release, resync, overwrite or swap away that\n"
            "save, nor can its volume be deleted, not even with --force. It can be recovered from\n"
            "and backed up. Holding it again for longer is always taken, for less only with --force.\n\n"
            "It ends when the date has come and as much time was counted as was to go: a clock that\n"
            "is set forward ends no hold. After a reboot the machine's date counts."
        ),
        examples=[
            "hold ledger@night --for 14d",
            "hold ledger@night --until 2026-12-01T00:00Z",
            "hold ledger@night --for 1h --force",
        ],
    )
    grammar.save(hold)
    time = hold.add_mutually_exclusive_group(required=True)
    time.add_argument(
        "--for",
        dest="seconds",
        metavar="TIME",
        type=parse_duration,
        help="from now, as 14d, 36h, 1w2d or 90m (minutes)",
    )
    time.add_argument(
        "--until",
        metavar="DATE",
        type=parse_date,
        help="as 2026-12-01 or 2026-12-01T00:00Z; this machine's time where no zone is given",
    )
    grammar.force(hold, "although it is held for longer now")

    unhold = grammar.verb(
        verbs,
        "unhold",
        _unhold,
        "end the hold of a save",
        examples=["unhold ledger@night --force"],
    )
    grammar.save(unhold)
    grammar.force(unhold, "before it is over")

    holds = grammar.verb(
        verbs,
        "holds",
        _holds,
        "show the saves that are held, and until when",
        examples=["holds", "holds ledger --json"],
    )
    grammar.volume(holds, nargs="?", help="only of this volume")


def _hold(session: Session, args: argparse.Namespace) -> None:
    def tell(result: results.Fields) -> None:
        save = result["save"]
        say(f"{results.called(save)} is held until {results.when(save['held_until'])}.")

    result = session.call(
        "hold", save=args.save, seconds=args.seconds, until=args.until, force=args.force
    )
    session.show(result, tell)


def _unhold(session: Session, args: argparse.Namespace) -> None:
    result = session.call("unhold", save=args.save, force=args.force)
    session.show(result, lambda r: say(f"{results.called(r['save'])} is not held."))


def _holds(session: Session, args: argparse.Namespace) -> None:
    def tell(found: list[results.Fields]) -> None:
        results.saves(found)
        if not found:
            say("No save is held. Hold one: targetplugin hold VOLUME@SAVE --for 14d")

    session.show(session.call("hold.list", volume=args.volume), tell)
