"""The rows of the catalog as values. Owns their shapes; knows no SQL.

Identities of volumes and media are uuids of 16 bytes, sizes are bytes, times are ISO 8601 in UTC:
"2026-11-23T17:00:00.000Z".
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct, field

LIVE = ""  # the map of a generation that is not frozen yet
ALL = "all"  # the map of an edge on which everything differs
RUNNING = ("prepared", "running")  # states of an operation that is not over


def moment() -> str:
    """The present time, as all rows have it, to the millisecond."""
    return text_of(datetime.now(UTC))


def text_of(time: datetime) -> str:
    """A time as all rows have it, to the millisecond."""
    text = time.astimezone(UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


class MediumRow(Struct, frozen=True):
    """A medium that was given to the subsystem: `path` is its stable path, `state` the verbs'."""

    uuid: bytes
    name: str
    path: str
    kind: str  # "block" or "file"
    size: int
    data_size: int
    state: str = "free"
    added: str = ""


class Volume(Struct, frozen=True):
    """A volume. `generation` is the live one, `parent` the point it started from (0: none).

    Attributes:
        naa: 32 hex digits.
        events: the events counter last seen in its record.
        op: the last operation known to be in force.
        details: whatever else the subsystem keeps with it, JSON.
        blocks: name of the format of its blocks.
    """

    uuid: bytes
    name: str
    naa: str
    size: int
    extent_size: int
    policy: str = "split"
    rights: str = "all"
    mirror: int = 2
    generation: int = 1
    parent: int = 0
    events: int = 0
    op: int = 0
    created: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    blocks: str = "512e"


class Leg(Struct, frozen=True):
    """A medium's place in a volume's mirror."""

    volume: bytes
    medium: bytes
    position: int


class Generation(Struct, frozen=True):
    """An edge of the tree: from the point that `number` froze up to `parent` (0: the empty root).

    Attributes:
        map: name of the map file of what was written in it; ALL; LIVE where it is not frozen.
    """

    volume: bytes
    number: int
    parent: int
    map: str = LIVE


class Save(Struct, frozen=True):
    """A save: the point that `generation` froze, and the media that hold it; none, where only what was
    overwritten since is kept, in the volume's store.

    Attributes:
        fill: "unfilled", "filling", "whole" or "broken".
        origin: "host", or "image" for a restored one.
        slot: 1 to 255, a short handle that is used again; given by Catalog.save_add where it is 0.
        undo: the operation before which it was taken, so that it can be undone; 0: someone asked for it.
    """

    volume: bytes
    generation: int
    label: str = ""
    fill: str = "whole"
    origin: str = "host"
    created: str = ""
    door: str = "terminal"
    slot: int = 0
    media: tuple[bytes, ...] = ()
    undo: int = 0

    @property
    def sparse(self) -> bool:
        """Whether it has no medium of its own."""
        return not self.media


class Hold(Struct, frozen=True):
    """A save that is not to go before a time.

    Attributes:
        until: the date.
        remaining, boot, counted_from: and it had so many seconds to go when that boot of the
            machine (its boot_id) had counted so many (CLOCK_BOOTTIME).
    """

    volume: bytes
    generation: int
    until: str
    remaining: float
    boot: str
    counted_from: float


class Retention(Struct, frozen=True):
    """What a volume's saves are kept for. `rules` is the subsystem's, JSON.

    Attributes:
        due: a save was taken, or one that may go could not, since the rules were applied.
    """

    volume: bytes
    rules: dict[str, Any]
    due: bool = False


class Initiator(Struct, frozen=True):
    """A host that may log in, and its CHAP secret."""

    iqn: str
    chap_user: str | None = None
    chap_password: str | None = None

    def __repr__(self) -> str:
        """Without the secret: values end up in logs."""
        return f"Initiator(iqn={self.iqn!r}, chap_user={self.chap_user!r})"


class Export(Struct, frozen=True):
    """How a volume is offered: one a volume. `portals` are "ip:port"."""

    volume: bytes
    target: str
    portals: tuple[str, ...]
    lun: int = 0
    initiators: tuple[Initiator, ...] = ()


class Group(Struct, frozen=True):
    """Volumes that hosts may name together; a volume that is deleted is in none any more."""

    name: str
    created: str = ""
    volumes: tuple[bytes, ...] = ()


class Shown(Struct, frozen=True):
    """A save that hosts see. `export.volume` is the identity under which they see it, 16 bytes."""

    volume: bytes
    generation: int
    export: Export


class Operation(Struct, frozen=True):
    """One request for a verb, from any door. Outlives its volume.

    Attributes:
        id: given by the catalog, counted up, never used twice.
        volume: uuid, or None where it concerns no volume.
        volume_name: its name at that time.
        save: generation of the save that it concerns, or None.
        state: "prepared", "running", "done", "failed" or "aborted".
        prepared: what the verb intends, JSON: enough to finish or to drop it after a crash.
        progress: 0.0 to 1.0.
        pause_us: how long hosts were held, microseconds. drain_us: of that, until what was under
            way was over. pause_work_us: of what came after, what the engine itself took.
        in_force: when it was in force.
    """

    id: int
    verb: str
    volume: bytes | None = None
    volume_name: str = ""
    save: int | None = None
    state: str = "prepared"
    prepared: dict[str, Any] = field(default_factory=dict)
    progress: float = 0.0
    extents_changed: int = 0
    extents_copied: int = 0
    bytes_copied: int = 0
    bytes_total: int = 0
    pause_us: int | None = None
    drain_us: int | None = None
    pause_work_us: int | None = None
    started: str = ""
    in_force: str | None = None
    ended: str | None = None
    error: str | None = None
    door: str = "terminal"
    request: bytes | None = None


class Request(Struct, frozen=True):
    """A host's request identifier (16 bytes), its body's hash, and its result (None: none yet)."""

    id: bytes
    body_hash: bytes
    operation: int | None
    result: dict[str, Any] | None
    created: str


class Backup(Struct, frozen=True):
    """A backup image that an operator registered for a volume. `number` is never used twice.

    Attributes:
        size: of the disk in it, bytes.
        generation: the volume's point that it holds; 0: not known.
        image: the identity that its stamp gives it; "": it bears none.
        backing: path of the image that it stands on; "": it stands for itself.
    """

    number: int
    volume: bytes
    path: str
    label: str
    format: str  # "qcow2" or "raw"
    size: int
    created: str
    generation: int = 0
    image: str = ""
    backing: str = ""


class Event(Struct, frozen=True):
    """A line of the journal: when, through which door, who, what.

    Attributes:
        volume: the name of the one that it is about, or "".
        kind: what happened in a word: a verb, "leg_stale", "leg_replaced".
        operation: its number, or None.
        details: for programs, JSON.
    """

    id: int
    time: str
    door: str
    who: str
    what: str
    volume: str = ""
    kind: str = ""
    operation: int | None = None
    details: dict[str, Any] = field(default_factory=dict)


class Hook(Struct, frozen=True):
    """A program that is told of events."""

    program: str
    added: str
