"""Reads LIO's tree in configfs, where asking rtslib would be slow or would change something.

Changes nothing, but for single attributes that are told to have a value. Knows no rtslib.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path


def has_session(info: str) -> bool:
    """Whether an ACL's `info` tells of a session; `No active iSCSI Session...` if not."""
    return info.startswith("InitiatorName:") and "TARG_SESS_STATE_LOGGED_IN" in info


def parse_info(info: str, key: str) -> str:
    """The value of `key` in a storage object's `info`: `Config: a/b Size: 1024 ...`."""
    words = info.split()
    for word, value in itertools.pairwise(words):
        if word == f"{key}:":
            return value
    return ""


def text(path: Path) -> str:
    """What an attribute says; nothing if it is not there."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def switch(path: Path) -> bool:
    """Whether an attribute says 1."""
    return text(path) == "1"


def info(place: Path, key: str) -> str:
    """The value of `key` in the `info` of the storage object at `place`."""
    return parse_info(text(place / "info"), key)


def config_string(place: Path) -> str:
    """TCMU's configuration string of the storage object at `place`; nothing if it has none."""
    return info(place, "Config")


def linked(directory: Path) -> list[Path]:
    """What the symbolic links in a LUN's directory point at."""
    with contextlib.suppress(FileNotFoundError):
        return [Path(os.path.realpath(link)) for link in directory.iterdir() if link.is_symlink()]
    return []


def linked_names(directory: Path) -> set[str]:
    return {place.name for place in linked(directory)}


def secrets(auth: Path) -> tuple[str, str]:
    """User name and password of CHAP in an `auth` directory; both empty if none are set."""
    user, password = text(auth / "userid"), text(auth / "password")
    return ("" if user == "NULL" else user), ("" if password == "NULL" else password)


def write_if_other(path: Path, value: str) -> None:
    """Writes an attribute unless it says so already."""
    if text(path) != value:
        path.write_text(value)
