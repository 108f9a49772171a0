"""What an engine keeps of memory: that for copies is given back when nothing copies."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tests.engine.conftest import SIZE, Rig
from tests.waiting import until


def anonymous() -> int:
    """Bytes of memory of this process's own."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


def below(most: int) -> bool:
    return anonymous() < most


def test_memory_for_copies_is_given_back_and_used_again(rig: Rig) -> None:
    rig.create("a")
    data = bytes(range(256)) * (SIZE // 256)
    for at in range(0, SIZE, 1 << 20):
        assert rig.ring.write(at // 512, data[at : at + (1 << 20)]).status == 0
    for name in "bc":
        rig.engine.add_leg(rig.handle, rig.medium(name), None)
        rig.wait_event("leg_in_sync", name)
        less = anonymous() - (3 << 20)
        until(partial(below, less), awaited="the memory of some of the buffers")
        assert rig.content(name, 0, SIZE) == data
