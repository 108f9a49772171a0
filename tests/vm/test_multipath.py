"""A host with two paths to a volume: multipathd makes one disk of them, and a path goes and comes back."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from . import logins
from .lab import Lab
from .ledger import IQN, Ledger
from .network import ADDRESSES

SECOND = {"target": "10.77.1.1", "initiator": "10.77.1.2"}
MOUNT = "/mnt/test"
TROUBLE = "I/O error on dev dm|I/O error, dev dm|EXT4-fs error"
# Soon aware of a path that is gone, and as patient when there is none.
CONFIGURATION = """
defaults {
    find_multipaths greedy
    path_grouping_policy multibus
    polling_interval 1
    max_polling_interval 1
    fast_io_fail_tmo 2
    no_path_retry 60
}
"""
START = f"""
    cat > /etc/multipath.conf << 'END'
{CONFIGURATION}
END
    cd /etc/udev/rules.d && mv 60-multipath.rules /root/
    cd /etc/systemd/system && mkdir -p /root/masks && mv multipathd.* /root/masks/
    udevadm control --reload
    systemctl daemon-reload
    systemctl start multipathd
"""
STOP = """
    multipath -F
    systemctl stop multipathd.socket multipathd.service
    mv /root/masks/multipathd.* /etc/systemd/system/
    mv /root/60-multipath.rules /etc/udev/rules.d/
    rm -f /etc/multipath.conf
    udevadm control --reload
    systemctl daemon-reload
"""


class Paths:
    """The ledger by both of the target's addresses."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.ledger = Ledger(lab)
        for where, address in SECOND.items():
            lab.shell(where, f"ip address replace {address}/24 dev eth0")
        logins.log_out(lab, self.ledger.iqn)
        addresses = [ADDRESSES["target"], SECOND["target"]]
        self.ledger.target("export", "ledger", "--initiator", IQN, "--portal", *addresses)
        lab.shell("initiator", START)
        portals = [f"{address}:3260" for address in addresses]
        logins.log_in(lab, [self.ledger.iqn], portals=portals, settings=logins.SOON_AWARE)
        self.device = f"/dev/mapper/3{self.ledger.status()['naa']}"
        self.wait_for(2)

    def close(self) -> None:
        self.come_back()
        self.ledger.initiator(f"umount {MOUNT}; vgremove -qqff paths; wipefs -qa {self.device}")
        self.lab.shell("initiator", STOP)
        self.ledger.close()
        for where, address in SECOND.items():
            self.lab.shell(where, f"ip address del {address}/24 dev eth0")

    def go_away(self) -> None:
        """The first: the one that what knows of one path alone would take."""
        self.lab.shell("target", f"ip address del {ADDRESSES['target']}/24 dev eth0")

    def come_back(self) -> None:
        self.lab.shell("target", f"ip address replace {ADDRESSES['target']}/24 dev eth0")

    def usable(self) -> int:
        """How many paths multipath uses, by the kernel's own word."""
        told = self.ledger.initiator(f"dmsetup status {self.device}")
        return len(re.findall(r" \d+:\d+ A ", told))

    def wait_for(self, count: int) -> None:
        self.ledger.wait(lambda: self.usable() == count, 90)


@pytest.fixture(scope="module")
def paths(booted_lab: Lab) -> Iterator[Paths]:
    made = Paths(booted_lab)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def no_trouble(paths: Paths) -> Iterator[None]:
    paths.lab.exec("initiator", ["dmesg", "--clear"])
    yield
    assert paths.ledger.initiator(f"dmesg | grep -E '{TROUBLE}' || true") == ""


def failed_job(paths: Paths, device: str) -> list[str]:
    """What a file system on a device holds after a job that spoiled it and failed."""
    run = paths.ledger.initiator
    run(f"mkfs.ext4 -qF {device} && mkdir -p {MOUNT} && mount {device} {MOUNT}")
    run(f"echo before > {MOUNT}/file")
    job = f"echo after > {MOUNT}/file; dd if=/dev/zero of={MOUNT}/junk bs=1M count=4; exit 5"
    result = paths.ledger.run(f"pitcopy run {device} -- sh -c '{job}'")
    assert result.returncode == 5, result.stderr
    assert run(f"findmnt -no SOURCE {MOUNT}").strip() == device
    held = run(f"cat {MOUNT}/file; ls {MOUNT}").split()
    run(f"umount {MOUNT}")
    return held


def test_a_job_on_the_multipath_device_is_taken_back(paths: Paths) -> None:
    assert failed_job(paths, paths.device) == ["before", "file", "lost+found"]


def test_a_job_on_a_logical_volume_is_taken_back_while_a_path_is_gone(paths: Paths) -> None:
    run = paths.ledger.initiator
    run(
        f"wipefs -qa {paths.device}; vgcreate -y paths {paths.device} && lvcreate -y -L 64M -n data paths"
    )
    paths.go_away()
    assert failed_job(paths, "/dev/mapper/paths-data") == ["before", "file", "lost+found"]
    paths.come_back()
    paths.wait_for(2)
