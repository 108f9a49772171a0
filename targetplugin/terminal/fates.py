"""What becomes of a save: a volume of its own (clone), a leg again (resync), a free medium (release)."""

from __future__ import annotations

import argparse

from targetplugin.terminal import grammar, outcome, results
from targetplugin.terminal.session import Session


def declare(verbs: grammar.Verbs) -> None:
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

    release = grammar.verb(
        verbs,
        "release",
        _release,
        "give a save up and free its medium",
        examples=["release ledger@3"],
    )
    grammar.save(release)
    grammar.force(release, "release it even if other saves need it, or an operation reads it")
    grammar.preview(release)
    grammar.waits(release, default=False, what="wait until the operation has ended")


def _clone(session: Session, args: argparse.Namespace) -> None:
    def sentence(result: results.Fields) -> str:
        made = result["volume"]
        on = ", ".join(leg["medium"] for leg in made["legs"])
        return f"{made['name']} is a volume with the data of {made['clone_of']} on {on}"

    def then(result: results.Fields) -> str:
        name = result["volume"]["name"]
        return f"Let a host use it: targetplugin export {name} --initiator IQN --chap"

    outcome.ask(
        session,
        args,
        "clone",
        args.name,
        sentence,
        then=then,
        save=args.save,
        name=args.name,
        onto=args.onto,
    )


def _resync(session: Session, args: argparse.Namespace) -> None:
    def sentence(result: results.Fields) -> str:
        operation = result["operation"]
        name = operation.get("save") or args.save
        return f"{name} is given up, its medium is a leg of {operation['volume']}"

    outcome.ask(session, args, "resync", args.save, sentence, save=args.save)


def _release(session: Session, args: argparse.Namespace) -> None:
    def sentence(result: results.Fields) -> str:
        name = result["operation"].get("save") or args.save
        shared = (result.get("save") or {}).get("kept_bytes") is not None
        return f"{name} is given up, its {'room in the store' if shared else 'medium'} is free"

    outcome.ask(session, args, "release", args.save, sentence, save=args.save, force=args.force)
