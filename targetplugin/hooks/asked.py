"""What the daemon may ask of the service that runs hooks: requests and answers, as lines of JSON."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from targetplugin.service.lines import Lines
from targetplugin.service.refusal import Refusal

DEFAULT_SOCKET = "/run/targetplugin-hooks.sock"
LONGEST = 60.0  # seconds that a program may be given

Program = Annotated[str, Meta(pattern=r"^/[^\x00]*\Z", max_length=4095)]


class Event(Struct, frozen=True, forbid_unknown_fields=True):
    """One of the journal's, as `targetplugin events --json` shows it."""

    id: int
    time: str
    door: str
    who: str
    volume: str
    kind: str
    what: str
    operation: int | None
    details: dict[str, Any]


class Request(Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag=True):
    """See run.Runner."""


class Check(Request, frozen=True):
    program: Program


class Tell(Request, frozen=True):
    """It ends when who asked goes away."""

    program: Program
    event: Event
    seconds: Annotated[float, Meta(gt=0, le=LONGEST)]


AnyRequest = Check | Tell


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """What came of it: why it can't be, or what went wrong when it ran."""

    trouble: str = ""
    refused: Refusal | None = None


_lines = Lines[AnyRequest, Answer](AnyRequest, Answer)
line, request, answer, refusal = _lines.line, _lines.request, _lines.answer, _lines.refusal
