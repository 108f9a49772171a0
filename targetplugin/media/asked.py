"""What the daemon may ask of the service that opens files and devices for it: requests and answers, as lines
of JSON.

Each is by_path.ByPath's method of the same name, says all that it needs, and may be asked twice. What is of
another form is no request.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from targetplugin.media.here import Seen
from targetplugin.media.uses import Finding
from targetplugin.service.lines import Lines
from targetplugin.service.refusal import Refusal

DEFAULT_SOCKET = "/run/targetplugin-files.sock"

Path = Annotated[str, Meta(pattern=r"^/[^\x00]*\Z", max_length=4095)]
Name = Annotated[str, Meta(pattern=r"^[^/\x00]+\Z", max_length=255)]
Size = Annotated[int, Meta(ge=0, le=1 << 62)]
Identity = Annotated[list[int], Meta(min_length=3, max_length=3)]


class Request(Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag=True):
    """Those that answer with a descriptor say so."""


class Look(Request, frozen=True):
    path: Path


class Real(Request, frozen=True):
    paths: list[Path]


class Stable(Request, frozen=True):
    path: Path


class Disks(Request, frozen=True):
    pass


class Uses(Request, frozen=True):
    path: Path


class Read(Request, frozen=True):
    """A descriptor comes with the answer."""

    path: Path
    direct: bool


class Take(Request, frozen=True):
    """A descriptor comes with the answer."""

    path: Path


class Make(Request, frozen=True):
    path: Path
    size: Size


class SetLength(Request, frozen=True):
    path: Path
    before: Size
    length: Size


class Image(Request, frozen=True):
    """A descriptor comes with the answer."""

    folder: Path
    name: Name


class Part(Request, frozen=True):
    """A descriptor comes with the answer."""

    path: Path


class Put(Request, frozen=True):
    part: Path
    path: Path
    identity: Identity


class Drop(Request, frozen=True):
    part: Path


AnyRequest = (
    Look | Real | Stable | Disks | Uses | Read | Take | Make | SetLength | Image | Part | Put | Drop
)


class Answer(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What came of a request.

    Attributes:
        seen: of Look; None: nothing is there.
        paths: of Real and Disks; the one of Stable.
        findings: of Uses.
        error: the system's error number, where it refused; 0: it did not.
        refused: why it was not done.
    """

    seen: Seen | None = None
    paths: list[str] = []
    findings: list[Finding] = []
    error: int = 0
    refused: Refusal | None = None


_lines = Lines[AnyRequest, Answer](AnyRequest, Answer)
line, request, answer, refusal = _lines.line, _lines.request, _lines.answer, _lines.refusal
