"""A kernel for tests of the subsystem: what it is told of exports, and no LIO."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from targetplugin.errors import Reason, Refused

HOST = "iqn.2026-01.org.example:host"
OTHER = "iqn.2026-01.org.example:other"


class FakeKernel:
    """Storage objects and targets as names; what was asked for is kept in order."""

    def __init__(self) -> None:
        self.objects: dict[str, str] = {}
        self.blocks: dict[str, int] = {}
        self.targets: dict[str, tuple[str, list[str], dict[str, str]]] = {}
        self.numbers: dict[str, int] = {}  # of targets
        self.made = 0
        self.hosts: set[str] = set()
        self.sizes: dict[str, int] = {}
        self.done: list[str] = []
        self.fails = False
        self.stays_blocked = False

    def ensure_storage_object(
        self, name: str, volume: str, size: int, serial: str, block_size: int = 512
    ) -> bool:
        if self.fails:
            raise Refused(Reason.ENVIRONMENT, "the kernel refused")
        if name in self.objects:
            return False
        self.objects[name] = f"targetplugin/{volume}"
        self.blocks[name] = block_size
        self.done.append("make")
        return True

    def storage_object(self, name: str) -> str | None:
        return self.objects.get(name)

    def check_made_by_name(self, name: str, size: int, block_size: int) -> None:
        if self.sizes.get(name, size) != size:
            raise Refused(Reason.ENVIRONMENT, f"The storage object {name} has another size.")

    def remove_storage_object(self, name: str) -> None:
        self.objects.pop(name, None)
        self.done.append("remove")

    def reset_ring(self, name: str) -> None:
        self.done.append("reset")

    def grow(self, name: str, size: int) -> None:
        self.sizes[name] = max(size, self.sizes.get(name, 0))

    def unblock(self, name: str) -> None:
        if self.stays_blocked:
            raise Refused(Reason.ENVIRONMENT, "the kernel refused")
        self.done.append("unblock")

    def ensure_export(
        self, name: str, target: str, portals: Sequence[str], initiators: Sequence[Any]
    ) -> bool:
        assert name in self.objects
        self.targets[target] = (name, list(portals), {i.iqn: i.user for i in initiators})
        self.made += 1
        self.numbers[target] = self.made
        self.done.append("export")
        return True

    def standing(self, target: str) -> tuple[int, ...]:
        return (self.numbers[target],) if target in self.targets else ()

    def remove_export(self, target: str) -> None:
        self.targets.pop(target, None)
        self.done.append("unexport")

    def portals(self, named: list[str] | None) -> list[str]:
        return list(named or ["192.0.2.1:3260"])

    def logged_in(self, target: str) -> set[str]:
        return self.hosts

    def open(self, name: str, timeout: float = 10.0) -> tuple[int, int]:
        assert name in self.objects
        self.done.append("open")
        return os.open("/dev/null", os.O_RDWR), 4096
