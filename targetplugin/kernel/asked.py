"""What the daemon may ask of the service that has the rights to LIO: requests and answers, as JSON lines.

Each says all that it needs, may be asked twice, and is of a narrow form: what is not is no request.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from targetplugin.kernel.lio import Initiator
from targetplugin.service.lines import Lines
from targetplugin.service.refusal import Refusal

DEFAULT_SOCKET = "/run/targetplugin-lio.sock"

# A volume's, or of a save that is shown: ledger@3. It becomes a part of a path.
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}(@[0-9]{1,20})?\Z")]
Identity = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z")]
Size = Annotated[int, Meta(ge=512, le=1 << 62)]
Block = Literal[512, 4096]
Number = Annotated[int, Meta(ge=0, le=0xFFFF)]  # of a command in a ring
Word = Annotated[str, Meta(max_length=255)]
Portals = Annotated[list[Word], Meta(max_length=1024)]
Initiators = Annotated[list[Initiator], Meta(max_length=4096)]


class Request(Struct, frozen=True, forbid_unknown_fields=True, tag_field="do", tag=True):
    """See kernel.lio.Lio, whose methods these are, but for the last two."""


class EnsureStorageObject(Request, frozen=True):
    name: Name
    identity: Identity  # the volume's, and the unit serial
    size: Size
    block_size: Block


class RemoveStorageObject(Request, frozen=True):
    name: Name


class ResetRing(Request, frozen=True):
    name: Name


class FreeBuffers(Request, frozen=True):
    name: Name
    command: Number


class Grow(Request, frozen=True):
    name: Name
    size: Size


class Unblock(Request, frozen=True):
    name: Name


class EnsureExport(Request, frozen=True):
    name: Name
    target: Word
    portals: Portals
    initiators: Initiators


class RemoveExport(Request, frozen=True):
    target: Word


class OpenRing(Request, frozen=True):
    """The ring of a storage object: its descriptor comes with the answer."""

    name: Name


class Restoring(Request, frozen=True):
    """Whether LIO's own restore runs or is about to, which systemd tells root: `changed` is the answer."""


AnyRequest = (
    EnsureStorageObject
    | RemoveStorageObject
    | ResetRing
    | FreeBuffers
    | Grow
    | Unblock
    | EnsureExport
    | RemoveExport
    | OpenRing
    | Restoring
)


class Answer(Struct, frozen=True, forbid_unknown_fields=True):
    """What came of a request.

    Attributes:
        changed: whether something was made or changed.
        length: bytes of a ring to map; its descriptor comes with the answer.
        refused: why it was not done.
    """

    changed: bool = False
    length: int = 0
    refused: Refusal | None = None


_lines = Lines[AnyRequest, Answer](AnyRequest, Answer)
line, request, answer, refusal = _lines.line, _lines.request, _lines.answer, _lines.refusal


def told(answer: Answer) -> Answer:
    """The answer. Raises the Refused that it holds."""
    if answer.refused is not None:
        raise answer.refused.refused()
    return answer
