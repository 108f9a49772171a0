"""`targetplugin volume`: volumes made, shown and deleted."""

from __future__ import annotations

import argparse

from targetplugin.terminal import grammar, outcome, results
from targetplugin.terminal.errors import Misused
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
            "volume create vms --size 2T --blocks 4kn",
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
    _blocks(create, "512e, unless said otherwise")
    grammar.force(create, "overwrite what is on the media")

    adopt = grammar.verb(
        verbs,
        "adopt",
        _adopt,
        "make a volume of a disk or file with data, and keep the data",
        more=(
            "It is the volume's single leg; nothing before its end is written. A file is made longer for\n"
            "the trailer. A disk must have room for it behind its file system or last partition; what\n"
            "to do where it has none is said. Unmount it first, and have hosts use the volume from then on."
        ),
        examples=[
            "volume adopt ledger /srv/ledger.img",
            "volume adopt ledger /dev/disk/by-id/virtio-old --preview",
            "volume adopt ledger /dev/disk/by-id/virtio-old --size 500G",
        ],
    )
    adopt.add_argument("name", metavar="NAME", help="letters, digits, '_', '.' and '-'")
    path = adopt.add_argument("path", metavar="PATH", type=grammar.path, help="the device or file")
    grammar.completed(path, "file")
    adopt.add_argument(
        "--size", type=parse_size, help="keep so much; what is behind may be overwritten"
    )
    adopt.add_argument(
        "--extent-size", type=parse_size, help="unit of the differential, 4K to 1M (default: 64K)"
    )
    adopt.add_argument("--policy", choices=("split", "copy"), help="what a save takes")
    adopt.add_argument(
        "--rights",
        choices=("none", "status", "save", "all"),
        help="what a host may ask for in-band (default: all)",
    )
    _blocks(adopt, "4kn where the disk is so, else 512e")
    grammar.preview(adopt)

    change = grammar.verb(
        verbs,
        "set",
        _set,
        "change a volume's policies",
        more=(
            "With --replace-failed on, a spare takes the place of a leg that failed or is missing, when\n"
            "it has not come back in time; never a medium that holds something."
        ),
        examples=[
            "volume set ledger --replace-failed on",
            "volume set ledger --replace-failed on --replace-after 60",
            "volume set ledger --policy copy --rights save",
        ],
    )
    named = change.add_argument("name", metavar="NAME", help="name of the volume")
    grammar.completed(named, "volume")
    change.add_argument("--policy", choices=("split", "copy"), help="what a save takes")
    change.add_argument(
        "--rights",
        choices=("none", "status", "save", "all"),
        help="what a host may ask for in-band",
    )
    change.add_argument(
        "--mirror",
        type=grammar.legs,
        metavar="N",
        help="how many legs it is to have; leg add and leg remove bring it there",
    )
    change.add_argument(
        "--replace-failed", choices=("on", "off"), help="replace failed legs by spares"
    )
    change.add_argument(
        "--replace-after",
        type=grammar.seconds,
        metavar="SECONDS",
        help="how long a leg may be away before (default: 300)",
    )

    resize = grammar.verb(
        verbs,
        "resize",
        _resize,
        "give a volume more room at its end, while hosts use it",
        more=(
            "Its legs and its saves' media must have that room. The new part reads as zeros, in its saves\n"
            "too. Hosts wait for a moment, and see the new size when they look for it again: on Linux\n"
            "iscsiadm -m session --rescan, then resize2fs or xfs_growfs. A volume never gets smaller."
        ),
        examples=[
            "volume resize ledger --size 2G",
            "volume resize ledger --size +512M --preview",
            "volume resize ledger --size 2T --rate 100M --no-wait",
        ],
    )
    named = resize.add_argument("name", metavar="NAME", help="name of the volume")
    grammar.completed(named, "volume")
    resize.add_argument(
        "--size",
        type=_new_size,
        required=True,
        metavar="[+]SIZE",
        help="how large it is to be, as 2G; with + how much is added",
    )
    grammar.paced(resize)
    grammar.preview(resize)
    grammar.waits(resize, default=True, what="wait until it has its new size (the default)")

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
    grammar.preview(delete)

    grammar.verb(verbs, "list", _list, "show all volumes")
    show = grammar.verb(
        verbs, "show", _show, "show all of one volume", examples=["volume show ledger"]
    )
    completed = show.add_argument("name", metavar="NAME", help="name of the volume")
    grammar.completed(completed, "volume")


def _blocks(verb: argparse.ArgumentParser, default: str) -> None:
    verb.add_argument(
        "--blocks",
        choices=("512n", "512e", "4kn"),
        help="logical and physical blocks that hosts see: of 512 bytes (512n), of 512 on 4096 (512e), of"
        f" 4096 (4kn); {default}",
    )


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
        blocks=args.blocks,
        force=args.force,
    )

    def tell(one: results.Fields) -> None:
        on = ", ".join(leg["medium"] for leg in one["legs"])
        say(f"{one['name']} is a volume of {format_size(one['size'])} on {on}.")
        say(f"Let a host use it: targetplugin export {one['name']} --initiator IQN --chap")

    session.show(result, tell)


def _adopt(session: Session, args: argparse.Namespace) -> None:
    result = session.call(
        "volume.adopt",
        name=args.name,
        path=args.path,
        size=args.size,
        extent_size=args.extent_size,
        policy=args.policy,
        rights=args.rights,
        blocks=args.blocks,
        preview=args.preview,
    )

    def tell(one: results.Fields) -> None:
        size = format_size(one["size"])
        if args.preview:
            longer = f", and made {format_size(one['grown_by'])} longer" if one["grown_by"] else ""
            say(f"{size} of {args.path} would be kept{longer}; nothing was done now.")
            return
        say(f"{one['name']} is a volume of {size} on {one['legs'][0]['medium']}, with its data.")
        say(f"Mirror it: targetplugin leg add {one['name']}")

    session.show(result, tell)


def _set(session: Session, args: argparse.Namespace) -> None:
    replace = None if args.replace_failed is None else args.replace_failed == "on"
    changes = {
        "policy": args.policy,
        "rights": args.rights,
        "mirror": args.mirror,
        "replace_failed": replace,
        "replace_after": args.replace_after,
    }
    if all(value is None for value in changes.values()):
        what = "see what can be: targetplugin volume set --help"
        raise Misused(f"nothing of {args.name} was to be changed", what)
    result = session.call("volume.set", name=args.name, **changes)

    def tell(one: results.Fields) -> None:
        results.policies(one)
        short = (one.get("mirror") or 0) - len(one["legs"])
        if short > 0:
            say(f"It is {short} short of its legs: targetplugin leg add {one['name']}")

    session.show(result, tell)


def _new_size(text: str) -> tuple[bool, int]:
    """Whether it is added to what is there, and bytes. An argparse type."""
    text = text.strip()
    return text.startswith("+"), parse_size(text.removeprefix("+"))


def _resize(session: Session, args: argparse.Namespace) -> None:
    added, size = args.size
    if added:
        size += session.call("volume.show", name=args.name)["size"]
    result = session.call(
        "volume.resize", name=args.name, size=size, rate=args.rate, preview=args.preview
    )
    if result["operation"] is None:
        session.show(result, lambda _: say(f"{args.name} has {format_size(size)} already."))
        return

    def would(one: results.Fields) -> None:
        sizes = f"from {format_size(one['before'])} to {format_size(one['size'])}"
        say(f"{args.name} would grow {sizes}; nothing was done now.")
        say(f"{format_size(one['operation']['bytes_total'])} would be zeroed on its media.")

    def done(one: results.Fields) -> None:
        if one["operation"]["state"] != "done":
            results.tell_effect(f"{args.name} is growing", one["operation"])
            return
        pause = one["operation"]["pause_ms"]
        held = "" if pause is None else f"; it was not served for {pause:.0f} ms"
        say(f"{args.name} has {format_size(one['size'])}{held}.")
        say("On its hosts: iscsiadm -m session --rescan, then make the file system larger.")

    outcome.show(session, args, result, would=would, done=done)


def _delete(session: Session, args: argparse.Namespace) -> None:
    result = session.call("volume.delete", name=args.name, force=args.force, preview=args.preview)
    told = "would be deleted" if args.preview else "is deleted, its media are free"
    session.show(result, lambda _: say(f"{args.name} {told}."))


def _list(session: Session, args: argparse.Namespace) -> None:
    def tell(found: list[results.Fields]) -> None:
        results.volumes(found)
        if not found:
            say("There are no volumes. Make one: targetplugin volume create NAME --size 512M")

    session.show(session.call("volume.list"), tell)


def _show(session: Session, args: argparse.Namespace) -> None:
    session.show(session.call("volume.show", name=args.name), results.volume_in_full)
