"""The verbs on a volume and its saves: save, diff, recover, undo, swap, clone, resync, release."""

from __future__ import annotations

import argparse

from targetplugin.terminal import grammar, results
from targetplugin.terminal.errors import Misused
from targetplugin.terminal.progress import finished
from targetplugin.terminal.session import Session
from targetplugin.terminal.sizes import format_size
from targetplugin.terminal.tables import draw, say


def declare(verbs: grammar.Verbs) -> None:
    save = grammar.verb(
        verbs,
        "save",
        _save,
        "keep a volume, or several at one instant, as they are now",
        more=(
            "The save holds every write that was acknowledged before, and none that comes after.\n"
            "It takes an in-sync leg of the mirror (split) or a free medium (copy), or the medium of an\n"
            "older save, which ends with it (--replace): then only what differs is copied.\n\n"
            "Several volumes are saved at one instant, all or none: a write that began when another\n"
            "was answered is in no save without that other. Writes of all are paused until each has\n"
            "answered what was under way, at most for the deadline; then the save is called off, and\n"
            "nothing has changed."
        ),
        examples=[
            "save ledger --label before-night-run",
            "save ledger journal --label night --deadline 200",
            "save ledger --policy copy --onto virtio-media-c --wait",
            "save ledger --replace ledger@before-night-run",
        ],
    )
    grammar.volume(save, nargs="+", help="names of the volumes")
    save.add_argument(
        "--label", type=grammar.label, help="a name for the save, at most 32 bytes, not all digits"
    )
    save.add_argument("--policy", choices=("split", "copy"), help="instead of the volume's")
    onto = save.add_argument("--onto", metavar="MEDIUM", help="the medium to take, for one volume")
    grammar.completed(onto, "medium")
    replace = save.add_argument(
        "--replace",
        metavar="VOLUME@SAVE",
        help="take the medium of this older save, which is given up; its label stays if none is given",
    )
    grammar.completed(replace, "save")
    grammar.deadline(save)
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

    recover = _take_back(
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
        risk="recover though hosts of more than one name are logged in",
        waiting="wait until all that differs is copied back",
        several=True,
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
            "recover still copies, it is refused.\n\n"
            "Several volumes that were recovered as one are taken back as one: all at one instant, or none."
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
    _take_back(
        verbs,
        "swap",
        _swap,
        "make a save's medium the volume's data",
        more=(
            "What the volume was is kept as a save: a second swap undoes the first.\n\n"
            "Several volumes are swapped at one instant, all or none, as save does it."
        ),
        examples=["swap ledger", "swap ledger@5", "swap ledger@night journal@night"],
        risk="swap though hosts of more than one name are logged in",
        waiting="wait until the operation has ended",
        several=True,
    )

    clone = grammar.verb(
        verbs,
        "clone",
        _clone,
        "make a save a volume of its own, to write to",
        more=(
            "It takes a free medium and can be exported and written at once; it is copied in the\n"
            "background. Neither the save nor its volume ever see what is written to the clone. The\n"
            "save can't be released, resynced or swapped until the copy is done."
        ),
        examples=[
            "clone ledger@before-night-run --name test",
            "clone ledger@3 --name test --onto virtio-media-d --wait",
        ],
    )
    grammar.save(clone)
    clone.add_argument("--name", required=True, metavar="NAME", help="the new volume's name")
    onto = clone.add_argument("--onto", metavar="MEDIUM", help="the medium to take")
    grammar.completed(onto, "medium")
    grammar.preview(clone)
    grammar.waits(clone, default=False, what="wait until it is copied and needs the save no more")

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
    several: bool = False,
) -> grammar.Parser:
    parser = grammar.verb(verbs, name, run, what, more=more, examples=examples)
    if several:
        grammar.save(parser, nargs="+")
        grammar.deadline(parser)
    else:
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
    if len(args.volume) > 1:
        _save_together(session, args)
        return
    (volume,) = args.volume
    _no_deadline(args)
    result = session.call(
        "save",
        volume=volume,
        label=args.label,
        policy=args.policy,
        onto=args.onto,
        replace=args.replace,
        preview=args.preview,
    )

    def tell(result: results.Fields) -> None:
        if args.preview:
            results.would("save", volume, result)
            return
        save = result["save"]
        on = ", ".join(save["media"])
        results.tell_effect(f"{results.called(save)} is saved on {on}", result["operation"])
        if result.get("replaced"):
            say(f"{result['replaced']} is given up: its medium has this save now.")

    session.show(_finish(session, args, result), tell)


def _save_together(session: Session, args: argparse.Namespace) -> None:
    if args.onto is not None:
        raise Misused("--onto names the medium of one volume; leave it out for several")
    if args.replace is not None:
        raise Misused("--replace names a save of one volume; leave it out for several")
    result = session.call(
        "group.save",
        volumes=args.volume,
        label=args.label,
        policy=args.policy,
        deadline_ms=args.deadline,
        preview=args.preview,
    )

    def tell(result: results.Fields) -> None:
        names = results.listed(args.volume)
        if args.preview:
            say(f"{names} would be saved at one instant; nothing was done now.")
            rows = [[one["volume"], one["kind"], one["onto"]] for one in result["members"]]
            draw("", ("volume", "by", "medium"), rows)
            return
        results.tell_effect(f"{names} are saved at one instant", result["operation"])
        results.saves(result["saves"])

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


def _no_deadline(args: argparse.Namespace) -> None:
    if args.deadline is not None:
        raise Misused("--deadline is for several volumes, and one is named")


def _recover(session: Session, args: argparse.Namespace) -> None:
    if len(args.save) > 1:
        _recover_together(session, args)
        return
    _no_deadline(args)
    (args.save,) = args.save
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
    if len(args.volume) > 1:
        _undo_together(session, args)
        return
    _no_deadline(args)
    (volume,) = args.volume
    result = session.call(
        "undo",
        volume=volume,
        op=args.operation,
        force=args.force,
        no_undo=args.no_undo,
        preview=args.preview,
    )

    def tell(result: results.Fields) -> None:
        if args.preview:
            results.would("undo", volume, result)
            return
        name = result["save"]["name"]
        sentence = f"operation {result['undone']} is undone: {volume} is back at {name}"
        results.tell_effect(sentence, result["operation"])
        results.tell_undo(result)

    session.show(_finish(session, args, result), tell)


def _recover_together(session: Session, args: argparse.Namespace) -> None:
    result = session.call(
        "group.recover",
        saves=args.save,
        deadline_ms=args.deadline,
        force=args.force,
        no_undo=args.no_undo,
        preview=args.preview,
    )

    def tell(result: results.Fields) -> None:
        names = results.listed([one["name"] for one in result["saves"]])
        results.tell_effect(f"{names} are taken back at one instant", result["operation"])
        results.tell_undos(result)

    session.show(_finish(session, args, result), results.would_together if args.preview else tell)


def _undo_together(session: Session, args: argparse.Namespace) -> None:
    result = session.call(
        "group.undo",
        volumes=args.volume,
        op=args.operation,
        deadline_ms=args.deadline,
        force=args.force,
        no_undo=args.no_undo,
        preview=args.preview,
    )

    def tell(result: results.Fields) -> None:
        names = results.listed([one["name"] for one in result["saves"]])
        sentence = f"operation {result['undone']} is undone: back at {names}, at one instant"
        results.tell_effect(sentence, result["operation"])
        results.tell_undos(result)

    session.show(_finish(session, args, result), results.would_together if args.preview else tell)


def _swap_together(session: Session, args: argparse.Namespace) -> None:
    result = session.call(
        "group.swap",
        saves=args.save,
        deadline_ms=args.deadline,
        force=args.force,
        preview=args.preview,
    )

    def tell(result: results.Fields) -> None:
        if args.preview:
            names = results.listed([one["save"] for one in result["members"]])
            say(f"{names} would be swapped in at one instant; nothing was done now.")
            return
        volumes = results.listed([one["volume"] for one in result["saves"]])
        kept = [one["name"] for one in result["saves"]]
        results.tell_effect(
            f"{volumes} have the data of their saves at one instant", result["operation"]
        )
        say(
            f"What they were is kept as {results.listed(kept)}; back to it:"
            f" targetplugin swap {' '.join(kept)}"
        )

    session.show(_finish(session, args, result), tell)


def _swap(session: Session, args: argparse.Namespace) -> None:
    if len(args.save) > 1:
        _swap_together(session, args)
        return
    _no_deadline(args)
    (args.save,) = args.save
    _ask_of_save(
        session, args, "swap", "{volume} has the data of {save}; what it was is kept as {kept}"
    )


def _clone(session: Session, args: argparse.Namespace) -> None:
    result = session.call(
        "clone", save=args.save, name=args.name, onto=args.onto, preview=args.preview
    )

    def tell(result: results.Fields) -> None:
        if args.preview:
            results.would("clone", args.name, result)
            return
        made = result["volume"]
        on = ", ".join(leg["medium"] for leg in made["legs"])
        results.tell_effect(
            f"{made['name']} is a volume with the data of {made['clone_of']} on {on}",
            result["operation"],
        )
        say(f"Let a host use it: targetplugin export {made['name']} --initiator IQN --chap")

    session.show(_finish(session, args, result), tell)


def _resync(session: Session, args: argparse.Namespace) -> None:
    _ask_of_save(session, args, "resync", "{save} is given up, its medium is a leg of {volume}")


def _release(session: Session, args: argparse.Namespace) -> None:
    _ask_of_save(session, args, "release", "{save} is given up, its medium is free")
