"""The subsystem as one asker sees it: the same verbs, and what was asked stands in the journal.

Changes nothing of what is asked or answered.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

from targetplugin import logs
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.ground.journal import Journal

# Verbs that only look; and whatever is called *_list, *_show or *_wait.
LOOKS = frozenset(
    {"diff", "status", "operation", "operations", "resolve", "volume_of", "holds", "group_reach"}
    | {"save_shown", "save_read", "group_limit", "volume_counters", "write_cache"}
)
LOOK_ENDS = ("_list", "_show", "_wait")
SWITCHES = ("force", "preview")  # off unless they are asked for
DOORS = ("door", "request")  # what the doors fill in


class Asker:
    """Has the verbs of a subsystem.

    Args:
        door: "terminal" or "in-band".
        who: as the door knows it.
        volume: the one that the door belongs to.
    """

    def __init__(
        self, subsystem: Any, journal: Journal, door: str, who: str = "", volume: str = ""
    ) -> None:
        self._subsystem = subsystem
        self._journal = journal
        self._door = door
        self._who = who
        self._volume = volume

    def __getattr__(self, verb: str) -> Any:
        method = getattr(self._subsystem, verb)
        if not callable(method) or verb in LOOKS or verb.endswith(LOOK_ENDS):
            return method
        return self._noted(verb, method)

    def _noted(self, verb: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def run(*positional: Any, **named: Any) -> Any:
            asked = inspect.signature(method).bind(*positional, **named).arguments
            if asked.get("preview"):
                return method(*positional, **named)
            volume = self._volume or volume_of(verb, asked)
            with logs.about(door=self._door, asker=self._who, volume=volume):
                return self._told(verb, volume, sentence(verb, asked), method, positional, named)

        return run

    def _told(
        self,
        verb: str,
        volume: str,
        line: str,
        method: Callable[..., Any],
        positional: Sequence[Any],
        named: Mapping[str, Any],
    ) -> Any:
        """Runs a verb, and notes what came of it."""
        try:
            answer = method(*positional, **named)
        except Refused as refused:
            what = f"{line}: refused, {refused.message}"
            bad = refused.reason is Reason.ENVIRONMENT
            self._refused(verb, what, volume, logging.WARNING if bad else logging.INFO)
            raise
        except Exception as error:  # which the door logs
            what = f"{line}: failed, {type(error).__name__}"
            self._refused(verb, what, volume, logging.DEBUG)
            raise
        operation = answer.get("operation") if isinstance(answer, dict) else None
        operation = operation if isinstance(operation, dict) else {}
        save, state = operation.get("save"), operation.get("state") or "done"
        logs.learn(save=save)
        self._journal.note(
            verb,
            f"{line}: {' '.join(part for part in (save, state) if part)}",
            door=self._door,
            who=self._who,
            volume=volume or operation.get("volume") or "",
            operation=operation.get("id"),
            level=logging.DEBUG if state == "running" else None,  # its end is told
        )
        return answer

    def _refused(self, verb: str, what: str, volume: str, level: int) -> None:
        self._journal.note_refused(
            verb, what, door=self._door, who=self._who, volume=volume, level=level
        )


def volume_of(verb: str, asked: dict[str, Any]) -> str:
    """The volume that a request is about, by its arguments; "" where it is about none."""
    if "save" in asked:
        return str(asked["save"]).partition("@")[0]
    name = asked.get("volume") or (asked.get("name") if verb.startswith("volume_") else "")
    return name if isinstance(name, str) else ""


def sentence(verb: str, asked: dict[str, Any]) -> str:
    """A request as people would say it: `save ledger label=night`. Without secrets."""
    words = [verb.replace("_", " ")]
    for name, value in asked.items():
        if name in DOORS or value is None or value == "":
            continue
        if isinstance(value, bool):
            flag = name.replace("_", "-")
            words += [flag] if value else [f"no-{flag}"] if name not in SWITCHES else []
            continue
        if isinstance(value, dict):  # of CHAP only who logs in with it
            value = value.get("user", "...")
        if isinstance(value, (list, tuple)):
            value = ",".join(str(one) for one in value)
        plain = name in ("volume", "save", "name", "medium", "op")
        words.append(str(value) if plain else f"{name}={value}")
    return " ".join(words)
