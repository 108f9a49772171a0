"""JSON-RPC 2.0: requests taken apart, answers put together. Knows no socket, and no method.

Source: JSON-RPC 2.0 Specification, sections 4 (request), 5 (response) and 6 (batch).
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from targetplugin.control import wire

Id = int | float | str | None


class ErrorData(msgspec.Struct):
    """Why something was refused, for programs. `reason` is a Reason in lower case, or "bug"."""

    reason: str
    object: str = ""
    hint: str = ""
    progress: float | None = None


class Error(msgspec.Struct):
    """The `error` member of an answer."""

    code: int
    message: str
    data: ErrorData | UnsetType = UNSET


class Request(msgspec.Struct):
    """One call. Without an id it is a notification, and has no answer."""

    jsonrpc: str
    method: str
    params: dict[str, Any] | list[Any] | UnsetType = UNSET
    id: Id | UnsetType = UNSET

    @property
    def is_notification(self) -> bool:
        return self.id is UNSET

    @property
    def answer_id(self) -> Id:
        return None if isinstance(self.id, UnsetType) else self.id


class Success(msgspec.Struct):
    """The answer to a call that was done."""

    result: Any
    id: Id
    jsonrpc: str = wire.JSONRPC


class Failure(msgspec.Struct):
    """The answer to a call that was not done. The id is null where the call's could not be read."""

    error: Error
    id: Id
    jsonrpc: str = wire.JSONRPC


Answer = Success | Failure


class Malformed(Exception):
    """What came is no call. `answer` tells so."""

    def __init__(self, code: int, message: str, id: Id = None) -> None:
        super().__init__(message)
        self.answer = failure(id, code, message, "usage")


def failure(
    id: Id,
    code: int,
    message: str,
    reason: str,
    *,
    object: str = "",
    hint: str = "",
    progress: float | None = None,
) -> Failure:
    """An answer that something was not done."""
    return Failure(Error(code, message, ErrorData(reason, object, hint, progress)), id)


def parse(line: bytes) -> Any:
    """The JSON value of a line. Raises Malformed (-32700) where it is none."""
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(wire.PARSE_ERROR, f"this is no JSON: {error}") from error


def read_request(value: Any) -> Request:
    """One call from its JSON value. Raises Malformed (-32600) where it is none."""
    id = value.get("id") if isinstance(value, dict) else None
    if isinstance(id, bool) or not isinstance(id, int | float | str):
        id = None
    try:
        request = msgspec.convert(value, Request)
    except msgspec.ValidationError as error:
        raise Malformed(wire.INVALID_REQUEST, f"this is no request: {error}", id) from error
    if request.jsonrpc != wire.JSONRPC:
        raise Malformed(wire.INVALID_REQUEST, 'a request says "jsonrpc": "2.0"', id)
    return request


def encode(answer: Answer) -> bytes:
    """One line, its newline included. Raises TypeError or OverflowError: a result is no JSON."""
    return msgspec.json.encode(answer) + b"\n"
