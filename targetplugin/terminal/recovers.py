"""Verbs that give a volume other data: what a save holds (recover, swap), or what it was before (undo)."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from targetplugin.terminal import grammar, outcome, results
from targetplugin.terminal.session import Session
from targetplugin.terminal.tables import say


def declare(verbs: grammar.Verbs) -> None:
    recover = grammar.verb(
        verbs,
        "recover",
        _recover,
        "take a save's content back",
        more=(
            "Every read returns the save's content as soon as this returns; only what differs is\n"
            "copied, in the background. The save stays. Hosts should have unmounted the volume.\n"
            "Where there is a spare, what the volume was is kept on it, and `undo` takes the recover back.\n"
            "\n"
            "--preview tells how much would be copied, and how long that takes at the rate at which\n"
            "earlier copies of this volume were measured; with none it says that it is not known.\n"
            "\n"
            "Several volumes are recovered at one instant, all or none, as save does it. Undo saves are\n"
            "taken of all, or of none where spares do not suffice."
        ),
        examples=[
            "recover ledger",
            "recover ledger@before-night-run --wait",
            "recover ledger@night journal@night",
            "recover ledger@before-night-run --preview",
        ],
    )
    grammar.save(recover, nargs="+")
    grammar.deadline(recover)
    grammar.force(recover, "recover though hosts of more than one name are logged in")
    grammar.preview(recover)
    grammar.waits(recover, default=False, what="wait until all that differs is copied back")
    _no_undo(recover)

    undo = grammar.verb(
        verbs,
        "undo",
        _undo,
        "take the last recover back",
        more=(
            "The volume is again what it was before the recover, by the undo save that it took. What hosts\n"
            "wrote since is kept the same way, so that a second undo takes the first one back. A recover\n"
            "that still copies is taken back at once; what was written since it began is lost then.\n\n"
            "Several volumes that were recovered as one are taken back as one: all at one instant, or none,\n"
            "and only when all is copied."
        ),
        examples=[
            "undo ledger --preview",
            "undo ledger",
            "undo ledger journal",
            "undo ledger --operation 17 --wait",
        ],
    )
    grammar.volume(undo, nargs="+", help="names of the volumes")
    undo.add_argument(
        "--operation",
        metavar="NUMBER",
        type=grammar.number,
        help="the recover that is meant; refused if it is not the last one",
    )
    _no_undo(undo)
    grammar.deadline(undo)
    grammar.force(undo, "undo though hosts of more than one name are logged in")
    grammar.preview(undo)
    grammar.waits(undo, default=False, what="wait until all that differs is copied back")

    swap = grammar.verb(
        verbs,
        "swap",
        _swap,
        "make a save's medium the volume's data",
        more=(
            "What the volume was is kept as a save: a second swap undoes the first.\n\n"
            "Several volumes are swapped at one instant, all or none, as save does it."
        ),
        examples=["swap ledger", "swap ledger@5", "swap ledger@night journal@night"],
    )
    grammar.save(swap, nargs="+")
    grammar.deadline(swap)
    grammar.force(swap, "swap though hosts of more than one name are logged in")
    grammar.preview(swap)
    grammar.waits(swap, default=False, what="wait until the operation has ended")


def _no_undo(parser: grammar.Parser) -> None:
    text = "take no undo save: this can't be undone then"
    parser.add_argument("--no-undo", action="store_true", default=None, help=text)


def _recover(session: Session, args: argparse.Namespace) -> None:
    if len(args.save) > 1:
        _recover_together(session, args)
        return
    grammar.check_alone(args)
    (save,) = args.save

    def sentence(result: results.Fields) -> str:
        operation = result["operation"]
        return f"{operation['volume']} is back at {operation.get('save') or save}"

    outcome.ask(
        session,
        args,
        "recover",
        save,
        sentence,
        then=results.back_again,
        save=save,
        force=args.force,
        no_undo=args.no_undo,
    )


def _recover_together(session: Session, args: argparse.Namespace) -> None:
    def sentence(result: results.Fields, names: str) -> str:
        return f"{names} are taken back at one instant"

    _take_back_together(session, args, "group.recover", sentence, saves=args.save)


def _undo(session: Session, args: argparse.Namespace) -> None:
    if len(args.volume) > 1:
        _undo_together(session, args)
        return
    grammar.check_alone(args)
    (volume,) = args.volume

    def sentence(result: results.Fields) -> str:
        name = result["save"]["name"]
        return f"operation {result['undone']} is undone: {volume} is back at {name}"

    outcome.ask(
        session,
        args,
        "undo",
        volume,
        sentence,
        then=results.back_again,
        volume=volume,
        op=args.operation,
        force=args.force,
        no_undo=args.no_undo,
    )


def _undo_together(session: Session, args: argparse.Namespace) -> None:
    def sentence(result: results.Fields, names: str) -> str:
        return f"operation {result['undone']} is undone: back at {names}, at one instant"

    _take_back_together(
        session, args, "group.undo", sentence, volumes=args.volume, op=args.operation
    )


def _take_back_together(
    session: Session,
    args: argparse.Namespace,
    method: str,
    sentence: Callable[[results.Fields, str], str],
    **params: Any,
) -> None:
    """Args:
    sentence: what was done, of the result and the saves' names.
    """
    result = session.call(
        method,
        deadline_ms=args.deadline,
        force=args.force,
        no_undo=args.no_undo,
        preview=args.preview,
        **params,
    )

    def done(result: results.Fields) -> None:
        names = results.listed([one["name"] for one in result["saves"]])
        results.tell_effect(sentence(result, names), result["operation"])
        if more := results.all_back_again(result):
            say(more)

    outcome.show(session, args, result, would=results.would_together, done=done)


def _swap(session: Session, args: argparse.Namespace) -> None:
    if len(args.save) > 1:
        _swap_together(session, args)
        return
    grammar.check_alone(args)
    (save,) = args.save

    def sentence(result: results.Fields) -> str:
        operation, kept = result["operation"], result["save"]["name"]
        name = operation.get("save") or save
        return f"{operation['volume']} has the data of {name}; what it was is kept as {kept}"

    outcome.ask(session, args, "swap", save, sentence, save=save, force=args.force)


def _swap_together(session: Session, args: argparse.Namespace) -> None:
    result = session.call(
        "group.swap",
        saves=args.save,
        deadline_ms=args.deadline,
        force=args.force,
        preview=args.preview,
    )

    def would(result: results.Fields) -> None:
        names = results.listed([one["save"] for one in result["members"]])
        say(f"{names} would be swapped in at one instant; nothing was done now.")

    def done(result: results.Fields) -> None:
        kept = [one["name"] for one in result["saves"]]
        volumes = results.listed([one["volume"] for one in result["saves"]])
        sentence = f"{volumes} have the data of their saves at one instant"
        results.tell_effect(sentence, result["operation"])
        back = f"targetplugin swap {' '.join(kept)}"
        say(f"What they were is kept as {results.listed(kept)}; back to it: {back}")

    outcome.show(session, args, result, would=would, done=done)
