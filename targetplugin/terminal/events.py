"""`targetplugin events`: who asked what, and what happened by itself; `hook`: programs told of it."""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

from targetplugin.control.client import AnswerLost, DaemonAway
from targetplugin.terminal import grammar, results
from targetplugin.terminal.session import Session
from targetplugin.terminal.tables import draw, printable, say

_WAIT = 5.0  # seconds that one question may wait for its answer
_AWAY = 30.0  # how long a restart of the daemon may take


def declare(verbs: grammar.Verbs) -> None:
    events = grammar.verb(
        verbs,
        "events",
        _events,
        "show who asked what, when and through which door, and what happened by itself",
        more=(
            "The newest 10000 are kept. Doors: terminal (with the user), in-band (with the volume: the\n"
            "kernel does not tell which host it was), engine (media), policy (what is done by itself)."
        ),
        examples=["events --limit 20", "events --volume ledger", "events --follow --json"],
    )
    volume = events.add_argument("--volume", metavar="VOLUME", help="only of this volume")
    grammar.completed(volume, "volume")
    events.add_argument("--limit", type=grammar.number, help="how many (default: 100)")
    events.add_argument(
        "--follow", action="store_true", help="go on with those to come; with --json one a line"
    )

    hooks = grammar.group(verbs, "hook", "programs that are told of events")
    add = grammar.verb(
        hooks,
        "add",
        _add,
        "have a program told of every event",
        more=(
            "It gets the event as JSON on its standard input and has 10 s for it. It must belong to\n"
            "root, and neither it nor the folders above it may be writable by others. One runs at a\n"
            "time; hosts and verbs do not wait for it, and of too many events the oldest are dropped."
        ),
        examples=["hook add /usr/local/sbin/tell-pager"],
    )
    _program(add)
    remove = grammar.verb(
        hooks,
        "remove",
        _remove,
        "tell a program no more",
        examples=["hook remove /usr/local/sbin/tell-pager"],
    )
    _program(remove)
    grammar.verb(hooks, "list", _list, "show the programs, and how they fare")


def _program(parser: argparse.ArgumentParser) -> None:
    path = parser.add_argument("program", metavar="PROGRAM", type=grammar.path, help="its path")
    grammar.completed(path, "file")


def _events(session: Session, args: argparse.Namespace) -> None:
    found = session.call("event.list", volume=args.volume, limit=args.limit)
    if args.follow:
        _follow(session, args, found)
        return

    def tell(found: list[results.Fields]) -> None:
        heads = ("no.", "when", "door", "who", "volume", "what")
        rows = [
            [e["id"], results.when(e["time"]), e["door"], e["who"], e["volume"], e["what"]]
            for e in found
        ]
        draw("Events", heads, rows)
        if not found:
            say("Nothing has happened yet.")

    session.show(found, tell)


def _follow(session: Session, args: argparse.Namespace, found: list[Any]) -> None:
    last, seen = 0, time.monotonic()
    if not found:
        newest = session.call("event.list", limit=1)
        last = newest[-1]["id"] if newest else 0
    while True:
        for event in found:
            last = event["id"]
            _line(event, as_json=args.json)
        try:
            found = session.call("event.wait", after=last, timeout=_WAIT, volume=args.volume)
            seen = time.monotonic()
        except (AnswerLost, DaemonAway):
            if time.monotonic() - seen > _AWAY:
                raise
            session.close()
            found = []
            time.sleep(1)


def _line(event: results.Fields, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(event, ensure_ascii=False), flush=True)
        return
    who = f" {event['who']}" if event["who"] else ""
    volume = f" {event['volume']}:" if event["volume"] else ""
    line = f"{results.when(event['time'])} [{event['door']}{who}]{volume} {event['what']}"
    print(printable(line), flush=True)


def _add(session: Session, args: argparse.Namespace) -> None:
    result = session.call("hook.add", program=args.program)
    session.show(result, lambda one: say(f"{one['program']} is told of every event from now on."))


def _remove(session: Session, args: argparse.Namespace) -> None:
    result = session.call("hook.remove", program=args.program)
    session.show(result, lambda one: say(f"{one['program']} is told of no more events."))


def _list(session: Session, args: argparse.Namespace) -> None:
    def tell(found: list[results.Fields]) -> None:
        heads = ("program", "runs", "failures", "dropped", "last failure")
        rows = [[h["program"], h["runs"], h["failures"], h["dropped"], h["error"]] for h in found]
        draw("Hooks", heads, rows)
        if not found:
            say("There are no hooks. Add one: targetplugin hook add PROGRAM")

    session.show(session.call("hook.list"), tell)
