"""What a volume record says, as values. Owns the shapes; the bytes are the core's (record.pxi)."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct, field


class LegState(StrEnum):
    """Of a leg, as the record has it."""

    IN_SYNC = "in_sync"
    STALE = "stale"  # it lacks what the missed map says
    SYNCING = "syncing"  # it is new, and lacks everything that was not copied yet


class SaveState(StrEnum):
    """Of a save that fills, as the record has it."""

    FILLING = "filling"
    WHOLE = "whole"
    BROKEN = "broken"


class LegRecord(Struct, frozen=True):
    """A leg: the medium's uuid (16 bytes) and its state."""

    uuid: bytes
    state: LegState


class SaveRecord(Struct, frozen=True):
    """A save that fills or broke: the medium's uuid (16 bytes), its generation and state."""

    uuid: bytes
    generation: int
    state: SaveState


class StoreState(StrEnum):
    """Of the store of saves without fill, as the record has it."""

    READY = "ready"
    BROKEN = "broken"


class StoreRecord(Struct, frozen=True):
    """The store: the medium's uuid (16 bytes), low half of the nonce of what counts on it, state.

    Attributes:
        since: generations that were frozen since it broke.
    """

    uuid: bytes
    nonce: int
    state: StoreState
    since: int = 0


class Record(Struct, frozen=True):
    """A volume record. Of several, the one with the highest (events, sequence) counts."""

    volume: bytes
    events: int
    sequence: int
    op: int
    generation: int
    parent: int
    size: int
    extent_shift: int
    clean: bool
    legs: list[LegRecord] = field(default_factory=list)
    saves: list[SaveRecord] = field(default_factory=list)
    recover: tuple[bytes, int] | None = None
    missed_tag: int = 0
    pending_tag: int = 0
    store: StoreRecord | None = None
    regions: list[int] = field(default_factory=list)
