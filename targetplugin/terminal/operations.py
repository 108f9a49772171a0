"""How things stand: `status`, `operation` and `abort`."""

from __future__ import annotations

import argparse

from targetplugin.terminal import grammar, results
from targetplugin.terminal.progress import follow, title
from targetplugin.terminal.session import Session
from targetplugin.terminal.sizes import format_size
from targetplugin.terminal.tables import say


def declare_status(verbs: grammar.Verbs) -> None:
    """Apart from the rest, for it comes first in the list of verbs."""
    status = grammar.verb(
        verbs,
        "status",
        _status,
        "show volumes, legs, saves, media and what is going on",
        more="With --watch it is shown anew each second, with what hosts do; q ends that.",
        examples=["status", "status ledger --json", "status --watch"],
    )
    grammar.volume(status, nargs="?", help="only of this volume")
    text = "go on showing it on the whole terminal, with rates, until q or Ctrl-C"
    status.add_argument("--watch", action="store_true", help=text)


def declare(verbs: grammar.Verbs) -> None:
    inner = grammar.group(verbs, "operation", "see what was asked, and what came of it")
    listed = grammar.verb(inner, "list", _list, "show the last operations, newest first")
    grammar.volume(listed, nargs="?", help="only of this volume")
    listed.add_argument("--limit", type=grammar.number, help="how many (default: 50)")
    _of_operation(inner, "show", _show, "show one operation", "operation show 12")
    _of_operation(inner, "watch", _watch, "show progress until it has ended", "operation watch 12")
    rate = grammar.verb(
        inner,
        "rate",
        _rate,
        "change how fast a backup or restore that runs may be",
        examples=["operation rate 12 50M", "operation rate 12 none"],
    )
    number = rate.add_argument("operation", metavar="OPERATION", type=grammar.number)
    grammar.completed(number, "operation")
    text = "how much it may move a second, as in 50M or 50MiB/s, or none: as fast as it can"
    rate.add_argument("rate", metavar="RATE", type=_rate_or_none, help=text)

    _of_operation(verbs, "abort", _abort, "stop an operation that runs", "abort 12")


def _of_operation(
    verbs: grammar.Verbs, name: str, run: grammar.Run, what: str, example: str
) -> None:
    parser = grammar.verb(verbs, name, run, what, examples=[example])
    number = parser.add_argument("operation", metavar="OPERATION", type=grammar.number)
    grammar.completed(number, "operation")


def _rate_or_none(text: str) -> int | None:
    return None if text == "none" else grammar.rate(text)


def _status(session: Session, args: argparse.Namespace) -> None:
    if args.watch:
        from targetplugin.terminal.watch import watch

        watch(session, args.volume)
        return

    def tell(result: results.Fields) -> None:
        volumes = result["volumes"]
        if args.volume:
            for one in volumes:
                results.volume_in_full(one)
            results.groups(result["groups"])
            results.running(result["operations"])
        else:
            results.everything(result)
        if not result["media"]:
            say("Nothing is set up yet. Give disks: targetplugin media add /dev/disk/by-id/...")
        elif not volumes:
            say("There are no volumes. Make one: targetplugin volume create NAME --size 512M")

    session.show(session.call("status", volume=args.volume), tell)


def _list(session: Session, args: argparse.Namespace) -> None:
    def tell(found: list[results.Fields]) -> None:
        results.operations(found)
        if not found:
            say("Nothing was asked yet.")

    found = session.call("operation.list", volume=args.volume, limit=args.limit)
    session.show(found, tell)


def _tell_one(one: results.Fields) -> None:
    results.operations([one], "")
    for name in ("error", "ended", "door", "request"):
        if one.get(name):
            say(f"{name}: {one[name]}")


def _show(session: Session, args: argparse.Namespace) -> None:
    session.show(session.call("operation.get", op=args.operation), _tell_one)


def _watch(session: Session, args: argparse.Namespace) -> None:
    operation = session.call("operation.get", op=args.operation)
    session.show(follow(session, operation), _tell_one)


def _rate(session: Session, args: argparse.Namespace) -> None:
    def tell(one: results.Fields) -> None:
        rate = one.get("rate")
        how = f"moves at most {format_size(rate)} a second" if rate else "is as fast as it can be"
        say(f"Operation {args.operation} ({title(one)}) {how}.")

    session.show(session.call("operation.rate", op=args.operation, rate=args.rate), tell)


def _abort(session: Session, args: argparse.Namespace) -> None:
    def tell(result: results.Fields) -> None:
        state = result["operation"]["state"]
        how = "is stopped" if state == "aborted" else f"had ended already: it is {state}"
        say(f"Operation {args.operation} ({title(result['operation'])}) {how}.")

    session.show(session.call("abort", op=args.operation), tell)
