"""A ring in an anonymous file, laid out as TCMU's, and the kernel's side of it: what sends commands
and takes answers.
"""

from __future__ import annotations

import mmap
import os
import select
import socket
import struct
import time
from dataclasses import dataclass

RING_OFFSET = 128
RING_SIZE = 64 * 1024
DATA_OFFSET = 128 * 1024
PAD, CMD = 0, 1
ENTRY = 48  # up to the first iovec


@dataclass
class Result:
    status: int
    data: bytes
    sense: bytes
    read_length: int | None
    kept: bool = False  # its buffers are not to be given to another command


class FakeRing:
    """The kernel's end. Commands are sent with send() and come back, in any order, from wait().

    Attributes:
        block: bytes of a logical block of the volume behind it.
    """

    def __init__(self, data_bytes: int = 8 << 20, block: int = 512) -> None:
        self.block = block
        self.length = DATA_OFFSET + data_bytes
        self.map_fd = os.memfd_create("ring")
        os.ftruncate(self.map_fd, self.length)
        self.map = mmap.mmap(self.map_fd, self.length)
        self.words = memoryview(self.map).cast("I")
        struct.pack_into("<HHIII", self.map, 0, 2, 0xF, RING_OFFSET, RING_SIZE, 0)
        self.kernel, engine = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.engine_fd = engine.detach()
        self.cleaned = 0
        self.under_way: dict[int, tuple[list[tuple[int, int]], int]] = {}
        self.results: dict[int, Result] = {}
        self.kept: set[int] = set()
        self.number = 0
        self.data_at = 0

    def close(self) -> None:
        os.close(self.engine_fd)
        self.kernel.close()
        self.words.release()
        self.map.close()
        os.close(self.map_fd)

    @property
    def head(self) -> int:
        return self.words[3]

    @property
    def tail(self) -> int:
        return self.words[16]

    def kick(self) -> None:
        self.kernel.send(b"\1\0\0\0")

    def entry(self, op: int, length: int, body: bytes) -> None:
        """Puts an entry at the head as it is, right or wrong; pads to the ring's end where it does
        not fit.
        """
        head = self.head
        if head + length > RING_SIZE:
            struct.pack_into(
                "<IHBB", self.map, RING_OFFSET + head, (RING_SIZE - head) | PAD, 0, 0, 0
            )
            head = 0
        at = RING_OFFSET + head
        self.map[at : at + length] = (struct.pack("<I", length | op) + body).ljust(length, b"\0")[
            :length
        ]
        self.words[3] = (head + length) % RING_SIZE  # one store: the engine may look at any time

    def send(
        self,
        cdb: bytes,
        data_out: bytes = b"",
        data_in: int = 0,
        *,
        pieces: int = 1,
        kick: bool = True,
    ) -> int:
        """Sends a command; its buffers are cut into so many pieces. Returns its number."""
        self.number = (self.number + 1) % 60000
        size = len(data_out) or data_in
        room = self.length - DATA_OFFSET - 65536
        if self.data_at + size + 4096 * (pieces + 1) > room:  # each piece begins a page
            self.data_at = 0
        cdb_at = DATA_OFFSET + room + (self.number % 1000) * 32
        self.map[cdb_at : cdb_at + 16] = cdb.ljust(16, b"\0")
        iovs, left, at = [], size, DATA_OFFSET + self.data_at
        step = -(-size // pieces // self.block) * self.block if size else 0
        while left:
            take = min(left, step)
            iovs.append((at, take))
            at += -(-take // 4096) * 4096
            left -= take
        self.data_at = at - DATA_OFFSET
        done = 0
        for base, take in iovs:
            if data_out:
                self.map[base : base + take] = data_out[done : done + take]
            done += take
        body = struct.pack("<HBBIIIIQQQ", self.number, 0, 0, len(iovs), 0, 0, 0, cdb_at, 0, 0)
        body += b"".join(struct.pack("<QQ", base, take) for base, take in iovs)
        self.under_way[self.number] = (iovs, data_in)
        self.entry(CMD, max(112, ENTRY + 16 * len(iovs)), body)
        if kick:
            self.kick()
        return self.number

    def reap(self) -> None:
        """Takes the answers up to the tail, as the kernel does."""
        tail = self.tail
        while self.cleaned != tail:
            at = RING_OFFSET + self.cleaned
            length_op, number, _, flags = struct.unpack_from("<IHBB", self.map, at)
            self.cleaned = (self.cleaned + (length_op & ~7)) % RING_SIZE
            if length_op & 7 != CMD:
                continue
            status, _, _, read_length = struct.unpack_from("<BBHI", self.map, at + 8)
            iovs, data_in = self.under_way.pop(number)
            data = b"".join(self.map[base : base + take] for base, take in iovs) if data_in else b""
            sense = bytes(self.map[at + 16 : at + 16 + 96])
            self.results[number] = Result(
                status, data, sense, read_length if flags & 2 else None, bool(flags & 4)
            )
            if flags & 4:
                self.kept.add(number)

    def wait(self, number: int, timeout: float = 10.0) -> Result:
        end = time.monotonic() + timeout
        while True:
            self.reap()
            if number in self.results:
                return self.results.pop(number)
            left = end - time.monotonic()
            assert left > 0, f"command {number} is not answered"
            if select.select([self.kernel], [], [], min(left, 0.05))[0]:
                self.kernel.recv(4096)

    def run(self, cdb: bytes, data_out: bytes = b"", data_in: int = 0, **more: int) -> Result:
        return self.wait(self.send(cdb, data_out, data_in, **more))

    def write(self, lba: int, data: bytes, *, fua: bool = False, pieces: int = 1) -> Result:
        cdb = struct.pack(">BBIBHB", 0x2A, 8 if fua else 0, lba, 0, len(data) // self.block, 0)
        return self.run(cdb, data, pieces=pieces)

    def read(self, lba: int, blocks: int, *, pieces: int = 1) -> Result:
        cdb = struct.pack(">BBIBHB", 0x28, 0, lba, 0, blocks, 0)
        return self.run(cdb, data_in=blocks * self.block, pieces=pieces)
