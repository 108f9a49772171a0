"""The target's power cut while its media lose what was not flushed, under a host that flushes: all that it
was told to be durable is there, and so are a save that was filling and a recover that was running.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from .lab import Lab, Running
from .ledger import MIB, Ledger, clean

MEDIUM = "/dev/disk/by-id/virtio-media-f"
READ = f"dd if={MEDIUM} bs=4096 count=2 skip=1 iflag=direct status=none | tr -d '\\0' | sort -u"


@pytest.fixture(scope="module")
def volatile_lab(booted_lab: Lab) -> Iterator[Lab]:
    booted_lab.up(volatile_media=True)
    yield booted_lab
    booted_lab.up()


def test_what_was_flushed_outlives_power_cuts_and_a_save_and_a_recover_go_on(
    volatile_lab: Lab,
) -> None:
    ledger = Ledger(volatile_lab)
    spare = ledger.spare()
    ledger.fill(0, 16)
    before = ledger.checksum(0, 16)
    try:
        volatile_lab.disk(spare, iops=10)
        ledger.target("save", "ledger", "--label", "night", "--policy", "copy")
        load = durable_load(ledger, 8)
        ledger.fill(4, 4)
        assert ledger.status()["saves"][0]["fill"] == "filling"
        write_beside(volatile_lab)
        cut(volatile_lab)
        assert volatile_lab.shell("target", READ).stdout == "flushed\n"
        clean(load.wait(150))
        volatile_lab.disk(spare, iops=0)
        ledger.wait(lambda: ledger.status()["saves"][0]["fill"] == "whole")
        ledger.fill(8, 4)
        volatile_lab.disk(spare, iops=6)
        ledger.target("recover", "ledger@night")
        load = durable_load(ledger, 8)  # begun after it: a recover takes back what it finds
        assert ledger.status()["state"] == "recovering"
        cut(volatile_lab)
        assert ledger.checksum(0, 16) == before
        volatile_lab.disk(spare, iops=0)
        clean(load.wait(150))
        ledger.wait(lambda: ledger.operation("recover")["state"] == "done")
        ledger.wait(lambda: set(ledger.legs().values()) == {"in_sync"})
        assert ledger.checksum(0, 16) == before
        one, other = (f"/dev/disk/by-id/virtio-{leg}" for leg in ledger.legs())
        volatile_lab.shell("target", f"cmp -n {256 * MIB} {one} {other}")
    finally:
        ledger.close()


def durable_load(ledger: Ledger, seconds: int) -> Running:
    """Each write is flushed before fio is told that it is done, so it must be there afterwards."""
    return ledger.lab.spawn("initiator", [*ledger.fio(seconds), "--sync=dsync"])


def write_beside(lab: Lab) -> None:
    """Two blocks onto another medium, of which one is flushed: the cut must be one that loses."""
    write = f"dd of={MEDIUM} bs=4096 count=1 oflag=direct iflag=fullblock status=none"
    lab.shell("target", f"yes flushed | {write} seek=1 conv=fsync; yes unsaved | {write} seek=2")
    assert lab.shell("target", READ).stdout == "flushed\nunsaved\n"


def cut(lab: Lab) -> None:
    time.sleep(1)
    lab.power_cut("target")
    lab.start("target")
