"""Requests and answers as the lines that are sent: JSON."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from targetplugin.errors import Reason, Refused
from targetplugin.service.refusal import Refusal

Request = TypeVar("Request")
Answer = TypeVar("Answer", bound=msgspec.Struct)


class Lines(Generic[Request, Answer]):
    """What a service and who asks it say to each other.

    Args:
        requests: the kinds of requests, a union.
        answer: the kind of answer; its `refused` is a Refusal, or None.
    """

    def __init__(self, requests: Any, answer: type[Answer]) -> None:
        self._requests = requests
        self._answer = answer

    def line(self, message: Request | Answer) -> bytes:
        """A request or an answer as it is sent."""
        return msgspec.json.encode(message) + b"\n"

    def request(self, line: bytes) -> Request:
        """Raises Refused (USAGE) where it is no request."""
        try:
            found: Request = msgspec.json.decode(line, type=self._requests)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused(Reason.USAGE, f"This is no request: {error}.") from error
        return found

    def answer(self, line: bytes) -> Answer:
        """Raises ValueError where it is none."""
        return msgspec.json.decode(line, type=self._answer)

    def refusal(self, refused: Refused) -> bytes:
        """The answer, as it is sent, that it was not done."""
        return self.line(self._answer(refused=Refusal.of(refused)))
