"""A volume grows while a host works on it, and the host makes its file system larger."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from .lab import Lab
from .ledger import MIB, Ledger, clean

OLD, NEW = 64 * MIB, 96 * MIB  # what the lab moves in seconds, when it is emulated
MOUNTED = "/mnt/grown"


@pytest.fixture
def ledger(lab: Lab) -> Iterator[Ledger]:
    made = Ledger(lab, size="64M")
    yield made
    made.close()


def seen(ledger: Ledger) -> int:
    """Bytes of the disk, as the host has it."""
    return int(ledger.initiator(f"blockdev --getsize64 {ledger.disk}"))


def rescan(ledger: Ledger) -> None:
    ledger.initiator(f"iscsiadm -m node -T {ledger.iqn} -R >/dev/null && udevadm settle")


def kill(lab: Lab) -> None:
    lab.exec("target", ["systemctl", "kill", "--signal=KILL", "--kill-who=main", "targetplugind"])


def test_hosts_go_on_while_it_grows_and_use_what_is_new(
    ledger: Ledger, told: Callable[[str], None]
) -> None:
    lab = ledger.lab
    for letter in "ab":  # what something else has left behind the volume's end
        lab.shell(
            "target",
            "tr '\\0' x </dev/zero | dd bs=1M count=32 seek=64 iflag=fullblock conv=notrunc"
            f" oflag=direct of=/dev/disk/by-id/virtio-media-{letter} 2>/dev/null",
        )
    ledger.fill(0, 8)
    kept = ledger.checksum(0, 8)
    ledger.target("save", ledger.name, "--label", "before", "--policy", "copy", "--wait")
    ledger.initiator("dmesg --clear")
    would = json.loads(
        ledger.target("volume", "resize", "ledger", "--size", "96M", "--preview", "--json")
    )
    assert (would["before"], would["size"], seen(ledger)) == (OLD, NEW, OLD)
    load = lab.spawn("initiator", ledger.fio(25, first_mib=16, mib=16))
    done = json.loads(ledger.target("volume", "resize", "ledger", "--size", "+32M", "--json"))
    operation = done["operation"]
    assert (operation["state"], operation["bytes_total"]) == ("done", 3 * (NEW - OLD))
    told(f"a volume grew under load: not served for {operation['pause_ms']:.0f} ms")
    rescan(ledger)
    assert seen(ledger) == NEW
    more = lab.spawn("initiator", ledger.fio(8, first_mib=66, mib=8))
    clean(load.wait(120))
    clean(more.wait(120))
    log = ledger.initiator("dmesg")
    assert "Capacity data has changed" in log, log
    assert "I/O error" not in log, log
    shown = lab.shell("target", "cat /sys/kernel/config/target/core/user_*/ledger/info").stdout
    assert f"Size: {NEW}" in shown
    one, other = (f"/dev/disk/by-id/virtio-{name}" for name in ledger.legs())
    lab.shell("target", f"cmp -n {NEW} {one} {other}")
    ledger.target("recover", "ledger@before", "--wait", "--force")
    assert (ledger.status()["size"], ledger.checksum(0, 8)) == (NEW, kept)
    new = f"dd if={ledger.disk} bs=1M skip=64 count=16 iflag=direct 2>/dev/null"
    zeros = ledger.run(f"{new} | cmp -n {16 * MIB} - /dev/zero")
    assert zeros.returncode == 0, f"a save from before has zeros there: {zeros.stdout}"
    again = ledger.asked("volume", "resize", "ledger", "--size", "64M")
    assert again.returncode == 1
    assert "smaller" in again.stderr


def test_a_file_system_grows_and_all_is_there_after_a_kill_and_a_power_cut(ledger: Ledger) -> None:
    lab, disk = ledger.lab, ledger.disk
    ledger.initiator(
        f"mkfs.ext4 -q {disk} && mkdir -p {MOUNTED} && mount {disk} {MOUNTED} &&"
        f" dd if=/dev/urandom of={MOUNTED}/old bs=1M count=24 conv=fsync 2>/dev/null"
    )
    ledger.initiator(f"cd {MOUNTED} && sha256sum old > sums && sync")
    try:
        load = lab.spawn(
            "initiator",
            [
                *("fio", "--name=f", f"--filename={MOUNTED}/load", "--size=8M", "--bs=4k"),
                *("--rw=randwrite", "--fsync=8", "--time_based", "--runtime=25"),
                *("--verify=crc32c", "--verify_backlog=64", "--verify_fatal=1"),
                "--verify_state_save=0",
            ],
        )
        ledger.target("volume", "resize", "ledger", "--size", "96M")
        kill(lab)
        rescan(ledger)
        assert seen(ledger) == NEW
        ledger.initiator(f"resize2fs {disk}")
        ledger.initiator(
            f"cd {MOUNTED} && dd if=/dev/urandom of=new bs=1M count=32 conv=fsync 2>/dev/null &&"
            " sha256sum new >> sums && sync"
        )
        clean(load.wait(120))
        lab.power_cut("target")
        lab.start("target")
        ledger.wait(lambda: set(ledger.legs().values()) == {"in_sync"}, 120)
        assert ledger.status()["size"] == NEW
        whole = f"cd / && umount {MOUNTED} && e2fsck -fn {disk} && mount {disk} {MOUNTED}"
        checked = ledger.run(f"{whole} && cd {MOUNTED} && sha256sum -c sums")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert seen(ledger) == NEW
    finally:
        ledger.initiator(f"cd /; umount {MOUNTED}; true")


def test_one_whose_daemon_is_killed_meanwhile_has_the_old_size_or_the_new_one(
    ledger: Ledger, told: Callable[[str], None]
) -> None:
    lab = ledger.lab
    load = lab.spawn("initiator", ledger.fio(90, first_mib=16, mib=16))
    sizes = []
    for number, delay in enumerate((0.5, 2.0, 4.0, 8.0)):
        before = ledger.status()["size"]
        asked = lab.spawn(
            "target", ["targetplugin", "volume", "resize", "ledger", "--size", "+16M", "--no-wait"]
        )
        lab.shell("target", f"sleep {delay}")
        kill(lab)
        asked.wait(60, check=False)
        ledger.wait(lambda: ledger.asked("status").returncode == 0, 60)
        ledger.wait(lambda: set(ledger.legs().values()) == {"in_sync"}, 60)
        size = ledger.status()["size"]
        assert size in (before, before + 16 * MIB), number
        sizes.append(size // MIB)
        rescan(ledger)
        assert seen(ledger) == size
    told(f"a volume that grew by 16 MiB, four times, with the daemon killed: {sizes} MiB")
    clean(load.wait(200))
    one, other = (f"/dev/disk/by-id/virtio-{name}" for name in ledger.legs())
    lab.shell("target", f"cmp -n {sizes[-1] * MIB} {one} {other}")


def test_a_leg_without_room_is_named_and_a_larger_one_takes_its_place(ledger: Ledger) -> None:
    refused = ledger.asked("volume", "resize", "ledger", "--size", "2G")
    assert refused.returncode == 1
    assert "virtio-media-a" in refused.stderr + refused.stdout
    assert "leg add" in refused.stderr + refused.stdout
    assert ledger.status()["size"] == OLD
