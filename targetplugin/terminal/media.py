"""`targetplugin media`: disks and files given to the subsystem, and taken back."""

from __future__ import annotations

import argparse

from targetplugin.terminal import grammar, results
from targetplugin.terminal.session import Session
from targetplugin.terminal.sizes import format_size, parse_size
from targetplugin.terminal.tables import say


def declare(verbs: grammar.Verbs) -> None:
    verbs = grammar.group(verbs, "media", "give disks and files to the subsystem as media")
    add = grammar.verb(
        verbs,
        "add",
        _add,
        "give a block device or a file to the subsystem",
        more="A disk with data on it is refused; a file that is not there is made with --size.",
        examples=[
            "media add /dev/disk/by-id/virtio-media-a",
            "media add /srv/spare.img --size 2G --name spare",
        ],
    )
    path = add.add_argument("path", metavar="PATH", type=grammar.path, help="the device or file")
    grammar.completed(path, "file")
    add.add_argument("--size", type=parse_size, help="make a file of this size, as 512M or 2G")
    add.add_argument("--name", help="what to call it; by default as its path ends")
    grammar.force(add, "overwrite what is on it: that data is lost")

    remove = grammar.verb(
        verbs,
        "remove",
        _remove,
        "take a medium back from the subsystem",
        examples=["media remove virtio-media-a"],
    )
    medium = remove.add_argument("medium", metavar="MEDIUM", help="as media list calls it")
    grammar.completed(medium, "medium")
    grammar.force(remove, "take it even if what is on it is lost by that")
    grammar.preview(remove)

    grammar.verb(verbs, "list", _list, "show all media", examples=["media list --json"])


def _add(session: Session, args: argparse.Namespace) -> None:
    result = session.call(
        "media.add", path=args.path, size=args.size, force=args.force, name=args.name
    )

    def tell(one: results.Fields) -> None:
        say(f"{one['name']} is a medium: {format_size(one['data_size'])} for data, {one['state']}.")

    session.show(result, tell)


def _remove(session: Session, args: argparse.Namespace) -> None:
    result = session.call(
        "media.remove", medium=args.medium, force=args.force, preview=args.preview
    )
    what = "would be no medium" if args.preview else "is no medium"
    session.show(result, lambda _: say(f"{args.medium} {what} of the subsystem any more."))


def _list(session: Session, args: argparse.Namespace) -> None:
    def tell(found: list[results.Fields]) -> None:
        results.media(found)
        if not found:
            say("There are no media. Give one: targetplugin media add /dev/disk/by-id/...")

    session.show(session.call("media.list"), tell)
