"""What is read by a function, offered to one client over a socket, to be read alone: the NBD protocol, in its
fixed newstyle, with simple replies.

So that qemu-img can read what lies on no disk as it is. Knows a function and a size.

Source: doc/proto.md of the NBD project.
"""

from __future__ import annotations

import errno
import socket
import struct
import threading
from collections.abc import Callable

from targetplugin.errors import Refused

LARGEST = 1 << 20  # bytes that a client may ask for at once

_HELLO = b"NBDMAGIC" + b"IHAVEOPT"
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_OPTION_MAGIC, _ANSWER_MAGIC = b"IHAVEOPT", 0x3E889045565A9
_OPT_ABORT, _OPT_GO = 2, 7
_ACK, _INFO, _UNSUPPORTED = 1, 3, 1 << 31 | 1
_INFO_EXPORT, _INFO_BLOCK_SIZE = 0, 3
_HAS_FLAGS, _READ_ONLY = 1, 2
_REQUEST, _REPLY = struct.Struct(">IHHQQI"), struct.Struct(">IIQ")
_REQUEST_MAGIC, _REPLY_MAGIC = 0x25609513, 0x67446698
_READ, _DISCONNECT = 0, 2


class _Ended(Exception):
    """The client has gone, or speaks something else."""


class Server:
    """Serves one client from a thread of its own; a context manager.

    Attributes:
        client: the client's end of the socket, to be handed on while the server is open.
        failure: what a read raised first, if one did; the client was told of an I/O error.

    Args:
        read: bytes at an offset, both multiples of `smallest` and at most 1 MiB at once.
        size: bytes, a multiple of `smallest`.
        smallest: bytes; a power of two.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: int, smallest: int = 512) -> None:
        self._read = read
        self._smallest = smallest
        self._size = size
        self.failure: Exception | None = None
        self.client, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="nbd", daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()  # whoever had it has ended: the server hears that the other end is closed
        self._end.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._end.close()

    def _run(self) -> None:
        try:
            self._agree()
            while self._serve():
                pass
        except (_Ended, OSError):
            pass  # it goes on nowhere: the client's own exit says whether it has what it wanted

    # --- bytes -------------------------------------------------------------------------------

    def _take(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._end.recv(count - len(data))
            if not more:
                raise _Ended
            data += more
        return data

    # --- the handshake -----------------------------------------------------------------------

    def _agree(self) -> None:
        self._end.sendall(_HELLO + struct.pack(">H", _FIXED_NEWSTYLE | _NO_ZEROES))
        self._take(4)  # the client's flags change nothing here
        while True:
            magic, option, length = struct.unpack(">8sII", self._take(16))
            if magic != _OPTION_MAGIC or length > LARGEST:
                raise _Ended
            self._take(length)  # the export's name: there is one
            if option == _OPT_GO:
                flags = _HAS_FLAGS | _READ_ONLY
                export = struct.pack(">HQH", _INFO_EXPORT, self._size, flags)
                sizes = struct.pack(">HIII", _INFO_BLOCK_SIZE, self._smallest, LARGEST, LARGEST)
                self._answer(option, _INFO, export)
                self._answer(option, _INFO, sizes)
                self._answer(option, _ACK)
                return
            if option == _OPT_ABORT:
                self._answer(option, _ACK)
                raise _Ended
            self._answer(option, _UNSUPPORTED)

    def _answer(self, option: int, kind: int, data: bytes = b"") -> None:
        head = struct.pack(">QIII", _ANSWER_MAGIC, option, kind, len(data))
        self._end.sendall(head + data)

    # --- requests ----------------------------------------------------------------------------

    def _serve(self) -> bool:
        """One request. False: the client wants no more."""
        magic, _, kind, cookie, offset, length = _REQUEST.unpack(self._take(_REQUEST.size))
        if magic != _REQUEST_MAGIC or kind == _DISCONNECT:
            return False
        error, data = errno.EINVAL, b""
        if kind == _READ and self._is_fine(offset, length):
            try:
                error, data = 0, self._read(offset, length)
            except (Refused, OSError) as failed:
                self.failure = self.failure or failed
                error = errno.EIO
        self._end.sendall(_REPLY.pack(_REPLY_MAGIC, error, cookie) + data)
        return True

    def _is_fine(self, offset: int, length: int) -> bool:
        whole = offset % self._smallest == 0 and length % self._smallest == 0
        return whole and 0 < length <= LARGEST and offset + length <= self._size
