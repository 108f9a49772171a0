"""An engine in a process of its own, to be killed: `python3 -m tests.engine.killed FOLDER RING MAP LENGTH`.

Serves a volume on the files `a` and `b` of a folder from what they say, until a line "mute" comes: from then
on what it writes to `b` does not come to an end. Owns nothing of the tests' own side.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from targetplugin.engine import (
    Command,
    Engine,
    Event,
    MediumSpec,
    VolumeSpec,
    decode_map_slot,
    decode_record,
)
from tests.engine.conftest import SIZE, UUID

RECORDS, MAPS = SIZE + 4096, SIZE + 65536
CORE_INDEX_OF_B = 1


def main(folder: Path, ring_fd: int, map_fd: int, length: int) -> None:
    engine = Engine(1, answer, event, notes=folder / "notes")
    engine.start()
    fds = [os.open(folder / name, os.O_RDWR | os.O_DIRECT) for name in "ab"]
    media = [
        MediumSpec(name.encode().ljust(16, b"."), fd, SIZE, RECORDS, MAPS, 1)
        for name, fd in zip("ab", fds, strict=True)
    ]
    blocks = [(folder / name).read_bytes()[RECORDS:] for name in "ab"]
    records = [(found, block[at : at + 4096]) for block in blocks for at in (0, 4096)
               if (found := decode_record(block[at : at + 4096]))]  # fmt: skip
    newest = max(records, key=lambda one: (one[0].events, one[0].sequence))[1] if records else None
    slots = [
        block[MAPS - RECORDS :][at : at + 4096] for block in blocks for at in range(0, 40960, 4096)
    ]
    slots = [slot for slot in slots if decode_map_slot(slot)]
    handle = engine.add_volume(VolumeSpec(UUID, SIZE, 16, newest, media, slots, newest is None))
    engine.attach_ring(handle, ring_fd, length, map_fd=map_fd)
    print("serves", flush=True)
    for line in sys.stdin:
        if line.strip() == "mute":
            full = full_pipe()
            with engine._volumes[handle] as _:
                engine._volumes[handle].reactor.set_fd(0, CORE_INDEX_OF_B, full)
            print("is mute", flush=True)
    engine.stop()


def full_pipe() -> int:
    """A descriptor to which every write waits."""
    _, there = os.pipe2(os.O_NONBLOCK)
    try:
        while True:
            os.write(there, bytes(4096))
    except BlockingIOError:
        os.set_blocking(there, True)
    return there


def answer(command: Command) -> None:
    command.answer(0, b"", b"")


def event(_: Event) -> None:
    """What a medium does is of no concern here."""


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
