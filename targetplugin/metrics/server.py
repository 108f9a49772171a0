"""Answers GET /metrics at a port of this machine, or at a unix socket. Off unless it is asked for.

There is no password and nothing is encrypted, so other machines are not listened to: let a proxy, or the
agent of one's monitoring, pass it on.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
import socket
import socketserver
import stat
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from targetplugin.errors import Reason, Refused
from targetplugin.metrics import exposition, families

PATH = "/metrics"
SECONDS = 10.0  # that a peer may take to ask, or to take the answer
_log = logging.getLogger(__name__)


class Metrics:
    """Args:
    where: IP:PORT with an address of the loopback, or the absolute path of a socket.
    status: asked at each GET; what it gives is what `status` of the control socket does.
    """

    def __init__(self, where: str, status: Callable[[], dict[str, Any]]) -> None:
        self._where = where
        self._status = status
        self._server: socketserver.BaseServer | None = None

    def start(self) -> None:
        """Listens when it returns. Raises Refused."""
        place = parse(self._where)
        try:
            self._server = _listen(place, self._handler())
        except OSError as error:
            raise Refused(
                Reason.ENVIRONMENT,
                f"metrics can't be told at {self._where}: {error.strerror or error}",
                object=self._where,
                hint=_hint(error),
            ) from error
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()
        _log.debug("metrics are told at %s", self._where)

    def stop(self) -> None:
        """Takes no more questions."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            if self._where.startswith("/"):
                with contextlib.suppress(OSError):
                    os.unlink(self._where)
            self._server = None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        status = self._status

        class Handler(_Handler):
            def told(self) -> str:
                return exposition.text(families.FAMILIES, families.samples(status()))

        return Handler


def _hint(error: OSError) -> str:
    if error.errno == errno.EAFNOSUPPORT:  # the unit has no network
        return (
            "give --metrics the path /run/targetplugin/metrics.sock, and have a port by"
            " systemctl enable --now targetplugin-metrics.socket"
        )
    return "choose another port or path for --metrics; ss -ltnp shows who has a port"


def parse(where: str) -> str | tuple[str, int]:
    """A socket's path, or an address and a port. Raises Refused (USAGE)."""
    if where.startswith("/"):
        return where
    host, _, port = where.rpartition(":")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        number = int(port)
    except ValueError:
        address, number = None, 0
    if address is None or not address.is_loopback or not 0 < number < 65536:
        raise Refused(
            Reason.USAGE,
            f"{where!r} is no place for metrics",
            object=where,
            hint="give a port of this machine alone, as 127.0.0.1:9950, or the path of a socket",
        )
    return str(address), number


def _listen(
    place: str | tuple[str, int], handler: type[BaseHTTPRequestHandler]
) -> socketserver.BaseServer:
    if isinstance(place, tuple):
        return (_Six if ":" in place[0] else _Four)(place, handler)
    with contextlib.suppress(FileNotFoundError):  # one that a daemon has left that died
        if stat.S_ISSOCK(os.lstat(place).st_mode):
            os.unlink(place)
    server = _Unix(place, handler)
    os.chmod(place, 0o666)  # as a port of this machine: for all its users
    return server


class _Threads(socketserver.ThreadingMixIn):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        _log.warning("a question for metrics was not answered", exc_info=True)


class _Four(_Threads, socketserver.TCPServer):
    allow_reuse_address = True


class _Six(_Four):
    address_family = socket.AF_INET6


class _Unix(_Threads, socketserver.UnixStreamServer):
    pass


class _Handler(BaseHTTPRequestHandler):
    timeout = SECONDS
    server_version = "targetplugind"
    sys_version = ""

    def told(self) -> str:
        raise NotImplementedError

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            self.send_error(404, f"there is {PATH} alone")
            return
        try:
            body = self.told().encode()
        except Refused as refused:
            self.send_error(503, refused.message)
            return
        self.send_response(200)
        self.send_header("Content-Type", exposition.CONTENT_TYPE)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return str(self.client_address)

    def log_message(self, format: str, *args: Any) -> None:
        _log.debug(format, *args)
