"""The length of a file that is to carry a trailer behind its data: made longer, and shorter again."""

from __future__ import annotations

from targetplugin.errors import Reason, Refused
from targetplugin.media.by_path import by_path
from targetplugin.media.layout import BLOCK, DATA_UNIT, layout


def length_for(size: int, before: int) -> int:
    """How long a file of `before` bytes must be to have `size` bytes of data and a trailer behind."""
    length = max(before, size + DATA_UNIT, 2 * DATA_UNIT)
    length += -length % BLOCK
    while layout(length).data_size < size:
        length += DATA_UNIT
    return length


def grow(path: str, before: int, length: int) -> None:
    """Makes a file longer, durably. Raises Refused (ENVIRONMENT)."""
    try:
        by_path().set_length(path, before, length)
    except OSError as error:
        raise Refused(
            Reason.ENVIRONMENT,
            f"{path} can't be made longer for the trailer: {error.strerror or error}",
            object=path,
            hint="make room on its file system",
        ) from error


def shrink_back(path: str, before: int) -> None:
    """A file that is not to carry a trailer has its old length again; a device has it anyway.

    Raises OSError.
    """
    seen = by_path().look(path)
    if seen is not None and seen.kind == "file" and seen.size > before:
        by_path().set_length(path, seen.size, before)
