"""A file or block device that is open as a medium: its descriptor and all that Python reads and writes on it.

Decides nothing about what it is used for. Data goes past it: the engine has the descriptor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from targetplugin.media.layout import Area, Layout
from targetplugin.media.trailer import Trailer

if TYPE_CHECKING:
    from collections.abc import Callable

    from targetplugin.engine import MediumSpec

Kind = Literal["block", "file"]


class Medium:
    """An exclusively open medium. Also a context manager, which closes it.

    Attributes:
        path: as it was opened.
        stable_path: the /dev/disk/by-id path of a block device that has one, else the absolute path.
        name: base name of stable_path, cleaned (see names.medium_name for one that is not taken).
        kind: "block" or "file".
        fd: the one descriptor, O_DIRECT where the file system has it.
        layout: where things lie.
        trailer: what the superblock said when it was last read or written; None: no superblock.
    """

    path: str
    stable_path: str
    name: str
    kind: Kind
    fd: int
    layout: Layout
    trailer: Trailer | None

    @classmethod
    def open(cls, path: str, *, uuid: bytes | None = None, wait: float = 0.0) -> Medium:
        """Opens a file or block device that nobody else has open, and reads its trailer.

        Args:
            uuid: the medium that must be there.
            wait: seconds to wait for whoever has it (a killed daemon's last requests).

        Raises:
            Refused: NOT_FOUND no such path; USAGE neither file nor block device, or too small, or not of 512-byte
                blocks; BUSY another has it; STATE another medium than `uuid` is there; ENVIRONMENT anything else.
        """
        raise NotImplementedError

    @classmethod
    def create(cls, path: str, size: int) -> Medium:
        """Makes a sparse file of `size` bytes, mode 0600, and opens it. Raises Refused: EXISTS, ENVIRONMENT, USAGE."""
        raise NotImplementedError

    def close(self) -> None:
        """Gives the medium up. Closing twice is closing once."""
        raise NotImplementedError

    @property
    def uuid(self) -> bytes:
        """The identity from the trailer. Raises Refused (STATE) where there is none."""
        raise NotImplementedError

    @property
    def capacity(self) -> int:
        return self.layout.capacity

    @property
    def data_size(self) -> int:
        return self.layout.data_size

    def spec(self) -> MediumSpec:
        """What the engine is given."""
        raise NotImplementedError

    def fresh_trailer(self) -> Trailer:
        """A trailer of role FREE with a new uuid and this medium's sizes; write_trailer puts it there."""
        raise NotImplementedError

    def read_trailer(self) -> Trailer | None:
        """Reads both copies, repairs the one that lags or is damaged, and keeps and returns what counts.

        Raises:
            Refused: ENVIRONMENT, a later version wrote it, or its sizes are not this medium's.
        """
        raise NotImplementedError

    def write_trailer(self, trailer: Trailer) -> Trailer:
        """Writes copy 1, then copy 0, each durably, with the next sequence number; returns it as written."""
        raise NotImplementedError

    def clear_trailer(self) -> None:
        """Writes zeros over both superblocks, durably: it is no medium of ours any more."""
        raise NotImplementedError

    def read_records(self) -> list[bytes]:
        """The two raw record blocks, of 4096 bytes each; targetplugin.engine.decode_record takes them."""
        raise NotImplementedError

    def read_map_slots(self, area: Area | None = None, *, slots: int | None = None) -> list[bytes]:
        """The raw 4 KiB map slots that are whole, both copies of each.

        Args:
            area: one area; None: all of them.
            slots: only the first so many of each area (layout.slots_for(size, extent_size) of the volume);
                None: all there is room for, which is 320 MiB to read on 1 TiB.
        """
        raise NotImplementedError

    def zero_trailer_room(self) -> None:
        """Zeros over records and maps, durably; superblocks stay. When a medium is initialised or changes its role."""
        raise NotImplementedError

    def write_zeros(
        self, offset: int, length: int, progress: Callable[[int], None] | None = None
    ) -> None:
        """Makes a range read as zeros, durably, fast where disk or file system can. Multiples of 512.

        Args:
            progress: is told how many bytes are done, about every GiB.
        """
        raise NotImplementedError

    def read(self, offset: int, length: int) -> bytes:
        """Reads; both are multiples of 512."""
        raise NotImplementedError

    def write(self, offset: int, data: bytes) -> None:
        """Writes durably; offset and length are multiples of 512."""
        raise NotImplementedError
