"""What stands for systemd's journal: a datagram socket, and what came to it, taken apart by the native
protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/).
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from targetplugin.logs.journald import Journald

Entry = dict[str, list[str]]
END = b"\x00the end of what was sent so far"


def entry(datagram: bytes) -> Entry:
    """The fields of one datagram, each with its values."""
    fields: Entry = {}
    while datagram:
        line, end, rest = datagram.partition(b"\n")
        assert end, "each field ends with a newline"
        name, equals, value = line.partition(b"=")
        if not equals:
            length = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert len(value) == length
            assert rest[:1] == b"\n"
            rest = rest[1:]
        assert name.decode("ascii").replace("_", "A").isalnum()
        assert name.upper() == name
        assert name[:1] != b"_", "those are the journal's own"
        fields.setdefault(name.decode(), []).append(value.decode())
        datagram = rest
    return fields


class FakeJournald:
    """Takes what is sent to `path`, at once, until it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.raw: list[bytes] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._reached = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while datagram := self._socket.recv(1 << 20):
            if datagram == END:
                self._reached.set()
            else:
                self.raw.append(datagram)

    def _send(self, data: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(data, str(self.path))

    def entries(self, **wanted: Any) -> list[Entry]:
        """All that was sent so far, or what has these values, as journalctl finds it."""
        self._reached.clear()
        self._send(END)
        assert self._reached.wait(30)
        found = [entry(one) for one in list(self.raw)]
        return [one for one in found if all(str(v) in one.get(k, []) for k, v in wanted.items())]

    def messages(self, least: int = 7, **wanted: Any) -> list[str]:
        """Their messages, of this priority or a more urgent one."""
        found = self.entries(**wanted)
        return [one["MESSAGE"][0] for one in found if int(one["PRIORITY"][0]) <= least]

    def close(self) -> None:
        self._send(b"")
        self._thread.join(30)
        self._socket.close()
        self.path.unlink()


@contextmanager
def logging_to(path: Path, level: int = logging.DEBUG) -> Iterator[FakeJournald]:
    """All that this process logs meanwhile goes there."""
    journald = FakeJournald(path)
    mouth, ear = socket.socketpair()
    handler = Journald("targetplugind", path, mouth.fileno())
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield journald
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        handler.close()
        mouth.close()
        journald.close()
        aside = ear.recv(1 << 16)
        ear.close()
        assert aside == b"", "nothing had to go to standard error"
