"""The other end of the control socket: one call, one result or one ControlError.

Imports nothing of the daemon, and little of Python: the terminal's start is waited for by a person.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
from types import TracebackType
from typing import Any

from targetplugin.control import wire

DEFAULT_SOCKET = wire.DEFAULT_SOCKET
_CONNECT_SECONDS = 10.0
_LOOK_SECONDS = 1.0  # without an answer, after which the daemon is looked at
_CREDENTIALS = struct.Struct("3i")  # ucred: pid, uid, gid


class ControlError(Exception):
    """What was asked is not done.

    Args:
        reason: of the daemon's refusals (`errors.Reason` in lower case), or "bug".
        message: what and why, one sentence.
        object: the name of what is at fault, for programs.
        hint: what to do next.
        progress: how far the operation that stands in the way is, 0.0 to 1.0.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        object: str = "",
        hint: str = "",
        progress: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.object = object
        self.hint = hint
        self.progress = progress


class DaemonAway(ControlError):
    """No daemon serves the socket."""

    def __init__(self, path: str) -> None:
        super().__init__(
            "environment",
            f"targetplugind is not running: nothing answers at {path}",
            object=path,
            hint="start it: systemctl start targetplugind",
        )


class AnswerLost(ControlError):
    """The daemon went away in the midst of a call: it is done or it is not."""

    def __init__(self, method: str) -> None:
        super().__init__(
            "environment",
            f"targetplugind went away before it answered {method}",
            hint="see systemctl status targetplugind, then targetplugin operation list",
        )


class DaemonEnding(AnswerLost):
    """The daemon was killed, and the kernel can't end it yet; its socket is open until then."""

    def __init__(self, process: int) -> None:
        ControlError.__init__(
            self,
            "environment",
            f"targetplugind (process {process}) was killed, and can't end before a disk answers"
            " what it was asked for",
            hint="hosts wait; another is started when the disk answers, or in a minute and a half:"
            " dmesg names the disk, and targetplugin operation list then says what was done",
        )


class Client:
    """A connection to the daemon, for one thread. Made by `connect`."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb")
        self._number = 0
        told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        self._process = int(_CREDENTIALS.unpack(told)[0])

    @classmethod
    def connect(cls, path: str | os.PathLike[str] = DEFAULT_SOCKET) -> Client:
        """Raises DaemonAway where no daemon is, ControlError where it may not be spoken to."""
        place = os.fspath(path)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(_CONNECT_SECONDS)
        try:
            connection.connect(place)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
            connection.close()
            raise DaemonAway(place) from error
        except PermissionError as error:
            connection.close()
            raise ControlError(
                "rights",
                f"this user may not speak to targetplugind at {place}",
                object=place,
                hint="run it as root, or with sudo",
            ) from error
        except OSError as error:
            connection.close()
            raise ControlError(
                "environment",
                f"the control socket {place} can't be reached: {error.strerror or error}",
                object=place,
                hint="see systemctl status targetplugind",
            ) from error
        connection.settimeout(None)  # a verb may take its time
        return cls(connection)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; what was asked goes on."""
        self._lines.close()
        self._connection.close()

    def call(self, method: str, **params: Any) -> Any:
        """The result of a method; parameters go by name.

        Raises:
            AnswerLost: the daemon went away; whether it is done is not known.
            DaemonEnding: the same, and its socket is still there.
            ControlError: it is not done.
        """
        self._number += 1
        request = {"jsonrpc": wire.JSONRPC, "id": self._number, "method": method, "params": params}
        line = json.dumps(request, separators=(",", ":")).encode() + b"\n"
        if len(line) > wire.MAX_LINE:
            raise ControlError("usage", f"{method}: the request is too long")
        try:
            self._send(line)
            while not select.select([self._connection], [], [], _LOOK_SECONDS)[0]:
                if _is_dead(self._process):
                    raise DaemonEnding(self._process)
            answer = self._lines.readline()
        except OSError as error:
            raise AnswerLost(method) from error
        if not answer.endswith(b"\n"):
            raise AnswerLost(method)
        return _result(method, json.loads(answer))

    def _send(self, line: bytes) -> None:
        # A daemon that refuses this user answers and hangs up without reading: its answer counts.
        try:
            self._connection.sendall(line)
        except (BrokenPipeError, ConnectionResetError):
            return


def _is_dead(process: int) -> bool:
    """Whether a process is a zombie: killed, with a thread that waits in the kernel. 0: not known."""
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except (OSError, IndexError):
        return False


def _result(method: str, answer: dict[str, Any]) -> Any:
    if "result" in answer:
        return answer["result"]
    error = answer["error"]
    data = error.get("data") or {}
    raise ControlError(
        data.get("reason", "bug"),
        error["message"],
        object=data.get("object", ""),
        hint=data.get("hint", ""),
        progress=data.get("progress"),
    )
