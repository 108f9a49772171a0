"""Records to systemd's journal, with their fields, by its native protocol. Never waits: what the journal
does not take now goes to standard error, and what that does not take is counted.

Source: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/, systemd.journal-fields(7), systemd.exec(5) for
JOURNAL_STREAM. What is too long is cut, so no record needs a file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import stat
import traceback
from collections.abc import Iterable
from pathlib import Path

from targetplugin.logs import context
from targetplugin.logs.lines import UNTIMED, Lines

SOCKET = Path("/run/systemd/journal/socket")
MOST = 16_000  # characters of a field: two such ones fit into a datagram, whatever they are
DAEMON = 3  # the facility, syslog(3)
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7
_NOW = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


def takes(descriptor: int) -> bool:
    """Whether what is written there goes to the journal, as systemd says."""
    try:
        at = os.fstat(descriptor)
    except OSError:
        return False
    said = os.environ.get("JOURNAL_STREAM")
    return stat.S_ISSOCK(at.st_mode) and said == f"{at.st_dev}:{at.st_ino}"


class Journald(logging.Handler):
    """See the module.

    Args:
        name: of the program.
        path: of the journal's socket.
        stderr: descriptor of a socket, which takes what the journal does not; stays the caller's.
    """

    def __init__(self, name: str, path: Path = SOCKET, stderr: int = 2) -> None:
        super().__init__()
        self.setFormatter(Lines(UNTIMED))  # of what goes to standard error
        self._name = name
        self._path = str(path)
        self._journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._stderr = socket.socket(fileno=os.dup(stderr))
        self._lost = 0

    def close(self) -> None:
        self._journal.close()
        self._stderr.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Called with the handler's lock, so one at a time."""
        try:
            if not self._put(record):
                self._lost += 1
            elif self._lost:
                text = f"{self._lost} lines of the log were lost: the journal took none"
                self._lost = 0 if self._put(_warning(text)) else self._lost
        except Exception:
            self.handleError(record)

    def _put(self, record: logging.LogRecord) -> bool:
        entry = encoded([*_fields(record), ("SYSLOG_IDENTIFIER", self._name)])
        with contextlib.suppress(OSError):
            # By its path each time: the journal may have been started anew.
            self._journal.sendmsg([entry], [], _NOW, self._path)
            return True
        # The first newline ends a line of which the end was not taken.
        line = f"\n<{_priority(record.levelno)}>{_cut(self.format(record))}\n"
        with contextlib.suppress(OSError):
            self._stderr.send(line.encode(errors="backslashreplace"), _NOW)
            return True
        return False


def encoded(fields: Iterable[tuple[str, object]]) -> bytes:
    """An entry; one name may come several times."""
    parts = []
    for name, value in fields:
        data = _cut(str(value)).encode(errors="backslashreplace")
        if b"\n" in data:
            parts += [name.encode(), b"\n", len(data).to_bytes(8, "little"), data, b"\n"]
        else:
            parts += [name.encode(), b"=", data, b"\n"]
    return b"".join(parts)


def _fields(record: logging.LogRecord) -> list[tuple[str, object]]:
    told = record.getMessage()
    found: list[tuple[str, object]] = [
        ("PRIORITY", _priority(record.levelno)),
        ("SYSLOG_FACILITY", DAEMON),
        ("LOGGER", record.name),
        ("THREAD", record.threadName),
        ("CODE_FILE", record.pathname),
        ("CODE_LINE", record.lineno),
        ("CODE_FUNC", record.funcName),
    ]
    for name, value in context.of(record).items():
        each = value if isinstance(value, tuple) else (value,)
        found += [(f"TARGETPLUGIN_{name.upper()}", one) for one in each]
    if record.exc_info and record.exc_info[0] is not None:
        trace = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        told += f"\n{trace}"  # which journalctl shows, and what is asked for in a report
        found += [("EXCEPTION_TYPE", record.exc_info[0].__name__), ("EXCEPTION_TEXT", trace)]
    return [("MESSAGE", told), *found]


def _priority(level: int) -> int:
    return next((number for least, number in _PRIORITIES if level >= least), _DEBUG)


def _cut(text: str) -> str:
    """The beginning and the end tell most."""
    if len(text) <= MOST:
        return text
    half = MOST // 2
    return f"{text[:half]}\n[{len(text) - 2 * half} characters are left out]\n{text[-half:]}"


def _warning(text: str) -> logging.LogRecord:
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
