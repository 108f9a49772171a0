"""The catalog as its users see it: all rooms of the database behind one lock."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from targetplugin.catalog.maps import Maps
from targetplugin.catalog.rows import (
    Backup,
    Event,
    Export,
    Generation,
    Leg,
    MediumRow,
    Operation,
    Request,
    Save,
    Volume,
)


class Catalog:
    """catalog.db and maps/ in a state directory. Thread-safe. One process at a time: a second one is refused.

    Every method is one transaction of its own, or part of the one around it. Rows that are not there: *_get returns
    None, changes raise Refused (NOT_FOUND). What is there already: Refused (EXISTS). Disk: Refused (ENVIRONMENT).
    """

    maps: Maps

    def __init__(self, state_dir: str | os.PathLike[str]) -> None: ...
    def close(self) -> None: ...
    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable when the block ends. Holds the lock. May be nested: an inner one is undone alone."""
        yield

    # meta
    def meta_get(self, key: str, default: str = "") -> str: ...
    def meta_set(self, key: str, value: str) -> None: ...

    # media
    def medium_add(self, row: MediumRow) -> MediumRow: ...
    def medium_get(self, uuid: bytes) -> MediumRow | None: ...
    def medium_find(self, name: str) -> MediumRow | None:
        """By name, path or uuid in hex."""
    def media(self) -> list[MediumRow]: ...
    def medium_set(self, uuid: bytes, **changes: Any) -> MediumRow:
        """Changes name, path, state, size or data_size."""
    def medium_remove(self, uuid: bytes) -> None:
        """Refused (STATE) while it is a leg or holds a save."""

    # volumes, legs, generations
    def volume_add(self, row: Volume, legs: Iterable[bytes] = ()) -> Volume:
        """Adds the volume, its legs in that order, and its live generation's row."""
    def volume_get(self, uuid: bytes) -> Volume | None: ...
    def volume_find(self, name: str) -> Volume | None: ...
    def volumes(self) -> list[Volume]: ...
    def volume_set(self, uuid: bytes, **changes: Any) -> Volume: ...
    def volume_remove(self, uuid: bytes) -> None:
        """With its legs, generations, saves, export and backups' registrations. Map files: maps.sweep(map_names())."""
    def legs(self, volume: bytes) -> list[Leg]: ...
    def legs_set(self, volume: bytes, media: Iterable[bytes]) -> None:
        """These and no others, in that order."""
    def generations(self, volume: bytes) -> list[Generation]: ...
    def generation_put(self, row: Generation) -> None:
        """Adds it, or changes its parent and map."""
    def generation_remove(self, volume: bytes, number: int) -> None: ...
    def advance(self, volume: bytes, frozen_map: str, parent: int | None = None) -> Volume:
        """A point: the live generation gets its map, and generation + 1 is live, child of `parent`
        (None: of the one just frozen)."""
    def map_names(self) -> list[str]:
        """All map files that a generation names."""

    # saves
    def save_add(self, row: Save) -> Save:
        """With its media; gives the lowest free slot (1 to 255; Refused NO_MEDIUM... STATE when none is)."""
    def save_get(self, volume: bytes, generation: int) -> Save | None: ...
    def save_by_slot(self, volume: bytes, slot: int) -> Save | None: ...
    def save_by_label(self, volume: bytes, label: str) -> Save | None:
        """The newest with that label."""
    def saves(self, volume: bytes | None = None) -> list[Save]:
        """Oldest generation first."""
    def save_set(self, volume: bytes, generation: int, **changes: Any) -> Save:
        """Changes label, fill, origin, media."""
    def save_remove(self, volume: bytes, generation: int) -> None: ...
    def save_on(self, medium: bytes) -> Save | None:
        """The save that a medium holds."""

    # exports
    def export_put(self, row: Export) -> Export: ...
    def export_get(self, volume: bytes) -> Export | None: ...
    def exports(self) -> list[Export]: ...
    def export_remove(self, volume: bytes) -> None: ...

    # operations, requests
    def operation_add(self, verb: str, **fields: Any) -> Operation:
        """Gives the id and, where not given, `started`."""
    def operation_get(self, id: int) -> Operation | None: ...
    def operation_set(self, id: int, **changes: Any) -> Operation:
        """A state that is over (done, failed, aborted) sets `ended` where it is not given."""
    def operations(
        self, volume: bytes | None = None, *, running: bool = False, limit: int = 50
    ) -> list[Operation]:
        """Newest first; `running`: only those that are prepared or running."""
    def request_begin(self, id: bytes, body_hash: bytes, operation: int | None = None) -> Request | None:
        """None: it is new and from now on known. Else what is known of it.

        Raises Refused (REQUEST_MISMATCH): the same identifier with another body.
        """
    def request_get(self, id: bytes) -> Request | None: ...
    def request_end(self, id: bytes, result: dict[str, Any]) -> None: ...
    def request_forget(self, id: bytes) -> None:
        """For a request that was refused and left no trace."""

    # backups, events
    def backup_add(
        self, volume: bytes, path: str, label: str, format: str, size: int, created: str = ""
    ) -> Backup: ...
    def backup_get(self, number: int) -> Backup | None: ...
    def backups(self, volume: bytes | None = None) -> list[Backup]: ...
    def backup_remove(self, number: int) -> None: ...
    def event_add(self, door: str, who: str, what: str) -> None: ...
    def events(self, limit: int = 100) -> list[Event]:
        """Newest first."""
