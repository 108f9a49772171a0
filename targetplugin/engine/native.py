"""The commands that the engine answers by itself, as a table: how each is read, and what is done. Owns their
names and layouts; the engine's decoder, and whoever reports what is supported, read it.

Source: SBC-3, and SPC-4 for TEST UNIT READY.
"""

from __future__ import annotations

from msgspec import Struct


class Native(Struct, frozen=True):
    """One command.

    Attributes:
        opcode: operation code. name: T10's.
        usage: the bits of each CDB byte that are looked at; byte 0 is the operation code.
        kind: what is done; the engine has one way for each.
    """

    opcode: int
    name: str
    usage: bytes
    kind: str

    def fields(self) -> tuple[int, int, int, int]:
        """Where the logical block address is and its length in bytes, and those of the number of
        blocks; lengths are 0 where there are none.
        """
        if self.kind in ("ready", "unmap"):
            return 0, 0, 0, 0
        if self.kind == "compare and write":
            return 2, 8, 13, 1
        return {6: (1, 3, 4, 1), 10: (2, 4, 7, 2), 12: (2, 4, 6, 4), 16: (2, 8, 10, 4)}[
            len(self.usage)
        ]


def _native(opcode: int, name: str, usage: str, kind: str) -> Native:
    return Native(opcode, name, bytes.fromhex(usage), kind)


NATIVE: tuple[Native, ...] = (
    _native(0x00, "TEST UNIT READY", "000000000000", "ready"),
    _native(0x08, "READ (6)", "081fffffff00", "read"),
    _native(0x0A, "WRITE (6)", "0a1fffffff00", "write"),
    _native(0x28, "READ (10)", "28f8ffffffff00ffff00", "read"),
    _native(0x2A, "WRITE (10)", "2af8ffffffff00ffff00", "write"),
    _native(0x2E, "WRITE AND VERIFY (10)", "2ef6ffffffff00ffff00", "write and verify"),
    _native(0x2F, "VERIFY (10)", "2ff6ffffffff00ffff00", "verify"),
    _native(0x34, "PRE-FETCH (10)", "3402ffffffff00ffff00", "prefetch"),
    _native(0x35, "SYNCHRONIZE CACHE (10)", "3506ffffffff00ffff00", "flush"),
    _native(0x41, "WRITE SAME (10)", "41f8ffffffff00ffff00", "write same"),
    _native(0x42, "UNMAP", "42010000000000ffff00", "unmap"),
    _native(0x88, "READ (16)", "88f8ffffffffffffffffffffffff0000", "read"),
    _native(0x89, "COMPARE AND WRITE", "89f8ffffffffffffffff000000ff0000", "compare and write"),
    _native(0x8A, "WRITE (16)", "8af8ffffffffffffffffffffffff0000", "write"),
    _native(0x8B, "ORWRITE (16)", "8bf8ffffffffffffffffffffffff0000", "orwrite"),
    _native(0x8E, "WRITE AND VERIFY (16)", "8ef6ffffffffffffffffffffffff0000", "write and verify"),
    _native(0x8F, "VERIFY (16)", "8ff6ffffffffffffffffffffffff0000", "verify"),
    _native(0x90, "PRE-FETCH (16)", "9002ffffffffffffffffffffffff0000", "prefetch"),
    _native(0x91, "SYNCHRONIZE CACHE (16)", "9106ffffffffffffffffffffffff0000", "flush"),
    _native(0x93, "WRITE SAME (16)", "93f9ffffffffffffffffffffffff0000", "write same"),
    _native(0xA8, "READ (12)", "a8f8ffffffffffffffff0000", "read"),
    _native(0xAA, "WRITE (12)", "aaf8ffffffffffffffff0000", "write"),
    _native(0xAE, "WRITE AND VERIFY (12)", "aef6ffffffffffffffff0000", "write and verify"),
    _native(0xAF, "VERIFY (12)", "aff6ffffffffffffffff0000", "verify"),
)

# Limits of one command, in bytes whatever a volume's blocks are: they bound the memory and the time that it
# takes. The engine keeps them, and VPD B0h tells them to hosts, in blocks.
MAX_COMPARE = 64 << 10  # of COMPARE AND WRITE
MAX_STEPS = 512 << 10  # of ORWRITE, WRITE AND VERIFY, and of a VERIFY that brings its blocks
MAX_VERIFY = 32 << 20  # of a VERIFY that compares with nothing, or with one block
MAX_UNMAP = 16 << 20  # of UNMAP and WRITE SAME: the copies that they cause fit in a command's time
