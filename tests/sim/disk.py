"""A modelled disk with a volatile cache. Owns what is cached and what is durable; decides nothing
of when it fails.

Data is kept as one stamp (an int) for each 4 KiB block, metadata as its 4096 bytes.
"""

from __future__ import annotations

from random import Random

BLOCK = 4096


class Disk:
    """A medium of `data_size` bytes of data and room for a trailer of `map_slots` slots an area."""

    def __init__(self, name: str, data_size: int, map_slots: int) -> None:
        self.name = name
        self.uuid = name.encode().ljust(16, b"\0")
        self.data_size = data_size
        self.map_slots = map_slots
        self.record_offset = data_size + BLOCK
        self.maps_offset = data_size + 65536
        self.durable: dict[int, int | bytes] = {}
        self.cached: list[tuple[int, int | bytes]] = []
        self.view: dict[int, int | bytes] = {}
        self.broken = False

    def read(self, offset: int, length: int) -> list[int | bytes]:
        return [self.view.get(at, 0) for at in range(offset // BLOCK, (offset + length) // BLOCK)]

    def write(self, offset: int, values: list[int | bytes], *, durable: bool) -> None:
        for at, value in enumerate(values, offset // BLOCK):
            self.view[at] = value
            if durable:
                self.durable[at] = value
                self.cached = [entry for entry in self.cached if entry[0] != at]
            else:
                self.cached.append((at, value))

    def flush(self) -> None:
        self.durable.update(self.cached)
        self.cached.clear()

    def power_cut(self, random: Random) -> None:
        """Of what was not flushed, any part may be there; metadata may be torn."""
        for at, value in self.cached:
            if random.random() < 0.5:
                self.durable[at] = value
        self.cached.clear()
        self.view = dict(self.durable)

    def tear(self, offset: int, value: bytes, random: Random) -> None:
        """A block that was being written when the power went: each sector old or new."""
        old = self.durable.get(offset // BLOCK, 0)
        old = old if isinstance(old, bytes) else bytes(BLOCK)
        new = b"".join(
            (value if random.random() < 0.5 else old)[at : at + 512] for at in range(0, BLOCK, 512)
        )
        self.durable[offset // BLOCK] = new

    def records(self) -> list[bytes]:
        found = self.read(self.record_offset, 2 * BLOCK)
        return [block for block in found if isinstance(block, bytes)]

    def slots(self) -> list[bytes]:
        found = self.read(self.maps_offset, 5 * self.map_slots * 2 * BLOCK)
        return [block for block in found if isinstance(block, bytes)]
