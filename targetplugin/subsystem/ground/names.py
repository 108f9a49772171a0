"""What volumes and saves may be called, and how a name that was typed is taken apart.

Looks nothing up.
"""

from __future__ import annotations

import re

from msgspec import Struct

from targetplugin.errors import Reason, Refused

_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
LABEL_BYTES = 32
NOW = "now"  # what the volume is at present, where a save could be named


class SaveName(Struct, frozen=True):
    """`ledger@3` (a generation), `ledger@night` (a label) or `ledger` (neither: the newest)."""

    volume: str
    generation: int | None = None
    label: str | None = None


def check_volume(name: str) -> str:
    """The name itself. Raises Refused (USAGE) where a volume can't be called that."""
    if not _VOLUME.fullmatch(name):
        raise Refused(
            Reason.USAGE,
            f"a volume can't be called {name!r}",
            object=name,
            hint="use 1 to 32 letters, digits, '_', '.' and '-', beginning with a letter or digit",
        )
    return name


def check_label(label: str) -> str:
    """The label itself.

    Raises Refused (USAGE) where it is too long, all digits, `now` or has odd characters.
    """
    if len(label.encode()) > LABEL_BYTES:
        why = f"it is longer than {LABEL_BYTES} bytes"
    elif label.isdigit():
        why = "all digits would look like a generation"
    elif label == NOW:
        why = "it means the volume as it is at present"
    elif "@" in label or not label.isprintable() or label != label.strip():
        why = "'@', control characters and blanks at its ends are not allowed"
    else:
        return label
    raise Refused(
        Reason.USAGE,
        f"{label!r} can't be a label: {why}",
        object=label,
        hint=f"use a label of at most {LABEL_BYTES} bytes such as 'before-night-run'",
    )


def parse(name: str) -> SaveName:
    """Takes `volume`, `volume@label` or `volume@generation` apart. Raises Refused (USAGE)."""
    volume, at, point = name.partition("@")
    check_volume(volume)
    if not at:
        return SaveName(volume)
    if not point:
        raise Refused(
            Reason.USAGE,
            f"{name!r} names no save after '@'",
            object=name,
            hint=f"say {volume}@LABEL or {volume}@GENERATION, or only {volume} for its newest save",
        )
    if point.isdigit() and point.isascii():
        return SaveName(volume, generation=int(point))
    return SaveName(volume, label=point)
