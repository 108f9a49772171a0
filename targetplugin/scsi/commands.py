"""The command table: what is understood, by whom, and which bits of a CDB are looked at. One table
for all uses; what the engine answers by itself is the engine's own (engine/native.py).

Dispatch and REPORT SUPPORTED OPERATION CODES read it. Source: SPC-4, SBC-3, and PIT COPY
(scsi/pitcopy.py).
"""

from __future__ import annotations

from msgspec import Struct

from targetplugin.engine import native

# Seen here only by those who ask what is supported:
NATIVE = "native"  # answered by the engine
KERNEL = "LIO"  # answered by LIO for every store (passthrough_parse_cdb); it never comes here

# The byte, and its bits, that hold the service action.
ACTION_MASK = 0x1F


class Command(Struct, frozen=True):
    """One command.

    Attributes:
        opcode, action: operation code, and service action where there are several.
        name: T10's.
        usage: the bits of each CDB byte that are looked at; byte 0 is the operation code.
        handler: name of the method that answers it, or NATIVE.
    """

    opcode: int
    action: int | None
    name: str
    usage: bytes
    handler: str

    def told_usage(self) -> bytes:
        """As hosts are told it: a service action as its value, as the operation code is (SPC-4 6.35.3)."""
        if self.action is None:
            return self.usage
        byte = self.usage[1] & ~ACTION_MASK & 0xFF | self.action
        return self.usage[:1] + bytes([byte]) + self.usage[2:]


def _usage(hexadecimal: str) -> bytes:
    return bytes.fromhex(hexadecimal)


OF_PYTHON: tuple[Command, ...] = (
    Command(0x03, None, "REQUEST SENSE", _usage("03010000ff00"), "request_sense"),
    Command(0x12, None, "INQUIRY", _usage("1201ffffff00"), "inquiry"),
    Command(0x15, None, "MODE SELECT (6)", _usage("15110000ff00"), "mode_select_6"),
    Command(0x1A, None, "MODE SENSE (6)", _usage("1a08ffffff00"), "mode_sense_6"),
    Command(0x1B, None, "START STOP UNIT", _usage("1b01000ff700"), "start_stop_unit"),
    Command(0x1E, None, "PREVENT ALLOW MEDIUM REMOVAL", _usage("1e0000000300"), "prevent_allow"),
    Command(0x25, None, "READ CAPACITY (10)", _usage("25000000000000000000"), "read_capacity_10"),
    Command(0x37, None, "READ DEFECT DATA (10)", _usage("37001f00000000ffff00"), "read_defects_10"),
    Command(0x4D, None, "LOG SENSE", _usage("4d00ffff00ffffffff00"), "log_sense"),
    Command(0x55, None, "MODE SELECT (10)", _usage("55110000000000ffff00"), "mode_select_10"),
    Command(0x5A, None, "MODE SENSE (10)", _usage("5a18ffff000000ffff00"), "mode_sense_10"),
    Command(
        0x9E,
        0x10,
        "READ CAPACITY (16)",
        _usage("9e1f0000000000000000ffffffff0000"),
        "read_capacity_16",
    ),
    Command(
        0x9E,
        0x12,
        "GET LBA STATUS",
        _usage("9e1fffffffffffffffffffffffff0000"),
        "get_lba_status",
    ),
    Command(
        0xA3,
        0x0C,
        "REPORT SUPPORTED OPERATION CODES",
        _usage("a31f87ffffffffffffff0000"),
        "report_opcodes",
    ),
    Command(
        0xA3,
        0x0D,
        "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS",
        _usage("a31f80000000ffffffff0000"),
        "report_task_management",
    ),
    Command(
        0xB7, None, "READ DEFECT DATA (12)", _usage("b71fffffffffffffffff0000"), "read_defects_12"
    ),
    *(
        Command(0xC0, action, f"PIT COPY IN: {name}", _usage(usage), "pit_copy_in")
        for action, name, usage in (
            (0x00, "CAPABILITIES", "c01f0000000000ffff00"),
            (0x01, "PAIR STATUS", "c01f0000000000ffff00"),
            (0x02, "DIFFERENTIAL EXTENTS", "c01fffffffffffffff00"),
            (0x03, "SAVES", "c01fffffffff00ffff00"),
            (0x04, "OPERATIONS", "c01fffffffff00ffff00"),
            (0x05, "BACKUPS", "c01fffffffff00ffff00"),
        )
    ),
    *(
        Command(
            0xC1, action, f"PIT COPY OUT: {name}", _usage("c11f030000ffffffff00"), "pit_copy_out"
        )
        for action, name in (
            (0x00, "SAVE"),
            (0x01, "RECOVER"),
            (0x02, "RESTORE"),
            (0x03, "SWAP"),
            (0x04, "RESYNC"),
            (0x05, "RELEASE"),
            (0x06, "ABORT"),
            (0x07, "UNDO"),
        )
    ),
)

OF_KERNEL: tuple[Command, ...] = (
    Command(0x16, None, "RESERVE (6)", _usage("160000000000"), KERNEL),
    Command(0x17, None, "RELEASE (6)", _usage("170000000000"), KERNEL),
    Command(0x56, None, "RESERVE (10)", _usage("56000000000000000000"), KERNEL),
    Command(0x57, None, "RELEASE (10)", _usage("57000000000000000000"), KERNEL),
    *(
        Command(0x5E, action, f"PERSISTENT RESERVE IN: {name}", _usage(usage), KERNEL)
        for usage in ("5e1f0000000000ffff00",)
        for action, name in enumerate(
            ("READ KEYS", "READ RESERVATION", "REPORT CAPABILITIES", "READ FULL STATUS")
        )
    ),
    *(
        Command(0x5F, action, f"PERSISTENT RESERVE OUT: {name}", _usage(usage), KERNEL)
        for usage in ("5f1fff0000ffffffff00",)
        for action, name in enumerate(
            (
                "REGISTER", "RESERVE", "RELEASE", "CLEAR", "PREEMPT", "PREEMPT AND ABORT",
                "REGISTER AND IGNORE EXISTING KEY", "REGISTER AND MOVE",
            )
        )
    ),
    Command(0xA0, None, "REPORT LUNS", _usage("a000ff000000ffffffff0000"), KERNEL),
)  # fmt: skip

COMMANDS: tuple[Command, ...] = tuple(
    sorted(
        (
            *OF_PYTHON,
            *OF_KERNEL,
            *(Command(n.opcode, None, n.name, n.usage, NATIVE) for n in native.NATIVE),
        ),
        key=lambda command: (command.opcode, command.action or 0),
    )
)
# Of those, what comes here; where a save is looked up, READ and VERIFY too.
_HERE = tuple(command for command in COMMANDS if command.handler != KERNEL)


def find(cdb: bytes) -> Command | None:
    """The command of a CDB, or None where the operation code or service action is not known here."""
    for command in _HERE:
        if command.opcode == cdb[0] and command.action in (None, cdb[1] & ACTION_MASK):
            return command
    return None


def known_opcode(opcode: int) -> bool:
    return any(command.opcode == opcode for command in _HERE)


def reserved_bit(command: Command, cdb: bytes) -> int | None:
    """The first byte of a CDB with a bit set that the command does not look at, or None. Byte 0 is
    not checked.
    """
    for at in range(1, len(command.usage)):
        allowed = command.usage[at]
        if command.action is not None and at == 1:
            allowed |= ACTION_MASK
        if cdb[at] & ~allowed & 0xFF:
            return at
    return None
