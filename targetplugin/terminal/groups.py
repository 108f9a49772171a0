"""`targetplugin group`: volumes that hosts may name together."""

from __future__ import annotations

import argparse

from targetplugin.terminal import grammar, results
from targetplugin.terminal.session import Session
from targetplugin.terminal.tables import say


def declare(verbs: grammar.Verbs) -> None:
    group = grammar.group(verbs, "group", "declare volumes that hosts may name together")

    create = grammar.verb(
        group,
        "create",
        _create,
        "let hosts save, take back and swap volumes at one instant",
        more=(
            "A host may then name several of them in one request (pitcopy save /dev/sdb /dev/sdc),\n"
            "while they are exported to the same initiators, with the same in-band rights.\n"
            "At this terminal any volumes are named together without it: save ledger journal."
        ),
        examples=["group create books ledger journal"],
    )
    create.add_argument("name", metavar="NAME", help="a name for the group")
    grammar.volume(create, nargs="+", help="names of the volumes")

    grammar.verb(group, "list", _list, "list the groups", examples=["group list"])

    delete = grammar.verb(
        group,
        "delete",
        _delete,
        "take a group back; its volumes and their saves stay",
        examples=["group delete books"],
    )
    grammar.completed(delete.add_argument("name", metavar="NAME", help="of the group"), "group")


def _create(session: Session, args: argparse.Namespace) -> None:
    def tell(made: results.Fields) -> None:
        say(f"hosts may name {results.listed(made['volumes'])} together.")
        if made.get("why"):
            say(f"Not yet: {made['why']}.")

    session.show(session.call("group.create", name=args.name, volumes=args.volume), tell)


def _list(session: Session, args: argparse.Namespace) -> None:
    session.show(session.call("group.list"), results.groups)


def _delete(session: Session, args: argparse.Namespace) -> None:
    def tell(gone: results.Fields) -> None:
        say(f"{gone['name']} is no group any more; its volumes and their saves stay.")

    session.show(session.call("group.delete", name=args.name), tell)
