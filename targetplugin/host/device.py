"""A disk that understands PIT COPY: found by a path, asked in-band. Never sends a vendor code to
another disk.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Sequence

from targetplugin.host import sgio, stack
from targetplugin.host.errors import Away, Busy, NoRoom, Refused, Usage
from targetplugin.scsi import pitcopy, sense
from targetplugin.scsi.pitcopy import (
    Designator,
    InAction,
    InRequest,
    OutAction,
    OutRequest,
    Parameters,
)

VENDOR_PAGE = 0xC0
SIGNATURE = b"PITCOPY\0"
ROOM = 32 * 1024  # for an answer, bytes
PATIENCE = 60.0  # seconds that a disk may not answer: its session, or the target, comes back
PAUSE = 1.0  # between two rounds of its paths


def whole_disk(path: str) -> str:
    """The /dev path of the disk on which a device stands: a partition, link, multipath device or
    logical volume; of several paths to one disk the first.

    Raises:
        Refused, Usage: it is not there, no block device, or stands on several disks.
    """
    try:
        info = os.stat(path)
    except OSError as error:
        raise Usage(f"{path}: {os.strerror(error.errno or 2)}", "lsblk lists the disks") from None
    if not stat.S_ISBLK(info.st_mode):
        raise Usage(f"{path} is not a block device", "name the disk, as in /dev/sdb")
    name = stack.of_number(os.major(info.st_rdev), os.minor(info.st_rdev))
    name = name or os.path.basename(os.path.realpath(path))
    return f"/dev/{disk_below(path, name).replace('!', '/')}"


def disk_below(path: str, name: str) -> str:
    """The name of the one disk below the device of that name. Raises Refused: there are several."""
    disks = stack.below(name)
    if set(disks) <= set(stack.paths(disks[0])):
        # Always the same of several paths: what is remembered of a disk goes by its name too.
        return min(stack.paths(disks[0]))
    raise Refused(
        f"{path} stands on several disks: {', '.join(map(stack.node, disks))}; one alone, saved or "
        "taken back, would tear it",
        "lsblk -s shows them; move it onto one disk",
    )


class Disk:
    """A volume as its host sees it. Verbs raise Refused with the device's reason in words."""

    def __init__(self, path: str) -> None:
        self.path = whole_disk(path)
        self._check()

    def _check(self) -> None:
        """Other vendors use C0h and C1h for other things: asks first whether this disk knows ours."""
        cdb = bytes([0x12, 1, VENDOR_PAGE, 0, 252, 0])
        try:
            page = self._execute(cdb, data_in=252)
        except sgio.Checked:
            page = b""
        if page[4:12] != SIGNATURE:
            raise Refused(
                f"{self.path} does not know the PIT COPY commands",
                "is it a volume of targetplugin? lsscsi shows TGTPLUG as its vendor",
            )

    def naa(self) -> bytes:
        """The disk's NAA designator (SPC-4, 7.8.6.6), 16 bytes: what it is called by others."""
        try:
            page = self._execute(bytes([0x12, 1, 0x83, 0, 252, 0]), data_in=252)
        except sgio.Checked as checked:
            raise self._refused("INQUIRY", checked.value) from None
        at = 4
        while at + 4 <= len(page):
            kind, length = page[at + 1], page[at + 3]
            if kind & 0x3F == 3 and length == 16:  # of the logical unit, NAA
                return page[at + 4 : at + 20]
            at += 4 + length
        raise Refused(f"{self.path} has no NAA designator", "sg_inq -p 0x83 shows what it has")

    def block_size(self) -> int:
        """Bytes of a logical block, by READ CAPACITY (10): addresses count in them."""
        try:
            data = self._execute(bytes([0x25]).ljust(10, b"\0"), data_in=8)
        except sgio.Checked as checked:
            raise self._refused("READ CAPACITY", checked.value) from None
        return int.from_bytes(data[4:8], "big")

    def _execute(self, cdb: bytes, *, data_out: bytes = b"", data_in: int = 0) -> bytes:
        """Asks by one path after the other, for a while, until one answers.

        A request that changes something can be repeated so: its identifier makes it one request.
        """
        name = self.path.removeprefix("/dev/")
        begin = time.monotonic()
        while True:
            for path in stack.paths(name):
                try:
                    return sgio.execute(f"/dev/{path}", cdb, data_out=data_out, data_in=data_in)
                except Away as error:
                    away = error
            if time.monotonic() - begin > PATIENCE or not stack.number(name):
                raise away
            time.sleep(PAUSE)

    # --- PIT COPY IN ----------------------------------------------------------------------------

    def _ask(self, action: InAction, *, start: int = 0, slot: int = 0) -> bytes:
        cdb = InRequest(action, start, slot, ROOM).encode()
        try:
            return self._execute(cdb, data_in=ROOM)
        except sgio.Checked as checked:
            raise self._refused(action.name, checked.value) from None

    def _list(self, action: InAction) -> list[bytes]:
        found: list[bytes] = []
        start = 0
        while start != pitcopy.END:
            items, start = pitcopy.decode_list(self._ask(action, start=start))
            found += items
            if not items:
                break
        return found

    def capabilities(self) -> pitcopy.Capabilities:
        return pitcopy.Capabilities.decode(self._ask(InAction.CAPABILITIES))

    def status(self) -> pitcopy.PairStatus:
        return pitcopy.PairStatus.decode(self._ask(InAction.PAIR_STATUS))

    def saves(self) -> list[pitcopy.Save]:
        """All saves, oldest first."""
        found = [pitcopy.Save.decode(item) for item in self._list(InAction.SAVES)]
        return sorted(found, key=lambda save: (save.time, save.generation))

    def operations(self) -> list[pitcopy.Operation]:
        """Newest first."""
        return [pitcopy.Operation.decode(item) for item in self._list(InAction.OPERATIONS)]

    def backups(self) -> list[pitcopy.Backup]:
        return [pitcopy.Backup.decode(item) for item in self._list(InAction.BACKUPS)]

    def save_named(self, name: str | None) -> pitcopy.Save:
        """The save of a label or generation; where none is named the newest that someone asked for."""
        saves = self.saves()
        if name is None:
            asked_for = [save for save in saves if not save.undo]
            if asked_for:
                return asked_for[-1]
            raise Refused(f"{self.path} has no save", f"pitcopy save {self.path}")
        number = int(name) if name.isdigit() else -1
        for save in reversed(saves):
            if save.label == name or save.generation == number:
                return save
        raise Refused(f"{self.path} has no save {name!r}", f"pitcopy status {self.path} lists them")

    def differential(self, save: pitcopy.Save) -> pitcopy.DifferentialExtents:
        """What changed since a save, all of it."""
        runs: list[tuple[int, int]] = []
        start = 0
        while True:
            answer = self._ask(InAction.DIFFERENTIAL_EXTENTS, start=start, slot=save.slot)
            part = pitcopy.DifferentialExtents.decode(answer)
            runs += part.runs
            if part.next_start == pitcopy.END:
                return pitcopy.DifferentialExtents(
                    part.extent_size, part.generation, part.live, tuple(runs)
                )
            start = part.next_start

    # --- PIT COPY OUT ---------------------------------------------------------------------------

    def request(
        self,
        action: OutAction,
        *,
        generation: int = 0,
        label: str = "",
        backup: int = 0,
        no_undo: bool = False,
        no_fill: bool = False,
        preview: bool = False,
        others: Sequence[tuple[Disk, int]] = (),
        deadline_ms: int = 0,
        hold: int = 0,
    ) -> bytes:
        """Asks for a verb; in force when this returns. Returns the request's identifier.

        Args:
            preview: only asks whether it would be done.
            others: disks that take part, each with its generation, so that it is done to all at one
                instant, or to none.
            deadline_ms: how long writes of all may be paused for that; 0: as the target has it.
            hold: for how many seconds a new save is kept from going; 0: it is not.

        Raises:
            Busy: another operation forbids it for now. Refused: it can't be.
        """
        identifier = secrets.token_bytes(16)
        try:
            data = Parameters(
                generation,
                identifier,
                label,
                backup,
                no_undo,
                no_fill,
                deadline_ms=deadline_ms,
                hold=hold,
                designators=tuple(Designator(other.naa(), its_own) for other, its_own in others),
            ).encode()
        except ValueError as error:
            raise Usage(str(error)) from None
        cdb = OutRequest(action, len(data), preview=preview).encode()
        try:
            self._execute(cdb, data_out=data)
        except sgio.Checked as checked:
            raise self._refused(action.name, checked.value) from None
        return identifier

    def operation_of(self, identifier: bytes) -> pitcopy.Operation | None:
        """The operation that a request started."""
        return next((o for o in self.operations() if o.request == identifier), None)

    def _refused(self, verb: str, value: sense.Sense) -> Refused:
        what = verb.replace("_", " ")
        if (value.key, value.asc, value.ascq) == (0x2, 0x04, 0x07):
            return Busy(f"{self.path}: {what}: {value.sentence()}", value.progress or 0.0)
        kind = NoRoom if (value.asc, value.ascq) == (0x55, 0x03) else Refused
        hints = {
            (0x20, 0x02): "the operator sets the volume's rights",
            (0x55, 0x03): "the operator adds a medium: targetplugin media add",
            (0x2C, 0x00): f"pitcopy status {self.path} shows what the states are",
        }
        return kind(
            f"{self.path}: {what} is refused: {value.sentence()}",
            hints.get((value.asc, value.ascq), ""),
        )
