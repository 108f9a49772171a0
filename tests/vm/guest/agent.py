"""The guest's end of the exec channel: runs what the host asks for over virtio serial ports.

One thread serves one port, and a port carries one command at a time. The protocol is told in
`tests/vm/channel.py`. This file imports nothing but the standard library and does not know what
the commands are for.
"""

import base64
import collections
import contextlib
import glob
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import threading
import time

CHUNK = 24 * 1024
INPUT_LIMIT = 256 * 1024
PATIENCE_SECONDS = 1.0
HOST_SECONDS = 3.0
LOADING_SECONDS = 60.0
WARM = "/usr/local/lib/lab/warm.py"


class Port:
    """One virtio serial port: lines in, lines out, and whether the host's end is open."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self.lines: collections.deque[list[bytes]] = collections.deque()
        self._partial = b""

    def receive(self) -> None:
        """Takes in what has arrived, as far as there is room for it."""
        while len(self._partial) < INPUT_LIMIT:
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                break
            if not data:
                break
            self._partial += data
        *whole, self._partial = self._partial.split(b"\n")
        for line in whole:
            words = line.split()
            if len(words) >= 2:
                self.lines.append(words)

    def wait_for_line(self) -> list[bytes]:
        """The next line. A port without a host always polls as hung up, so edges are waited for."""
        with select.epoll() as edges:
            edges.register(self.fd, select.EPOLLIN | select.EPOLLET)
            self.receive()
            while not self.lines:
                edges.poll()
                self.receive()
        return self.lines.popleft()

    def host_is_there(self) -> bool:
        poll = select.poll()
        poll.register(self.fd, 0)
        return not any(event & select.POLLHUP for _, event in poll.poll(0))

    def wait_for_host(self) -> bool:
        """Whether the host's end is open.

        The kernel hears of that by another queue than the data's, and on a busy machine later: a
        request may come before it has heard that its client is there, or even that the client
        before is gone. So a port that hangs up is asked again for a while.
        """
        end = time.monotonic() + HOST_SECONDS
        while not (there := self.host_is_there()) and time.monotonic() < end:
            time.sleep(0.01)
        return there

    def send(self, *words: bytes) -> None:
        """Writes one line; waits while the host does not read, drops it if the host is gone."""
        data = memoryview(b" ".join(words) + b"\n")
        while data:
            try:
                data = data[os.write(self.fd, data) :]
            except BlockingIOError:
                poll = select.poll()
                poll.register(self.fd, select.POLLOUT)
                poll.poll(PATIENCE_SECONDS * 1000)
                if not self.wait_for_host():
                    return


class Started:
    """A command that is started as any shell would."""

    def __init__(self, argv: list[str], env: dict[str, str], cwd: str, fds: list[int]) -> None:
        self._process = subprocess.Popen(
            argv,
            stdin=fds[0],
            stdout=fds[1],
            stderr=fds[2],
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
        self.pid = self._process.pid
        self.ended = os.pidfd_open(self.pid)

    def status(self) -> int:
        """Waits for its end. Negative: minus the signal that ended it."""
        return self._process.wait()

    def close(self) -> None:
        self._process.poll()
        os.close(self.ended)


class Warm:
    """A command whose program is loaded already: see warm.py."""

    _loaded = threading.Lock()

    def __init__(self, argv: list[str], env: dict[str, str], cwd: str, fds: list[int]) -> None:
        program = shutil.which(argv[0])
        if not program:
            raise FileNotFoundError(2, "No such file or directory", argv[0])
        wish = {"argv": [program, *argv[1:]], "env": env, "cwd": cwd}
        self._talk = self._reach(program)
        socket.send_fds(self._talk, [json.dumps(wish).encode()], fds)
        self.pid = int(self._talk.recv(64))
        self.ended = self._talk.fileno()

    @classmethod
    def _reach(cls, program: str) -> socket.socket:
        """A connection to who has the program loaded; loads it, the first time."""
        place = f"/run/lab-warm-{os.path.basename(program)}"
        with cls._loaded:
            if not os.path.exists(place):
                subprocess.Popen(
                    ["/usr/bin/python3", "-I", WARM, program, place],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                )
            end = time.monotonic() + LOADING_SECONDS
            while True:
                talk = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                try:
                    talk.connect(place)
                    return talk
                except OSError:
                    talk.close()
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.1)

    def status(self) -> int:
        """Waits for its end. Negative: minus the signal that ended it."""
        return int(self._talk.recv(64) or -signal.SIGKILL)

    def close(self) -> None:
        self._talk.close()


class Command:
    """One running command: its process, and what is still to be written to its input."""

    def __init__(
        self, kind: type[Started] | type[Warm], argv: list[str], env: dict[str, str], cwd: str
    ) -> None:
        theirs: list[int] = []
        ours: list[int] = []
        for number in range(3):
            ends = os.pipe()
            theirs.append(ends[number != 0])
            ours.append(ends[number == 0])
        try:
            self.process = kind(argv, {**os.environ, **env}, cwd, theirs)
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self.stdin = ours[0]
        self.outputs = {ours[1]: b"out", ours[2]: b"err"}
        self._pipes = set(ours)
        self.ended = self.process.ended
        self.pending = bytearray()
        self.input_ended = False
        for fd in ours:
            os.set_blocking(fd, False)

    @property
    def hears(self) -> bool:
        """Whether its input is still open."""
        return self.stdin in self._pipes

    def feed(self) -> None:
        """Writes what the input's pipe takes, and closes it after the last byte."""
        if not self.hears:
            return
        try:
            while self.pending:
                del self.pending[: os.write(self.stdin, self.pending[:65536])]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.pending.clear()
            self.input_ended = True
        if self.input_ended:
            self._pipes.remove(self.stdin)
            os.close(self.stdin)

    def stop(self) -> None:
        """Ends the command and all of its process group, gently first."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            poll = select.poll()
            poll.register(self.ended, select.POLLIN)
            poll.poll(PATIENCE_SECONDS * 1000)

    def close(self) -> None:
        self.process.close()
        for fd in self._pipes:
            os.close(fd)


class Conversation:
    """One command on one port, from the request to its exit status."""

    def __init__(self, port: Port, session: bytes, command: Command) -> None:
        self.port = port
        self.session = session
        self.command = command

    def hold(self) -> None:
        """Passes input and output on until the command ends or its host is gone."""
        command = self.command
        while not self._overtaken():
            command.feed()
            ready = self._wait()
            for fd in [fd for fd in command.outputs if fd in ready]:
                self._forward(fd)
            if ready.get(self.port.fd, 0) & select.POLLHUP and not self.port.wait_for_host():
                break
            if command.ended in ready:
                self._say_farewell()
                return
        command.stop()

    def _wait(self) -> dict[int, int]:
        command = self.command
        poll = select.poll()
        room = len(command.pending) < INPUT_LIMIT
        poll.register(self.port.fd, select.POLLIN if room else 0)
        poll.register(command.ended, select.POLLIN)
        for fd in command.outputs:
            poll.register(fd, select.POLLIN)
        if command.pending and command.hears:
            poll.register(command.stdin, select.POLLOUT)
        ready = dict(poll.poll())
        if ready.get(self.port.fd, 0) & select.POLLIN:
            self.port.receive()
        return ready

    def _overtaken(self) -> bool:
        """Takes in this session's lines; True if another session's request follows them."""
        lines = self.port.lines
        while lines:
            session, kind, *rest = lines[0]
            if session == self.session and kind == b"in":
                self.command.pending += base64.b64decode(rest[0])
            elif session == self.session and kind == b"eof":
                self.command.input_ended = True
            elif kind == b"run":
                return True
            lines.popleft()
        return False

    def _forward(self, fd: int) -> bool:
        """Sends on what one pipe holds; False if it holds nothing."""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            del self.command.outputs[fd]
            return False
        self.port.send(self.session, self.command.outputs[fd], base64.b64encode(data))
        return True

    def _say_farewell(self) -> None:
        """All that the command has written, then its status.

        A background process may keep the pipes open, so their end is not waited for.
        """
        for fd in list(self.command.outputs):
            while self._forward(fd):
                pass
        status = self.command.process.status()
        if status < 0:
            status = 128 - status
        self.port.send(self.session, b"exit", b"%d" % status)


def serve(path: str) -> None:
    """Serves one port for ever."""
    port = Port(path)
    while True:
        session, kind, *rest = port.wait_for_line()
        if kind != b"run" or not rest or not port.wait_for_host():
            continue
        wish = json.loads(base64.b64decode(rest[0]))
        port.send(b"")
        try:
            kind = Warm if wish["warm"] else Started
            command = Command(kind, wish["argv"], wish["env"], wish["cwd"])
        except OSError as error:
            said = f"{error.filename}: {error.strerror}\n".encode()
            port.send(session, b"err", base64.b64encode(said))
            missing = isinstance(error, FileNotFoundError)
            port.send(session, b"exit", b"127" if missing else b"126")
            continue
        try:
            Conversation(port, session, command).hold()
        finally:
            command.close()


def main() -> None:
    """Finds the lab's ports by the names that the host gave them."""
    for name_file in glob.glob("/sys/class/virtio-ports/*/name"):
        with open(name_file) as file:
            name = file.read().strip()
        if name.startswith("lab.exec."):
            device = "/dev/" + name_file.split("/")[-2]
            threading.Thread(target=serve, args=(device,)).start()


main()
