"""Messages on netlink sockets, and their parts: a length stands first, and they are aligned to 4 bytes.

Source: netlink(7).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

HEAD = struct.Struct("=IHHII")  # length, kind, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")  # length, kind
REQUEST, DUMP = 0x1, 0x300
PIECE = 1 << 16  # bytes: no message of the kernel's is longer
_ERROR, _DONE = 2, 3
_SECONDS = 10.0
_KIND = 0x3FFF  # the rest of an attribute's kind are flags


def ask(asked: socket.socket, kind: int, flags: int, body: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each message that the kernel answers with.

    Raises:
        OSError: it refuses, or does not answer.
    """
    asked.settimeout(_SECONDS)
    asked.send(HEAD.pack(HEAD.size + len(body), kind, REQUEST | flags, 1, 0) + body)
    while True:
        for answer, message in parts(asked.recv(PIECE), HEAD):
            if answer == _DONE:
                return
            if answer == _ERROR:
                code = -struct.unpack_from("=i", message)[0]
                raise OSError(code, "the kernel does not tell it")
            yield answer, message
        if not flags & DUMP:
            return


def parts(data: bytes, head: struct.Struct) -> Iterator[tuple[int, bytes]]:
    """The kind and the content of each message, or of each attribute."""
    while len(data) >= head.size:
        length, kind, *_ = head.unpack_from(data)
        if length < head.size:
            return
        yield kind & _KIND, data[head.size : length]
        data = data[length + -length % 4 :]


def attribute(kind: int, value: bytes) -> bytes:
    length = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)
