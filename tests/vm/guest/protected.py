"""What a disk answers to commands that would change it, past the host's own idea of it: runs on the
initiator.

`protected.py DISK` prints JSON: command -> "done", or the sense as "key/asc/ascq" in hex.
"""

from __future__ import annotations

import json
import struct
import sys

sys.path.insert(0, "/opt/targetplugin/checkout")

from targetplugin.host import sgio

BLOCK = bytes(512)
COMMANDS = {
    "write": (struct.pack(">BBIBHB", 0x2A, 0, 0, 0, 1, 0), BLOCK),
    "write same": (struct.pack(">BBQIBB", 0x93, 0, 0, 1, 0, 0), BLOCK),
    "unmap": (
        struct.pack(">BBIBHB", 0x42, 0, 0, 0, 24, 0),
        struct.pack(">HHIQII", 22, 16, 0, 0, 8, 0),
    ),
}


def asked(disk: str, cdb: bytes, data: bytes) -> str:
    try:
        sgio.execute(disk, cdb, data_out=data)
    except sgio.Checked as checked:
        value = checked.value
        return f"{value.key:x}/{value.asc:02x}/{value.ascq:02x}"
    return "done"


if __name__ == "__main__":
    found = {name: asked(sys.argv[1], cdb, data) for name, (cdb, data) in COMMANDS.items()}
    print(json.dumps(found))
