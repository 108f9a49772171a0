"""Two hosts with a volume: persistent reservations between them, a write cache that one switches off for
both, and sessions that are lost and come back under load. One machine is both, by two names.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from . import logins
from .lab import Lab
from .ledger import IQN, Ledger, clean, fio
from .network import ADDRESSES

OTHER = "iqn.2026-11.org.targetplugin:other"
ATTENTION = 6  # sg3_utils' exit status
GOOD, CONFLICT = "good", "reservation conflict"
INTERFACE = """
    iscsiadm -m iface -I other -o new > /dev/null
    iscsiadm -m iface -I other -o update -n iface.initiatorname -v $0 > /dev/null
    iscsiadm -m iface -I other -o update -n iface.transport_name -v tcp > /dev/null
"""
DISK_OF = """
    for one in /sys/class/iscsi_session/session*; do
        if [ "$(cat $one/initiatorname)" = "$0" ]; then
            ls $one/device/target*/*/block
        fi
    done
"""


class Two:
    """The ledger as two hosts see it: `disks` are the first one's and the second one's."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.ledger = Ledger(lab)
        logins.log_out(lab, self.ledger.iqn)
        self.ledger.target("export", "ledger", "--initiator", IQN, OTHER)
        lab.exec("initiator", ["sh", "-euc", INTERFACE, OTHER])
        both = ("default", "other")
        logins.log_in(lab, [self.ledger.iqn], interfaces=both, settings=logins.SOON_AWARE)
        self.disks = [self.disk_of(IQN), self.disk_of(OTHER)]
        assert self.disks[0] != self.disks[1]

    def disk_of(self, name: str) -> str:
        found = self.lab.exec("initiator", ["sh", "-euc", DISK_OF, name]).stdout.split()
        assert len(found) == 1, found
        return f"/dev/{found[0]}"

    def close(self) -> None:
        self.lab.shell("target", f"ip address replace {ADDRESSES['target']}/24 dev eth0")
        self.ledger.close()
        self.ledger.initiator("iscsiadm -m iface -I other -o delete; true")

    def reserve(self, host: int, *options: str) -> int:
        """PERSISTENT RESERVE OUT from one of the two. Returns how it ends."""
        words = " ".join(options)
        found = self.ledger.run(f"sg_persist --out {words} {self.disks[host]} > /dev/null")
        return found.returncode

    def write(self, host: int) -> str:
        """What a WRITE of one block comes to, past all that would repeat it."""
        words = f"sg_raw -s 512 {self.disks[host]} 2a 00 00 00 00 00 00 00 01 00"
        found = self.ledger.run(f"head -c 512 /dev/zero | {words}")
        said = (found.stdout + found.stderr).lower()
        if found.returncode == 0:
            return GOOD
        return CONFLICT if CONFLICT in said else said

    def writes(self) -> list[str]:
        """The same of both; what they are told of first, by a UNIT ATTENTION, is another matter."""
        for host in (0, 1):
            self.write(host)
        return [self.write(host) for host in (0, 1)]

    def attentions(self) -> list[bool]:
        """Whether each is told of one by TEST UNIT READY."""
        found = [self.ledger.run(f"sg_raw {disk} 00 00 00 00 00 00") for disk in self.disks]
        assert {one.returncode for one in found} <= {0, ATTENTION}, found
        return [one.returncode == ATTENTION for one in found]


@pytest.fixture(scope="module")
def two(booted_lab: Lab) -> Iterator[Two]:
    made = Two(booted_lab)
    yield made
    made.close()


def test_what_one_has_reserved_the_other_can_not_write_until_it_takes_it(two: Two) -> None:
    assert two.writes() == [GOOD, GOOD]
    assert two.reserve(0, "--register", "--param-sark=0xa") == 0
    assert two.reserve(0, "--reserve", "--param-rk=0xa", "--prout-type=5") == 0
    assert two.writes() == [GOOD, CONFLICT]
    assert two.reserve(1, "--register", "--param-sark=0xb") == 0
    assert two.writes() == [GOOD, GOOD], "registrants may write"
    take = ("--preempt", "--param-rk=0xb", "--param-sark=0xa", "--prout-type=5")
    assert two.reserve(1, *take) == 0
    assert two.writes() == [CONFLICT, GOOD]
    assert two.reserve(1, "--clear", "--param-rk=0xb") == 0
    assert two.writes() == [GOOD, GOOD]


def test_sessions_that_are_lost_come_back_under_load_with_their_reservation(two: Two) -> None:
    assert two.reserve(0, "--register", "--param-sark=0xa") == 0
    assert two.reserve(0, "--reserve", "--param-rk=0xa", "--prout-type=5") == 0
    two.lab.exec("initiator", ["dmesg", "--clear"])
    load = two.lab.spawn("initiator", fio(two.disks[0], 15))
    time.sleep(2)
    two.lab.shell("target", f"ip address del {ADDRESSES['target']}/24 dev eth0")
    time.sleep(5)
    two.lab.shell("target", f"ip address replace {ADDRESSES['target']}/24 dev eth0")
    clean(load.wait(120))
    lost = two.ledger.initiator("dmesg | grep -c 'detected conn error'; true")
    assert int(lost) >= 2, "both sessions were to be lost"
    assert [two.disk_of(name) for name in (IQN, OTHER)] == two.disks
    assert two.writes() == [GOOD, CONFLICT]
    assert two.reserve(0, "--clear", "--param-rk=0xa") == 0
    assert two.writes() == [GOOD, GOOD]


def test_the_write_cache_that_one_switches_off_is_off_for_both(two: Two) -> None:
    def caches() -> list[str]:
        script = "sg_modes --page=8 --dbd --raw -6 {} | od -An -tu1 -j6 -N1"
        return [two.ledger.initiator(script.format(disk)).strip() for disk in two.disks]

    setting = f"/sys/class/block/{two.disks[0].removeprefix('/dev/')}/device/scsi_disk/*/cache_type"
    assert caches() == ["4", "4"]
    two.ledger.initiator(f"echo 'write through' > $(echo {setting})")
    assert caches() == ["0", "0"]
    assert "write cache off" in two.ledger.target("volume", "show", "ledger")
    assert two.writes() == [GOOD, GOOD]
    two.ledger.initiator(f"echo 'write back' > $(echo {setting})")
    assert caches() == ["4", "4"]


def test_of_a_recover_one_of_the_two_is_told_for_the_kernel_says_of_no_command_whose_it_is(
    two: Two,
) -> None:
    """The limit that docs/conformance.md names: should it go some day, this says so."""
    two.ledger.target("save", "ledger", "--label", "before", "--policy", "copy", "--wait")
    assert two.writes() == [GOOD, GOOD]
    two.ledger.initiator("udevadm settle")  # it reads a disk that was written, and would be told
    two.ledger.target("recover", "ledger@before", "--no-undo", "--wait", "--force")
    assert sorted(two.attentions()) == [False, True]
    assert two.attentions() == [False, False]
