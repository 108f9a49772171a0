"""What the shell remembers of a person: settings as JSON, and the history of commands.

A file that can't be read or is not what it should be is as good as none: the shell opens anyway.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

# What a person may set in the shell, by `set global`; the rest of its settings is the shell's own.
_TYPES: dict[str, type] = {
    "color_mode": bool,
    "tree_max_depth": int,
    "tree_round_nodes": bool,
    "tree_show_root": bool,
    "tree_status_mode": bool,
    "prompt_length": int,
    "bookmarks": dict,
}


def directory() -> Path:
    """Where both are kept."""
    state = os.environ.get("XDG_STATE_HOME", "")
    base = Path(state) if state.startswith("/") else Path.home() / ".local/state"
    return base / "targetplugin"


def history() -> Path:
    return directory() / "history"


def load() -> dict[str, Any]:
    """The settings that are there and of the right type."""
    try:
        found = json.loads((directory() / "shell.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    bookmarks = found.get("bookmarks")
    if not isinstance(bookmarks, dict) or not all(isinstance(b, str) for b in bookmarks.values()):
        found.pop("bookmarks", None)
    return {name: found[name] for name, kind in _TYPES.items() if type(found.get(name)) is kind}


def store(settings: dict[str, Any]) -> None:
    """Keeps the settings, where a home is there to keep them in."""
    kept = {name: value for name, value in settings.items() if name in _TYPES}
    with contextlib.suppress(OSError):
        directory().mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = directory() / f"shell.json.{os.getpid()}"
        draft.write_text(json.dumps(kept, indent=2) + "\n")
        draft.replace(directory() / "shell.json")
