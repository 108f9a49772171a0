"""Requests and answers as the lines that are sent: JSON."""

from __future__ import annotations

from typing import Any

import msgspec

from targetplugin.errors import Reason, Refused


def line(message: msgspec.Struct) -> bytes:
    """A request or an answer as it is sent."""
    return msgspec.json.encode(message) + b"\n"


def request(line: bytes, kinds: Any) -> Any:
    """One of these kinds. Raises Refused (USAGE) where it is none."""
    try:
        return msgspec.json.decode(line, type=kinds)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(Reason.USAGE, f"This is no request: {error}.") from error
