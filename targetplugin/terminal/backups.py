"""Images: `restore`, `backup`, and `backups` for the list that hosts may choose from."""

from __future__ import annotations

import argparse

from targetplugin.terminal import grammar, outcome, results
from targetplugin.terminal.session import Session
from targetplugin.terminal.tables import say


def declare(verbs: grammar.Verbs) -> None:
    restore = grammar.verb(
        verbs,
        "restore",
        _restore,
        "bring a backup image onto a free medium, while the volume is in use",
        more=(
            "The volume is not touched: the image becomes a save of it, filled and then compared\n"
            "with the image. Make it the volume's data with swap.\n\n"
            "An increment is restored with all that it stands on. Those files lie in its folder;\n"
            "no name in an image leads to another place."
        ),
        examples=[
            "restore ledger --from /backups/monday.qcow2",
            "restore ledger --backup 3 --onto virtio-media-d --no-wait --rate 50M",
        ],
    )
    grammar.volume(restore)
    source = restore.add_mutually_exclusive_group(required=True)
    image = source.add_argument(
        "--from", dest="image", type=grammar.path, metavar="IMAGE", help="a raw or qcow2 file"
    )
    grammar.completed(image, "file")
    number = source.add_argument(
        "--backup", type=grammar.number, metavar="N", help="a number of backups list"
    )
    grammar.completed(number, "backup")
    onto = restore.add_argument("--onto", metavar="MEDIUM", help="the medium to take")
    grammar.completed(onto, "medium")
    restore.add_argument(
        "--format", choices=("qcow2", "raw"), help="of the image (default: by its first bytes)"
    )
    grammar.paced(restore)
    grammar.force(restore, "although it is a backup of another volume")
    grammar.preview(restore)
    grammar.waits(restore, default=True, what="show progress until it is filled and compared")

    backup = grammar.verb(
        verbs,
        "backup",
        _backup,
        "write a save to an image file, whole or only what differs from an older backup",
        more=(
            "With --since or --base only what differs is written: a qcow2 image that stands on the\n"
            "older backup, in the same folder. The older save need not be there any more, its backup\n"
            "must. Every backup is compared with the save before it gets its name."
        ),
        examples=[
            "backup ledger@monday --to /backups/monday.qcow2 --label monday",
            "backup ledger@tuesday --to /backups/tuesday.qcow2 --since ledger@monday",
            "backup ledger@tuesday --to /backups/tuesday.qcow2 --base 3 --rate 50M",
        ],
    )
    grammar.save(backup)
    place = backup.add_argument(
        "--to", type=grammar.path, required=True, metavar="PATH", help="the image to make"
    )
    grammar.completed(place, "file")
    backup.add_argument("--format", choices=("qcow2", "raw"), help="of the image (default: qcow2)")
    base = backup.add_mutually_exclusive_group()
    since = base.add_argument(
        "--since",
        metavar="VOLUME@SAVE",
        help="write only what differs from this older save, onto its newest backup beside PATH",
    )
    grammar.completed(since, "save")
    number = base.add_argument(
        "--base",
        type=grammar.number,
        metavar="N",
        help="write only what differs from this backup, a number of backups list",
    )
    grammar.completed(number, "backup")
    backup.add_argument("--label", type=grammar.label, help="what the list of backups calls it")
    backup.add_argument(
        "--no-register",
        dest="register",
        action="store_false",
        default=None,
        help="keep it off the list of backups that hosts may ask for",
    )
    grammar.paced(backup)
    grammar.force(backup, "write it in the place of a file")
    grammar.preview(backup)
    grammar.waits(backup, default=True, what="show progress until it is written")

    verbs = grammar.group(verbs, "backups", "the images that a host may ask for by number")
    listed = grammar.verb(verbs, "list", _list, "show the backups", examples=["backups list"])
    grammar.volume(listed, nargs="?", help="only of this volume")
    register = grammar.verb(
        verbs,
        "register",
        _register,
        "let hosts ask for an image by number",
        more=(
            "An image that is registered already is looked at again, and keeps its number: after it\n"
            "was moved onto another with qemu-img rebase, say."
        ),
        examples=["backups register ledger /backups/monday.qcow2 --label monday"],
    )
    grammar.volume(register)
    place = register.add_argument("path", metavar="PATH", type=grammar.path, help="the image")
    grammar.completed(place, "file")
    register.add_argument("--label", type=grammar.label, help="what the list of backups calls it")
    register.add_argument(
        "--format", choices=("qcow2", "raw"), help="of the image (default: by its first bytes)"
    )
    grammar.force(register, "although it is a backup of another volume")
    forget = grammar.verb(
        verbs,
        "forget",
        _forget,
        "strike a backup from the list; its file stays",
        examples=["backups forget 3"],
    )
    number = forget.add_argument("number", metavar="N", type=grammar.number)
    grammar.completed(number, "backup")


def _restore(session: Session, args: argparse.Namespace) -> None:
    def sentence(result: results.Fields) -> str:
        save = result["save"]
        verb = "holds the image" if args.wait else "is being filled"
        return f"{results.called(save)} {verb}, on {', '.join(save['media'])}"

    def then(result: results.Fields) -> str:
        save = results.typed(result["save"])
        return f"Make it the data of {args.volume}: targetplugin swap {save}"

    outcome.ask(
        session,
        args,
        "restore",
        args.volume,
        sentence,
        then=then,
        volume=args.volume,
        image=args.image,
        format=args.format,
        backup=args.backup,
        onto=args.onto,
        rate=args.rate,
        force=args.force,
    )


def _backup(session: Session, args: argparse.Namespace) -> None:
    def sentence(result: results.Fields) -> str:
        name = result["operation"].get("save") or args.save
        verb = "is" if args.wait else "is being"
        return f"{name} {verb} written to {args.to}"

    outcome.ask(
        session,
        args,
        "backup",
        args.save,
        sentence,
        save=args.save,
        path=args.to,
        format=args.format,
        label=args.label,
        register=args.register,
        force=args.force,
        since=args.since,
        base=args.base,
        rate=args.rate,
    )


def _list(session: Session, args: argparse.Namespace) -> None:
    def tell(found: list[results.Fields]) -> None:
        results.backups(found)
        if not found:
            say("There are no backups. Write one: targetplugin backup VOLUME@SAVE --to PATH")

    session.show(session.call("backup.list", volume=args.volume), tell)


def _register(session: Session, args: argparse.Namespace) -> None:
    result = session.call(
        "backup.register",
        volume=args.volume,
        path=args.path,
        label=args.label,
        format=args.format,
        force=args.force,
    )

    def tell(result: results.Fields) -> None:
        say(f"{args.path} is backup {result['number']} of {args.volume}.")

    session.show(result, tell)


def _forget(session: Session, args: argparse.Namespace) -> None:
    result = session.call("backup.forget", number=args.number)
    session.show(result, lambda _: say(f"Backup {args.number} is off the list; its file stays."))
