"""The verbs on a volume and its saves: save, diff, recover, swap, resync, release."""

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
            "It takes an in-sync leg of the mirror (split) or a free medium (copy)."
        ),
        examples=[
            "save ledger --label before-night-run",
            "save ledger --policy copy --onto virtio-media-c --wait",
        ],
    )
    grammar.volume(save)
    save.add_argument(
        "--label", type=grammar.label, help="a name for the save, at most 32 bytes, not all digits"
    )
    save.add_argument("--policy", choices=("split", "copy"), help="instead of the volume's")
    onto = save.add_argument("--onto", metavar="MEDIUM", help="the medium to take")
    grammar.completed(onto, "medium")
    grammar.preview(save)
    grammar.waits(save, default=False, what="wait until the save is whole on its medium")

    diff = grammar.verb(
        verbs,
        "diff",
        _diff,
        "show what changed since a save, or between two",
        more=(
            "Exact or larger, never smaller, after any mix of saves, recovers and swaps; only to or\n"
            "from a restored image everything differs.\n\n"
            "With --from or --to, --json prints a list in the shape of `rbd diff --format json`:\n"
            '[{"offset": BYTES, "length": BYTES, "exists": "true"}]. A run that "exists" is to be\n'
            "read from the later point; all do, for a save knows of no holes: what a host zeroed is\n"
            "data. Without them --json prints an object with the list in it."
        ),
        examples=[
            "diff ledger",
            "diff ledger@before-night-run --json",
            "diff ledger --from monday --to tuesday",
            "diff ledger --from 3 --to now --json",
        ],
    )
    grammar.save(diff)
    since = diff.add_argument(
        "--from", dest="since", metavar="POINT", help="a save by its label or generation, or now"
    )
    to = diff.add_argument("--to", metavar="POINT", help="the same; now where it is not given")
    for point in (since, to):
        grammar.completed(point, "point")

    _take_back(
        verbs,
        "recover",
        _recover,
        "take a save's content back",
        more=(
            "Every read returns the save's content as soon as this returns; only what differs is\n"
            "copied, in the background. The save stays. Hosts should have unmounted the volume.\n\n"
            "--preview tells how much would be copied, and how long that takes at the rate at which\n"
            "earlier copies of this volume were measured; with none it says that it is not known."
        ),
        examples=[
            "recover ledger",
            "recover ledger@before-night-run --wait",
            "recover ledger@before-night-run --preview",
        ],
        risk="recover though hosts of more than one name are logged in",
        waiting="wait until all that differs is copied back",
    )
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
) -> None:
    parser = grammar.verb(verbs, name, run, what, more=more, examples=examples)
    grammar.save(parser)
    grammar.force(parser, risk)
    grammar.preview(parser)
    grammar.waits(parser, default=False, what=waiting)


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
        preview=args.preview,
    )

    def tell(result: results.Fields) -> None:
        if args.preview:
            results.would("save", args.volume, result)
            return
        save = result["save"]
        on = ", ".join(save["media"])
        results.tell_effect(f"{results.called(save)} is saved on {on}", result["operation"])

    session.show(_finish(session, args, result), tell)


def _diff(session: Session, args: argparse.Namespace) -> None:
    def tell(result: results.Fields) -> None:
        rows = [
            [run["offset"], run["length"], format_size(run["length"])] for run in result["list"]
        ]
        draw("", ("offset", "length", "size"), rows)
        first, last = result["between"]
        say(
            f"{result['extents']} extents of {format_size(result['extent_size'])} of"
            f" {result['volume']} ({format_size(result['bytes'])}) changed"
            f" from {first} to {last}."
        )

    result = session.call("diff", save=args.save, since=args.since, to=args.to)
    if session.as_json and (args.since or args.to):
        result = [{**run, "exists": "true"} for run in result["list"]]
    session.show(result, tell)


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
    _ask_of_save(session, args, "recover", "{volume} is back at {save}")


def _swap(session: Session, args: argparse.Namespace) -> None:
    _ask_of_save(
        session, args, "swap", "{volume} has the data of {save}; what it was is kept as {kept}"
    )


def _resync(session: Session, args: argparse.Namespace) -> None:
    _ask_of_save(session, args, "resync", "{save} is given up, its medium is a leg of {volume}")


def _release(session: Session, args: argparse.Namespace) -> None:
    _ask_of_save(session, args, "release", "{save} is given up, its medium is free")
