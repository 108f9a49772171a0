"""`targetplugin leg`: legs of a mirror brought in and taken out."""

from __future__ import annotations

import argparse

from targetplugin.terminal import grammar, outcome, results
from targetplugin.terminal.session import Session
from targetplugin.terminal.sizes import format_size
from targetplugin.terminal.tables import say


def declare(verbs: grammar.Verbs) -> None:
    verbs = grammar.group(verbs, "leg", "bring legs of a mirror in, and take them out")
    add = grammar.verb(
        verbs,
        "add",
        _add,
        "make a free medium a leg of a volume's mirror",
        more=(
            "It takes all writes at once; what was there before is copied in the background. After a\n"
            "save that split a leg the mirror is one leg short until this, or until a resync."
        ),
        examples=["leg add ledger", "leg add ledger virtio-media-c --wait"],
    )
    grammar.volume(add)
    _medium(add, "the free medium; by default the smallest that fits", nargs="?")
    grammar.preview(add)
    grammar.waits(add, default=False, what="wait until the leg is in sync")

    remove = grammar.verb(
        verbs,
        "remove",
        _remove,
        "take a leg out of a volume's mirror and free its medium",
        more="The last leg in sync stays.",
        examples=["leg remove ledger virtio-media-b", "leg remove ledger virtio-media-b --preview"],
    )
    grammar.volume(remove)
    _medium(remove, "the leg, as status calls it")
    grammar.preview(remove)


def _medium(parser: argparse.ArgumentParser, what: str, nargs: str | None = None) -> None:
    medium = parser.add_argument("medium", metavar="MEDIUM", nargs=nargs, help=what)
    grammar.completed(medium, "medium")


def _add(session: Session, args: argparse.Namespace) -> None:
    result = session.call("leg.add", volume=args.volume, medium=args.medium, preview=args.preview)

    def would(result: results.Fields) -> None:
        size = format_size(result["operation"]["bytes_total"])
        say(f"{result['medium']} would be a leg of {args.volume}; nothing was done now.")
        say(f"{size} would be copied to it.")

    def done(result: results.Fields) -> None:
        sentence = f"{result['medium']} is a leg of {args.volume}"
        results.tell_effect(sentence, result["operation"])

    outcome.show(session, args, result, would=would, done=done)


def _remove(session: Session, args: argparse.Namespace) -> None:
    result = session.call(
        "leg.remove", volume=args.volume, medium=args.medium, preview=args.preview
    )

    def tell(result: results.Fields) -> None:
        name = result["medium"]
        if args.preview:
            say(f"{name} would leave {args.volume}, and be free; nothing was done now.")
        else:
            say(f"{name} is no leg of {args.volume} any more, and is free.")

    session.show(result, tell)
