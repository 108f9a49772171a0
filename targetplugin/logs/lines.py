"""A record as a line for people and programs: time, level, who, what, and its fields as key=value (logfmt).
A traceback follows, as Python writes it.
"""

from __future__ import annotations

import json
import logging

from targetplugin.logs import context

TIMED = "%(asctime)s %(levelname)s %(name)s: "
UNTIMED = "%(levelname)s %(name)s: "


class Lines(logging.Formatter):
    """Takes one of the beginnings above."""

    def __init__(self, beginning: str = TIMED) -> None:
        super().__init__(beginning + "%(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        words = [f"{name}={_value(value)}" for name, value in context.of(record).items()]
        return " ".join([_plain(super().formatMessage(record)), *words])


def _value(value: context.Value) -> str:
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    bare = text and text.isprintable() and not set(text) & set(' "=')
    return text if bare else json.dumps(text, ensure_ascii=not text.isprintable())


def _plain(text: str) -> str:
    """What comes from elsewhere makes no line of its own, and is no command to a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
