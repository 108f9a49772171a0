"""This machine's addresses, as the kernel tells anyone who asks: one question on a netlink socket.

Not by the program `ip`: a user without rights who may not change them either can't run that.

Source: rtnetlink(7), netlink(7).
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator

_GETADDR, _NEWADDR, _ERROR, _DONE = 22, 20, 2, 3
_REQUEST_DUMP = 0x1 | 0x300
_HEAD, _ADDRESS, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBBBI"), struct.Struct("=HH")
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_GLOBAL = 0  # RT_SCOPE_UNIVERSE: not of this machine or one link alone
_SECONDS = 10.0
_PIECE = 1 << 16


def global_addresses() -> list[str]:
    """In the kernel's order: IPv4 and IPv6, link by link. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asked:
        asked.settimeout(_SECONDS)
        body = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        asked.send(_HEAD.pack(_HEAD.size + len(body), _GETADDR, _REQUEST_DUMP, 1, 0) + body)
        found: list[str] = []
        while True:
            for kind, message in _parts(asked.recv(_PIECE), _HEAD):
                if kind == _DONE:
                    return found
                if kind == _ERROR:
                    code = -struct.unpack_from("=i", message)[0]
                    raise OSError(code, "the kernel does not tell them")
                if kind == _NEWADDR:
                    found += _address(message)


def _address(message: bytes) -> Iterator[str]:
    scope = _ADDRESS.unpack_from(message)[3]
    told = dict(_parts(message[_ADDRESS.size :], _ATTRIBUTE))
    address = told.get(_IFA_LOCAL, told.get(_IFA_ADDRESS))
    if scope == _GLOBAL and address is not None:
        yield str(ipaddress.ip_address(address))


def _parts(data: bytes, head: struct.Struct) -> Iterator[tuple[int, bytes]]:
    """The kind and the content of each part: its length stands first, and they are aligned to 4 bytes."""
    while len(data) >= head.size:
        length, kind, *_ = head.unpack_from(data)
        if length < head.size:
            return
        yield kind, data[head.size : length]
        data = data[length + -length % 4 :]
