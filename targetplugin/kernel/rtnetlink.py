"""This machine's addresses, as the kernel tells anyone who asks: one question on a netlink socket.

Not by the program `ip`: a user without rights who may not change them either can't run that.

Source: rtnetlink(7).
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator

from targetplugin.kernel import netlink

_GETADDR, _NEWADDR = 22, 20
_ADDRESS = struct.Struct("=BBBBI")
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_GLOBAL = 0  # RT_SCOPE_UNIVERSE: not of this machine or one link alone


def global_addresses() -> list[str]:
    """In the kernel's order: IPv4 and IPv6, link by link. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asked:
        body = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        answers = netlink.ask(asked, _GETADDR, netlink.DUMP, body)
        return [
            address
            for kind, message in answers
            if kind == _NEWADDR
            for address in _address(message)
        ]


def _address(message: bytes) -> Iterator[str]:
    scope = _ADDRESS.unpack_from(message)[3]
    told = dict(netlink.parts(message[_ADDRESS.size :], netlink.ATTRIBUTE))
    address = told.get(_IFA_LOCAL, told.get(_IFA_ADDRESS))
    if scope == _GLOBAL and address is not None:
        yield str(ipaddress.ip_address(address))
