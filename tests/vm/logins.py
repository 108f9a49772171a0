"""Sessions of the initiator: how they are logged in to, and which disk each target's is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from .lab import Lab

PORTAL = "target:3260"
# What is told of a session that is gone after a second or two.
SOON_AWARE = {
    "node.session.auth.authmethod": "None",
    "node.conn[0].timeo.noop_out_interval": "1",
    "node.conn[0].timeo.noop_out_timeout": "1",
}
NONE: Mapping[str, str] = {}


def log_in(
    lab: Lab,
    targets: Sequence[str],
    *,
    portals: Sequence[str] = (PORTAL,),
    interfaces: Sequence[str] = (),
    settings: Mapping[str, str] = NONE,
    timeout: float = 120,
) -> None:
    """Logs in to each target by each portal and, where some are given, as each of iscsiadm's interfaces.

    Args:
        settings: of the node's record, by iscsiadm's names.
    """
    script = []
    for target in targets:
        for portal in portals:
            for interface in interfaces or [""]:
                words = ["iscsiadm", "-m", "node", "-T", target, "-p", portal]
                node = shlex.join(words + (["-I", interface] if interface else []))
                script.append(f"{node} -o new > /dev/null")
                for name, value in settings.items():
                    script.append(f"{node} -o update {shlex.join(['-n', name, '-v', value])}")
                script.append(f"{node} --login > /dev/null")
    lab.shell("initiator", "\n".join([*script, "udevadm settle"]), timeout=timeout)


def log_out(lab: Lab, *targets: str) -> None:
    """From all sessions with each, of which nothing is remembered then."""
    script = """
        for name in "$@"; do
            iscsiadm -m node -T $name -u > /dev/null
            iscsiadm -m node -T $name -o delete
        done
        true
    """
    lab.exec("initiator", ["sh", "-c", script, "log-out", *targets])


def disks(lab: Lab, targets: Sequence[str], *, timeout: float = 120) -> list[str]:
    """/dev/sdX of each; a path would have colons, which are special to fio."""
    script = """
        for name in "$@"; do
            disk=/dev/disk/by-path/ip-$0-iscsi-$name-lun-0
            until [ -e $disk ]; do sleep 0.2; done
            readlink -e $disk
        done
    """
    command = ["sh", "-euc", script, PORTAL, *targets]
    return lab.exec("initiator", command, timeout=timeout).stdout.split()
