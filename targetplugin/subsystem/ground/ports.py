"""What the subsystem needs of the engine and of the kernel, as types; the parts themselves are
handed in.

Tests hand in models of them. Owns no behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

Bits = bytes  # a map of extents, lowest bit first


class Pause(Protocol):
    """How long hosts waited for a point, in microseconds."""

    @property
    def whole(self) -> int:
        """All in all."""

    @property
    def drain(self) -> int:
        """Of that: until what was under way was over."""

    @property
    def work(self) -> int:
        """Of what came after: what the engine itself took, disks not counted."""


class Point(Protocol):
    """What fixing a point gave."""

    @property
    def frozen(self) -> int:
        """The generation that was frozen."""

    @property
    def frozen_map(self) -> Bits:
        """What was written in it."""

    @property
    def generation(self) -> int:
        """The live one from here on."""

    @property
    def pending(self) -> int:
        """Extents that are still to be copied."""

    @property
    def pause(self) -> Pause:
        """How long hosts waited."""

    @property
    def left(self) -> list[bytes]:
        """The media that were legs in sync up to it and are none any more."""


class Event(Protocol):
    """What the engine has to tell of a volume's medium."""

    @property
    def volume(self) -> int:
        """The volume's handle."""

    @property
    def kind(self) -> str:
        """leg_stale, leg_in_sync, save_whole, save_broken, recovered, recover_failed,
        answers_again, volume_failed; sparse_lost, store_low, store_broken.
        """

    @property
    def medium(self) -> bytes | None: ...
    @property
    def detail(self) -> str: ...


class Engine(Protocol):
    """The data path. Its verbs block, and raise Refused or OSError."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def add_volume(self, spec: Any) -> int: ...
    def add_view(self, spec: Any) -> int: ...
    def remove_volume(self, handle: int) -> None: ...
    def attach_ring(self, handle: int, uio_fd: int, map_length: int) -> None: ...
    def detach_ring(self, handle: int) -> None: ...
    def set_sense_ua(self, handle: int, asc: int, ascq: int) -> None: ...
    def set_write_through(self, handle: int, on: bool) -> None: ...
    def flush(self, handle: int) -> None: ...
    def save_split(self, handle: int, leaving: list[bytes], op: int) -> Point: ...
    def save_copy(self, handle: int, save: Any, op: int, *, lacks: Bits | None = None) -> Point: ...
    def save_group(self, members: list[Any], deadline: int) -> list[Any]: ...
    def recover_group(
        self, members: list[Any], deadline: int, commit: Callable[[], None]
    ) -> list[Any]: ...
    def swap_group(
        self, members: list[Any], deadline: int, commit: Callable[[], None]
    ) -> list[Any]: ...
    def recover(
        self,
        handle: int,
        source: Any,
        generation: int,
        base: Bits,
        op: int,
        *,
        undo: Any = None,
        lacks: Bits | None = None,
    ) -> Point: ...
    def swap(self, handle: int, legs: list[Any], generation: int, op: int) -> Point: ...
    def add_leg(self, handle: int, medium: Any, pending: Bits | None) -> None: ...
    def drop_leg(self, handle: int, uuid: bytes) -> None: ...
    def detach_save(self, handle: int, uuid: bytes) -> None: ...
    def add_store(self, handle: int, medium: Any, op: int) -> None: ...
    def save_sparse(self, handle: int, op: int) -> Point: ...
    def release_sparse(self, handle: int, generation: int) -> None: ...
    def hold_sparse(self, handle: int, generation: int, held: bool) -> None: ...
    def look(self, handle: int, generation: int, offset: int, length: int) -> bytes: ...
    def compare(self, handle: int, offset: int, length: int) -> Any: ...
    def live_map(self, handle: int) -> Bits: ...
    def status(self, handle: int) -> Mapping[str, Any]: ...
    def silent(self) -> set[bytes]: ...


class Kernel(Protocol):
    """The kernel's target; kernel.lio.Lio."""

    def ensure_storage_object(
        self, name: str, volume: str, size: int, serial: str, block_size: int = 512
    ) -> bool: ...
    def check_made_by_name(self, name: str, size: int, block_size: int) -> None: ...
    def storage_object(self, name: str) -> str | None: ...
    def remove_storage_object(self, name: str) -> None: ...
    def standing(self, target: str) -> tuple[int, ...]: ...
    def portals(self, named: Sequence[str] | None) -> list[str]: ...
    def reset_ring(self, name: str) -> None: ...
    def grow(self, name: str, size: int) -> None: ...
    def unblock(self, name: str) -> None: ...
    def ensure_export(
        self, name: str, target: str, portals: Sequence[str], initiators: Sequence[Any]
    ) -> bool: ...
    def remove_export(self, target: str) -> None: ...
    def logged_in(self, target: str) -> set[str]: ...


class Rings(Protocol):
    """Where rings are found; kernel.hotplug.Hotplug."""

    def open(self, name: str, timeout: float = 10.0) -> tuple[int, int]:
        """An open descriptor and the length to map."""


MakeEngine = Callable[[Callable[[Any], None]], Engine]
