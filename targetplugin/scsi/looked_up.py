"""READ and VERIFY of a save that is shown and not whole: what it holds is asked of the subsystem. From when
it is whole the engine answers them, as it answers those of a volume.
"""

from __future__ import annotations

from typing import Any, Protocol

from targetplugin.engine import native
from targetplugin.errors import Reason, Refused
from targetplugin.scsi import sense
from targetplugin.scsi.vendor import Failed, in_cdb

KINDS = ("read", "verify")
COMMANDS = {command.opcode: command for command in native.NATIVE if command.kind in KINDS}


class Subsystem(Protocol):
    """What it asks: subsystem.Subsystem."""

    def save_read(self, name: str, offset: int, length: int) -> bytes: ...


class LookedUp:
    """The save of this name, of `size` bytes in logical blocks of `block` bytes. Methods raise Failed, and
    Refused where it is not there now.
    """

    def __init__(self, subsystem: Any, name: str, size: int, block: int) -> None:
        self._subsystem: Subsystem = subsystem
        self._name = name
        self._block = block
        self._blocks = size // block

    def execute(self, cdb: bytes, data_out: bytes, room: int) -> bytes:
        """What one of COMMANDS returns."""
        command = COMMANDS[cdb[0]]
        lba_at, lba_bytes, count_at, count_bytes = command.fields()
        lba = int.from_bytes(cdb[lba_at : lba_at + lba_bytes], "big")
        count = int.from_bytes(cdb[count_at : count_at + count_bytes], "big")
        if lba_bytes == 3:
            lba, count = lba & 0x1FFFFF, count or 256
        elif cdb[1] & 0xE0:  # protection information, which it has not
            raise in_cdb(1)
        if lba > self._blocks or count > self._blocks - lba:
            raise Failed(sense.LBA_OUT_OF_RANGE)
        if command.kind == "verify":
            return self._verify(cdb, data_out, lba, count)
        if count * self._block > room:
            raise in_cdb(count_at)
        return self._read(lba, count)

    def _read(self, lba: int, count: int) -> bytes:
        try:
            return self._subsystem.save_read(self._name, lba * self._block, count * self._block)
        except Refused as refused:
            if refused.reason in (
                Reason.NOT_FOUND,
                Reason.ENVIRONMENT,
            ):  # it is lost, or can't be read
                raise Failed(sense.UNRECOVERED_READ_ERROR) from refused
            raise

    def _verify(self, cdb: bytes, data_out: bytes, lba: int, count: int) -> bytes:
        """Compares with nothing, with all that the host sent, or with one block again and again."""
        compares = cdb[1] >> 1 & 3
        most = native.MAX_STEPS if compares == 1 else native.MAX_VERIFY
        if compares == 2 or count * self._block > most:
            raise in_cdb(1 if compares == 2 else 2)
        expected = {0: b"", 1: data_out, 3: data_out * count}[compares]
        if compares and len(expected) != count * self._block:
            raise in_cdb(2)
        if compares and self._read(lba, count) != expected:
            raise Failed(sense.MISCOMPARE_DURING_VERIFY)
        if not compares:
            self._read(lba, count)
        return b""
