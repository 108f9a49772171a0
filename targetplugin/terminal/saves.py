"""Verbs that keep a volume as it is and look at what changed since: save, fill, diff."""

from __future__ import annotations

import argparse

from targetplugin.terminal import grammar, outcome, results
from targetplugin.terminal.errors import Misused
from targetplugin.terminal.session import Session
from targetplugin.terminal.sizes import format_size
from targetplugin.terminal.tables import draw, say
from targetplugin.terminal.times import parse_end


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
            "With --no-fill it takes only as much as hosts overwrite from then on. All such saves of a\n"
            "volume share one medium of any size, their store, which the first of them makes of a spare.\n"
            "A store that runs full loses the oldest save that is not held, never a host's write; before\n"
            "that there is an event (store_low).\n\n"
            "With --hold nobody takes the save away before that time, from its first moment on; see hold.\n\n"
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
            "save ledger --no-fill",
            "save ledger --label quarter --hold 90d",
        ],
    )
    grammar.volume(save, nargs="+", help="names of the volumes")
    save.add_argument(
        "--label", type=grammar.label, help="a name for the save, at most 32 bytes, not all digits"
    )
    how = save.add_mutually_exclusive_group()
    how.add_argument("--policy", choices=("split", "copy"), help="instead of the volume's")
    how.add_argument(
        "--no-fill",
        dest="policy",
        action="store_const",
        const="sparse",
        help="keep only what is overwritten, beside the volume's other saves of this kind",
    )
    onto = save.add_argument("--onto", metavar="MEDIUM", help="the medium to take, for one volume")
    grammar.completed(onto, "medium")
    replace = save.add_argument(
        "--replace",
        metavar="VOLUME@SAVE",
        help="take the medium of this older save, which is given up; its label stays if none is given",
    )
    grammar.completed(replace, "save")
    save.add_argument(
        "--hold",
        metavar="TIME",
        type=parse_end,
        default=(None, None),
        help="nobody takes it away for that long, as 14d or 36h, or before a date, as 2026-12-01",
    )
    grammar.deadline(save)
    grammar.preview(save)
    grammar.waits(save, default=False, what="wait until the save is whole on its medium")

    fill = grammar.verb(
        verbs,
        "fill",
        _fill,
        "make a save without fill whole, on a medium of its own",
        more=(
            "It is copied to a spare while hosts work, and needs the store and the volume's legs no more.\n"
            "Then it can be swapped in and cloned. It goes on after a restart of the daemon."
        ),
        examples=["fill ledger@noon", "fill ledger@3 --medium virtio-media-d --no-wait --rate 50M"],
    )
    grammar.save(fill)
    medium = fill.add_argument(
        "--medium", metavar="MEDIUM", help="the spare; by default the smallest that fits"
    )
    grammar.completed(medium, "medium")
    grammar.paced(fill)
    grammar.preview(fill)
    grammar.waits(fill, default=True, what="show progress until it is whole")

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
            "diff ledger@before-night-run --map night.svg",
        ],
    )
    grammar.save(diff)
    since = diff.add_argument(
        "--from", dest="since", metavar="POINT", help="a save by its label or generation, or now"
    )
    to = diff.add_argument("--to", metavar="POINT", help="the same; now where it is not given")
    for point in (since, to):
        grammar.completed(point, "point")
    picture = diff.add_argument(
        "--map", metavar="FILE", help="draw where it changed, as an SVG picture, into this file"
    )
    grammar.completed(picture, "file")


def _save(session: Session, args: argparse.Namespace) -> None:
    if len(args.volume) > 1:
        _save_together(session, args)
        return
    grammar.check_alone(args)
    (volume,) = args.volume

    def sentence(result: results.Fields) -> str:
        save = result["save"]
        where = f"is saved on {', '.join(save['media'])}"
        if save["fill"] == "unfilled":
            where = f"is saved, and what is overwritten from now on is kept on {save['media'][0]}"
        return f"{results.called(save)} {where}"

    def then(result: results.Fields) -> str:
        told = []
        if older := result.get("replaced"):
            told.append(f"{older} is given up: its medium has this save now.")
        if until := result["save"].get("held_until"):
            told.append(f"It is held until {results.when(until)}.")
        return " ".join(told)

    outcome.ask(
        session,
        args,
        "save",
        volume,
        sentence,
        then=then,
        volume=volume,
        label=args.label,
        policy=args.policy,
        onto=args.onto,
        replace=args.replace,
        hold_seconds=args.hold[0],
        hold_until=args.hold[1],
    )


def _fill(session: Session, args: argparse.Namespace) -> None:
    def sentence(result: results.Fields) -> str:
        operation = result["operation"]
        how = "is whole" if operation["state"] == "done" else "is being filled"
        return f"{operation.get('save') or args.save} {how}"

    outcome.ask(
        session,
        args,
        "fill",
        args.save,
        sentence,
        save=args.save,
        onto=args.medium,
        rate=args.rate,
    )


def _save_together(session: Session, args: argparse.Namespace) -> None:
    if args.onto is not None:
        raise Misused("--onto names the medium of one volume; leave it out for several")
    if args.replace is not None:
        raise Misused("--replace names a save of one volume; leave it out for several")
    names = results.listed(args.volume)
    result = session.call(
        "group.save",
        volumes=args.volume,
        label=args.label,
        policy=args.policy,
        deadline_ms=args.deadline,
        hold_seconds=args.hold[0],
        hold_until=args.hold[1],
        preview=args.preview,
    )

    def would(result: results.Fields) -> None:
        say(f"{names} would be saved at one instant; nothing was done now.")
        rows = [[one["volume"], one["kind"], one["onto"]] for one in result["members"]]
        draw("", ("volume", "by", "medium"), rows)

    def done(result: results.Fields) -> None:
        results.tell_effect(f"{names} are saved at one instant", result["operation"])
        results.saves(result["saves"])

    outcome.show(session, args, result, would=would, done=done)


def _draw_map(session: Session, path: str, result: results.Fields) -> None:
    from targetplugin.terminal import picture

    size = session.call("volume.show", name=result["volume"])["size"]
    first, last = result["between"]
    title = f"{result['volume']}: {format_size(result['bytes'])} changed from {first} to {last}"
    text = picture.svg(title, size, result["extent_size"], result["list"])
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Misused(
            f"the picture can't be written to {path}: {error.strerror}", "name another file"
        ) from error


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
    if args.map:
        _draw_map(session, args.map, result)
    if session.as_json and (args.since or args.to):
        result = [{**run, "exists": "true"} for run in result["list"]]
    session.show(result, tell)
