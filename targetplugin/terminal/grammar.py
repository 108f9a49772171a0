"""The grammar of the command line: how a verb is declared, and what its words stand for.

Knows argparse; knows no verb and no daemon.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from targetplugin.terminal.errors import Misused
from targetplugin.terminal.session import Session
from targetplugin.terminal.sizes import parse_size

LABEL_BYTES = 32
SLOWEST = 64 << 10  # bytes a second
MOST_LEGS = 8

Run = Callable[[Session, argparse.Namespace], int | None]  # an exit status; None: done


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations: a script must not change its meaning with a version."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)


if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[Parser]


def verb(
    verbs: Verbs, name: str, run: Run, what: str, *, more: str = "", examples: Sequence[str] = ()
) -> Parser:
    """Declares a verb with `--json`.

    Args:
        run: does it.
        what: one sentence, shown in the list of verbs too.
        more: what else there is to know, in full lines.
        examples: command lines without the program's name.
    """
    described = f"{what[0].upper()}{what[1:]}." + (f"\n\n{more}" if more else "")
    shown = "\n".join(f"  targetplugin {example}" for example in examples)
    parser = verbs.add_parser(
        name, help=what, description=described, epilog=f"examples:\n{shown}" if shown else None
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)
    return parser


def group(verbs: Verbs, name: str, what: str) -> Verbs:
    """Declares a word that verbs follow, as in `volume create`."""
    parser = verbs.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    return parser.add_subparsers(metavar="VERB", required=True, title="verbs")


def completed(action: argparse.Action, kind: str) -> None:
    """Says what an argument names, for completion: a kind of `completion.KINDS`, or "file"."""
    action.completed_as = kind  # type: ignore[attr-defined]


def volume(parser: argparse.ArgumentParser, **settings: Any) -> None:
    """The positional VOLUME."""
    settings.setdefault("help", "name of the volume")
    completed(parser.add_argument("volume", metavar="VOLUME", **settings), "volume")


def save(parser: argparse.ArgumentParser, **settings: Any) -> None:
    """The positional VOLUME[@SAVE]."""
    text = "a save by its label or generation, ledger@night or ledger@3; ledger is its newest"
    completed(parser.add_argument("save", metavar="VOLUME[@SAVE]", help=text, **settings), "save")


def deadline(parser: argparse.ArgumentParser) -> None:
    """`--deadline`, of a verb that takes several volumes."""
    parser.add_argument(
        "--deadline",
        type=number,
        metavar="MS",
        help="of several: how long writes may be paused, 1 to 5000 ms (default: 500)",
    )


def check_alone(args: argparse.Namespace) -> None:
    """Of a verb that takes several volumes, and got one. Raises Misused."""
    if args.deadline is not None:
        raise Misused("--deadline is for several volumes, and one is named")


def exported(parser: argparse.ArgumentParser) -> None:
    """The positional VOLUME[@SAVE] of what hosts see: without a save it is the volume itself."""
    text = "the volume, or one of its saves: ledger@night or ledger@3"
    completed(parser.add_argument("volume", metavar="VOLUME[@SAVE]", help=text), "save")


def force(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--force", action="store_true", default=None, help=what)


def preview(parser: argparse._ActionsContainer) -> None:
    text = "say what would be done, and do nothing"
    parser.add_argument("--preview", action="store_true", default=None, help=text)


def paced(parser: argparse.ArgumentParser) -> None:
    """`--rate`: how fast work beside the hosts may be."""
    text = "move at most so much a second, as in 50M, for the sake of hosts (operation rate)"
    parser.add_argument("--rate", type=rate, metavar="RATE", help=text)


def waits(parser: argparse.ArgumentParser, *, default: bool, what: str) -> None:
    """`--wait` and `--no-wait`: whether the terminal shows progress until the end."""
    parser.add_argument("--wait", action=argparse.BooleanOptionalAction, default=default, help=what)


def path(text: str) -> str:
    """A path as the daemon needs it: from the root. An argparse type."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("a path is not empty")
    return os.path.abspath(text)


def label(text: str) -> str:
    """A save's or backup's label, in the room that the daemon has for it. An argparse type."""
    if len(text.encode()) > LABEL_BYTES:
        raise argparse.ArgumentTypeError(f"a label has at most {LABEL_BYTES} bytes")
    return text


def seconds(text: str) -> int:
    """A number of seconds, 0 too. An argparse type."""
    return 0 if text == "0" else number(text)


def rate(text: str) -> int:
    """Bytes a second of `50M` or `50MiB/s`. An argparse type."""
    found = parse_size(text.strip().removesuffix("/s"))
    if found < SLOWEST:
        raise argparse.ArgumentTypeError(f"{text!r} is less than 64 KiB a second")
    return found


def legs(text: str) -> int:
    """How many legs a mirror may have. An argparse type."""
    if number(text) > MOST_LEGS:
        raise argparse.ArgumentTypeError(f"a mirror has at most {MOST_LEGS} legs")
    return number(text)


def number(text: str) -> int:
    """A number from 1. An argparse type."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)
