"""The methods of the control socket: what each takes, checked at the door, and which verb it is.

Owns the types of parameters and the sentences that refuse them. Holds no state, does nothing.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import datetime
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

Name = Annotated[str, Meta(min_length=1, max_length=255)]
Path = Annotated[str, Meta(min_length=2, max_length=4096)]
Bytes = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
Number = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
Count = Annotated[int, Meta(ge=1, le=10_000)]
Label = Annotated[str, Meta(max_length=32)]
# 128 random bits in hex: asked again with the same, a verb is the same operation.
RequestId = Annotated[str, Meta(pattern="^[0-9a-fA-F]{32}$")]
Date = Annotated[datetime, Meta(tz=True)]
Format = Literal["qcow2", "raw"]
Rate = Annotated[int, Meta(ge=64 << 10, le=(1 << 63) - 1)]  # bytes a second
Seconds = Annotated[float, Meta(ge=0, le=60)]

# iqn and naa by RFC 7143, 4.2.7.4 and 4.2.7.6; eui by 4.2.7.5.
_INITIATOR = re.compile(
    r"iqn\.\d{4}-\d\d\.[a-z0-9.-]+(:[^\s/]+)?|eui\.[0-9A-Fa-f]{16}|naa\.([0-9A-Fa-f]{16}){1,2}"
)
_CHAP_BYTES = 12  # RFC 7143, 12.1.3: CHAP secrets of less than 96 bits are not to be used
_PORT = 3260
DOOR = "terminal"  # what the catalog calls everything that comes in here


def _absolute(name: str, path: str | UnsetType | None) -> None:
    if isinstance(path, str) and (not path.startswith("/") or "\0" in path):
        raise ValueError(f"parameter '{name}': {path!r} is not an absolute path")


def _initiators(names: list[str] | UnsetType | None) -> None:
    for name in names or []:
        if len(name) > 223 or not _INITIATOR.fullmatch(name):
            raise ValueError(
                f"parameter 'initiators': {name!r} is no iSCSI name such as"
                " iqn.2026-01.org.example:host; a host has its own in /etc/iscsi/initiatorname.iscsi"
            )


def _iscsi_portal(text: str) -> str:
    """`IP[:PORT]` or `[IPv6][:PORT]` with its port. Raises ValueError."""
    host, bracket, rest = text.partition("]")
    if bracket:
        host, port = host.removeprefix("["), rest.removeprefix(":")
    elif text.count(":") > 1:
        host, port = text, ""
    else:
        host, _, port = text.partition(":")
    try:
        address = ipaddress.ip_address(host)
        number = int(port or _PORT)
        if not 0 < number < 65536:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"parameter 'portals': {text!r} is no portal such as 192.0.2.1 or 192.0.2.1:3260"
        ) from None
    return f"[{address}]:{number}" if address.version == 6 else f"{address}:{number}"


class Params(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The parameters of one method. What is left out stays UNSET: the verb knows its default."""


class Nothing(Params):
    pass


class MediaAdd(Params):
    path: Path
    size: Bytes | UnsetType | None = UNSET
    force: bool | UnsetType = UNSET
    name: Name | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        _absolute("path", self.path)


class MediaRemove(Params):
    medium: Name
    force: bool | UnsetType = UNSET
    preview: bool | UnsetType = UNSET


class VolumeCreate(Params):
    name: Name
    size: Bytes
    mirror: Annotated[int, Meta(ge=1, le=8)] | UnsetType = UNSET
    media: list[Name] | UnsetType | None = UNSET
    extent_size: Annotated[int, Meta(ge=4096, le=1 << 20)] | UnsetType = UNSET
    policy: Literal["split", "copy"] | UnsetType = UNSET
    rights: Literal["none", "status", "save", "all"] | UnsetType = UNSET
    blocks: Literal["512n", "512e", "4kn"] | UnsetType = UNSET
    force: bool | UnsetType = UNSET

    def __post_init__(self) -> None:
        extent = self.extent_size
        if isinstance(extent, int) and extent & (extent - 1):
            raise ValueError(f"parameter 'extent_size': {extent} is no power of two")


class VolumeAdopt(Params):
    name: Name
    path: Path
    size: Bytes | UnsetType | None = UNSET
    extent_size: Annotated[int, Meta(ge=4096, le=1 << 20)] | UnsetType = UNSET
    policy: Literal["split", "copy"] | UnsetType = UNSET
    rights: Literal["none", "status", "save", "all"] | UnsetType = UNSET
    blocks: Literal["512n", "512e", "4kn"] | UnsetType = UNSET
    preview: bool | UnsetType = UNSET

    def __post_init__(self) -> None:
        _absolute("path", self.path)


class VolumeSet(Params):
    name: Name
    policy: Literal["split", "copy"] | UnsetType | None = UNSET
    rights: Literal["none", "status", "save", "all"] | UnsetType | None = UNSET
    mirror: Annotated[int, Meta(ge=1, le=8)] | UnsetType | None = UNSET
    replace_failed: bool | UnsetType | None = UNSET
    replace_after: Annotated[int, Meta(ge=0, le=1 << 31)] | UnsetType | None = UNSET


class VolumeResize(Params):
    name: Name
    size: Bytes
    rate: Rate | UnsetType | None = UNSET
    request: RequestId | UnsetType | None = UNSET
    preview: bool | UnsetType = UNSET


class VolumeDelete(Params):
    name: Name
    force: bool | UnsetType = UNSET
    preview: bool | UnsetType = UNSET


class VolumeShow(Params):
    name: Name


class LegAdd(Params):
    volume: Name
    medium: Name | UnsetType | None = UNSET
    preview: bool | UnsetType = UNSET
    request: RequestId | UnsetType | None = UNSET


class LegRemove(Params):
    volume: Name
    medium: Name
    preview: bool | UnsetType = UNSET
    request: RequestId | UnsetType | None = UNSET


class Scrub(Params):
    volume: Name
    rate: Bytes | UnsetType | None = UNSET
    preview: bool | UnsetType = UNSET
    request: RequestId | UnsetType | None = UNSET


class Chap(Params):
    """What an initiator logs in with. Not to be logged."""

    user: Annotated[str, Meta(min_length=1, max_length=255)]
    password: Annotated[str, Meta(max_length=255)]

    def __post_init__(self) -> None:
        if len(self.password.encode()) < _CHAP_BYTES:
            raise ValueError(f"parameter 'chap': a password has {_CHAP_BYTES} bytes or more")

    def __repr__(self) -> str:
        return f"Chap(user={self.user!r})"


class ExportVolume(Params):
    volume: Name
    initiators: Annotated[list[str], Meta(min_length=1)]
    chap: Chap | UnsetType | None = UNSET
    portals: list[str] | UnsetType | None = UNSET
    target: str | UnsetType | None = UNSET
    preview: bool | UnsetType = UNSET

    def __post_init__(self) -> None:
        _initiators(self.initiators)
        if isinstance(self.target, str) and not _INITIATOR.fullmatch(self.target):
            raise ValueError(f"parameter 'target': {self.target!r} is no iSCSI name")
        if isinstance(self.portals, list):
            self.portals = [_iscsi_portal(portal) for portal in self.portals]


class UnexportVolume(Params):
    volume: Name
    initiators: list[str] | UnsetType | None = UNSET
    force: bool | UnsetType = UNSET
    preview: bool | UnsetType = UNSET

    def __post_init__(self) -> None:
        _initiators(self.initiators)


class OfVolume(Params):
    volume: Name | UnsetType | None = UNSET


class Save(Params):
    volume: Name
    label: Label | UnsetType = UNSET
    policy: Literal["split", "copy", "sparse"] | UnsetType | None = UNSET
    onto: Name | UnsetType | None = UNSET
    replace: Name | UnsetType | None = UNSET
    hold_seconds: Number | UnsetType | None = UNSET
    hold_until: Date | UnsetType | None = UNSET
    preview: bool | UnsetType = UNSET
    request: RequestId | UnsetType | None = UNSET


class SaveGroup(Params):
    volumes: Annotated[list[Name], Meta(min_length=1, max_length=64)]
    label: Label | UnsetType = UNSET
    policy: Literal["split", "copy", "sparse"] | UnsetType | None = UNSET
    deadline_ms: Annotated[int, Meta(ge=1, le=5000)] | UnsetType | None = UNSET
    hold_seconds: Number | UnsetType | None = UNSET
    hold_until: Date | UnsetType | None = UNSET
    preview: bool | UnsetType = UNSET
    request: RequestId | UnsetType | None = UNSET


class SwapGroup(Params):
    saves: Annotated[list[Name], Meta(min_length=1, max_length=64)]
    deadline_ms: Annotated[int, Meta(ge=1, le=5000)] | UnsetType | None = UNSET
    force: bool | UnsetType = UNSET
    preview: bool | UnsetType = UNSET
    request: RequestId | UnsetType | None = UNSET


class RecoverGroup(SwapGroup):
    no_undo: bool | UnsetType = UNSET


class UndoGroup(Params):
    volumes: Annotated[list[Name], Meta(min_length=1, max_length=64)]
    op: Number | UnsetType | None = UNSET
    deadline_ms: Annotated[int, Meta(ge=1, le=5000)] | UnsetType | None = UNSET
    force: bool | UnsetType = UNSET
    no_undo: bool | UnsetType = UNSET
    preview: bool | UnsetType = UNSET
    request: RequestId | UnsetType | None = UNSET


class GroupCreate(Params):
    name: Name
    volumes: Annotated[list[Name], Meta(min_length=1, max_length=64)]


class GroupDelete(Params):
    name: Name


class OfSave(Params):
    """A save, `ledger@night` or `ledger@3`; `ledger` alone is its newest."""

    save: Name


class Clone(OfSave):
    name: Name
    onto: Name | UnsetType | None = UNSET
    preview: bool | UnsetType = UNSET
    request: RequestId | UnsetType | None = UNSET


class Fill(OfSave):
    onto: Name | UnsetType | None = UNSET
    rate: Rate | UnsetType | None = UNSET
    preview: bool | UnsetType = UNSET
    request: RequestId | UnsetType | None = UNSET


class Diff(OfSave):
    since: Name | UnsetType | None = UNSET
    to: Name | UnsetType | None = UNSET


class Resync(OfSave):
    preview: bool | UnsetType = UNSET
    request: RequestId | UnsetType | None = UNSET


class TakeBack(OfSave):
    force: bool | UnsetType = UNSET
    preview: bool | UnsetType = UNSET
    request: RequestId | UnsetType | None = UNSET


class Recover(TakeBack):
    no_undo: bool | UnsetType = UNSET


class Undo(Params):
    volume: Name
    op: Number | UnsetType | None = UNSET
    force: bool | UnsetType = UNSET
    no_undo: bool | UnsetType = UNSET
    preview: bool | UnsetType = UNSET
    request: RequestId | UnsetType | None = UNSET


class Hold(OfSave):
    seconds: Number | UnsetType | None = UNSET
    until: Date | UnsetType | None = UNSET
    force: bool | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.seconds in (UNSET, None)) == (self.until in (UNSET, None)):
            raise ValueError("parameter 'seconds': say for how long or 'until' when, one of them")


class Retain(Params):
    volume: Name
    last: Count | UnsetType | None = UNSET
    hourly: Count | UnsetType | None = UNSET
    daily: Count | UnsetType | None = UNSET
    weekly: Count | UnsetType | None = UNSET
    monthly: Count | UnsetType | None = UNSET
    keep_labelled: bool | UnsetType = UNSET
    off: bool | UnsetType = UNSET
    now: bool | UnsetType = UNSET
    preview: bool | UnsetType = UNSET


class Unhold(OfSave):
    force: bool | UnsetType = UNSET


class Restore(Params):
    volume: Name
    image: Path | UnsetType | None = UNSET
    format: Format | UnsetType | None = UNSET
    backup: Number | UnsetType | None = UNSET
    onto: Name | UnsetType | None = UNSET
    rate: Rate | UnsetType | None = UNSET
    force: bool | UnsetType = UNSET
    preview: bool | UnsetType = UNSET
    request: RequestId | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        _absolute("image", self.image)
        if isinstance(self.image, str) == isinstance(self.backup, int):
            raise ValueError("parameter 'image': name an image or a backup's number, one of them")


class Backup(OfSave):
    path: Path
    format: Format | UnsetType = UNSET
    label: Label | UnsetType = UNSET
    register: bool | UnsetType = UNSET
    force: bool | UnsetType = UNSET
    since: Name | UnsetType | None = UNSET
    base: Number | UnsetType | None = UNSET
    rate: Rate | UnsetType | None = UNSET
    preview: bool | UnsetType = UNSET

    def __post_init__(self) -> None:
        _absolute("path", self.path)
        if isinstance(self.since, str) and isinstance(self.base, int):
            raise ValueError("parameter 'since': name a save or a backup's number, one of them")


class BackupRegister(Params):
    volume: Name
    path: Path
    label: Label | UnsetType = UNSET
    format: Format | UnsetType | None = UNSET
    force: bool | UnsetType = UNSET

    def __post_init__(self) -> None:
        _absolute("path", self.path)


class BackupForget(Params):
    number: Number


class EventList(OfVolume):
    limit: Annotated[int, Meta(ge=1, le=10000)] | UnsetType = UNSET
    after: Annotated[int, Meta(ge=0)] | UnsetType | None = UNSET


class EventWait(Params):
    after: Annotated[int, Meta(ge=0)]
    timeout: Seconds
    volume: Name | UnsetType | None = UNSET
    limit: Annotated[int, Meta(ge=1, le=10000)] | UnsetType = UNSET


class OfHook(Params):
    program: Path

    def __post_init__(self) -> None:
        _absolute("program", self.program)


class OfOperation(Params):
    op: Number


class OperationList(OfVolume):
    limit: Annotated[int, Meta(ge=1, le=1000)] | UnsetType = UNSET


class OperationWait(OfOperation):
    timeout: Seconds


class OperationRate(OfOperation):
    rate: Rate | UnsetType | None = UNSET


class Method(Struct, frozen=True):
    """One method: the type of its parameters, and the name of the subsystem's verb."""

    params: type[Params]
    verb: str


METHODS: dict[str, Method] = {
    "media.add": Method(MediaAdd, "media_add"),
    "media.remove": Method(MediaRemove, "media_remove"),
    "media.list": Method(Nothing, "media_list"),
    "volume.create": Method(VolumeCreate, "volume_create"),
    "volume.adopt": Method(VolumeAdopt, "volume_adopt"),
    "volume.set": Method(VolumeSet, "volume_set"),
    "volume.resize": Method(VolumeResize, "volume_resize"),
    "volume.delete": Method(VolumeDelete, "volume_delete"),
    "volume.list": Method(Nothing, "volume_list"),
    "volume.show": Method(VolumeShow, "volume_show"),
    "leg.add": Method(LegAdd, "leg_add"),
    "leg.remove": Method(LegRemove, "leg_remove"),
    "scrub": Method(Scrub, "scrub"),
    "export": Method(ExportVolume, "export"),
    "unexport": Method(UnexportVolume, "unexport"),
    "save": Method(Save, "save"),
    "group.save": Method(SaveGroup, "save_group"),
    "group.recover": Method(RecoverGroup, "recover_group"),
    "group.undo": Method(UndoGroup, "undo_group"),
    "group.swap": Method(SwapGroup, "swap_group"),
    "group.create": Method(GroupCreate, "group_create"),
    "group.delete": Method(GroupDelete, "group_delete"),
    "group.list": Method(Nothing, "group_list"),
    "diff": Method(Diff, "diff"),
    "recover": Method(Recover, "recover"),
    "undo": Method(Undo, "undo"),
    "restore": Method(Restore, "restore"),
    "swap": Method(TakeBack, "swap"),
    "clone": Method(Clone, "clone"),
    "resync": Method(Resync, "resync"),
    "release": Method(TakeBack, "release"),
    "fill": Method(Fill, "fill"),
    "hold": Method(Hold, "hold"),
    "unhold": Method(Unhold, "unhold"),
    "hold.list": Method(OfVolume, "holds"),
    "retain": Method(Retain, "retain"),
    "abort": Method(OfOperation, "abort"),
    "backup": Method(Backup, "backup"),
    "backup.register": Method(BackupRegister, "backup_register"),
    "backup.forget": Method(BackupForget, "backup_forget"),
    "backup.list": Method(OfVolume, "backup_list"),
    "status": Method(OfVolume, "status"),
    "event.list": Method(EventList, "event_list"),
    "event.wait": Method(EventWait, "event_wait"),
    "hook.add": Method(OfHook, "hook_add"),
    "hook.remove": Method(OfHook, "hook_remove"),
    "hook.list": Method(Nothing, "hook_list"),
    "operation.get": Method(OfOperation, "operation"),
    "operation.list": Method(OperationList, "operations"),
    "operation.wait": Method(OperationWait, "operation_wait"),
    "operation.rate": Method(OperationRate, "operation_rate"),
}


class BadParams(Exception):
    """A parameter is wrong; the message names it."""


def read_params(method: Method, params: Any) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of the verb: what is required in order, the rest by name and only where given.

    Raises:
        BadParams: with a sentence that names the parameter.
    """
    if isinstance(params, list):
        if params:
            raise BadParams("parameters go by name, in an object")
        params = {}
    elif isinstance(params, UnsetType):
        params = {}
    try:
        checked = msgspec.convert(params, method.params)
    except msgspec.ValidationError as error:
        raise BadParams(_sentence(str(error), method.params)) from error
    required: list[Any] = []
    named: dict[str, Any] = {}
    for field in msgspec.structs.fields(checked):
        value = getattr(checked, field.name)
        if isinstance(value, Params):
            value = msgspec.to_builtins(value)
        if field.required:
            required.append(value)
        elif value is not UNSET:
            named[field.name] = value
    if "request" in method.params.__struct_fields__:
        named["door"] = DOOR
        named["request"] = bytes.fromhex(named["request"]) if named.get("request") else None
    return required, named


def _sentence(told: str, params: type[Params]) -> str:
    """msgspec's message as a sentence that begins with the parameter's name."""
    if found := re.fullmatch(r"Object missing required field `(\w+)`(?: - at `\$\.(.+)`)?", told):
        inside = f" of '{found[2]}'" if found[2] else ""
        return f"parameter '{found[1]}'{inside} is missing"
    if found := re.fullmatch(r"Object contains unknown field `(.*?)`(?: - at `.*`)?", told, re.S):
        known = ", ".join(params.__struct_fields__) or "none"
        return f"parameter {found[1]!r} is not known here (known: {known})"
    text, at, place = told.partition(" - at `$.")
    if not at:
        return text
    if text.startswith("parameter "):
        return text.removesuffix(" - at `$`")
    name = place.rstrip("`")
    choices = _choices(params, name)
    if text.startswith("Invalid enum value") and choices:
        return f"parameter '{name}': {text[19:]} is none of {', '.join(choices)}"
    return f"parameter '{name}': {text[0].lower()}{text[1:]}"


def _choices(params: type[Params], name: str) -> tuple[str, ...]:
    for field in msgspec.structs.fields(params):
        if field.name == name:
            for part in get_args(field.type) or (field.type,):
                if choices := tuple(c for c in get_args(part) if isinstance(c, str)):
                    return choices
    return ()
