"""Puts the marks that hosts ask for over TCP into a log of writes: runs on the target.

By the ioctl itself, for a process of dmsetup for each would slow the hosts down. Uses nothing of the
project.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys

DM_TARGET_MSG = 0xC138FD0E  # linux/dm-ioctl.h: _IOWR(0xfd, 14, struct dm_ioctl)
HEAD_SIZE = 312  # of struct dm_ioctl


def message(control: int, device: str, text: str) -> None:
    """Tells a device's target something."""
    told = struct.pack("<Q", 0) + text.encode() + b"\0"
    size = HEAD_SIZE + len(told)
    head = struct.pack(
        "<3I3IiIIIQ128s129s7x",
        4, 0, 0, size, HEAD_SIZE, 0, 0, 0, 0, 0, 0, device.encode(), b"",
    )  # fmt: skip
    assert len(head) == HEAD_SIZE
    fcntl.ioctl(control, DM_TARGET_MSG, bytearray(head + told))


def main() -> None:
    device, port = sys.argv[1], int(sys.argv[2])
    with open("/dev/mapper/control", "rb") as control:
        server = socket.create_server(("0.0.0.0", port))
        print("ready", flush=True)
        while True:
            link, _ = server.accept()
            with link, link.makefile() as asked:
                for line in asked:
                    message(control.fileno(), device, f"mark {line.strip()}")
                    link.sendall(b"marked\n")


if __name__ == "__main__":
    main()
