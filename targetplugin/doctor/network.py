"""How hosts reach the target: addresses, the port, their names, and logins that were refused."""

from __future__ import annotations

import os
import re
import socket as sockets
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from targetplugin.doctor.finding import Finding, ok, problem, warning
from targetplugin.doctor.machine import Machine
from targetplugin.errors import Refused
from targetplugin.kernel import configfs
from targetplugin.kernel.addresses import check_iqn, machine_addresses, parse_portal

TARGETS = "/sys/kernel/config/target/iscsi"
LISTENING = "0A"  # of /proc/net/tcp, the kernel's include/net/tcp_states.h
# What the kernel logs of it, drivers/target/iscsi/iscsi_target_nego.c.
_NOT_AUTHORIZED = re.compile(r"iSCSI Initiator Node: (\S+) is not authorized to access")
_ANYWHERE = ("0.0.0.0", "[::]")


def look(machine: Machine, portals: Sequence[str], initiators: Sequence[str]) -> Iterator[Finding]:
    """Args:
    portals: where exports are to listen; none: at the default port of every address.
    initiators: names of hosts that are to log in.
    """
    try:
        addresses = machine_addresses()
    except Refused as refused:
        addresses = None
        yield problem("addresses", refused.message, refused.hint)
    if addresses is not None:
        yield _addresses(addresses)
    for portal in portals or ["0.0.0.0"]:
        yield _portal(machine, portal, addresses or [])
    for name in initiators:
        yield _initiator(machine, name)
    yield from refused_logins(machine)


def _addresses(found: Sequence[str]) -> Finding:
    if not found:
        return problem(
            "addresses",
            "This machine has no address that hosts could reach.",
            "Give it one, and see: ip address",
        )
    if len(found) == 1:
        return ok("addresses", f"Hosts reach this machine at {found[0]}.")
    return ok(
        "addresses",
        f"This machine has the addresses {', '.join(found)}.",
        "An export is told which: --portal IP",
    )


class Listener(Struct, frozen=True):
    """Something that listens: where, and its socket's inode (0: the kernel's own)."""

    address: str
    port: int
    inode: int


def listeners(machine: Machine) -> list[Listener]:
    """All of TCP, as /proc/net tells of them."""
    found = []
    for name in ("tcp", "tcp6"):
        for line in machine.text(f"/proc/net/{name}").splitlines()[1:]:
            words = line.split()
            if len(words) > 9 and words[3] == LISTENING:
                address, _, port = words[1].partition(":")
                found.append(Listener(_address(address), int(port, 16), int(words[9])))
    return found


def _address(written: str) -> str:
    """An address as configfs writes it, of one as /proc does: words of 32 bits, their bytes turned round."""
    raw = b"".join(bytes.fromhex(written[i : i + 8])[::-1] for i in range(0, len(written), 8))
    if len(raw) == 4:
        return sockets.inet_ntop(sockets.AF_INET, raw)
    return f"[{sockets.inet_ntop(sockets.AF_INET6, raw)}]"


def _portal(machine: Machine, named: str, addresses: Sequence[str]) -> Finding:
    try:
        address, port = parse_portal(named)
    except Refused as refused:
        return problem("port", refused.message, refused.hint)
    if address not in (*_ANYWHERE, *addresses, "127.0.0.1", "[::1]"):
        have = ", ".join(addresses) or "none"
        return problem(
            "port",
            f"The portal {named} is not on this machine; its addresses: {have}.",
            "Name one of these.",
        )
    place = f"port {port}" if address in _ANYWHERE else f"{address}:{port}"
    exported = {path.name for path in machine.place(TARGETS).glob("*/tpgt_*/np/*")}
    for one in listeners(machine):
        meets = address == one.address or {address, one.address} & set(_ANYWHERE)
        if one.port != port or not meets:
            continue
        if f"{one.address}:{port}" in exported:
            return ok("port", f"The kernel's target listens at {one.address}:{port}.")
        return problem(
            "port",
            f"{place} is taken: {_owner(machine, one.inode)} listens at {one.address}:{port}.",
            "Stop it (another iSCSI target, such as tgt?), or export at another port:"
            " --portal IP:PORT",
        )
    return ok("port", f"{place[0].upper()}{place[1:]} is free for exports.")


def _owner(machine: Machine, inode: int) -> str:
    """Which process has a socket; only root sees all."""
    if inode:
        for link in machine.place("/proc").glob("[0-9]*/fd/*"):
            try:
                if os.readlink(link) == f"socket:[{inode}]":
                    number = link.parts[-3]
                    return f"{machine.text(f'/proc/{number}/comm')} (process {number})"
            except OSError:
                continue  # it ended, or is not ours to look at
    return "something"


def _initiator(machine: Machine, name: str) -> Finding:
    try:
        small = check_iqn(name)
    except Refused as refused:
        return problem(
            "initiator",
            refused.message,
            f"{refused.hint} The host has its own in /etc/iscsi/initiatorname.iscsi.",
        )
    allowed = [
        ", ".join(sorted(configfs.linked_names(place.parents[1] / "lun" / "lun_0")))
        or place.parents[2].name
        for place in sorted(machine.place(TARGETS).glob("*/tpgt_*/acls/*"))
        if place.name == small
    ]
    if allowed:
        return ok("initiator", f"{small} may log in to {', '.join(allowed)}.")
    return warning(
        "initiator",
        f"{small} is a good name; no export names it yet.",
        f"targetplugin export VOLUME --initiator {small} --chap",
    )


def refused_logins(machine: Machine) -> Iterator[Finding]:
    """Of each target with a host that is not logged in: what the kernel has refused.

    It counts by reasons. Whose the last login was it keeps, too, but often only as `Unknown`: its log may
    have the name then.
    """
    well = 0
    for target in sorted(machine.place(TARGETS).glob("iqn.*")):
        counted = {name: _count(target, name) for name in _REFUSALS}
        if not any(counted.values()) or not _absent(target):
            well += 1
            continue
        for name, refusal in _REFUSALS.items():
            if counted[name]:
                yield refusal(machine, target, counted[name])
    if well:
        yield ok("logins", f"Of {well} targets every host is logged in, or none was refused.")


def _count(target: Path, reason: str) -> int:
    text = configfs.text(target / "fabric_statistics" / "iscsi_login_stats" / reason)
    return int(text) if text.isdigit() else 0


def _absent(target: Path) -> list[str]:
    """The hosts that may log in and have not."""
    return [
        place.name
        for place in sorted(target.glob("tpgt_*/acls/*"))
        if not configfs.has_session(configfs.text(place / "info"))
    ]


def _last(target: Path) -> str:
    """Where the last login came from that was refused: ` (the last from 10.0.0.7)`."""
    address = configfs.text(target / "fabric_statistics" / "iscsi_tgt_attr" / "fail_intr_addr")
    known = re.fullmatch(r"[\d.]+|\[?[\da-f:]+\]?", address) and address != "0.0.0.0"
    return f", the last from {address}" if known else ""


def _volume(target: Path) -> str:
    return ", ".join(sorted(configfs.linked_names(target / "tpgt_1" / "lun" / "lun_0"))) or "VOLUME"


def _not_named(machine: Machine, target: Path, count: int) -> Finding:
    seen = configfs.text(target / "fabric_statistics" / "iscsi_tgt_attr" / "fail_intr_name")
    known = sorted(path.name for path in target.glob("tpgt_*/acls/*"))
    names = _NOT_AUTHORIZED.findall(machine.log()) or [seen]
    name = names[-1].lower() if names[-1].startswith(("iqn.", "eui.", "naa.")) else ""
    called = f" (it called itself {name})" if name and name not in known else ""
    return warning(
        "logins",
        f"{target.name} has refused {_times(count)} a host by its name{_last(target)}{called}."
        f" Its initiators are: {', '.join(known)}.",
        f"targetplugin export {_volume(target)} --initiator {name or 'IQN'} --chap; or correct the"
        " host's /etc/iscsi/initiatorname.iscsi and restart its iscsid",
    )


def _wrong_secret(machine: Machine, target: Path, count: int) -> Finding:
    absent = _absent(target)
    return warning(
        "logins",
        f"{target.name} has refused {_times(count)} a host whose CHAP user or password is not the"
        f" export's{_last(target)}. Not logged in: {', '.join(absent)}.",
        f"Set both at the host: iscsiadm -m node -T {target.name} -o update -n"
        " node.session.auth.password -v ..., and the same for .authmethod (CHAP) and .username; or"
        f" anew here: targetplugin export {_volume(target)} --initiator {absent[0]} --chap",
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


_REFUSALS = {"authorize_fails": _not_named, "authenticate_fails": _wrong_secret}
