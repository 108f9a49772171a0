"""A leg's disk unplugged under load, and plugged in again."""

from __future__ import annotations

import json

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


HOOK = r"""cat > /usr/local/sbin/tell <<'END'
#!/bin/sh
cat >> /run/told
END
chmod 700 /usr/local/sbin/tell; rm -f /run/told"""


def test_a_leg_that_stays_away_is_replaced_under_load_and_told_to_a_hook(lab: Lab) -> None:
    ledger = Ledger(lab, "abc")
    try:
        lab.shell("target", HOOK)
        ledger.target("hook", "add", "/usr/local/sbin/tell")
        ledger.target("volume", "set", "ledger", "--replace-failed", "on", "--replace-after", "2")
        ledger.fill(0, 32)
        load = lab.spawn("initiator", [*ledger.fio(14), "--rate_iops=500"])
        gone = list(ledger.legs())[-1]
        lab.disk(gone, attach=False)
        both = ["in_sync", "in_sync"]
        took = ledger.wait(
            lambda: gone not in ledger.legs() and list(ledger.legs().values()) == both, 60
        )
        print(f"{gone} is replaced after {took:.1f} s")
        clean(load.wait(60))
        done = ledger.operation("replace leg")
        assert (done["door"], done["state"]) == ("policy", "done")
        one, other = (f"/dev/disk/by-id/virtio-{name}" for name in ledger.legs())
        lab.shell("target", f"cmp -n 268435456 {one} {other}")
        told = [
            json.loads(line) for line in lab.shell("target", "cat /run/told").stdout.splitlines()
        ]
        assert {"leg_stale", "leg_replaced", "leg_in_sync"} <= {event["kind"] for event in told}
        shown = json.loads(ledger.target("events", "--volume", "ledger", "--json"))
        assert {e["id"] for e in told if e["volume"]} <= {e["id"] for e in shown}
        assert any(event["who"].startswith("root (process ") for event in shown)
        ledger.target("hook", "remove", "/usr/local/sbin/tell")
    finally:
        ledger.close()


def test_legs_come_and_go_and_are_compared_under_load(lab: Lab) -> None:
    ledger = Ledger(lab, "abc", "128M")
    try:
        ledger.fill(0, 32)
        load = lab.spawn("initiator", ledger.fio(15, first_mib=32))
        ledger.target("save", "ledger", "--label", "night")
        ledger.target("leg", "add", "ledger", "--wait")
        assert list(ledger.legs().values()) == ["in_sync", "in_sync"]
        ledger.target("scrub", "ledger", "--rate", "64M", "--wait")
        assert ledger.operation("scrub")["result"]["compared"] == 2 * 128 * MIB, "the save too"
        out = next(iter(ledger.legs()))
        ledger.target("leg", "remove", "ledger", f"virtio-{out}")
        assert ledger.spare() == out
        ledger.target("leg", "add", "ledger", f"virtio-{out}", "--wait")
        clean(load.wait(60))
        (kept,) = {f"media-{letter}" for letter in "abc"} - set(ledger.legs())
        for disk, at in ((out, 7 * MIB), (kept, 9 * MIB)):
            byte = f"printf '!' | dd of=/dev/disk/by-id/virtio-{disk} bs=1 seek={at} conv=notrunc"
            lab.shell("target", f"{byte} oflag=direct 2>/dev/null || {byte}; sync")
        ledger.target("scrub", "ledger", "--rate", "1G", "--wait", check=False)
        wrong = ledger.operation("scrub")["result"]["list"]
        legs = [one for one in wrong if "save" not in one]
        saves = [one for one in wrong if "save" in one and one["offset"] == 9 * MIB]
        assert [(one["offset"], one["what"]) for one in legs] == [(7 * MIB, "differs")]
        assert [one["media"][0] for one in saves] == [f"virtio-{kept}"]
    finally:
        ledger.close()
