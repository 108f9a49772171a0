"""A host that writes a number to one disk, then the same to another, and so on: runs on the initiator.

In what is saved of both at one instant the first is ahead by one at most, and never behind. Uses nothing of
the project.

    pairs.py write FIRST SECOND     until /tmp/pairs.end is there; prints the last number
    pairs.py read DISK              prints the highest number on it
"""

from __future__ import annotations

import mmap
import os
import sys

BLOCK = 4096
PLACES = 64


def write(paths: list[str]) -> int:
    fds = [os.open(path, os.O_RDWR | os.O_DIRECT) for path in paths]
    number = 0
    with mmap.mmap(-1, BLOCK) as buffer:
        while number % 16 or not os.path.exists("/tmp/pairs.end"):
            number += 1
            buffer[:] = number.to_bytes(8, "big") * (BLOCK // 8)
            for fd in fds:
                if os.pwrite(fd, buffer, number % PLACES * BLOCK) != BLOCK:
                    raise OSError("a block was not written whole")
    return number


def read(path: str) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    with mmap.mmap(-1, BLOCK * PLACES) as buffer:
        if os.preadv(fd, [buffer], 0) != len(buffer):
            raise OSError("the blocks can't be read")
        blocks = [buffer[at : at + BLOCK] for at in range(0, len(buffer), BLOCK)]
    for block in blocks:
        if block != block[:8] * (BLOCK // 8):
            raise OSError("a block is not of one write")
    return max(int.from_bytes(block[:8], "big") for block in blocks)


print(write(sys.argv[2:]) if sys.argv[1] == "write" else read(sys.argv[2]))
