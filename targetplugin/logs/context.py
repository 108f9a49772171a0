"""What a thread is at: the fields of each line that it logs meanwhile.

One that has several values is a tuple: an operation on several volumes is found by each of them.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

Value = str | int | tuple[str | int, ...]
Fields = Mapping[str, Value]

# All that there are, and what they say.
FIELDS = {
    "operation": "its number, as `operation list` has it; of several volumes' the whole's and the parts'",
    "volume": "its name",
    "save": "its name with the generation: `ledger@3`",
    "medium": "its name",
    "door": "by which way it was asked for: `terminal`, `in-band`, `policy`; `engine`: it came by itself",
    "asker": "who asked at the terminal",
    "event": "that the line is an event, and of which kind: `targetplugin events` has it, too",
    "state": "of an operation that is over: `done`, `failed`, `aborted`",
}

_here: ContextVar[Fields | None] = ContextVar("logged about", default=None)


@contextlib.contextmanager
def about(**fields: Value | None) -> Iterator[None]:
    """Within it, lines have these fields, too; None and "" say nothing. An exception that leaves it keeps
    them, for whoever logs it farther out.
    """
    before = _here.set(merged(now(), fields))
    try:
        yield
    except BaseException as error:
        if not hasattr(error, "logged_about"):
            with contextlib.suppress(AttributeError):
                error.logged_about = now()  # type: ignore[attr-defined]
        raise
    finally:
        _here.reset(before)


def learn(**fields: Value | None) -> None:
    """Until the innermost `about` is over, lines have these fields, too; outside of any it does nothing."""
    if _here.get() is not None:
        _here.set(merged(now(), fields))


def now() -> Fields:
    """The fields here."""
    return _here.get() or {}


def extra(fields: Fields) -> dict[str, Any]:
    """The argument `extra` of a log call whose line has these fields, and not those of here."""
    return {"fields": merged({}, fields)}


def came_from(error: BaseException) -> dict[str, Any]:
    """The same of a line about an exception, which left an `about`."""
    return extra(merged(now(), getattr(error, "logged_about", {})))


def of(record: logging.LogRecord) -> Fields:
    """A record's fields."""
    given: Fields | None = getattr(record, "fields", None)
    if given is not None:
        return given
    error = record.exc_info[1] if record.exc_info else None
    return merged(now(), getattr(error, "logged_about", {}))


def merged(known: Fields, more: Mapping[str, Value | None]) -> Fields:
    """What is said later counts, unless it is only one of several values that are known."""
    fields = dict(known)
    for name, value in more.items():
        several = known.get(name)
        if value in (None, "", ()) or (isinstance(several, tuple) and value in several):
            continue
        fields[name] = value
    return fields
