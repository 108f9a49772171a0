"""`python3 -m benchmarks.footprint_volume new|again FOLDER BYTES EXTENT`: one process that serves one
volume of two legs on sparse files, and prints as JSON what it took of memory, time and processor.

`new` makes the media and the volume, writes every extent, splits a save off, and writes every extent
again. `again` starts that volume from what its media say, as the daemon does.
"""

from __future__ import annotations

import json
import resource
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from targetplugin.engine import Engine, VolumeSpec, decode_record
from targetplugin.media.layout import slots_for
from targetplugin.media.medium import Medium
from tests.engine.fake_ring import FakeRing

UUID = b"footprint-volume"
LEGS = ("a", "b")
PIECE = 16 << 20  # what one WRITE SAME may be
UNDER_WAY = 64
IDLE = 5.0  # seconds


def resident() -> float:
    """MiB of this process' own memory that are in use now, program files left out."""
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("RssAnon:") + 1]) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak() -> float:
    """MiB at most since forget_peak(), program files included."""
    words = Path("/proc/self/status").read_text().split()
    return int(words[words.index("VmHWM:") + 1]) / 1024


def processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def mark_all(ring: FakeRing, size: int) -> None:
    """Every extent counts as written: WRITE SAME of zeros that gives space back, of the whole volume."""
    under_way: list[int] = []
    for at in range(0, size, PIECE):
        count = min(PIECE, size - at) // 512
        under_way.append(ring.send(struct.pack(">BBQIxx", 0x93, 0x09, at // 512, count)))
        if len(under_way) == UNDER_WAY:
            answered(ring, under_way.pop(0))
    for number in under_way:
        answered(ring, number)


def answered(ring: FakeRing, number: int) -> None:
    if status := ring.wait(number, 60).status:
        raise RuntimeError(f"WRITE SAME was answered with status {status}")


def media(folder: Path, size: int, made: bool) -> Iterator[Medium]:
    for leg in LEGS:
        path = str(folder / leg)
        if made:
            yield Medium.open(path)
        else:
            medium = Medium.create(path, size + size // 1024 + (4 << 20))
            medium.write_trailer(medium.fresh_trailer())
            yield medium


def new(folder: Path, size: int, shift: int) -> dict[str, float]:
    legs = list(media(folder, size, made=False))
    engine, ring = Engine(1, lambda command: None, lambda event: None), FakeRing()
    engine.start()
    empty = resident()
    began = time.monotonic()
    spec = VolumeSpec(UUID, size, shift, None, [leg.spec() for leg in legs], [], same_content=True)
    handle = engine.add_volume(spec)
    took = time.monotonic() - began
    engine.attach_ring(handle, ring.engine_fd, ring.length, map_fd=ring.map_fd)
    found = {"add": took, "idle": resident() - empty}
    found["idle_processor"] = idle()
    mark_all(ring, size)
    found["marked"] = resident() - empty
    if engine.status(handle)["changed"] != engine.status(handle)["extents"]:
        raise RuntimeError("not every extent counts as written")
    engine.save_split(handle, [legs[1].uuid], 1)
    mark_all(ring, size)
    found["next_generation"] = resident() - empty
    engine.stop()
    return found


def idle() -> float:
    """Milliseconds of the processor that this process takes in a second in which nothing happens."""
    time.sleep(3)  # what was written is flushed and marked after 2 s
    before = processor_time()
    time.sleep(IDLE)
    return (processor_time() - before) / IDLE * 1e3


def again(folder: Path, size: int, shift: int) -> dict[str, float]:
    """As subsystem/start/bring_up.py: the newest record of all media, then the maps of its legs."""
    engine = Engine(1, lambda command: None, lambda event: None)
    engine.start()
    forget_peak()
    before, before_all = resident(), peak()
    began = time.monotonic()
    legs = list(media(folder, size, made=True))
    blocks = [block for leg in legs for block in leg.read_records()]
    records = [(found, block) for block in blocks if (found := decode_record(block)) is not None]
    record, newest = max(records, key=lambda pair: (pair[0].events, pair[0].sequence))
    named = {leg.uuid for leg in record.legs}
    there = [leg for leg in legs if leg.uuid in named]
    number = slots_for(size, 1 << shift)
    slots = [slot for leg in there for slot in leg.read_map_slots(slots=number)]
    read = time.monotonic() - began
    spec = VolumeSpec(UUID, size, shift, newest, [leg.spec() for leg in there], slots)
    handle = engine.add_volume(spec)
    took = time.monotonic() - began
    del slots, spec
    status = engine.status(handle)
    if status["changed"] != status["extents"]:
        raise RuntimeError("the map is not whole after the start")
    found = {"read": read, "start": took, "started": resident() - before}
    found["start_peak"] = peak() - before_all
    engine.stop()
    return found


def main() -> int:
    step, folder, size, extent = sys.argv[1:]
    run = {"new": new, "again": again}[step]
    print(json.dumps(run(Path(folder), int(size), int(extent).bit_length() - 1)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
