"""What qemu-img, wipefs and sfdisk may be told: a few forms, in which each file is an open descriptor and
nothing has a name.

So that who runs it for another can't be made to open a file. Runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from targetplugin.errors import Reason, Refused

FORMATS = ("raw", "qcow2")
_OPEN = r"^/proc/self/fd/([0-9]{1,7})\Z"
_NODE, _PLACE = "node", "place"  # what stands where a word differs
# fmt: off
_FORMS: tuple[tuple[str, ...], ...] = (
    ("qemu-img", "info", "--output=json", "-U", _NODE),
    ("qemu-img", "check", "-q", "-U", _NODE),
    ("qemu-img", "compare", "-p", "-U", _NODE, _NODE),
    ("qemu-img", "convert", "-p", "-n", "-U", "-O", "raw", _NODE, _NODE),
    *(("qemu-img", "convert", "-p", "-O", format, _NODE, _PLACE) for format in FORMATS),
    ("wipefs", "--no-act", "--json", _PLACE),
    ("sfdisk", "--json", _PLACE),
)
# fmt: on

Place = Annotated[str, Meta(pattern=_OPEN)]
Number = Annotated[str, Meta(pattern=r"^[0-9]{1,7}\Z")]


class Cache(Struct, forbid_unknown_fields=True):
    direct: bool


class File(Struct, forbid_unknown_fields=True):
    """A file or disk that is open."""

    driver: Literal["file", "host_device"]
    filename: Place
    cache: Cache | UnsetType = UNSET


class Server(Struct, forbid_unknown_fields=True):
    type: Literal["fd"]
    str: Number


class Nbd(Struct, forbid_unknown_fields=True, tag_field="driver", tag="nbd"):
    """The other end of a socket that is open."""

    server: Server


class Raw(Struct, forbid_unknown_fields=True, tag_field="driver", tag="raw"):
    file: File
    offset: int | UnsetType = UNSET
    size: int | UnsetType = UNSET


class Qcow2(Struct, forbid_unknown_fields=True, tag_field="driver", tag="qcow2"):
    file: File
    backing: Raw | Qcow2 | None = None


Node = Raw | Qcow2 | Nbd


def renumbered(command: Sequence[str], numbers: Mapping[int, int]) -> list[str]:
    """The same command, with other numbers for its descriptors.

    Args:
        command: a program with its words.
        numbers: its descriptors' numbers, and those to put in their places.

    Raises:
        Refused: USAGE, it is of no form that is known, or names what is not among them.
    """
    for form in _FORMS:
        if len(command) != len(form):
            continue
        try:
            return list(map(_word, form, command, [numbers] * len(form)))
        except (ValueError, KeyError, msgspec.MsgspecError, RecursionError):
            continue
    raise Refused(Reason.USAGE, "it is not told that here")


def _word(form: str, word: str, numbers: Mapping[int, int]) -> str:
    if form == _PLACE:
        return _place(word, numbers)
    if form == _NODE:
        node = msgspec.json.decode(word.removeprefix("json:"), type=Node)
        if not word.startswith("json:"):
            raise ValueError(word)
        return "json:" + msgspec.json.encode(_renumbered(node, numbers)).decode()
    if word != form:
        raise ValueError(word)
    return word


def _renumbered(node: Any, numbers: Mapping[int, int]) -> Any:
    if isinstance(node, Nbd):
        node.server.str = str(numbers[int(node.server.str)])
        return node
    node.file.filename = _place(node.file.filename, numbers)
    if isinstance(node, Qcow2) and node.backing is not None:
        _renumbered(node.backing, numbers)
    return node


def _place(path: str, numbers: Mapping[int, int]) -> str:
    found = re.match(_OPEN, path)
    if not found:
        raise ValueError(path)
    return f"/proc/self/fd/{numbers[int(found[1])]}"
