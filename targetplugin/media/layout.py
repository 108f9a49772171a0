"""Where things lie on a medium: offsets from its capacity. Arithmetic; opens and reads nothing.

0                    the volume's plain data
data_size            superblock, copy 1
data_size + 4 KiB    two slots for the volume record, written in turn
data_size + 64 KiB   five map areas, each of `slots` slots of two 4 KiB copies
capacity - 4 KiB     superblock, copy 0

A store of saves without fill has groups instead of the volume's data, each of two copies of a 4 KiB page
and the 508 extents that it tells of; and its head, twice, instead of the volume record.
"""

from __future__ import annotations

from enum import IntEnum

from msgspec import Struct

from targetplugin.errors import Reason, Refused

BLOCK = 4096
DATA_UNIT = 1 << 20  # data_size is a multiple of it
SLOT_BITS = 32512  # extents that one map slot holds: 4 KiB less 32 bytes of header
SMALLEST_EXTENT = 4096  # room is made for maps of it, whatever a volume's extents are
RECORDS = 2
MAPS_AT = 65536  # from data_size on
COPIES = 2  # of each map slot
STORE_PAGES = 2  # copies of a page, at the begin of its group
STORE_ENTRIES = 508  # extents of a group
STORE_HEAD = b"TPLGSTO1"


class Area(IntEnum):
    """The map areas, in the order in which they lie."""

    LIVE_EVEN = 0
    LIVE_ODD = 1
    MISSED = 2
    PENDING = 3
    HAS = 4


class Layout(Struct, frozen=True):
    """A medium's offsets, in bytes.

    Attributes:
        capacity: size of the file or device, rounded down to 4096.
        data_size: where the trailer starts, a multiple of 1 MiB: the largest volume that fits.
        slots: map slots of each area.
    """

    capacity: int
    data_size: int
    slots: int

    @property
    def superblocks(self) -> tuple[int, int]:
        """Copy 0 at the very end, copy 1 where the trailer starts."""
        return self.capacity - BLOCK, self.data_size

    @property
    def record_offset(self) -> int:
        return self.data_size + BLOCK

    @property
    def maps_offset(self) -> int:
        return self.data_size + MAPS_AT

    @property
    def area_length(self) -> int:
        return self.slots * COPIES * BLOCK

    def area_offset(self, area: Area) -> int:
        return self.maps_offset + area * self.area_length

    def slot_offset(self, area: Area, slot: int, copy: int) -> int:
        """Where copy 0 or 1 of a slot lies."""
        return self.area_offset(area) + (COPIES * slot + copy) * BLOCK


def slots_for(data_size: int, extent_size: int = SMALLEST_EXTENT) -> int:
    """How many slots a map of that much data takes."""
    return -(-data_size // extent_size // SLOT_BITS)


def trailer_length(slots: int) -> int:
    """The least room that a trailer with that many slots takes."""
    return MAPS_AT + len(Area) * slots * COPIES * BLOCK + BLOCK


def layout(size: int, *, name: str = "the medium") -> Layout:
    """The layout of a file or device of `size` bytes.

    Raises:
        Refused: USAGE, it is too small for any data.
    """
    capacity = size - size % BLOCK
    data = capacity - capacity % DATA_UNIT
    while data > 0 and (lacking := data + trailer_length(slots_for(data)) - capacity) > 0:
        # Half of what lacks is never too much, for the trailer shrinks by far less than the data.
        data -= max(DATA_UNIT, lacking // 2 // DATA_UNIT * DATA_UNIT)
    if data <= 0:
        raise Refused(
            Reason.USAGE,
            f"{name} is too small: {size} bytes",
            object=name,
            hint="give a file or device of at least 2 MiB",
        )
    return Layout(capacity, data, slots_for(data))


def store_group(extent_size: int) -> int:
    """How far one group of a store lies from the next, bytes."""
    return STORE_PAGES * BLOCK + STORE_ENTRIES * extent_size


def store_groups(head: bytes) -> int:
    """How many groups a store's head tells of, 0 where it is none; whether it is whole the core judges."""
    return int.from_bytes(head[48:52], "little") if head.startswith(STORE_HEAD) else 0
