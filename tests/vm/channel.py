"""The exec channel: a command's input, output and exit status over virtio serial ports.

Each machine has a few ports, each a unix socket here and a device there, and each carries one
command at a time; a lock file beside the socket says which are taken. Both directions speak lines
of words:

    SESSION run BASE64(JSON: argv, env, cwd, warm)      to the guest, first
    SESSION in BASE64 | SESSION eof               to the guest: input, its end
    SESSION out BASE64 | SESSION err BASE64       from the guest: output
    SESSION exit STATUS                           from the guest, last

SESSION is drawn anew for each command, and lines of other sessions are skipped: so whatever a
killed client left in a port, even half a line, harms nobody. When the client's socket closes, the
guest's agent (`guest/agent.py`) ends the command. A shell's 128 + N stands for death by signal N.
"""

import base64
import contextlib
import fcntl
import json
import os
import secrets
import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .errors import LabError

PORTS = 12
CHUNK = 24 * 1024
PORT_WAIT_SECONDS = 30.0

Sink = Callable[[bytes], None]


@dataclass(frozen=True)
class Request:
    """What is to run: an argument vector (no shell), variables besides the usual, a directory.

    `warm`: a Python program that the machine may keep loaded from one time to the next.
    """

    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    cwd: str = "/root"
    warm: bool = False


def qemu_arguments(machine: str, run_dir: Path) -> list[str]:
    """QEMU's arguments for a machine's ports."""
    arguments = ["-device", f"virtio-serial-pci,max_ports={PORTS + 1}"]
    for number in range(PORTS):
        path = socket_path(run_dir, machine, number)
        arguments += ["-chardev", f"socket,id=exec{number},path={path},server=on,wait=off"]
        port = f"virtserialport,chardev=exec{number},nr={number + 1},name=lab.exec.{number}"
        arguments += ["-device", port]
    return arguments


def socket_path(run_dir: Path, machine: str, number: int) -> Path:
    return run_dir / f"{machine}.exec{number}"


@contextlib.contextmanager
def _port(run_dir: Path, machine: str) -> Iterator[socket.socket]:
    """A connected port of the machine that nobody else uses."""
    deadline = time.monotonic() + PORT_WAIT_SECONDS
    while True:
        for number in range(PORTS):
            path = socket_path(run_dir, machine, number)
            with open(path.with_suffix(path.suffix + ".lock"), "w") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                with _connected(path, machine) as port:
                    yield port
                return
        if time.monotonic() > deadline:
            raise LabError(f"{PORTS} commands run on {machine} already: wait for one to end.")
        time.sleep(0.1)


def _connected(path: Path, machine: str) -> socket.socket:
    port = socket.socket(socket.AF_UNIX)
    try:
        port.connect(str(path))
    except OSError:
        port.close()
        raise LabError(
            f"The {machine} is not running: python3 -m tests.vm up, "
            f"or after a power cut: start {machine}"
        ) from None
    port.setblocking(False)
    return port


class Conversation:
    """One command on one port, seen from here. `stop` may be called from another thread."""

    def __init__(self, machine: str, request: Request, out: Sink, err: Sink) -> None:
        self._machine = machine
        self._sinks = {b"out": out, b"err": err}
        self._session = secrets.token_hex(6).encode()
        self._outgoing = bytearray(b"\n")
        self._incoming = b""
        self._status: int | None = None
        self._stop_read, self._stop_write = os.pipe()
        self._say(b"run", json.dumps(asdict(request)).encode())

    def stop(self) -> None:
        """Lets go of the port, which ends the command."""
        os.write(self._stop_write, b"x")

    def hold(self, run_dir: Path, source: bytes | int, timeout: float | None) -> int | None:
        """Runs the command to its end; returns its exit status, or None if it was stopped.

        `source` is the whole input or a descriptor to read it from; `timeout` is in seconds.
        Raises TimeoutError, or LabError if the machine is not there or goes away.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        if isinstance(source, bytes):
            for start in range(0, len(source), CHUNK):
                self._say(b"in", source[start : start + CHUNK])
            self._say(b"eof")
            source = -1
        try:
            with _port(run_dir, self._machine) as port:
                while self._status is None:
                    source, stopped = self._turn(port, source, deadline)
                    if stopped:
                        break
        finally:
            os.close(self._stop_read)
            os.close(self._stop_write)
        return self._status

    def _say(self, kind: bytes, payload: bytes = b"") -> None:
        self._outgoing += b" ".join((self._session, kind, base64.b64encode(payload))) + b"\n"

    def _turn(self, port: socket.socket, source: int, deadline: float | None) -> tuple[int, bool]:
        poll = select.poll()
        poll.register(port, select.POLLIN | (select.POLLOUT if self._outgoing else 0))
        poll.register(self._stop_read, select.POLLIN)
        if source >= 0 and len(self._outgoing) < 4 * CHUNK:
            poll.register(source, select.POLLIN)
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = dict(poll.poll(left))
        if not ready:
            raise TimeoutError
        if self._stop_read in ready:
            return source, True
        if source in ready:
            if data := os.read(source, CHUNK):
                self._say(b"in", data)
            else:
                self._say(b"eof")
                source = -1
        try:
            if ready.get(port.fileno(), 0) & select.POLLOUT:
                del self._outgoing[: port.send(self._outgoing[: 1 << 18])]
            if ready.get(port.fileno(), 0) & (select.POLLIN | select.POLLHUP):
                self._take(port.recv(1 << 18))
        except (ConnectionError, BrokenPipeError):
            self._take(b"")
        return source, False

    def _take(self, data: bytes) -> None:
        if not data:
            raise LabError(f"The {self._machine} went away while the command was running.")
        *lines, self._incoming = (self._incoming + data).split(b"\n")
        for line in lines:
            session, kind, payload = (*line.split(), b"", b"", b"")[:3]
            if session != self._session:
                continue
            if kind == b"exit":
                self._status = int(payload)
            elif kind in self._sinks:
                self._sinks[kind](base64.b64decode(payload))
