"""A subsystem whose verbs do nothing: each time they are done, or refused for another reason. So PIT COPY
gets all answers that there are; what verbs do is tested elsewhere.
"""

from __future__ import annotations

import itertools
from typing import Any

from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.ground.write_cache import WriteCache

CREATED = "2026-01-02T03:04:05+00:00"
# A fault of the environment is HARDWARE ERROR to a host, which the fuzzer takes for a fault of ours.
REASONS = (None, *(one for one in Reason if one is not Reason.ENVIRONMENT))


class Verbs:
    """What a LogicalUnit asks, for a volume of so many bytes, in logical blocks of so many, with one save,
    `fuzz@3` in slot 1.
    """

    def __init__(self, size: int, block: int) -> None:
        self._size = size
        self._blocks = {"block_size": block, "physical_block_size": 4096}
        self._turn = itertools.cycle(REASONS)

    def volume_show(self, name: str) -> dict[str, Any]:
        save = {"slot": 1, "name": "fuzz@3", "generation": 3, "fill": "whole", "activity": "idle"}
        more = {"percent": 100, "created": CREATED, "changed_extents": 2, "label": "night"}
        shown = {"naa": "6" * 32, "size": self._size, "rights": "all", "name": name}
        volume = {"extent_size": 65536, "operation": None, "generation": 4, "changed_extents": 2}
        saves = [{**save, **more, "undo": None, "held_until": None}]
        return {**shown, **self._blocks, **volume, "state": "serving", "legs": [], "saves": saves}

    def volume_counters(self, name: str) -> dict[str, int]:
        return {"reads": 7, "writes": 8, "bytes_read": 1 << 40, "bytes_written": 1 << 41}

    def write_cache(self, name: str) -> WriteCache:
        return WriteCache(now=True, saved=False)

    def group_limit(self, name: str) -> int:
        return 16

    def group_reach(self, name: str, naas: list[str]) -> list[str]:
        self._next("group_reach")
        return [name, *naas]

    def resolve(self, name: str, generation: int) -> str:
        if generation != 3:
            raise Refused(Reason.NOT_FOUND, f"no save {generation}")
        return "fuzz@3"

    def diff(self, save: str, *, door: str) -> dict[str, Any]:
        runs = [{"offset": 65536 * at, "length": 65536} for at in (0, 3, 9)]
        return {"list": runs}

    def operation(self, number: int) -> dict[str, Any]:
        if number != 7:
            raise Refused(Reason.NOT_FOUND, f"no operation {number}")
        return {"volume": "fuzz"}

    def operations(self, name: str, most: int) -> list[dict[str, Any]]:
        one = {"id": 7, "request": None, "verb": "save", "state": "done", "progress": 1.0}
        return [{**one, "save": "fuzz@3", "undo": None}]

    def backup_list(self, name: str) -> list[dict[str, Any]]:
        one = {"number": 1, "label": "b", "created": CREATED}
        return [{**one, "size": self._size, "fits": True}]

    def __getattr__(self, verb: str) -> Any:
        def do(*_: object, **__: object) -> None:
            self._next(verb)

        return do

    def _next(self, verb: str) -> None:
        reason = next(self._turn)
        if reason is not None:
            raise Refused(reason, f"{verb} is refused")
