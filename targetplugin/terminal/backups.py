"""Images: `restore`, `backup`, and `backups` for the list that hosts may choose from."""

from __future__ import annotations

import argparse

from targetplugin.terminal import grammar, results
from targetplugin.terminal.progress import finished
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
            "with the image. Make it the volume's data with swap."
        ),
        examples=[
            "restore ledger --from /backups/monday.qcow2",
            "restore ledger --backup 3 --onto virtio-media-d --no-wait",
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
    grammar.preview(restore)
    grammar.waits(restore, default=True, what="show progress until it is filled and compared")

    backup = grammar.verb(
        verbs,
        "backup",
        _backup,
        "write a save to an image file",
        examples=["backup ledger@night --to /backups/monday.qcow2 --label monday"],
    )
    grammar.save(backup)
    place = backup.add_argument(
        "--to", type=grammar.path, required=True, metavar="PATH", help="the image to make"
    )
    grammar.completed(place, "file")
    backup.add_argument("--format", choices=("qcow2", "raw"), help="of the image (default: qcow2)")
    backup.add_argument("--label", type=grammar.label, help="what the list of backups calls it")
    backup.add_argument(
        "--no-register",
        dest="register",
        action="store_false",
        default=None,
        help="keep it off the list of backups that hosts may ask for",
    )
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
        examples=["backups register ledger /backups/monday.qcow2 --label monday"],
    )
    grammar.volume(register)
    place = register.add_argument("path", metavar="PATH", type=grammar.path, help="the image")
    grammar.completed(place, "file")
    register.add_argument("--label", type=grammar.label, help="what the list of backups calls it")
    register.add_argument(
        "--format", choices=("qcow2", "raw"), help="of the image (default: by its first bytes)"
    )
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
    result = session.call(
        "restore",
        volume=args.volume,
        image=args.image,
        format=args.format,
        backup=args.backup,
        onto=args.onto,
        preview=args.preview,
    )
    if args.preview:
        session.show(result, lambda result: results.would("restore", args.volume, result))
        return
    if args.wait:
        result = finished(session, result)

    def tell(result: results.Fields) -> None:
        save = result["save"]
        verb = "holds the image" if args.wait else "is being filled"
        results.tell_effect(
            f"{results.called(save)} {verb}, on {', '.join(save['media'])}", result["operation"]
        )
        say(f"Make it the data of {args.volume}: targetplugin swap {results.typed(save)}")

    session.show(result, tell)


def _backup(session: Session, args: argparse.Namespace) -> None:
    result = session.call(
        "backup",
        save=args.save,
        path=args.to,
        format=args.format,
        label=args.label,
        register=args.register,
        force=args.force,
        preview=args.preview,
    )
    if args.preview:
        session.show(result, lambda result: results.would("backup", args.save, result))
        return
    if args.wait:
        result = finished(session, result)

    def tell(result: results.Fields) -> None:
        operation = result["operation"]
        verb = "is" if args.wait else "is being"
        name = operation.get("save") or args.save
        results.tell_effect(f"{name} {verb} written to {args.to}", operation)

    session.show(result, tell)


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
    )

    def tell(result: results.Fields) -> None:
        say(f"{args.path} is backup {result['number']} of {args.volume}.")

    session.show(result, tell)


def _forget(session: Session, args: argparse.Namespace) -> None:
    result = session.call("backup.forget", number=args.number)
    session.show(result, lambda _: say(f"Backup {args.number} is off the list; its file stays."))
