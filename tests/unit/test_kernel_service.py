"""The service that has the rights to LIO, asked over a real socket: rings come as open descriptors, nobody
else is answered, what is not of the narrow form is not done, and a service that dies is asked again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from targetplugin.errors import Reason, Refused
from targetplugin.kernel import asked, service
from targetplugin.kernel.hotplug import Hotplug
from targetplugin.kernel.lio import Initiator, Lio
from targetplugin.kernel.remote import RemoteLio, RemoteRings, Service
from targetplugin.service import handed
from targetplugin.service.listener import Listener, listening
from tests.unit.fake_kernel import HOST, FakeKernel
from tests.unit.house import House
from tests.unit.test_kernel_configfs import TARGET, tree  # noqa: F401
from tests.unit.test_kernel_hotplug import device
from tests.waiting import until

IDENTITY = "6f1e" * 8
MIB = 1 << 20
Perform = Callable[[asked.AnyRequest], tuple[asked.Answer, list[int]]]


class Place:
    """A socket and who listens there, in a thread of this process."""

    def __init__(self, path: Path, perform: Perform, user: int | None = None) -> None:
        self.path = path
        self.listening = listening(path, "targetplugin-lio")
        self._listener = Listener(
            self.listening, service.converse(os.geteuid() if user is None else user, perform)
        )
        self._thread = threading.Thread(target=self._listener.run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._listener.stop()
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.listening.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Makes a service before something that performs, and says how it is asked."""
    places: list[Place] = []

    def serve(lio: Any, hotplug: Any = None, user: int | None = None) -> Service:
        performer = service.Performer(lio, hotplug or Hotplug(tmp_path / "sys", tmp_path / "dev"))
        places.append(Place(tmp_path / f"lio{len(places)}.sock", performer.perform, user))
        return Service(places[-1].path, 0.3)

    yield serve
    for place in places:
        place.end()


def test_volumes_are_exported_through_it(tmp_path: Path, served: Callable[..., Service]) -> None:
    """The whole subsystem, with a kernel at the other end of the socket."""
    there = FakeKernel()

    class Rings:
        def find(self, name: str) -> Any:
            return None

    place = served(there, Rings())
    house = House(tmp_path / "house", RemoteLio(place, there), there)  # type: ignore[arg-type]
    house.media("a", "b")
    house.volume()
    chap = {"user": "night", "password": "correct horse battery"}
    house.subsystem.export("ledger", [HOST], chap=chap)
    (told,) = there.targets.values()
    assert told == ("ledger", ["192.0.2.1:3260"], {HOST: "night"})
    assert there.done == ["make", "open", "reset", "unblock", "export"]
    house.subsystem.unexport("ledger")
    assert there.done[-2:] == ["unexport", "remove"]
    house.end()


def test_it_does_to_lio_what_lio_would_do(
    tree: Path,  # noqa: F811
    served: Callable[..., Service],
) -> None:
    there = Lio(tree, lambda: True)
    remote = RemoteLio(served(there), there)
    remote.reset_ring("ledger")
    place = tree / "core/user_0/ledger"
    assert (place / "action/block_dev").read_text() == "1"
    assert (place / "action/reset_ring").read_text() == "1"
    remote.unblock("ledger")
    assert (place / "action/block_dev").read_text() == "0"
    remote.grow("ledger", 128 * MIB)
    assert (place / "control").read_text() == f"dev_size={128 * MIB}"
    (place / "action/free_kept_buf").write_text("")
    remote.free_buffers("ledger", 17)
    assert (place / "action/free_kept_buf").read_text() == "17"
    hosts = [Initiator(HOST.replace("2026-01", "2026-11"), "night", "correct horse battery")]
    with pytest.raises(Refused, match="LIO restores its own configuration") as refused:
        remote.ensure_export("ledger", TARGET, ["10.0.0.1:3260"], hosts)
    assert (refused.value.reason, refused.value.hint) == (
        Reason.ENVIRONMENT,
        "Try again in a few seconds.",
    )
    assert remote.storage_object("ledger") == "targetplugin/6f1e"
    assert remote.storage_object("other") is None


def test_a_ring_comes_as_an_open_descriptor(tmp_path: Path, served: Callable[..., Service]) -> None:
    device(tmp_path / "sys", "uio3", "tcm-user/0/ledger/targetplugin/1", "0x1000")
    (tmp_path / "dev").mkdir()
    node = tmp_path / "dev/uio3"
    node.write_bytes(b"ring")
    rings = RemoteRings(served(FakeKernel()), Hotplug(tmp_path / "sys", tmp_path / "nowhere"))
    descriptor, length = rings.open("ledger")
    try:
        assert (os.read(descriptor, 4), length) == (b"ring", 0x1000)
        os.pwrite(descriptor, b"R", 0)
        assert node.read_bytes() == b"Ring"
        assert fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        until(lambda: opened(node) == [descriptor], awaited="the service's own copy closed")
    finally:
        os.close(descriptor)


def opened(path: Path) -> list[int]:
    """This process' descriptors of a file."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == str(path):
                found.append(int(name))
        except OSError:
            continue
    return found


def test_a_ring_that_is_not_ours_is_not_handed_over(
    tmp_path: Path, served: Callable[..., Service]
) -> None:
    device(tmp_path / "sys", "uio0", "tcm-user/0/ledger/qcow/x")
    device(tmp_path / "sys", "uio1", "igb_uio")
    place = served(FakeKernel())
    for name in ("ledger", "uio1"):
        with pytest.raises(Refused, match="is not ours"):
            place.ask_for_one(asked.OpenRing(name))


def test_what_is_not_ours_is_not_exported(served: Callable[..., Service]) -> None:
    there = FakeKernel()
    place = served(there)
    for request in (
        asked.EnsureExport("other", TARGET, ["10.0.0.1:3260"], []),
        asked.FreeBuffers("other", 1),
    ):
        with pytest.raises(Refused, match="no storage object other of targetplugin's") as refused:
            place.ask(request)
        assert refused.value.reason is Reason.NOT_FOUND
    assert there.done == []


def test_nobody_else_is_answered(served: Callable[..., Service]) -> None:
    there = FakeKernel()
    place = served(there, user=os.geteuid() + 1)
    with pytest.raises(Refused, match=f"User {os.geteuid()} may not ask") as refused:
        place.ask(asked.ResetRing("ledger"))
    assert refused.value.reason is Reason.RIGHTS
    assert there.done == []


@pytest.mark.parametrize(
    "line",
    [
        {"do": "ResetRing", "name": "../../../../etc"},
        {"do": "ResetRing", "name": "*"},
        {"do": "ResetRing", "name": "ledger\n"},
        {"do": "ResetRing", "name": ""},
        {"do": "ResetRing", "name": "ledger@x"},
        {"do": "ResetRing"},
        {"do": "ResetRing", "name": "ledger", "path": "/etc/passwd"},
        {"do": "RemoveEverything", "name": "ledger"},
        {"name": "ledger"},
        {"do": "FreeBuffers", "name": "ledger", "command": -1},
        {"do": "Grow", "name": "ledger", "size": "1G"},
        {"do": "Grow", "name": "ledger", "size": 0},
        {
            "do": "EnsureStorageObject",
            "name": "ledger",
            "identity": "6f1e,dev_size=1",
            "size": MIB,
            "block_size": 512,
        },
        {
            "do": "EnsureStorageObject",
            "name": "ledger",
            "identity": IDENTITY,
            "size": MIB + 512,
            "block_size": 4096,
        },
        {
            "do": "EnsureStorageObject",
            "name": "ledger",
            "identity": IDENTITY,
            "size": MIB,
            "block_size": 1024,
        },
        ["ResetRing", "ledger"],
    ],
)
def test_what_is_not_of_the_narrow_form_is_not_done(
    served: Callable[..., Service], line: Any
) -> None:
    there = FakeKernel()
    place = served(there)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(place.path))
        peer.sendall(json.dumps(line).encode() + b"\n")
        answer = asked.answer(handed.receive(peer)[0])
    assert answer.refused is not None
    assert answer.refused.reason is Reason.USAGE
    assert there.done == []


def test_spoilt_requests_are_refused_or_right_and_the_service_goes_on(
    served: Callable[..., Service],
) -> None:
    """Single bytes of right requests changed: what is done then is of a right form, too."""
    chance = random.Random(13)

    class Careful(FakeKernel):
        def unblock(self, name: str) -> None:
            assert re.fullmatch(r"[A-Za-z0-9][\w.-]{0,31}(@\d{1,20})?", name, re.ASCII), name
            super().unblock(name)

        def grow(self, name: str, size: int) -> None:
            assert 512 <= size <= 1 << 62

    place = served(Careful())
    right = [asked.line(asked.Unblock("ledger@3")), asked.line(asked.Grow("ledger", MIB))]
    refused = 0
    for _ in range(400):
        line = bytearray(chance.choice(right))
        line[chance.randrange(len(line) - 1)] = chance.randrange(256)
        if b"\n" in line[:-1]:
            continue
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(place.path))
            peer.sendall(line)
            answer = asked.answer(handed.receive(peer)[0])
        if answer.refused is not None:
            assert answer.refused.reason is Reason.USAGE, answer
            refused += 1
    assert refused > 200


def test_descriptors_that_come_with_a_request_are_dropped(
    tmp_path: Path, served: Callable[..., Service]
) -> None:
    place = served(FakeKernel())
    given = tmp_path / "given"
    with open(given, "wb") as file, socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(place.path))
        handed.send(peer, asked.line(asked.Unblock("ledger")), [file.fileno()] * 20)
        assert asked.answer(handed.receive(peer)[0]).refused is None
        assert opened(given) == [file.fileno()]


def test_a_line_without_end_is_not_listened_to_for_ever(served: Callable[..., Service]) -> None:
    there = FakeKernel()
    place = served(there)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(place.path))
        with contextlib.suppress(ConnectionError):  # it hangs up while more is sent
            for _ in range(64):
                peer.sendall(b" " * (1 << 16))
        with contextlib.suppress(ConnectionError):
            assert peer.recv(1) == b""
    assert RemoteLio(place, there).unblock("ledger") is None  # type: ignore[arg-type, func-returns-value]


def test_a_defect_of_the_service_is_told_as_one(served: Callable[..., Service]) -> None:
    class Broken(FakeKernel):
        def unblock(self, name: str) -> None:
            raise ZeroDivisionError

    with pytest.raises(Refused, match=r"A defect .* ZeroDivisionError"):
        served(Broken()).ask(asked.Unblock("ledger"))


# --- a service that is not there, or dies --------------------------------------------------------


def test_who_asks_waits_for_a_service_that_comes(tmp_path: Path) -> None:
    there = FakeKernel()
    path = tmp_path / "late.sock"
    done = threading.Thread(target=Service(path, 20).ask, args=(asked.Unblock("ledger"),))
    done.start()
    time.sleep(0.3)
    place = Place(path, service.Performer(there, None).perform)  # type: ignore[arg-type]
    done.join(20)
    assert there.done == ["unblock"]
    place.end()


def test_a_service_that_does_not_come_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"can't be asked at .*/none.sock: No such file") as refused:
        Service(tmp_path / "none.sock", 0.2).ask(asked.Unblock("ledger"))
    assert refused.value.reason is Reason.ENVIRONMENT
    assert "systemctl start targetplugin-lio.socket" in refused.value.hint


def test_a_service_that_hangs_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    place = tmp_path / "hung.sock"
    with (
        listening(place, "targetplugin-lio"),
        pytest.raises(Refused, match="it did not answer within"),
    ):
        Service(place).ask(asked.Unblock("ledger"), 0.2)


def test_a_service_that_dies_before_its_answer_is_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "lio.sock"
    answered = [b"", b'{"changed":tr', asked.line(asked.Answer(True))]

    def serve() -> None:
        with listening(path, "targetplugin-lio") as made:
            for line in answered:
                connection, _ = made.accept()
                handed.receive(connection)
                connection.sendall(line)
                connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert Service(path, 20).ask(asked.Unblock("ledger")).changed
    thread.join()


# --- the program ---------------------------------------------------------------------------------

PROGRAM = [sys.executable, "-m", "targetplugin.kernel.service"]


def me() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def test_the_program_answers_goes_on_after_a_kill_and_ends_cleanly(tmp_path: Path) -> None:
    path = tmp_path / "lio.sock"
    command = [*PROGRAM, "--socket", str(path), "--user", me()]
    place = Service(path, 20)
    for number in (signal.SIGKILL, signal.SIGTERM):
        running = subprocess.Popen(command)
        with pytest.raises(Refused, match="no storage object ledger"):
            place.ask(asked.FreeBuffers("ledger", 1))
        running.send_signal(number)
        assert running.wait(20) == (0 if number == signal.SIGTERM else -number)


def test_a_socket_that_systemd_hands_over_outlives_the_program(tmp_path: Path) -> None:
    """As systemd does it: the socket is descriptor 3, and stays when the service is started anew."""
    path = tmp_path / "lio.sock"
    with listening(path, "targetplugin-lio") as made:
        script = f'exec 3<&{made.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
        command = ["bash", "-c", script, "bash", *PROGRAM, "--user", me()]
        place = Service(path, 0.1)
        for _ in range(2):
            running = subprocess.Popen(command, pass_fds=[made.fileno()])
            with pytest.raises(Refused, match="no storage object ledger"):
                place.ask(asked.FreeBuffers("ledger", 1))
            running.terminate()
            assert running.wait(20) == 0


def test_the_program_says_what_it_lacks(tmp_path: Path) -> None:
    done = subprocess.run(PROGRAM, capture_output=True, text=True)
    assert (done.returncode, "systemd handed none over" in done.stderr) == (1, True)
    command = [*PROGRAM, "--socket", str(tmp_path / "s"), "--user", "nobody-of-that-name"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, "there is no user" in done.stderr) == (1, True)
