"""A modelled disk with a volatile cache. Owns what is cached, what is durable and which faults it
has; decides nothing of when.

Data is kept as one stamp (an int) for each block of `block` bytes, metadata as its 4096 bytes; both
under their byte offsets.
"""

from __future__ import annotations

from itertools import repeat
from random import Random

META = 4096
EIO, ENOSPC = -5, -28
Entry = tuple[int, int | bytes]  # a place in bytes, and what is there


class Disk:
    """A medium of `data_size` bytes of data and room for a trailer of `map_slots` slots an area."""

    def __init__(self, name: str, data_size: int, map_slots: int, block: int) -> None:
        self.name = name
        self.uuid = name.encode().ljust(16, b"\0")
        self.data_size = data_size
        self.block = block
        self.map_slots = map_slots
        self.record_offset = data_size + META
        self.maps_offset = data_size + 65536
        self.durable: dict[int, int | bytes] = {}
        # What was written since the last flush, oldest first: places with values, and whether it is
        # durable as well (so that what is older is not taken for newer).
        self.cached: list[tuple[list[Entry], bool]] = []
        self.unflushable: dict[int, int | bytes] = {}  # of a flush that failed
        self.view: dict[int, int | bytes] = {}
        self.broken = False  # every request fails
        self.full = (
            False  # every write of data fails, as on a sparse file whose file system is full
        )
        self.slips = 0  # so many requests to come fail, and no more
        self.silent_until = 0  # a step of the run: till then no request ends
        self.slow_until = 0  # the same, and nobody gives it up for that

    def waits(self, now: int) -> bool:
        return max(self.silent_until, self.slow_until) > now

    def keys(self, offset: int, length: int) -> range:
        return range(offset, offset + length, META if self.is_meta(offset) else self.block)

    def is_meta(self, offset: int) -> bool:
        """Whether blocks of metadata lie there."""
        return offset >= self.data_size

    def fault(self, kind: str, offset: int) -> int:
        """What a request fails with now, or 0. Takes one slip."""
        if self.broken:
            return EIO
        if self.slips:
            self.slips -= 1
            return EIO
        if self.full and kind == "write" and offset < self.data_size:
            return ENOSPC
        return 0

    def read(self, offset: int, length: int) -> list[int | bytes]:
        return list(map(self.view.get, self.keys(offset, length), repeat(0)))

    def write(self, offset: int, values: list[int | bytes], *, durable: bool) -> None:
        step = META if self.is_meta(offset) else self.block
        places = range(offset, offset + len(values) * step, step)
        self._put(list(zip(places, values, strict=True)), durable=durable)

    def _put(self, entries: list[Entry], *, durable: bool) -> None:
        self.view.update(entries)
        if self.unflushable:
            for at, _ in entries:
                self.unflushable.pop(at, None)
        if durable:
            self.durable.update(entries)
            if self.cached:
                self.cached.append((entries, True))
        else:
            self.cached.append((entries, False))

    def write_partly(
        self, offset: int, values: list[int | bytes], random: Random, *, power: bool
    ) -> None:
        """A write that was under way when it failed, or when the power went: any part of it."""
        step = META if self.is_meta(offset) else self.block
        there: dict[bool, list[Entry]] = {True: [], False: []}
        for number, value in enumerate(values):
            if random.random() < 0.5:
                continue
            at = offset + number * step
            if isinstance(value, bytes) and (power or random.random() < 0.5):
                torn = self.torn(at, value, random)
                there[True].append((at, torn))
            else:
                there[random.random() < 0.5].append((at, value))
        for durable, entries in there.items():
            self._put(entries, durable=durable)

    def flush(self) -> None:
        for entries, _ in self.cached:
            self.durable.update(entries)
        self.cached.clear()

    def flush_fails(self, random: Random) -> None:
        """What was to be flushed may be lost at the next power cut, and no later flush tells of that."""
        newest: dict[int, tuple[int | bytes, bool]] = {}
        for entries, durable in self.cached:
            newest.update((at, (value, durable)) for at, value in entries)
        kept = []
        for at, (value, durable) in newest.items():
            if durable or random.random() < 0.5:
                kept.append((at, value))
            else:
                self.unflushable[at] = value
        self.cached = [(kept, False)] if kept else []

    def forgives(self) -> None:
        """The process that was told so is gone, so nobody knows of it: then it must not be lost."""
        if self.unflushable:
            self.cached.insert(0, (list(self.unflushable.items()), False))
            self.unflushable.clear()

    def power_cut(self, random: Random) -> None:
        """Of what was not flushed, any part may be there, in any order; metadata may be torn."""
        for entries, durable in self.cached:
            if durable:
                self.durable.update(entries)
                continue
            for at, value in entries:
                if random.random() < 0.5:
                    if isinstance(value, bytes):
                        value = self.torn(at, value, random)
                    self.durable[at] = value
        self.cached.clear()
        self.unflushable.clear()
        self.view = dict(self.durable)

    def torn(self, at: int, value: bytes, random: Random) -> bytes:
        """A block that was being written when the power went: each sector old or new."""
        old = self.durable.get(at, 0)
        old = old if isinstance(old, bytes) else bytes(META)
        return b"".join(
            (value if random.random() < 0.5 else old)[part : part + 512]
            for part in range(0, META, 512)
        )

    def flip(self, at: int, random: Random) -> None:
        """One bit of a metadata block turns over."""
        block = bytearray(self.view[at])  # type: ignore[arg-type]
        bit = random.randrange(META * 8)
        block[bit // 8] ^= 1 << bit % 8
        self.view[at] = self.durable[at] = bytes(block)

    def wipe_maps(self) -> None:
        """Saves' maps of earlier times are gone, durably."""
        first = self.maps_offset + 8 * self.map_slots * META
        for places in (self.view, self.durable):
            for at in range(first, first + 2 * self.map_slots * META, META):
                places.pop(at, None)

    def blocks(self, offset: int, count: int) -> list[tuple[int, bytes]]:
        """The metadata blocks that are there, with their places."""
        found = ((at, self.view.get(at)) for at in range(offset, offset + count * META, META))
        return [(at, block) for at, block in found if isinstance(block, bytes)]

    def records(self) -> list[bytes]:
        return [block for _, block in self.blocks(self.record_offset, 2)]

    def slots(self) -> list[bytes]:
        return [block for _, block in self.blocks(self.maps_offset, 10 * self.map_slots)]
