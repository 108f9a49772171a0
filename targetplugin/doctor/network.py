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
# Of a target's iscsi_tgt_attr/last_fail_type, include/target/iscsi/iscsi_target_stat.h.
NOT_NAMED, WRONG_SECRET = "4", "5"
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
        ", ".join(sorted(configfs.linked(place.parents[1] / "lun" / "lun_0")))
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
    """Of each target: whom the kernel refused last, and why; not who has logged in since."""
    count = 0
    for target in sorted(machine.place(TARGETS).glob("iqn.*")):
        seen = target / "fabric_statistics" / "iscsi_tgt_attr"
        if not seen.is_dir():
            continue
        count += 1
        why = configfs.text(seen / "last_fail_type")
        host = configfs.text(seen / "fail_intr_name").lower()
        if configfs.text(seen / "login_fails") in ("", "0") or _has_session(target, host):
            continue
        yield from _refusal(machine, target, seen, host, why)
        count -= 1
    if count:
        yield ok("logins", f"No host was refused at {count} of the targets since it logged in.")


def _has_session(target: Path, host: str) -> bool:
    return any(
        configfs.has_session(configfs.text(place / "info"))
        for place in target.glob("tpgt_*/acls/*")
        if place.name == host
    )


def _refusal(machine: Machine, target: Path, seen: Path, host: str, why: str) -> Iterator[Finding]:
    volume = ", ".join(sorted(configfs.linked(target / "tpgt_1" / "lun" / "lun_0"))) or "VOLUME"
    address = configfs.text(seen / "fail_intr_addr")
    who = f"{host} ({address})" if re.match(r"[\d.]+$|\[?[\da-f:]+\]?$", address) else host
    if why == NOT_NAMED:
        names = sorted(path.name for path in target.glob("tpgt_*/acls/*"))
        known = ", ".join(names) or "none"
        yield warning(
            "logins",
            f"{target.name} refused {who}: it is none of its initiators, which are: {known}.",
            f"targetplugin export {volume} --initiator {host} --chap; or correct the host's"
            " /etc/iscsi/initiatorname.iscsi and restart its iscsid",
        )
    elif why == WRONG_SECRET:
        yield warning(
            "logins",
            f"{target.name} refused {who}: its CHAP user or password is not the export's.",
            f"Set both at the host: iscsiadm -m node -T {target.name} -o update -n"
            " node.session.auth.password -v ..., and the same for .authmethod (CHAP) and"
            f" .username; or anew here: targetplugin export {volume} --initiator {host} --chap",
        )
    else:
        yield warning(
            "logins",
            f"{target.name} refused {who} for another reason.",
            "See what dmesg says here, and journalctl -u iscsid at the host",
        )
