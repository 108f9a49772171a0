"""Sense values: what a SCSI failure is, as bytes and in words. Standard library only; hosts ship it.

Source: SPC-4 4.5 (sense data), annex F (additional sense codes).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

__all__ = ["Sense", "decode", "replace"]

KEYS = {
    0x0: "NO SENSE",
    0x1: "RECOVERED ERROR",
    0x2: "NOT READY",
    0x3: "MEDIUM ERROR",
    0x4: "HARDWARE ERROR",
    0x5: "ILLEGAL REQUEST",
    0x6: "UNIT ATTENTION",
    0x7: "DATA PROTECT",
    0xB: "ABORTED COMMAND",
    0xE: "MISCOMPARE",
}
CODES = {
    0x0000: "no additional sense information",
    0x0400: "the logical unit is not ready",
    0x0407: "another operation of the volume is in progress",
    0x0C00: "write error",
    0x1100: "unrecovered read error",
    0x1A00: "the parameter list has a wrong length",
    0x1D00: "the data differs from what is on the medium",
    0x2000: "the command is not known",
    0x2002: "access denied: this host has no right to it",
    0x2100: "the logical block address is out of range",
    0x2700: "the disk is write-protected",
    0x2400: "invalid field in the command",
    0x2600: "invalid field in the parameter list",
    0x2800: "the medium may have changed",
    0x2A09: "the capacity has changed",
    0x2C00: "the state of the volume or save does not allow it",
    0x3900: "saving parameters is not supported",
    0x4400: "internal target failure",
    0x5503: "no free medium, or not enough resources",
}


@dataclass(frozen=True)
class Sense:
    """Sense data.

    Attributes:
        key, asc, ascq: sense key, additional sense code and qualifier.
        field_pointer: byte at fault, in the CDB if in_cdb, else in the parameter list.
        progress: of the operation that stands in the way, 0.0 to 1.0.
    """

    key: int
    asc: int = 0
    ascq: int = 0
    field_pointer: int | None = None
    in_cdb: bool = True
    progress: float | None = None

    def encode(self) -> bytes:
        """Fixed format, 18 bytes."""
        data = bytearray(18)
        data[0], data[2], data[7] = 0x70, self.key, 10
        data[12], data[13] = self.asc, self.ascq
        if self.field_pointer is not None:
            data[15] = 0xC0 if self.in_cdb else 0x80
            data[16:18] = min(self.field_pointer, 0xFFFF).to_bytes(2, "big")
        elif self.progress is not None:
            data[15] = 0x80
            data[16:18] = round(min(max(self.progress, 0.0), 1.0) * 0xFFFF).to_bytes(2, "big")
        return bytes(data)

    def encode_descriptor(self) -> bytes:
        """Descriptor format, with no descriptor: for what is at fault nowhere, and not under way."""
        return bytes([0x72, self.key, self.asc, self.ascq, 0, 0, 0, 0])

    def sentence(self) -> str:
        """In words, with the byte at fault or the progress where it is told."""
        code = self.asc << 8 | self.ascq
        what = CODES.get(code, f"additional sense code {self.asc:02X}h/{self.ascq:02X}h")
        key = KEYS.get(self.key, f"sense key {self.key:X}h")
        more = ""
        if self.field_pointer is not None:
            more = f" (byte {self.field_pointer} of the {'CDB' if self.in_cdb else 'list'})"
        elif self.progress is not None:
            more = f" ({self.progress:.0%} done)"
        return f"{what}{more} [{key} {self.asc:02X}h/{self.ascq:02X}h]"


def decode(data: bytes) -> Sense | None:
    """Sense data in fixed or descriptor format; None where it is neither, or too short."""
    if len(data) < 4:
        return None
    form = data[0] & 0x7F
    if form in (0x70, 0x71):
        data = data[:252].ljust(18, b"\0")
        found = Sense(data[2] & 0xF, data[12], data[13])
        specific = data[15:18]
    elif form in (0x72, 0x73):
        found = Sense(data[1] & 0xF, data[2], data[3])
        specific = b"\0\0\0"
        at, end = 8, min(len(data), 8 + (data[7] if len(data) > 7 else 0))
        while at + 2 <= end:
            if data[at] == 0x02 and at + 7 <= len(data):
                specific = data[at + 4 : at + 7]
            at += 2 + data[at + 1]
    else:
        return None
    if not specific[0] & 0x80:
        return found
    value = int.from_bytes(specific[1:3], "big")
    if found.key == 0x5:
        return replace(found, field_pointer=value, in_cdb=bool(specific[0] & 0x40))
    if found.key in (0x0, 0x2):
        return replace(found, progress=value / 0xFFFF)
    return found


NO_SENSE = Sense(0x0)
OPERATION_IN_PROGRESS = Sense(0x2, 0x04, 0x07)
PARAMETER_LIST_LENGTH_ERROR = Sense(0x5, 0x1A, 0x00)
INVALID_OPCODE = Sense(0x5, 0x20, 0x00)
ACCESS_DENIED = Sense(0x5, 0x20, 0x02)
LBA_OUT_OF_RANGE = Sense(0x5, 0x21, 0x00)
INVALID_FIELD_IN_CDB = Sense(0x5, 0x24, 0x00)
INVALID_FIELD_IN_PARAMETER_LIST = Sense(0x5, 0x26, 0x00, in_cdb=False)
COMMAND_SEQUENCE_ERROR = Sense(0x5, 0x2C, 0x00)
SAVING_PARAMETERS_NOT_SUPPORTED = Sense(0x5, 0x39, 0x00)
INSUFFICIENT_RESOURCES = Sense(0x5, 0x55, 0x03)
UNRECOVERED_READ_ERROR = Sense(0x3, 0x11, 0x00)
MISCOMPARE_DURING_VERIFY = Sense(0xE, 0x1D, 0x00)
MEDIUM_CHANGED = Sense(0x6, 0x28, 0x00)
INTERNAL_TARGET_FAILURE = Sense(0x4, 0x44, 0x00)
