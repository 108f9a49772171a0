"""A host whose every block says where it belongs and which write it is: runs on the initiator.

Tells on its output what it was told to be durable, and puts a mark into the target's log of writes at
that moment. Uses nothing of the project.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import socket
import struct
from concurrent.futures import Future, ThreadPoolExecutor

BLOCK = 4096
STAMP = struct.Struct("<8sQQQ")
MAGIC = b"a block!"


def block(lba: int, seq: int) -> bytes:
    """The block's content: its stamp, again and again."""
    return STAMP.pack(MAGIC, lba, seq, lba ^ seq) * (BLOCK // STAMP.size)


def write(fd: int, lba: int, count: int, seq: int, durable: bool) -> None:
    """Writes blocks of consecutive numbers past all caches."""
    with mmap.mmap(-1, count * BLOCK) as buffer, memoryview(buffer) as view:
        view[:] = b"".join(block(lba + i, seq + i) for i in range(count))
        done = os.pwritev(fd, [view], lba * BLOCK, os.RWF_DSYNC if durable else 0)
    if done != count * BLOCK:
        raise OSError(f"{done} bytes of {count * BLOCK} written")


class Host:
    """Writes in batches of distinct places, flushes beside them, and keeps book."""

    def __init__(
        self, fd: int, marker: tuple[str, int], first: int, blocks: int, seed: int
    ) -> None:
        self.fd = fd
        self.seq = first
        self.blocks = blocks
        self.random = random.Random(seed)
        self.pool = ThreadPoolExecutor(9)
        self.link = socket.create_connection(marker)
        self.answers = self.link.makefile()
        self.dirty: dict[int, int] = {}  # what was written and not flushed since: lba, number
        self.marks = 0
        self.flush: Future[None] | None = None
        self.flushing: dict[int, int] = {}

    def batch(self) -> int:
        """Some writes at once; some batches with FUA. Returns how many blocks."""
        durable = self.random.random() < 0.2
        places = self.random.sample(range(self.blocks // 4), self.random.randint(1, 8))
        jobs = []
        written: dict[int, int] = {}
        for place in places:
            count = self.random.choice((1, 1, 1, 2, 4))
            jobs.append(self.pool.submit(write, self.fd, place * 4, count, self.seq, durable))
            written |= {place * 4 + i: self.seq + i for i in range(count)}
            self.seq += count
        for job in jobs:
            job.result()
        if durable:
            self.told(written)
        else:
            self.dirty |= written
        self.end_flush()
        if self.random.random() < 0.4:
            self.begin_flush()
        return len(written)

    def begin_flush(self) -> None:
        self.flushing, self.dirty = self.dirty, {}
        self.flush = self.pool.submit(os.fdatasync, self.fd)

    def end_flush(self) -> None:
        if self.flush is not None:
            self.flush.result()
            self.flush = None
            self.told(self.flushing)

    def told(self, durable: dict[int, int]) -> None:
        """These are durable from now on: says so to the log, then to whoever reads us."""
        self.marks += 1
        name = f"durable-{os.getpid()}-{self.marks}"
        self.link.sendall(f"{name}\n".encode())
        if self.answers.readline() != "marked\n":
            raise OSError("the mark was not taken")
        print(json.dumps({"mark": name, "durable": list(durable.items())}), flush=True)

    def end(self) -> None:
        self.end_flush()
        self.begin_flush()
        self.end_flush()
        self.pool.shutdown()


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("disk")
    for name in ("first", "count", "blocks", "seed", "port"):
        arguments.add_argument(f"--{name}", type=int, required=True)
    arguments.add_argument("--target", required=True)
    wish = arguments.parse_args()
    fd = os.open(wish.disk, os.O_RDWR | os.O_DIRECT)
    host = Host(fd, (wish.target, wish.port), wish.first, wish.blocks, wish.seed)
    done = 0
    while done < wish.count:
        done += host.batch()
    host.end()
    print(json.dumps({"next": host.seq}), flush=True)


if __name__ == "__main__":
    main()
