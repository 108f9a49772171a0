"""What is said on the way of one run of qemu-img, as JSON lines: a start, and then an answer to each look."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

DEFAULT_SOCKET = "/run/targetplugin-images.sock"
MOST = 64  # descriptors of one run


class Start(Struct, frozen=True, forbid_unknown_fields=True):
    """The first line. As many descriptors come with it as there are numbers, and two more behind them: where
    its output and its complaints go.
    """

    command: list[str]
    numbers: list[int]  # of the descriptors, as they stand in the command


class Turn(Struct, frozen=True, forbid_unknown_fields=True):
    """A line after that."""

    do: Literal["look", "hold", "go", "end"]


class State(Struct, frozen=True, forbid_unknown_fields=True):
    """What each is answered with.

    Attributes:
        moved: bytes that it read or wrote, whichever is more.
        status: its exit status; None: it runs.
        refused, hint: why it was not started, and what to do.
    """

    moved: int = 0
    status: int | None = None
    refused: str = ""
    hint: str = ""


def line(message: Start | Turn | State) -> bytes:
    return msgspec.json.encode(message) + b"\n"
