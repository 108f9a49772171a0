"""How a verb ends that began an operation: its preview, or what it did; with --wait when that is over."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from targetplugin.terminal import results
from targetplugin.terminal.progress import finished
from targetplugin.terminal.results import Fields
from targetplugin.terminal.session import Session
from targetplugin.terminal.tables import say


def ask(
    session: Session,
    args: argparse.Namespace,
    verb: str,
    name: str,
    sentence: Callable[[Fields], str],
    /,
    *,
    then: Callable[[Fields], str] = lambda result: "",
    **parameters: Any,
) -> None:
    """Calls a verb on one volume or save, and shows what came of it.

    Args:
        name: of that volume or save, where the daemon does not call it otherwise.
        sentence: what it did, of the result.
        then: what else is to be known or done, of the result; "" for nothing.
    """
    result = session.call(verb, **parameters, preview=args.preview)

    def done(result: Fields) -> None:
        results.tell_effect(sentence(result), result["operation"])
        if more := then(result):
            say(more)

    show(session, args, result, would=lambda result: results.would(verb, name, result), done=done)


def show(
    session: Session,
    args: argparse.Namespace,
    result: Fields,
    *,
    would: Callable[[Fields], None],
    done: Callable[[Fields], None],
) -> Fields:
    """Shows the result of a verb that has --preview and --wait, and returns it as it was shown."""
    if args.preview:
        session.show(result, would)
        return result
    if args.wait:
        result = finished(session, result)
    session.show(result, done)
    return result
