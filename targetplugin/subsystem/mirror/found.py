"""What a scrub has found so far, and how far it is."""

from __future__ import annotations

from typing import Any

from targetplugin.catalog import Volume
from targetplugin.subsystem.ground.sizes import told
from targetplugin.subsystem.ground.views import Shape

RUNS_KEPT = 1000  # runs that differ; of more only how many there are


class Found:
    """How far a scrub is, and what it found: as it is kept with its operation.

    Attributes:
        parts: what is compared: None for the legs with each other, then generations of saves.
        part, at: which of them is being compared, and from where on, in bytes.
        compared: bytes, in all parts.
    """

    def __init__(self, prepared: dict[str, Any]) -> None:
        self.rate: int = prepared["rate"]
        self.parts: list[int | None] = prepared.get("parts", [None])
        self.part: int = prepared.get("part", 0)
        self.at: int = prepared["at"]
        self.compared: int = prepared.get("compared", self.at)
        self.runs: list[Shape] = list(prepared.get("runs", []))
        self.different: int = prepared.get("different", 0)  # extents
        self.unreadable: int = prepared.get("unreadable", 0)
        self.events = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "part": self.part,
            "at": self.at,
            "compared": self.compared,
            "runs": self.runs,
            "different": self.different,
            "unreadable": self.unreadable,
        }

    @property
    def over(self) -> bool:
        return self.part >= len(self.parts)

    def go_on(self, length: int, size: int) -> None:
        """A run was compared."""
        self.at += length
        self.compared += length
        if self.at >= size:
            self.part, self.at = self.part + 1, 0

    def leave_out(self, size: int) -> None:
        """What is being compared is no more."""
        self.go_on(size - self.at, size)

    def summary(self) -> str:
        parts = []
        if self.different:
            parts.append(f"{self.different} extents differ")
        if self.unreadable:
            parts.append(f"{self.unreadable} can't be read")
        return ", ".join(parts)

    def take(self, volume: Volume, compared: Any, length: int, name: Any) -> list[Shape]:
        """Notes what one run gave. Returns what is wrong in it: {offset, length, what, media}."""
        wrong: list[Shape] = []
        size = volume.extent_size
        for at, media in sorted(compared.different.items()):
            names = [name(compared.first)] if compared.first else []
            names += [name(uuid) for uuid in media]
            offset = self.at + at * size
            last = wrong[-1] if wrong else None
            if last and last["media"] == names and last["offset"] + last["length"] == offset:
                last["length"] += min(size, volume.size - offset)
            else:
                part = min(size, volume.size - offset)
                wrong.append({"offset": offset, "length": part, "what": "differs", "media": names})
        for uuid in compared.unreadable:
            wrong.append(
                {
                    "offset": self.at,
                    "length": length,
                    "what": "can't be read",
                    "media": [name(uuid)],
                }
            )
        return self.note(wrong, size)

    def note(self, wrong: list[Shape], extent_size: int) -> list[Shape]:
        """Keeps what is wrong, {offset, length, what, media, and of a save its name}; returns it."""
        for one in wrong:
            extents = -(-one["length"] // extent_size)
            if one["what"] == "differs":
                self.different += extents
            else:
                self.unreadable += extents
        self.runs += wrong[: RUNS_KEPT - len(self.runs)]
        return wrong


def sentence(one: Shape) -> str:
    """`64 KiB at 12582912 differ between a and b`."""
    media = one["media"]
    at = f"{told(one['length'])} at {one['offset']}"
    if one["what"] == "differs":
        return f"{at} differ between {' and '.join(media)}"
    return f"{at} can't be read of {media[0]}"
