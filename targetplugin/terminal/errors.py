"""What a person is told when something is not done, and a script's exit status. Never a traceback.

Exit status: 0 done, 1 refused by the state or the environment, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from targetplugin.control.client import ControlError
from targetplugin.terminal.tables import printable

DONE, REFUSED, USAGE, INTERRUPTED = 0, 1, 2, 130


class Misused(ControlError):
    """An argument is wrong, as found after the parser took it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__("usage", message, hint=hint)


def exit_status(error: ControlError) -> int:
    """2 where the request was wrong in itself, else 1."""
    return USAGE if error.reason == "usage" else REFUSED


def sentences(error: ControlError) -> str:
    """What and why; how far what stands in the way is; what to do next: each on its line."""
    lines = [error.message]
    if error.progress is not None:
        lines[0] += f" ({error.progress:.0%} done)"
    if error.hint:
        lines.append(f"What to do: {error.hint}")
    return "\n".join(printable(line) for line in lines)


def as_object(error: ControlError) -> dict[str, Any]:
    """The same for programs, as `--json` prints it."""
    return {
        "error": {
            "reason": error.reason,
            "message": error.message,
            "object": error.object,
            "hint": error.hint,
            "progress": error.progress,
        }
    }


def tell(error: ControlError, *, as_json: bool) -> int:
    """Tells a person, and with `--json` a program too. Returns the exit status."""
    if as_json:
        print(json.dumps(as_object(error), ensure_ascii=False, indent=2))
    print(f"targetplugin: {sentences(error)}", file=sys.stderr)
    return exit_status(error)
