"""One line over a unix socket, and open descriptors with it (SCM_RIGHTS, unix(7)).

Knows sockets; knows nothing of what the lines say.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
from collections.abc import Sequence

LONGEST = 1 << 20  # bytes of a line, its newline included
_PIECE = 1 << 16
_DESCRIPTOR = array.array("i")
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred, unix(7)


def send(connection: socket.socket, line: bytes, descriptors: Sequence[int] = ()) -> None:
    """Sends a line, which ends with its newline; descriptors go with its first byte."""
    if descriptors:
        line = line[socket.send_fds(connection, [line], list(descriptors)) :]
    if line:
        connection.sendall(line)


def receive(connection: socket.socket, most: int = 0) -> tuple[bytes, list[int]]:
    """A line, and the descriptors that came with it, which are the caller's to close.

    Args:
        most: descriptors that may come. The kernel closes what comes besides.

    Raises:
        EOFError: the other end went away before the line's end. ValueError: it is no line of ours. OSError.
    """
    line, descriptors = b"", list[int]()
    try:
        while not line.endswith(b"\n"):
            room = socket.CMSG_LEN(most * _DESCRIPTOR.itemsize) if most else 0
            # Not socket.recv_fds: it leaves its flags out, and a child would inherit what comes.
            more, beside, _, _ = connection.recvmsg(_PIECE, room, socket.MSG_CMSG_CLOEXEC)
            for level, kind, data in beside:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    whole = len(data) - len(data) % _DESCRIPTOR.itemsize
                    descriptors += array.array("i", data[:whole])
            line += more
            if not more:
                raise EOFError("the other end went away")
            if len(line) > LONGEST:
                raise ValueError(f"a line has at most {LONGEST} bytes")
            if b"\n" in line[:-1]:
                raise ValueError("there is more than a line")
    except BaseException:
        close(descriptors)
        raise
    return line, descriptors


def close(descriptors: Sequence[int]) -> None:
    """Closes them all."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def user(connection: socket.socket) -> int:
    """The user number of the process at the other end, as the kernel noted it when it connected."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, number, _ = _CREDENTIALS.unpack(told)
    return int(number)
