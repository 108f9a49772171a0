"""Disks that fail, fail now and then, or are slow, under a leg, a save and the state directory: hosts
see nothing of it as long as one leg works, and nothing is wrong afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import pytest

from .dm import Dm
from .lab import Lab, Result
from .ledger import MIB, Ledger, clean
from .long import all_but, long

STATE = "/var/lib/targetplugin"
STATE_SIZE = 16 * MIB
VOLUME_MIB = 192
FILLER = f"{STATE}/filler"


@dataclass
class Faulty:
    """A ledger on three devices of which each can be made to fail, and so can the state directory."""

    ledger: Ledger
    devices: dict[str, Dm]
    state: Dm

    @property
    def lab(self) -> Lab:
        return self.ledger.lab

    def leg(self) -> Dm:
        """The last of the legs."""
        return self.devices[list(self.ledger.legs())[-1]]

    def spare(self) -> Dm:
        legs = self.ledger.legs()
        return next(dm for name, dm in self.devices.items() if name not in legs)

    def verb(self, *words: str) -> Result:
        return self.ledger.asked(*words, timeout=60)

    def in_sync(self) -> bool:
        return set(self.ledger.legs().values()) == {"in_sync"}

    def heal(self) -> None:
        for dm in (*self.devices.values(), self.state):
            dm.heal()

    def same_legs(self) -> None:
        """Both legs hold the same, all that hosts wrote."""
        one, other = (self.devices[name].path for name in self.ledger.legs())
        self.lab.shell("target", f"cmp -n {VOLUME_MIB * MIB} {one} {other}")


@pytest.fixture(scope="module")
def faulty(booted_lab: Lab) -> Iterator[Faulty]:
    devices = {f"bad-{x}": Dm(booted_lab, f"bad-{x}", f"media-{x}") for x in "abc"}
    state = Dm(booted_lab, "state", "media-f", STATE_SIZE)
    booted_lab.shell(
        "target",
        f"systemctl stop targetplugind; mkfs.ext4 -q -m 0 {state.path};"
        f"mount {state.path} /mnt; cp -a {STATE}/. /mnt/; umount /mnt;"
        f"mount {state.path} {STATE}; systemctl start targetplugind",
    )
    ledger = Ledger(booted_lab, size=f"{VOLUME_MIB}M", paths=[dm.path for dm in devices.values()])
    yield Faulty(ledger, devices, state)
    ledger.close()
    booted_lab.shell(
        "target", f"systemctl stop targetplugind; umount {STATE}; systemctl start targetplugind"
    )
    for dm in (*devices.values(), state):
        dm.remove()


@pytest.fixture(autouse=True)
def tidy(faulty: Faulty) -> Iterator[None]:
    """A test that fails leaves nothing to the next."""
    yield
    faulty.heal()
    faulty.ledger.tidy()


# --- a leg ----------------------------------------------------------------------------------------

FAULTS: dict[str, Callable[[Dm], None]] = {
    "error": lambda dm: dm.error(),
    "flakey": lambda dm: dm.flakey(1, 4),
    "bad area": lambda dm: dm.bad_area(136 * MIB, 8 * MIB),
}


@pytest.mark.parametrize("fault", all_but("error", FAULTS))
def test_a_leg_that_fails_is_told_and_comes_back_by_itself(faulty: Faulty, fault: str) -> None:
    ledger = faulty.ledger
    load = faulty.lab.spawn("initiator", ledger.fio(10))
    leg = faulty.leg()
    FAULTS[fault](leg)

    def told() -> bool:
        said = faulty.verb("status", "ledger").stdout
        return "degraded" in said and f"dm-name-{leg.name}  stale" in said

    try:
        ledger.wait(told, 20)
        time.sleep(2)
    finally:
        leg.heal()
    took = ledger.wait(faulty.in_sync, 60)
    clean(load.wait(60))
    faulty.same_legs()
    print(f"{leg.name} is in sync {took:.1f} s after the fault {fault!r} was lifted")


def test_a_slow_leg_is_waited_for_and_not_given_up(faulty: Faulty) -> None:
    ledger = faulty.ledger
    leg = faulty.leg()
    load = faulty.lab.spawn("initiator", ledger.fio(6))
    leg.delay(300)
    try:
        write = f"dd if=/dev/zero of={ledger.disk} bs=4k count=4 seek=8192 oflag=direct 2>&1"
        begin = float(ledger.initiator("cut -d' ' -f1 /proc/uptime"))
        ledger.initiator(write)
        took = float(ledger.initiator("cut -d' ' -f1 /proc/uptime")) - begin
        assert took > 1.2, "four writes, one after the other, wait for both legs"
        time.sleep(2)
        assert faulty.in_sync()
    finally:
        leg.heal()
    clean(load.wait(60))
    faulty.same_legs()


SILENT = 40  # seconds: LIO gives a command up after 30
GOES_ON = 20  # seconds within which the engine does without it
LOADS = {"writes": "randwrite", "reads": "randread"}
SEEK = {"writes": "seek", "reads": "skip"}


@pytest.mark.parametrize("load", all_but("writes", LOADS))
def test_hosts_see_no_error_of_a_leg_that_is_silent(faulty: Faulty, load: str) -> None:
    ledger = faulty.ledger
    ledger.fill(128, 48)
    command = ledger.fio(SILENT + 15, verify=load == "writes")
    words = [f"--rw={LOADS[load]}" if word.startswith("--rw=") else word for word in command]
    running = faulty.lab.spawn("initiator", words)
    time.sleep(2)
    leg = faulty.leg()
    leg.silent()
    begin = time.monotonic()
    try:
        # Of reads the first may go to the other leg.
        copy = (
            "if={0} of=/dev/null iflag=direct"
            if load == "reads"
            else "if=/dev/zero of={0} oflag=direct"
        )
        one = f"dd {copy.format(ledger.disk)} bs=4k count=4 {SEEK[load]}=$at 2>/dev/null || exit 1"
        uptime = "cut -d' ' -f1 /proc/uptime"
        said = ledger.initiator(f"{uptime}; for at in $(seq 8192 8199); do {one}; {uptime}; done")
        at = [float(line) for line in said.split()]
        took = max(later - earlier for earlier, later in pairwise(at))
        assert took < GOES_ON, at
        ledger.wait(lambda: ledger.legs()[leg.name] == "stale", GOES_ON)
        assert ledger.status()["state"] == "degraded"
        refused = faulty.verb("media", "remove", f"dm-name-{leg.name}", "--force")
        assert refused.returncode == 1
        while time.monotonic() < begin + SILENT:
            time.sleep(1)
            assert ledger.legs()[leg.name] == "stale"
    finally:
        leg.heal()
    back = ledger.wait(faulty.in_sync, 30)
    clean(running.wait(90))
    faulty.same_legs()
    print(
        f"hosts went on after {took:.1f} s, {leg.name} was in sync {back:.1f} s after it answered"
    )


def test_a_start_does_without_a_leg_that_is_silent(faulty: Faulty) -> None:
    ledger = faulty.ledger
    load = faulty.lab.spawn("initiator", ledger.fio(SILENT))
    time.sleep(2)
    leg = faulty.leg()
    faulty.lab.shell("target", "systemctl stop targetplugind")
    leg.silent()

    def told() -> bool:
        said = faulty.verb("status", "ledger").stdout
        return "degraded" in said and f"dm-name-{leg.name}  missing" in said

    try:
        faulty.lab.shell("target", "systemctl start targetplugind")
        up = ledger.wait(told, 60)
        ledger.initiator(f"dd if=/dev/zero of={ledger.disk} bs=4k count=4 seek=8192 oflag=direct")
    finally:
        leg.heal()
    back = ledger.wait(faulty.in_sync, 60)
    clean(load.wait(90))
    faulty.same_legs()
    print(f"served {up:.1f} s after its start; {leg.name} in sync {back:.1f} s after it answered")


def test_hosts_wait_while_a_killed_daemon_s_requests_are_not_over(faulty: Faulty) -> None:
    """They would read into what is other commands' memory by then."""
    ledger = faulty.ledger
    load = faulty.lab.spawn("initiator", ledger.fio(SILENT))
    time.sleep(2)
    leg = faulty.leg()
    leg.silent()
    time.sleep(1)

    def told() -> bool:
        said = faulty.verb("status", "ledger").stdout
        return "requests of a daemon that ended are not over" in said and leg.name in said

    try:
        faulty.lab.shell("target", "systemctl kill -s KILL targetplugind")
        # Where a flush is under way as well, the process can't end: systemd gives it up by and by.
        ledger.wait(told, 120)
    finally:
        leg.heal()
    back = ledger.wait(faulty.in_sync, 60)
    clean(load.wait(90))
    faulty.same_legs()
    print(f"served with both legs in sync {back:.1f} s after {leg.name} answered")


# --- a save's medium ------------------------------------------------------------------------------

# Requests a second of a save's medium, so that its 192 MiB are not whole before it fails: Linux makes
# at least 150 requests of them, which are half a minute, however fast the machine and the copier are.
HELD_BACK = 5

SAVE_FAULTS: dict[str, Callable[[Dm], None]] = {
    "error": lambda dm: dm.error(),
    "flakey": lambda dm: dm.flakey(1, 1),
}


@pytest.mark.parametrize("fault", all_but("error", SAVE_FAULTS))
def test_a_save_whose_medium_fails_is_broken_and_nothing_else(faulty: Faulty, fault: str) -> None:
    ledger = faulty.ledger
    load = faulty.lab.spawn("initiator", ledger.fio(5))
    spare = faulty.spare()
    faulty.lab.disk(spare.medium, iops=HELD_BACK)
    try:
        ledger.target("save", "ledger", "--label", "copied", "--policy", "copy")
        assert ledger.status()["saves"][0]["fill"] == "filling"
        SAVE_FAULTS[fault](spare)
        ledger.wait(lambda: ledger.status()["saves"][0]["fill"] == "broken", 30)
        assert faulty.in_sync()
        failed = ledger.operation("save")
        assert failed["state"] == "failed"
        assert spare.name in failed["error"]
        refused = faulty.verb("recover", "ledger@copied")
        assert refused.returncode == 1
        assert "broken" in refused.stderr
    finally:
        faulty.lab.disk(spare.medium, iops=0)
        spare.heal()
    clean(load.wait(60))
    ledger.target("release", "ledger@copied")
    ledger.target("save", "ledger", "--label", "again", "--policy", "copy", "--wait")
    assert ledger.status()["saves"][0]["fill"] == "whole"
    ledger.target("release", "ledger@again")


def test_a_save_on_a_slow_medium_fills_and_is_recovered_from(faulty: Faulty) -> None:
    ledger = faulty.ledger
    ledger.fill(0, 4)
    before = ledger.checksum(0, 4)
    spare = faulty.spare()
    load = faulty.lab.spawn("initiator", ledger.fio(5))
    spare.delay(30)
    try:
        ledger.target("save", "ledger", "--label", "slow", "--policy", "copy")
        ledger.fill(0, 4)
        clean(load.wait(90))
        spare.delay(5)
        ledger.wait(lambda: ledger.status()["saves"][0]["fill"] == "whole", 120)
        spare.delay(30)
        ledger.target("recover", "ledger@slow")
        assert ledger.checksum(0, 4) == before
    finally:
        spare.heal()
    ledger.wait(lambda: ledger.operation("recover")["state"] == "done")
    assert ledger.checksum(0, 4) == before
    faulty.same_legs()
    ledger.target("release", "ledger@slow")


# --- the state directory --------------------------------------------------------------------------


def test_hosts_go_on_while_the_state_directory_is_full(faulty: Faulty) -> None:
    ledger, lab = faulty.ledger, faulty.lab
    load = lab.spawn("initiator", ledger.fio(10))
    for size in ("64k", "1k"):
        lab.shell("target", f"dd if=/dev/zero bs={size} status=none >> {FILLER} || true; sync")
    try:
        full = faulty.verb("save", "ledger", "--label", "full")
        for _ in range(20):  # what SQLite had set aside takes a few
            if full.returncode:
                break
            ledger.target("resync", "ledger@full", "--wait")
            full = faulty.verb("save", "ledger", "--label", "full")
        assert full.returncode == 1
        assert "the disk is full" in full.stderr
        assert "make room" in full.stderr
        leg = faulty.leg()
        leg.error()
        ledger.fill(0, 1)  # the load may be over
        ledger.wait(lambda: ledger.legs()[leg.name] != "in_sync", 20)
        leg.heal()
        ledger.wait(faulty.in_sync, 30)
        lab.shell("target", "kill -9 $(systemctl show -P MainPID targetplugind)")
        ledger.checksum(0, 1)
        ledger.wait(lambda: faulty.verb("status").returncode == 0)
        assert ledger.status()["state"] == "serving"
    finally:
        lab.shell("target", f"rm -f {FILLER}; sync")
    ledger.target("save", "ledger", "--label", "room")
    ledger.target("resync", "ledger@room", "--wait")
    clean(load.wait(90))
    faulty.same_legs()


@long
def test_hosts_go_on_while_the_state_directory_fails(faulty: Faulty) -> None:
    """Linux itself gives a file system up whose journal fails, until it is mounted again."""
    ledger, lab = faulty.ledger, faulty.lab
    load = lab.spawn("initiator", ledger.fio(8))
    time.sleep(1)
    faulty.state.error()
    try:
        for label in ("one", "two"):
            refused = faulty.verb("save", "ledger", "--label", label)
            assert refused.returncode == 1
            assert STATE in refused.stderr
            assert "What to do:" in refused.stderr
        ledger.checksum(0, 1)
        time.sleep(3)
    finally:
        faulty.state.heal()
    lab.shell(
        "target",
        f"systemctl stop targetplugind; umount {STATE};"
        f"mount {faulty.state.path} {STATE}; systemctl start targetplugind",
    )
    ledger.target("save", "ledger", "--label", "mounted")
    ledger.target("resync", "ledger@mounted", "--wait")
    clean(load.wait(90))
    faulty.same_legs()


@long
def test_hosts_do_not_wait_for_a_slow_state_directory(faulty: Faulty) -> None:
    ledger = faulty.ledger
    load = faulty.lab.spawn("initiator", ledger.fio(5))
    faulty.state.delay(100)
    try:
        ledger.target("save", "ledger", "--label", "slow")
        assert ledger.operation("save")["pause_ms"] < 100
        ledger.target("resync", "ledger@slow", "--wait")
    finally:
        faulty.state.heal()
    clean(load.wait(60))
    faulty.same_legs()
