"""The verbs on a volume and its saves: save, diff, recover, undo, swap, resync, release."""

from __future__ import annotations

import argparse

from targetplugin.terminal import grammar, results
from targetplugin.terminal.progress import finished
from targetplugin.terminal.session import Session
from targetplugin.terminal.sizes import format_size
from targetplugin.terminal.tables import draw, say


def declare(verbs: grammar.Verbs) -> None:
    save = grammar.verb(
        verbs,
        "save",
        _save,
        "keep a volume as it is now",
        more=(
            "The save holds every write that was acknowledged before, and none that comes after.\n"
            "It takes an in-sync leg of the mirror (split) or a free medium (copy), or the medium of an\n"
            "older save, which ends with it (--replace): then only what differs is copied."
        ),
        examples=[
            "save ledger --label before-night-run",
            "save ledger --policy copy --onto virtio-media-c --wait",
            "save ledger --replace ledger@before-night-run",
        ],
    )
    grammar.volume(save)
    save.add_argument(
        "--label", type=grammar.label, help="a name for the save, at most 32 bytes, not all digits"
    )
    save.add_argument("--policy", choices=("split", "copy"), help="instead of the volume's")
    onto = save.add_argument("--onto", metavar="MEDIUM", help="the medium to take")
    grammar.completed(onto, "medium")
    replace = save.add_argument(
        "--replace",
        metavar="VOLUME@SAVE",
        help="take the medium of this older save, which is given up; its label stays if none is given",
    )
    grammar.completed(replace, "save")
    grammar.preview(save)
    grammar.waits(save, default=False, what="wait until the save is whole on its medium")

    diff = grammar.verb(
        verbs,
        "diff",
        _diff,
        "show what changed since a save",
        more="Exact or larger, never smaller.",
        examples=["diff ledger", "diff ledger@before-night-run --json"],
    )
    grammar.save(diff)

    recover = _take_back(
        verbs,
        "recover",
        _recover,
        "take a save's content back",
        more=(
            "Every read returns the save's content as soon as this returns; only what differs is\n"
            "copied, in the background. The save stays. Hosts should have unmounted the volume.\n"
            "Where there is a spare, what the volume was is kept on it, and `undo` takes the recover back."
        ),
        examples=["recover ledger", "recover ledger@before-night-run --wait"],
        risk="recover though hosts of more than one name are logged in",
        waiting="wait until all that differs is copied back",
    )
    _no_undo(recover)

    undo = grammar.verb(
        verbs,
        "undo",
        _undo,
        "take the last recover back",
        more=(
            "The volume is again what it was before the recover, by the undo save that it took. What hosts\n"
            "wrote since is kept the same way, so that a second undo takes the first one back. While the\n"
            "recover still copies, it is refused."
        ),
        examples=["undo ledger --preview", "undo ledger", "undo ledger --operation 17 --wait"],
    )
    grammar.volume(undo)
    undo.add_argument(
        "--operation",
        metavar="NUMBER",
        type=grammar.number,
        help="the recover that is meant; refused if it is not the last one",
    )
    _no_undo(undo)
    grammar.force(undo, "undo though hosts of more than one name are logged in")
    grammar.preview(undo)
    grammar.waits(undo, default=False, what="wait until all that differs is copied back")
    _take_back(
        verbs,
        "swap",
        _swap,
        "make a save's medium the volume's data",
        more="What the volume was is kept as a save: a second swap undoes the first.",
        examples=["swap ledger", "swap ledger@5"],
        risk="swap though hosts of more than one name are logged in",
        waiting="wait until the operation has ended",
    )

    resync = grammar.verb(
        verbs,
        "resync",
        _resync,
        "give a save up and make its medium a leg again",
        more="Only what differs is copied.",
        examples=["resync ledger@before-night-run --wait"],
    )
    grammar.save(resync)
    grammar.preview(resync)
    grammar.waits(resync, default=False, what="wait until the leg is in sync")

    _take_back(
        verbs,
        "release",
        _release,
        "give a save up and free its medium",
        more="",
        examples=["release ledger@3"],
        risk="release it even if other saves need it, or an operation reads it",
        waiting="wait until the operation has ended",
    )


def _take_back(
    verbs: grammar.Verbs,
    name: str,
    run: grammar.Run,
    what: str,
    *,
    more: str,
    examples: list[str],
    risk: str,
    waiting: str,
) -> grammar.Parser:
    parser = grammar.verb(verbs, name, run, what, more=more, examples=examples)
    grammar.save(parser)
    grammar.force(parser, risk)
    grammar.preview(parser)
    grammar.waits(parser, default=False, what=waiting)
    return parser


def _no_undo(parser: grammar.Parser) -> None:
    text = "take no undo save: this can't be undone then"
    parser.add_argument("--no-undo", action="store_true", default=None, help=text)


def _finish(session: Session, args: argparse.Namespace, result: results.Fields) -> results.Fields:
    """The result; with --wait that of the operation when it has ended."""
    operation = result.get("operation")
    if args.wait and operation:
        return finished(session, result)
    return result


def _save(session: Session, args: argparse.Namespace) -> None:
    result = session.call(
        "save",
        volume=args.volume,
        label=args.label,
        policy=args.policy,
        onto=args.onto,
        replace=args.replace,
        preview=args.preview,
    )

    def tell(result: results.Fields) -> None:
        if args.preview:
            results.would("save", args.volume, result)
            return
        save = result["save"]
        on = ", ".join(save["media"])
        results.tell_effect(f"{results.called(save)} is saved on {on}", result["operation"])
        if result.get("replaced"):
            say(f"{result['replaced']} is given up: its medium has this save now.")

    session.show(_finish(session, args, result), tell)


def _diff(session: Session, args: argparse.Namespace) -> None:
    def tell(result: results.Fields) -> None:
        rows = [
            [run["offset"], run["length"], format_size(run["length"])] for run in result["list"]
        ]
        draw("", ("offset", "length", "size"), rows)
        say(
            f"{result['extents']} extents of {format_size(result['extent_size'])} of"
            f" {result['volume']} ({format_size(result['bytes'])}) changed"
            f" from {result['from']} to generation {result['to']}."
        )

    session.show(session.call("diff", save=args.save), tell)


def _ask_of_save(session: Session, args: argparse.Namespace, verb: str, done: str) -> None:
    """Calls a verb that takes a save, and tells `done` with its name in it."""
    result = session.call(
        verb, save=args.save, force=getattr(args, "force", None), preview=args.preview
    )

    def tell(result: results.Fields) -> None:
        if args.preview:
            results.would(verb, args.save, result)
            return
        operation = result["operation"]
        name = operation.get("save") or args.save
        kept = (result.get("save") or {}).get("name")
        sentence = done.format(save=name, volume=operation["volume"], kept=kept)
        results.tell_effect(sentence, operation)

    session.show(_finish(session, args, result), tell)


def _recover(session: Session, args: argparse.Namespace) -> None:
    result = session.call(
        "recover", save=args.save, force=args.force, no_undo=args.no_undo, preview=args.preview
    )

    def tell(result: results.Fields) -> None:
        if args.preview:
            results.would("recover", args.save, result)
            return
        operation = result["operation"]
        sentence = f"{operation['volume']} is back at {operation.get('save') or args.save}"
        results.tell_effect(sentence, operation)
        results.tell_undo(result)

    session.show(_finish(session, args, result), tell)


def _undo(session: Session, args: argparse.Namespace) -> None:
    result = session.call(
        "undo",
        volume=args.volume,
        op=args.operation,
        force=args.force,
        no_undo=args.no_undo,
        preview=args.preview,
    )

    def tell(result: results.Fields) -> None:
        if args.preview:
            results.would("undo", args.volume, result)
            return
        name = result["save"]["name"]
        sentence = f"operation {result['undone']} is undone: {args.volume} is back at {name}"
        results.tell_effect(sentence, result["operation"])
        results.tell_undo(result)

    session.show(_finish(session, args, result), tell)


def _swap(session: Session, args: argparse.Namespace) -> None:
    _ask_of_save(
        session, args, "swap", "{volume} has the data of {save}; what it was is kept as {kept}"
    )


def _resync(session: Session, args: argparse.Namespace) -> None:
    _ask_of_save(session, args, "resync", "{save} is given up, its medium is a leg of {volume}")


def _release(session: Session, args: argparse.Namespace) -> None:
    _ask_of_save(session, args, "release", "{save} is given up, its medium is free")
