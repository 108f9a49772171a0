"""The verbs that say how long saves are kept: hold, unhold, holds, retain."""

from __future__ import annotations

import argparse

from targetplugin.control.client import ControlError
from targetplugin.terminal import grammar, results
from targetplugin.terminal.session import Session
from targetplugin.terminal.tables import draw, say
from targetplugin.terminal.times import parse_date, parse_duration

_MOST = 10_000
_COUNTS = {
    "last": "the newest N saves",
    "hourly": "the newest save of each of the newest N hours that have one",
    "daily": "the same of days",
    "weekly": "the same of weeks, which begin on Monday",
    "monthly": "the same of months",
}


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
    _declare_retain(verbs)


def _declare_retain(verbs: grammar.Verbs) -> None:
    retain = grammar.verb(
        verbs,
        "retain",
        _retain,
        "set which saves of a volume are kept, and release the others after each save",
        more=(
            "A save stays if any rule keeps it; hours, days, weeks and months are those of UTC. What\n"
            "no rule keeps is released when the next save is whole, and after each one from then on;\n"
            "setting rules releases nothing. Rules replace all that were set before.\n\n"
            "Never released: a save that is held, in use or not whole yet, the only save, a restored\n"
            "image, and anything while the volume is down. A broken save counts for no rule. With no\n"
            "option it shows the rules, and what they keep."
        ),
        examples=[
            "retain ledger --last 3 --daily 7 --weekly 4 --preview",
            "retain ledger --last 3 --daily 7 --weekly 4",
            "retain ledger --now",
            "retain ledger --show",
            "retain ledger --off",
        ],
    )
    grammar.volume(retain)
    for name, what in _COUNTS.items():
        retain.add_argument(f"--{name}", type=_count, metavar="N", help=f"keep {what}")
    retain.add_argument(
        "--keep-labelled", action="store_true", default=None, help="keep what has a label, too"
    )
    way = retain.add_mutually_exclusive_group()
    way.add_argument("--show", action="store_true", help="show the rules, and what they keep")
    way.add_argument("--off", action="store_true", default=None, help="take the rules away")
    way.add_argument(
        "--now", action="store_true", default=None, help="release at once what is not kept"
    )
    grammar.preview(way)


def _count(text: str) -> int:
    """How many saves a rule keeps. An argparse type."""
    if grammar.number(text) > _MOST:
        raise argparse.ArgumentTypeError(f"a rule keeps {_MOST} at most")
    return grammar.number(text)


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


def _rules(args: argparse.Namespace) -> dict[str, int | bool | None]:
    return {name: getattr(args, name) for name in (*_COUNTS, "keep_labelled")}


def _retain(session: Session, args: argparse.Namespace) -> None:
    rules = _rules(args)
    if args.show and any(rules.values()):
        raise ControlError("usage", "--show sets no rules", hint="leave --show, or the rules, out")

    def tell(result: results.Fields) -> None:
        name, kept_by = result["volume"], result["rules"]
        if kept_by is None:
            say(f"{name} has no rules: its saves are kept until someone releases them.")
        else:
            say(f"{name} keeps of its saves: {results.rules(kept_by)}.")
        say("")
        heads = ("save", "label", "taken", "why")
        draw("Kept", heads, [_why(one) for one in result["kept"]])
        done = result["done"]
        gone = [_why(one)[:3] for one in result["released"]]
        draw("Released" if done else "Not kept", heads[:3], gone)
        for one in result["refused"]:
            say(f"{one['name']} was not released: {one['why']}")
        if kept_by is None or done:
            return
        if not result["released"]:
            say("Nothing would be released.")
        elif args.preview:
            say(f"{len(result['released'])} would be released; nothing was done now.")
        else:
            say(
                "What is not kept is released after the next save that is whole; now:"
                f" targetplugin retain {name} --now"
            )

    result = session.call(
        "retain",
        volume=args.volume,
        off=args.off,
        now=args.now,
        preview=args.preview,
        **rules,
    )
    session.show(result, tell)


def _why(one: results.Fields) -> list[object]:
    return [one["name"], one["label"], results.when(one["created"]), ", ".join(one["why"])]
