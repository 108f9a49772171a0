"""A leg's disk unplugged under load, and plugged in again."""

from __future__ import annotations

from .lab import Lab
from .ledger import MIB, Ledger, clean


def test_a_leg_that_goes_is_not_noticed_and_comes_back_by_what_it_missed(lab: Lab) -> None:
    ledger = Ledger(lab, "de")
    try:
        ledger.fill(0, 64)
        few = "--rate_iops=500"  # of what the leg is written later, most is to be what it missed
        load = lab.spawn("initiator", [*ledger.fio(16), few])
        gone = list(ledger.legs())[-1]
        lab.disk(gone, attach=False)
        ledger.wait(lambda: ledger.legs()[gone] != "in_sync", 20)
        assert ledger.status()["state"] == "degraded"
        lab.disk(gone, attach=True)
        took = ledger.wait(lambda: ledger.legs()[gone] == "in_sync", 60)
        clean(load.wait(60))
        name = f"$(basename $(readlink -f /dev/disk/by-id/virtio-{gone}))"
        written = int(lab.shell("target", f"cat /sys/block/{name}/stat").stdout.split()[6]) * 512
        print(f"{gone} is in sync again after {took:.1f} s, {written / MIB:.0f} MiB written to it")
        assert written < 128 * MIB, "a leg that comes back is not copied whole: it has 256 MiB"
        lab.shell(
            "target",
            "cmp -n 268435456 /dev/disk/by-id/virtio-media-d /dev/disk/by-id/virtio-media-e",
        )
    finally:
        ledger.close()
