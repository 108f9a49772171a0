"""`targetplugin volume`: volumes made, shown and deleted."""

from __future__ import annotations

import argparse

from targetplugin.terminal import grammar, results
from targetplugin.terminal.session import Session
from targetplugin.terminal.sizes import format_size, parse_size
from targetplugin.terminal.tables import say


def declare(verbs: grammar.Verbs) -> None:
    verbs = grammar.group(verbs, "volume", "make, show and delete volumes")
    create = grammar.verb(
        verbs,
        "create",
        _create,
        "make a volume on free media",
        examples=[
            "volume create ledger --size 512M",
            "volume create ledger --size 1G --media virtio-media-a virtio-media-b",
            "volume create notes --size 1G --mirror 1 --policy copy --rights save",
        ],
    )
    create.add_argument("name", metavar="NAME", help="letters, digits, '_', '.' and '-'")
    create.add_argument("--size", type=parse_size, required=True, help="as 512M or 1G")
    create.add_argument("--mirror", type=grammar.legs, metavar="N", help="legs (default: 2)")
    media = create.add_argument("--media", nargs="+", metavar="MEDIUM", help="which media to take")
    grammar.completed(media, "medium")
    create.add_argument(
        "--extent-size", type=parse_size, help="unit of the differential, 4K to 1M (default: 64K)"
    )
    create.add_argument(
        "--policy",
        choices=("split", "copy"),
        help="what a save takes: a leg of the mirror (split, the default) or a free medium (copy)",
    )
    create.add_argument(
        "--rights",
        choices=("none", "status", "save", "all"),
        help="what a host may ask for in-band (default: all)",
    )
    grammar.force(create, "overwrite what is on the media")

    delete = grammar.verb(
        verbs,
        "delete",
        _delete,
        "delete a volume and free its media",
        more="What would be lost is named; --force then loses it.",
        examples=["volume delete ledger"],
    )
    completed = delete.add_argument("name", metavar="NAME", help="name of the volume")
    grammar.completed(completed, "volume")
    grammar.force(delete, "delete it with its data and its saves")

    grammar.verb(verbs, "list", _list, "show all volumes")
    show = grammar.verb(
        verbs, "show", _show, "show all of one volume", examples=["volume show ledger"]
    )
    completed = show.add_argument("name", metavar="NAME", help="name of the volume")
    grammar.completed(completed, "volume")


def _create(session: Session, args: argparse.Namespace) -> None:
    result = session.call(
        "volume.create",
        name=args.name,
        size=args.size,
        mirror=args.mirror,
        media=args.media,
        extent_size=args.extent_size,
        policy=args.policy,
        rights=args.rights,
        force=args.force,
    )

    def tell(one: results.Fields) -> None:
        on = ", ".join(leg["medium"] for leg in one["legs"])
        say(f"{one['name']} is a volume of {format_size(one['size'])} on {on}.")
        say(f"Let a host use it: targetplugin export {one['name']} --initiator IQN --chap")

    session.show(result, tell)


def _delete(session: Session, args: argparse.Namespace) -> None:
    result = session.call("volume.delete", name=args.name, force=args.force)
    session.show(result, lambda _: say(f"{args.name} is deleted, its media are free."))


def _list(session: Session, args: argparse.Namespace) -> None:
    def tell(found: list[results.Fields]) -> None:
        results.volumes(found)
        if not found:
            say("There are no volumes. Make one: targetplugin volume create NAME --size 512M")

    session.show(session.call("volume.list"), tell)


def _show(session: Session, args: argparse.Namespace) -> None:
    session.show(session.call("volume.show", name=args.name), results.volume_in_full)
