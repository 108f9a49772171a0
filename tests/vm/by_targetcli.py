"""What tests by targetcli share: a volume that it is told of, its commands, and where its disk is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from .lab import Lab

STORE = "/backstores/user:targetplugin"
TARGET = "iqn.2026-11.org.example:by-targetcli"
SAVED = "/etc/rtslib-fb-target/saveconfig.json"
SIZE = 64 << 20
LINK = f"/dev/disk/by-path/ip-target:3260-iscsi-{TARGET}-lun-0"


def targetcli(lab: Lab, *words: str) -> str:
    return lab.exec("target", ["targetcli", *words]).stdout


def refused(lab: Lab, *words: str) -> str:
    done = lab.exec("target", ["targetcli", *words], check=False)
    assert done.returncode != 0
    return done.stdout + done.stderr


def content(lab: Lab) -> str:
    """What the first 8 MiB hold, at the initiator."""
    read = f"dd if={LINK} of=/tmp/read bs=1M count=8 iflag=direct status=none"
    look = f"{read} || {{ dmesg | tail -n 40 >&2; exit 1; }}; sha256sum < /tmp/read"
    return lab.exec("initiator", ["sh", "-c", look], timeout=200).stdout


def log_in_again(lab: Lab) -> None:
    """After a target was made anew: one that comes back while it has no ACL yet ends a session."""
    node = f"iscsiadm -m node -T {TARGET}"
    lab.shell("initiator", f"{node} -u || true; {node} --login && udevadm settle")


def log(lab: Lab) -> str:
    return lab.shell("target", "journalctl -b -o cat -u targetplugind").stdout


def wait(lab: Lab, words: str) -> None:
    """Until the daemon's log says so."""
    end = time.monotonic() + 30
    while words not in log(lab):
        assert time.monotonic() < end, log(lab)
        time.sleep(0.5)


@contextmanager
def told(lab: Lab) -> Iterator[Lab]:
    """targetcli is told of a volume, ledger, that is not exported."""
    lab.shell(
        "target",
        """
        for letter in a b; do targetplugin media add /dev/disk/by-id/virtio-media-$letter --force; done
        targetplugin volume create ledger --size 64M --mirror 2
        systemctl daemon-reload && systemctl start targetplugin-dbus
        """,
    )
    yield lab
    lab.shell(
        "initiator",
        f"set +e; iscsiadm -m node -T {TARGET} -u; iscsiadm -m node -T {TARGET} -o delete; true",
    )
    lab.shell(
        "target",
        f"""
        set +e
        targetcli clearconfig confirm=True; rm -f {SAVED}; systemctl stop targetplugin-dbus
        targetplugin volume delete ledger --force
        for letter in a b; do targetplugin media remove virtio-media-$letter --force; done; true
        """,
    )
