"""A file or block device that is open as a medium: its descriptor, and Python's I/O on it.

Decides nothing about what it is used for. Host data goes past it: the engine has the descriptor.
"""

from __future__ import annotations

import errno
import os
import time
import uuid as uuids
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from targetplugin.errors import Reason, Refused
from targetplugin.media import device
from targetplugin.media.by_path import by_path, found
from targetplugin.media.layout import (
    BLOCK,
    COPIES,
    RECORDS,
    STORE_PAGES,
    Area,
    Layout,
    layout,
    store_group,
    store_groups,
)
from targetplugin.media.names import medium_name
from targetplugin.media.trailer import Trailer, choose, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from targetplugin.engine import MediumSpec

Kind = Literal["block", "file"]

_GIB = 1 << 30
_READ_AT_ONCE = 4 << 20
_AGAIN = 0.1  # seconds between attempts to open what another has


class Medium:
    """An exclusively open medium, made by open or create. As a context manager it closes itself.

    Attributes:
        path: as it was opened.
        stable_path: the by-id path of a block device that has one, else the absolute path.
        name: base name of stable_path, cleaned (names.medium_name finds one that is not taken).
        kind: "block" or "file".
        fd: the one descriptor, O_DIRECT where the file system has it.
        layout: where things lie.
        block_size: bytes of a logical block of the device: no part of one can be read or written.
        trailer: what the superblock said when it was last read or written; None: no superblock.
    """

    def __init__(self, path: str, fd: int, kind: Kind, where: Layout) -> None:
        self.path = path
        self.stable_path = by_path().stable(path)
        self.name = medium_name(self.stable_path)
        self.kind: Kind = kind
        self.fd = fd
        self.layout = where
        self.block_size = device.block_size(fd)
        self.trailer: Trailer | None = None

    @classmethod
    def open(cls, path: str, *, uuid: bytes | None = None, wait: float = 0.0) -> Medium:
        """Opens a file or block device that nobody else has open, and reads its trailer.

        Args:
            uuid: the medium that must be there.
            wait: seconds to wait for whoever has it (a killed daemon's last requests).

        Raises:
            Refused: NOT_FOUND, no such path; USAGE, neither file nor block device, too small, or
                of blocks larger than 4096 bytes; BUSY, another has it; STATE, another medium than `uuid` is
                there; ENVIRONMENT, anything else.
        """
        fd, kind = _open_exclusively(path, time.monotonic() + wait)
        try:
            medium = cls(path, fd, kind, layout(device.size(fd), name=path))
            found = medium.read_trailer()
            if uuid is not None and (found is None or found.uuid != uuid):
                now = f"medium {found.uuid.hex()}" if found else "no medium of this subsystem"
                raise Refused(
                    Reason.STATE,
                    f"{path} holds {now}, not medium {uuid.hex()}",
                    object=path,
                    hint="give the path where that medium is now",
                )
        except BaseException:
            os.close(fd)
            raise
        return medium

    @classmethod
    def create(cls, path: str, size: int) -> Medium:
        """Makes a sparse file of `size` bytes, mode 0600, and opens it.

        Raises:
            Refused: EXISTS, something is there; USAGE, too small; ENVIRONMENT, it can't be made.
        """
        layout(size, name=path)
        with _environment(path, "can't be made"):
            try:
                by_path().make(path, size)
            except FileExistsError:
                raise Refused(
                    Reason.EXISTS,
                    f"{path} is there already",
                    object=path,
                    hint="leave the size out to take it as it is, or choose another path",
                ) from None
        return cls.open(path)

    def close(self) -> None:
        """Gives the medium up. Closing twice is closing once."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def is_gone(self) -> bool:
        """Whether its device was pulled: Linux gives one that is no more the size 0. A file never is: what
        is open stays.
        """
        return self.kind == "block" and os.lseek(self.fd, 0, os.SEEK_END) == 0

    def is_there(self) -> bool:
        """Whether its device or file still exists, by whatever name."""
        return not self.is_gone() and (self.kind == "block" or os.fstat(self.fd).st_nlink > 0)

    def __enter__(self) -> Medium:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def uuid(self) -> bytes:
        """The identity from the trailer. Raises Refused (STATE) where there is none."""
        if self.trailer is None:
            raise Refused(
                Reason.STATE,
                f"{self.path} is no medium of this subsystem",
                object=self.path,
                hint=f"targetplugin media add {self.path}",
            )
        return self.trailer.uuid

    @property
    def capacity(self) -> int:
        return self.layout.capacity

    @property
    def data_size(self) -> int:
        return self.layout.data_size

    def spec(self) -> MediumSpec:
        """What the engine is given."""
        from targetplugin.engine import MediumSpec  # built natively: only who serves data needs it

        return MediumSpec(
            uuid=self.uuid,
            fd=self.fd,
            data_size=self.data_size,
            record_offset=self.layout.record_offset,
            maps_offset=self.layout.maps_offset,
            map_slots=self.layout.slots,
            block_size=self.block_size,
        )

    # --- superblock --------------------------------------------------------------------------

    def fresh_trailer(self) -> Trailer:
        """One of role FREE with a new uuid and this medium's sizes; write_trailer puts it there."""
        return Trailer(uuids.uuid4().bytes, self.capacity, self.data_size)

    def read_trailer(self) -> Trailer | None:
        """Reads both copies, repairs one that lags or is damaged, keeps and returns what counts.

        Raises:
            Refused: ENVIRONMENT, a later version wrote it, or its sizes are not this medium's.
        """
        copies = [self.read(offset, BLOCK) for offset in self.layout.superblocks]
        found, torn = choose(copies)
        if found and (found.capacity, found.data_size) != (self.capacity, self.data_size):
            raise Refused(
                Reason.ENVIRONMENT,
                f"{self.path} has {self.capacity} bytes, but its trailer says {found.capacity}",
                object=self.path,
                hint="give the disk the size back that it had when it was added",
            )
        if found:
            for index in torn:
                self.write(self.layout.superblocks[index], encode(found))
        self.trailer = found
        return found

    def write_trailer(self, trailer: Trailer) -> Trailer:
        """Writes copy 1, then copy 0, each durably, with the next sequence number.

        Returns:
            It as written. A crash on the way leaves the old one or the new one.
        """
        last = self.trailer.sequence if self.trailer else 0
        written = replace(
            trailer, sequence=last + 1, capacity=self.capacity, data_size=self.data_size
        )
        block = encode(written)
        for offset in reversed(self.layout.superblocks):
            self.write(offset, block)
        self.trailer = written
        return written

    def clear_trailer(self) -> None:
        """Writes zeros over both superblocks, durably: it is no medium of ours any more."""
        for offset in reversed(self.layout.superblocks):
            self.write(offset, bytes(BLOCK))
        self.trailer = None

    # --- records and maps ----------------------------------------------------------------------

    def read_records(self) -> list[bytes]:
        """The two raw record blocks of 4096 bytes; targetplugin.engine.decode_record takes them."""
        both = self.read(self.layout.record_offset, RECORDS * BLOCK)
        return [both[:BLOCK], both[BLOCK:]]

    def read_map_slots(self, area: Area | None = None, *, slots: int | None = None) -> list[bytes]:
        """The raw 4 KiB map slots that are whole, both copies of each.

        Args:
            area: one area; None: all of them.
            slots: only the first so many of each area (layout.slots_for(size, extent_size) of the
                volume); None: all there is room for, which is 320 MiB to read on 1 TiB.
        """
        from targetplugin.engine import decode_map_slot

        count = self.layout.slots if slots is None else min(slots, self.layout.slots)
        found = []
        for one in Area if area is None else (area,):
            at = self.layout.area_offset(one)
            end = at + count * COPIES * BLOCK
            while at < end:
                piece = self.read(at, min(end - at, _READ_AT_ONCE))
                at += len(piece)
                blocks = (piece[i : i + BLOCK] for i in range(0, len(piece), BLOCK))
                found += [b for b in blocks if any(b[:8]) and decode_map_slot(b) is not None]
        return found

    def read_store(self, extent_size: int) -> list[bytes]:
        """What a start must know of a store of saves without fill: the raw 4 KiB heads, and both copies of
        its groups' pages.

        Args:
            extent_size: the volume's, bytes.
        """
        found = self.read_records()
        groups = max(map(store_groups, found))
        for group in range(min(groups, self.data_size // store_group(extent_size) + 1)):
            pages = self.read(group * store_group(extent_size), STORE_PAGES * BLOCK)
            found += [pages[at : at + BLOCK] for at in range(0, len(pages), BLOCK)]
        return found

    def zero_trailer_room(self) -> None:
        """Zeros over records and maps, durably; superblocks stay.

        For when a medium is initialised, or serves another volume than before.
        """
        start = self.layout.record_offset
        self.write_zeros(start, self.layout.superblocks[0] - start)

    # --- bytes -----------------------------------------------------------------------------------

    def write_zeros(
        self, offset: int, length: int, progress: Callable[[int], None] | None = None
    ) -> None:
        """Makes a range read as zeros, durably, fast where disk or file system can.

        Args:
            offset, length: multiples of block_size.
            progress: is told how many bytes are done, every GiB.
        """
        with _environment(self.path, "can't be zeroed"):
            for done in range(0, length, _GIB):
                piece = min(_GIB, length - done)
                device.zero(self.fd, offset + done, piece)
                if progress:
                    progress(done + piece)
            os.fsync(self.fd)

    def read(self, offset: int, length: int) -> bytes:
        """Reads; both are multiples of block_size. Raises Refused (ENVIRONMENT)."""
        with _environment(self.path, "can't be read"):
            return device.read(self.fd, offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """Writes durably; offset and length are multiples of block_size. Raises Refused (ENVIRONMENT)."""
        with _environment(self.path, "can't be written"):
            device.write(self.fd, offset, data)


def try_exclusively(path: str) -> None:
    """Opens it as Medium.open does, asks it for nothing and closes it. Raises Refused as that does."""
    os.close(_open_exclusively(path, 0.0)[0])


def _open_exclusively(path: str, until: float) -> tuple[int, Kind]:
    """The descriptor of a medium that nobody else has, and its kind."""
    with _environment(path, "can't be opened"):
        found(path, "give the path of a disk or file, or a size to make a file")
        while True:
            try:
                fd = by_path().take(path)
                break
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.EAGAIN):
                    raise
                if time.monotonic() >= until:
                    raise Refused(
                        Reason.BUSY,
                        f"{path} is in use",
                        object=path,
                        hint="unmount it, or stop what uses it (lsblk and fuser tell), and repeat",
                    ) from None
            time.sleep(_AGAIN)
        try:
            if not device.is_block(fd):
                return fd, "file"
            _check_block(path, fd)
            return fd, "block"
        except BaseException:
            os.close(fd)
            raise


def _check_block(path: str, fd: int) -> None:
    if device.read_only(fd):
        raise Refused(
            Reason.ENVIRONMENT,
            f"{path} is read-only",
            object=path,
            hint=f"blockdev --setrw {path}, if the disk itself allows it, and repeat",
        )
    if device.block_size(fd) > BLOCK:
        raise Refused(
            Reason.USAGE,
            f"{path} has logical blocks of {device.block_size(fd)} bytes",
            object=path,
            hint=f"use a disk whose logical blocks are of {BLOCK} bytes or fewer",
        )


@contextmanager
def _environment(path: str, what: str) -> Iterator[None]:
    """What the system refuses becomes a refusal that names the medium."""
    try:
        yield
    except OSError as error:
        raise Refused(
            Reason.ENVIRONMENT,
            f"{path} {what}: {os.strerror(error.errno) if error.errno else error}",
            object=path,
            hint="look at the disk and at the kernel's log (dmesg)",
        ) from error
