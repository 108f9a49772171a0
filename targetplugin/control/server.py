"""The control socket: who may speak, lines in, lines out, a thread for each connection.

Owns the socket and its file. Decides no state: each call is a verb of the subsystem that it was
given, and goes on to its end when the one who asked goes away.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import pwd
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from targetplugin import logs
from targetplugin.control import protocol, wire
from targetplugin.control.methods import DOOR, METHODS, BadParams, read_params
from targetplugin.errors import Reason, Refused

_log = logging.getLogger(__name__)
_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred, unix(7)
_NO_LOGIN = 0xFFFFFFFF  # of a service: nobody logged in for it
_SEND_SECONDS = 30  # a peer that takes no answer for so long has gone


class Server:
    """Serves the verbs of a subsystem on a unix socket.

    Args:
        subsystem: its methods are the verbs; they raise Refused and return what JSON can hold.
        path: of the socket.
        users: user ids that may speak; by default root and the daemon's own.
        asked_by: the verbs for one who asks, given as a text; by default `subsystem` for all.
    """

    def __init__(
        self,
        subsystem: Any,
        path: str | os.PathLike[str] = wire.DEFAULT_SOCKET,
        *,
        users: frozenset[int] | None = None,
        asked_by: Callable[[str], Any] | None = None,
    ) -> None:
        self._subsystem = subsystem
        self._asked_by = asked_by or (lambda who: subsystem)
        self._path = Path(path)
        self._users = users if users is not None else frozenset({0, os.geteuid()})
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._listener: socket.socket | None = None
        self._owner: int | None = None
        self._stopping = False

    def start(self) -> None:
        """Listens when it returns.

        Raises:
            Refused: another daemon serves this socket, or its place can't be used.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._own()
            self._clear()
            self._listener = self._bind()
        except OSError as error:
            self._disown()
            raise Refused(
                Reason.ENVIRONMENT,
                f"the control socket {self._path} can't be made: {error.strerror}",
                object=str(self._path),
                hint="check the directory and its rights",
            ) from error
        except Refused:
            self._disown()
            raise
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def stop(self, timeout: float = 5.0) -> None:
        """Takes no more calls; those that run may end and answer for `timeout` seconds."""
        self._stopping = True
        if self._listener is None:
            return
        with contextlib.suppress(OSError):
            self._path.unlink()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            open_now = dict(self._connections)
        for connection in open_now:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
        end = time.monotonic() + timeout
        for thread in open_now.values():
            if thread is not threading.current_thread():
                thread.join(max(0.0, end - time.monotonic()))
        self._disown()

    # The socket's file.

    def _own(self) -> None:
        """A lock beside the socket says whose it is: no two daemons clear each other's away."""
        lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise Refused(
                Reason.STATE,
                f"another targetplugind serves {self._path}",
                object=str(self._path),
                hint="stop it first: systemctl stop targetplugind",
            ) from None
        self._owner = lock

    def _disown(self) -> None:
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None

    def _clear(self) -> None:
        """Removes the socket that a daemon which died left; anything else in its place stays."""
        try:
            mode = self._path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise Refused(
                Reason.ENVIRONMENT,
                f"{self._path} is there and no socket",
                object=str(self._path),
                hint="move it away",
            )
        self._path.unlink()

    def _bind(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o117)  # for the daemon's group, too; who may ask is looked at besides
        try:
            listener.bind(str(self._path))
        except OSError:
            listener.close()
            raise
        finally:
            os.umask(before)
        listener.listen(64)
        return listener

    # Connections.

    def _accept(self) -> None:
        assert self._listener is not None
        while not self._stopping:
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if self._stopping:
                    return
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS):
                    _log.error("the control socket takes no one: %s", error.strerror)
                    time.sleep(0.5)
                    continue
                if error.errno in (errno.ECONNABORTED, errno.EINTR):
                    continue
                raise
            thread = threading.Thread(
                target=self._converse, args=(connection,), name="control peer", daemon=True
            )
            with self._lock:
                self._connections[connection] = thread
            thread.start()

    def _converse(self, connection: socket.socket) -> None:
        try:
            connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_SECONDS, 0)
            )
            refused = self._check_peer(connection)
            if refused is not None:
                connection.sendall(protocol.encode(refused))
                return
            who = _who(connection)
            verbs = self._asked_by(who)
            with connection.makefile("rb") as lines, logs.about(door=DOOR, asker=who):
                self._answer_lines(connection, lines, verbs)
        except OSError as error:
            _log.debug("a peer of the control socket went away: %s", error)
        finally:
            with self._lock:
                self._connections.pop(connection, None)
            connection.close()

    def _check_peer(self, connection: socket.socket) -> protocol.Failure | None:
        told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, user, _ = _CREDENTIALS.unpack(told)
        if user in self._users:
            return None
        _log.warning("user %d (process %d) may not use the control socket", user, pid)
        return protocol.failure(
            None,
            wire.REFUSED,
            f"user {user} may not use the control socket",
            Reason.RIGHTS.value,
            hint="run it as root",
        )

    def _answer_lines(self, connection: socket.socket, lines: BinaryIO, verbs: Any) -> None:
        while not self._stopping:
            line = lines.readline(wire.MAX_LINE + 1)
            if not line:
                return
            if len(line) > wire.MAX_LINE:
                text = f"a request has at most {wire.MAX_LINE} bytes"
                long = protocol.failure(None, wire.INVALID_REQUEST, text, "usage")
                connection.sendall(protocol.encode(long))
                return
            if line.isspace():
                continue
            answer = self.answer(line, verbs)
            if answer is not None:
                connection.sendall(answer)

    # Calls.

    def answer(self, line: bytes, verbs: Any = None) -> bytes | None:
        """What is sent back for a line: an answer, a batch's answers, or None (notifications)."""
        verbs = self._subsystem if verbs is None else verbs
        try:
            value = protocol.parse(line)
        except protocol.Malformed as malformed:
            return protocol.encode(malformed.answer)
        if not isinstance(value, list):
            answer = self._call(value, verbs)
            return None if answer is None else self._encode(answer)
        if not value:
            text = "a batch holds a request or more"
            return protocol.encode(protocol.failure(None, wire.INVALID_REQUEST, text, "usage"))
        answers = [self._call(v, verbs) for v in value]
        parts = [self._encode(a).rstrip(b"\n") for a in answers if a is not None]
        return b"[" + b",".join(parts) + b"]\n" if parts else None

    def _encode(self, answer: protocol.Answer) -> bytes:
        try:
            return protocol.encode(answer)
        except (TypeError, ValueError, OverflowError, RecursionError):
            _log.exception("a result can't be written as JSON")
            return protocol.encode(_bug(answer.id, "the result can't be written as JSON"))

    def _call(self, value: Any, verbs: Any) -> protocol.Answer | None:
        try:
            request = protocol.read_request(value)
        except protocol.Malformed as malformed:
            return malformed.answer
        answer = self._run(request, verbs)
        return None if request.is_notification else answer

    def _run(self, request: protocol.Request, verbs: Any) -> protocol.Answer:
        id = request.answer_id
        method = METHODS.get(request.method)
        if method is None:
            text = f"there is no method {request.method!r}"
            hint = "the terminal and the daemon may be of different versions"
            return protocol.failure(id, wire.METHOD_NOT_FOUND, text, "usage", hint=hint)
        try:
            required, named = read_params(method, request.params)
        except BadParams as bad:
            text = f"{request.method}: {bad}"
            return protocol.failure(id, wire.INVALID_PARAMS, text, Reason.USAGE.value)
        try:
            result = getattr(verbs, method.verb)(*required, **named)
        except Refused as refused:
            return protocol.failure(
                id,
                wire.REFUSED,
                refused.message,
                refused.reason.value,
                object=refused.object,
                hint=refused.hint,
                progress=refused.progress,
            )
        except OSError as error:
            _log.exception("%s failed", request.method)
            named_file = error.filename if isinstance(error.filename, str) else ""
            text = f"{request.method} failed: {error.strerror or error}"
            text += f" ({named_file})" if named_file else ""
            hint = "see journalctl -u targetplugind"
            reason = Reason.ENVIRONMENT.value
            return protocol.failure(id, wire.REFUSED, text, reason, object=named_file, hint=hint)
        except Exception as error:
            _log.exception("%s met a bug", request.method)
            return _bug(id, f"{request.method}: {type(error).__name__}")
        return protocol.Success(result, id)


def _who(connection: socket.socket) -> str:
    """Who is at the other end, as the kernel knows it: `root (process 812), logged in as ann`."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, user, _ = _CREDENTIALS.unpack(told)
    text = f"{_user_name(user)} (process {pid})"
    try:
        login = int(Path(f"/proc/{pid}/loginuid").read_text())
    except (OSError, ValueError):
        return text  # it has gone already, or the kernel does not keep it
    return text if login in (user, _NO_LOGIN) else f"{text}, logged in as {_user_name(login)}"


def _user_name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def _bug(id: protocol.Id, text: str) -> protocol.Failure:
    hint = "see journalctl -u targetplugind, and report it"
    message = f"a defect of the daemon: {text}"
    return protocol.failure(id, wire.INTERNAL_ERROR, message, "bug", hint=hint)
