"""A logical unit: answers every CDB that the engine does not answer by itself. Translates; decides
nothing of state.

Standard commands are answered from the volume's facts, vendor commands by the subsystem's verbs
(scsi/vendor.py).
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from targetplugin.errors import Refused
from targetplugin.logs import Said, about
from targetplugin.scsi import commands, inquiry, logs, looked_up, mode, sense
from targetplugin.scsi.looked_up import LookedUp
from targetplugin.scsi.vendor import Failed, Vendor, in_cdb, in_list

log = logging.getLogger(__name__)

GOOD = 0x00
CHECK_CONDITION = 0x02
BUSY = 0x08
Handler = Callable[[bytes, bytes], bytes]
NO_TIMEOUTS = struct.pack(">HBBII", 10, 0, 0, 0, 0)  # a command timeouts descriptor
VENDOR = ("pit_copy_in", "pit_copy_out")


class WriteCache(Protocol):
    """Whether there is one now, and when the machine has started again."""

    @property
    def now(self) -> bool: ...
    @property
    def saved(self) -> bool: ...


class Subsystem(Protocol):
    """What a logical unit asks: subsystem.Subsystem."""

    def volume_show(self, name: str) -> dict[str, Any]: ...
    def save_shown(self, name: str) -> dict[str, Any]: ...
    def save_read(self, name: str, offset: int, length: int) -> bytes: ...
    def volume_counters(self, name: str) -> dict[str, int]: ...
    def write_cache(self, name: str) -> WriteCache: ...
    def write_cache_set(self, name: str, on: bool, *, save: bool) -> None: ...


class Answer(Struct, frozen=True):
    """A SCSI answer: status, data-in (at most what there is room for), sense data."""

    status: int
    data: bytes = b""
    sense: bytes = b""


class LogicalUnit:
    """The logical unit of one volume, or of a save that is shown to hosts, read-only: that takes
    no vendor command, and the engine refuses what would write.

    Args:
        subsystem: whose verbs the vendor commands are.
        volume: its name, or the save's, `ledger@3`.
        revision: product revision level, 4 characters.
    """

    def __init__(self, subsystem: Any, volume: str, revision: str = "0001") -> None:
        self._subsystem = subsystem
        self._volume = volume
        self._revision = revision
        self._protected = "@" in volume
        self._vendor = Vendor(subsystem, volume)
        self._facts: dict[str, Any] = {}
        self._said = Said()

    def execute(self, cdb: bytes, data_out: bytes, data_in_length: int) -> Answer:
        """Answers a CDB of 16 bytes; never raises for what a host sends."""
        volume, _, save = self._volume.partition("@")
        with about(door="in-band", volume=volume, save=self._volume if save else None):
            return self._execute(cdb, data_out, data_in_length)

    def _execute(self, cdb: bytes, data_out: bytes, data_in_length: int) -> Answer:
        try:
            command = commands.find(cdb)
            if command is None or (self._protected and command.handler in VENDOR):
                value = sense.INVALID_OPCODE
                if command is None and commands.known_opcode(cdb[0]):
                    value = sense.replace(sense.INVALID_FIELD_IN_CDB, field_pointer=1)
                return Answer(CHECK_CONDITION, sense=value.encode())
            fault = commands.reserved_bit(command, cdb)
            if fault is not None:
                raise in_cdb(fault)
            if command.handler == "pit_copy_in":
                data = self._vendor.copy_in(cdb)
            elif command.handler == "pit_copy_out":
                data = self._vendor.copy_out(cdb, data_out)
            elif self._protected and cdb[0] in looked_up.COMMANDS:
                return self._looked_up(cdb, data_out, data_in_length)
            else:
                handler: Handler = getattr(self, f"_{command.handler}")
                data = handler(cdb, data_out)
            return Answer(GOOD, data[:data_in_length])
        except Failed as failed:
            return Answer(CHECK_CONDITION, sense=failed.value.encode())
        except Refused as refused:
            log.debug("%s: CDB %s is refused: %s", self._volume, cdb.hex(), refused.message)
            return Answer(CHECK_CONDITION, sense=self._vendor.sense_of(refused).encode())

    def _looked_up(self, cdb: bytes, data_out: bytes, room: int) -> Answer:
        save = LookedUp(self._subsystem, self._volume, self._size(), self._block())
        try:
            answer = Answer(GOOD, save.execute(cdb, data_out, room))
        except Refused as refused:
            if self._said.new(self._volume, refused.message):
                log.warning("%s can't be read now: %s", self._volume, refused.message)
            return Answer(BUSY)  # which hosts repeat
        self._said.forget(self._volume)
        return answer

    # --- SPC ------------------------------------------------------------------------------------

    def _fact(self, name: str) -> Any:
        """What never changes, asked for once: INQUIRY is answered while LIO's tree is busy, too."""
        if name not in self._facts:
            ask = self._subsystem.save_shown if self._protected else self._subsystem.volume_show
            self._facts = ask(self._volume)
        return self._facts[name]

    def _identity(self) -> inquiry.Identity:
        naa = bytes.fromhex(self._fact("naa"))
        return inquiry.Identity(
            self._volume,
            naa,
            self._revision,
            self._protected,
            self._block(),
            self._fact("physical_block_size"),
        )

    def _inquiry(self, cdb: bytes, data_out: bytes) -> bytes:
        length = int.from_bytes(cdb[3:5], "big")
        if cdb[1] & 1:
            page = inquiry.page(cdb[2], self._identity())
            if page is None:
                raise in_cdb(2)
            return page[:length]
        if cdb[2]:
            raise in_cdb(2)
        return inquiry.standard(self._identity())[:length]

    def _request_sense(self, cdb: bytes, data_out: bytes) -> bytes:
        """Nothing: each command has its sense with it, and an attention is told by the engine."""
        told = sense.NO_SENSE.encode_descriptor() if cdb[1] & 1 else sense.NO_SENSE.encode()
        return told[: cdb[4]]

    def _mode_values(self) -> mode.Values:
        blocks, block = self._last() + 1, self._block()
        if self._protected:
            return mode.Values(protected=True, blocks=blocks, block=block)
        cache = self._subsystem.write_cache(self._volume)
        return mode.Values(cache.now, cache.saved, blocks=blocks, block=block)

    def _mode_sense_6(self, cdb: bytes, data_out: bytes) -> bytes:
        return self._mode_sense(mode.sense_6, cdb)[: cdb[4]]

    def _mode_sense_10(self, cdb: bytes, data_out: bytes) -> bytes:
        return self._mode_sense(mode.sense_10, cdb)[: int.from_bytes(cdb[7:9], "big")]

    def _mode_sense(
        self, make: Callable[[int, int, int, mode.Values], bytes | None], cdb: bytes
    ) -> bytes:
        code, control = cdb[2] & 0x3F, cdb[2] >> 6
        if control == mode.SAVED and self._protected:
            raise Failed(sense.SAVING_PARAMETERS_NOT_SUPPORTED)
        found = make(cdb[1], code, control, self._mode_values())
        if found is None or cdb[3] not in (0, mode.ALL_SUBPAGES):
            raise in_cdb(2 if found is None else 3)
        return found

    def _mode_select_6(self, cdb: bytes, data_out: bytes) -> bytes:
        return self._mode_select(cdb, data_out[: cdb[4]], cdb[4], 4)

    def _mode_select_10(self, cdb: bytes, data_out: bytes) -> bytes:
        length = int.from_bytes(cdb[7:9], "big")
        return self._mode_select(cdb, data_out[:length], length, 8)

    def _mode_select(self, cdb: bytes, data: bytes, length: int, header: int) -> bytes:
        save = bool(cdb[1] & 1)
        if save and self._protected:
            raise in_cdb(1)
        if length == 0:
            return b""
        if not cdb[1] & 0x10:  # PF: without it the list is no list of pages
            raise in_cdb(1)
        if len(data) < length or length < header:
            raise Failed(sense.PARAMETER_LIST_LENGTH_ERROR)
        values = self._mode_values()
        try:
            write_cache = mode.select(data, header, values)
        except mode.Wrong as wrong:
            if wrong.position is None:
                raise Failed(sense.PARAMETER_LIST_LENGTH_ERROR) from None
            raise in_list(wrong.position) from None
        if write_cache != values.write_cache or (save and write_cache != values.saved):
            self._subsystem.write_cache_set(self._volume, write_cache, save=save)
        return b""

    def _report_opcodes(self, cdb: bytes, data_out: bytes) -> bytes:
        """All commands, or one (SPC-4 6.35), with timeouts that say nothing where they are asked for."""
        length = int.from_bytes(cdb[6:10], "big")
        option, opcode = cdb[2] & 7, cdb[3]
        timeouts = NO_TIMEOUTS if cdb[2] & 0x80 else b""  # RCTD
        if option == 0:
            body = b"".join(
                struct.pack(
                    ">BBHBBH",
                    c.opcode,
                    0,
                    c.action or 0,
                    0,
                    (2 if timeouts else 0) | (0 if c.action is None else 1),  # CTDP, SERVACTV
                    len(c.usage),
                )
                + timeouts
                for c in self._commands()
            )
            return (struct.pack(">I", len(body)) + body)[:length]
        if option > 3:
            raise in_cdb(2)
        action = int.from_bytes(cdb[4:6], "big")
        same = [c for c in self._commands() if c.opcode == opcode]
        by_action = any(c.action is not None for c in same)
        if (option == 1 and by_action) or (option == 2 and same and not by_action):
            raise in_cdb(2)
        found = [c for c in same if c.action is None or c.action == action]
        if not found:
            return struct.pack(">BBH", 0, 1, 0)[:length]
        usage = found[0].told_usage()
        told = struct.pack(">BBH", 0, 0x83 if timeouts else 3, len(usage)) + usage + timeouts
        return told[:length]

    def _commands(self) -> list[commands.Command]:
        """Those that it understands."""
        return [c for c in commands.COMMANDS if not (self._protected and c.handler in VENDOR)]

    def _report_task_management(self, cdb: bytes, data_out: bytes) -> bytes:
        """What LIO does on its own: ABORT TASK and LOGICAL UNIT RESET (core_tmr)."""
        told = bytes([0x80 | 0x08, 0, 0, 0])
        if cdb[2] & 0x80:  # REPD: with how long they take, which is not said
            told = told[:3] + bytes([12]) + bytes(12)
        return told[: int.from_bytes(cdb[6:10], "big")]

    # --- SBC ------------------------------------------------------------------------------------

    def _size(self) -> int:
        return int(self._fact("size"))

    def _block(self) -> int:
        """Bytes of a logical block."""
        return int(self._fact("block_size"))

    def _last(self) -> int:
        """The last logical block address."""
        return self._size() // self._block() - 1

    def _read_capacity_10(self, cdb: bytes, data_out: bytes) -> bytes:
        return struct.pack(">II", min(self._last(), 0xFFFFFFFF), self._block())

    def _read_capacity_16(self, cdb: bytes, data_out: bytes) -> bytes:
        data = struct.pack(">QI", self._last(), self._block())
        # LBPME and LBPRZ: thin, and what was unmapped reads as zeros
        exponent = (self._fact("physical_block_size") // self._block()).bit_length() - 1
        data += bytes([0, exponent, 0 if self._protected else 0xC0, 0])
        return data.ljust(32, b"\0")[: int.from_bytes(cdb[10:14], "big")]

    def _get_lba_status(self, cdb: bytes, data_out: bytes) -> bytes:
        """All from there on is mapped, or it is not known (SBC-3 5.6): media tell of no holes."""
        lba = int.from_bytes(cdb[2:10], "big")
        left = self._last() + 1 - lba
        if left <= 0:
            raise Failed(sense.LBA_OUT_OF_RANGE)
        descriptor = struct.pack(">QIB3x", lba, min(left, 0xFFFFFFFF), 0)
        data = struct.pack(">I4x", 4 + len(descriptor)) + descriptor
        return data[: int.from_bytes(cdb[10:14], "big")]

    def _read_defects_10(self, cdb: bytes, data_out: bytes) -> bytes:
        """Both lists are empty (SBC-3 5.18): what a disk has replaced is its own matter."""
        return bytes([0, cdb[2] & 0x1F, 0, 0])[: int.from_bytes(cdb[7:9], "big")]

    def _read_defects_12(self, cdb: bytes, data_out: bytes) -> bytes:
        return bytes([0, cdb[1] & 0x1F, *bytes(6)])[: int.from_bytes(cdb[6:10], "big")]

    def _log_sense(self, cdb: bytes, data_out: bytes) -> bytes:
        first = int.from_bytes(cdb[5:7], "big")
        found = logs.page(cdb[2] & 0x3F, cdb[3], cdb[2] >> 6, first, self._counters)
        if found is None:
            raise in_cdb(2 if cdb[2] & 0x3F not in logs.PAGES else 3)
        if first and (len(found) == logs.HEADER or not cdb[2] & 0x3F):  # no parameter is as far on
            raise in_cdb(5)
        return found[: int.from_bytes(cdb[7:9], "big")]

    def _counters(self) -> dict[str, Any]:
        """What the engine has counted since the volume is served; of a save that is shown, nothing."""
        if self._protected:
            return {}
        return {**self._subsystem.volume_counters(self._volume), "block_size": self._block()}

    def _start_stop_unit(self, cdb: bytes, data_out: bytes) -> bytes:
        """It runs, and can't be stopped or ejected: who is told that it was thinks that nothing is cached."""
        if cdb[4] & 0xF0 or cdb[4] & 0x03 != 1 or cdb[3]:
            raise in_cdb(3 if cdb[3] else 4)
        return b""

    def _prevent_allow(self, cdb: bytes, data_out: bytes) -> bytes:
        return b""
