"""What a power cut may leave of a volume's one leg, at every point of a log of its writes.

Knows what the host was told (stamper.py's book and the marks in the log) and what the formats promise;
shares with the product the decoders of superblock, record and map slots alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from targetplugin.catalog.maps import slots_map
from targetplugin.engine import LegState, Record, decode_map_slot, decode_record
from targetplugin.media.layout import BLOCK, COPIES, RECORDS, Area, layout
from targetplugin.media.trailer import Role, choose

from .guest.stamper import MAGIC, STAMP, block
from .log_writes import Entry, Flag, Image, Log

REGION = 4 << 20
SHOWN = 20  # findings in a report
Book = dict[
    str, list[tuple[int, int]]
]  # of each mark: the blocks that are durable since: lba, number


@dataclass
class Metadata:
    """What the trailer says, as far as it matters here. Sets of extents are bits of integers."""

    problem: str
    record: Record | None = None
    pending: int = 0
    marked: int = 0

    @property
    def generation(self) -> int:
        return self.record.generation if self.record else 0


@dataclass
class Report:
    """What came of a log."""

    entries: int = 0
    points: int = 0
    blocks: int = 0
    recovering: int = 0
    filling: int = 0
    found: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = f"{self.filling} with a save that fills, {self.recovering} with a recover that runs"
        said = f"{self.entries} entries, {self.points} points checked ({kinds}), {self.blocks} blocks known"
        return "\n".join([said, f"{len(self.found)} findings", *self.found[:SHOWN]])


class Checker:
    """Goes through a log once, with an image beside it, and checks every point after the mark `ready`.

    Marks: `save`, then `saved`, and `recover`, then `recovered`, around the verbs, while the host is
    quiet and has flushed; `end` when nothing more is to be checked.
    """

    def __init__(self, image: Image, size: int, data: int, book: Book) -> None:
        self.image = image
        self.where = layout(size)
        self.data = data
        self.book = book
        self.report = Report()
        self.checking = False
        self.stamps: dict[int, int] = {}  # on the leg; 0 where there are zeros
        self.forced: dict[int, tuple[int, int]] = {}  # the last write with FUA, flushes before it
        self.flushes = 0
        self.latest: dict[int, int] = {}  # what the host was told last to be durable
        self.required: dict[int, int] = {}  # at least this, in the generation that counts
        self.saved: dict[int, int] = {}
        self.begin = 0  # the last write before the present generation
        self.before = 0  # the generation before the verb that is under way
        self.verb = ""
        self.recovered = False
        self.look: set[int] = set()  # blocks to be looked at at the next point
        self.written: set[int] = set()  # extents that hold blocks of the present generation
        self.extent_blocks = 16
        self.now = Metadata("nothing was written yet")

    def run(self, log: Log) -> Report:
        for number, entry in enumerate(log.entries()):
            if entry.flags & Flag.MARK:
                self._mark(entry.mark, number)
            if entry.length:
                self._apply(entry, log.data(entry))
            self.flushes += bool(entry.flags & Flag.FLUSH)
            if self.checking:
                self._check_marks(number)
                if entry.is_point:
                    self._check(number)
            self.report.entries += 1
        self.report.blocks = len(self.latest)
        return self.report

    # --- following -----------------------------------------------------------------------------

    def _mark(self, name: str, number: int) -> None:
        if name == "ready":
            self.checking = True
            self.now = self._metadata()
        elif name == "end":
            self.checking = False
        elif name in ("save", "recover"):
            self.before = self.now.generation
            self.verb = name
            self.begin = max(self.latest.values(), default=0)
            self.written.clear()
            if name == "save":
                self.saved = dict(self.latest)
        elif name in ("saved", "recovered"):
            self.verb = ""
            if self.now.generation != self.before + 1:
                self._find(number, f"the host was told {name}, and the record does not have it")
            if name == "recovered":
                self._recovered()
        for lba, seq in self.book.get(name, ()):
            self.latest[lba] = max(seq, self.latest.get(lba, 0))
            self.required[lba] = max(seq, self.required.get(lba, 0))
            self.look.add(lba)

    def _recovered(self) -> None:
        self.recovered = True
        self.look |= set(self.latest)
        self.latest = {lba: self.saved.get(lba, 0) for lba in self.latest}
        self.required = {}

    def _apply(self, entry: Entry, data: bytes) -> None:
        newer = self._newer(entry, data)
        self.image.apply(entry, data)
        for at, held in newer:
            self.image.put(at * BLOCK, held)
        if entry.offset >= self.data:
            if self.checking:
                self._changed(self._metadata())
            return
        for at in range(entry.offset // BLOCK, -(-(entry.offset + entry.length) // BLOCK)):
            seq = self._stamp(at)
            self.stamps[at] = seq
            self.look.add(at)
            if seq > self.begin:
                self.written.add(at // self.extent_blocks)

    def _newer(self, entry: Entry, data: bytes) -> list[tuple[int, bytes]]:
        """Blocks of which the log had the later write first, and what that was.

        Linux logs a write with FUA when it ends, and one without at the flush that follows: where
        both are of one block, the log's order is not the disk's. A flush may be under way meanwhile,
        so that is over with the second.
        """
        newer: list[tuple[int, bytes]] = []
        if entry.offset >= self.data or entry.flags & Flag.DISCARD:
            return newer
        for at in range(entry.offset // BLOCK, (entry.offset + entry.length) // BLOCK):
            begin = at * BLOCK - entry.offset
            seq = _seq(at, data[begin : begin + BLOCK])
            if entry.flags & Flag.FUA:
                self.forced[at] = (seq, self.flushes)
                continue
            last, flushes = self.forced.get(at, (0, 0))
            if 0 <= seq < last == self.stamps.get(at) and self.flushes <= flushes + 1:
                newer.append((at, self.image.read(at * BLOCK, BLOCK)))
        return newer

    def _stamp(self, lba: int) -> int:
        return _seq(lba, self.image.read(lba * BLOCK, BLOCK))

    def _changed(self, metadata: Metadata) -> None:
        for extent in _bits(metadata.pending ^ self.now.pending):
            first = extent * self.extent_blocks
            self.look |= set(range(first, first + self.extent_blocks)) & self.latest.keys()
        self.now = metadata

    def _metadata(self) -> Metadata:
        trailer = choose([self.image.read(at, BLOCK) for at in self.where.superblocks])[0]
        if trailer is None or trailer.role is not Role.LEG:
            return Metadata("no superblock of a leg")
        places = [self.where.record_offset + i * BLOCK for i in range(RECORDS)]
        found = [decode_record(self.image.read(at, BLOCK)) for at in places]
        records = [r for r in found if r is not None and r.volume == trailer.volume]
        if not records:
            return Metadata("no record of the volume")
        record = max(records, key=lambda r: (r.events, r.sequence))
        state = next((leg.state for leg in record.legs if leg.uuid == trailer.uuid), None)
        if state is not LegState.IN_SYNC:
            return Metadata(f"the only leg is {state}", record)
        self.extent_blocks = (1 << record.extent_shift) // BLOCK
        live = Area.LIVE_ODD if record.generation % 2 else Area.LIVE_EVEN
        marked = self._map(record, live, record.generation)
        for region in record.regions:
            each = REGION >> record.extent_shift
            marked |= ((1 << each) - 1) << region * each
        pending = self._map(record, Area.PENDING, record.pending_tag) if record.recover else 0
        return Metadata("", record, pending, marked)

    def _map(self, record: Record, area: Area, tag: int) -> int:
        extents = -(-record.size >> record.extent_shift)
        slots = []
        for copy in range(COPIES):
            raw = self.image.read(self.where.slot_offset(area, 0, copy), BLOCK)
            slot = decode_map_slot(raw)
            if slot is not None and raw[24:32] == record.volume[:8] and slot[2] == tag:
                slots.append((slot[1], slot[3], slot[4]))
        return int.from_bytes(slots_map(slots, extents), "little")

    # --- judging -------------------------------------------------------------------------------

    def _find(self, number: int, what: str) -> None:
        self.report.found.append(f"entry {number}: {what}")

    def _check_marks(self, number: int) -> None:
        """A differential after a cut is too large at most: at every entry, not at points alone."""
        lacking = [extent for extent in self.written if not self.now.marked >> extent & 1]
        if lacking and not self.now.problem and self.now.generation != self.before:
            self._find(number, f"extents {lacking[:5]} were written, and neither marked nor logged")
            self.written.difference_update(lacking)

    def _check(self, number: int) -> None:
        now = self.now
        self.report.points += 1
        self.report.recovering += bool(now.record and now.record.recover)
        self.report.filling += bool(now.record and now.record.saves)
        if now.problem:
            self._find(number, now.problem)
            return
        in_force = self.verb == "recover" and now.generation > self.before
        for lba in self.latest if in_force else self.look:
            reads = self.stamps.get(lba, 0)
            if now.pending >> lba // self.extent_blocks & 1:
                reads = self.saved.get(lba, 0)
            if wrong := self._wrong(lba, reads, in_force):
                self._find(number, f"block {lba} reads as write {reads}, {wrong}")
        self.look.clear()

    def _wrong(self, lba: int, reads: int, in_force: bool) -> str:
        if reads < 0:
            return "which is no whole block"
        kept = self.saved.get(lba, 0)
        if in_force:
            return "" if reads == kept else f"but the recover in force gives {kept}"
        if self.recovered and reads <= self.begin and reads != kept:
            return f"of the time that was recovered from; the save has {kept}"
        least = self.required.get(lba, 0)
        return "" if reads >= least else f"but {least} was told to be durable"


def _seq(lba: int, held: bytes) -> int:
    """Which write a block's content is; 0 where it is zeros, -1 where it is none whole."""
    magic, at, seq, _ = STAMP.unpack_from(held)
    if magic == MAGIC and at == lba and held == block(lba, seq):
        return int(seq)
    return -1 if any(held) else 0


def _bits(number: int) -> Iterable[int]:
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low
