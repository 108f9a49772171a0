"""The control socket as a peer meets it: JSON-RPC 2.0 on a real unix socket before a fake."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from targetplugin.control import wire
from targetplugin.control.client import Client, ControlError, DaemonAway, DaemonEnding
from targetplugin.control.server import Server
from targetplugin.errors import Reason, Refused
from tests.unit.fake_subsystem import HOST, FakeSubsystem


@pytest.fixture
def fake() -> FakeSubsystem:
    return FakeSubsystem()


@pytest.fixture
def place(fake: FakeSubsystem, tmp_path: Path) -> Iterator[Path]:
    server = Server(fake, tmp_path / "control.sock")
    server.start()
    yield tmp_path / "control.sock"
    server.stop(1)


class Peer:
    """A socket that speaks lines, well-formed or not."""

    def __init__(self, place: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(str(place))
        self.lines = self.socket.makefile("rb")

    def send(self, line: bytes) -> None:
        self.socket.sendall(line + b"\n")

    def ask(self, line: bytes) -> Any:
        self.send(line)
        return json.loads(self.lines.readline())

    def close(self) -> None:
        self.lines.close()
        self.socket.close()


@pytest.fixture
def peer(place: Path) -> Iterator[Peer]:
    peer = Peer(place)
    yield peer
    peer.close()


def request(method: str, params: Any = None, id: Any = 1) -> bytes:
    message = {"jsonrpc": "2.0", "method": method, "id": id}
    if params is not None:
        message["params"] = params
    return json.dumps(message).encode()


def test_a_call_is_answered_with_its_id_and_result(peer: Peer, fake: FakeSubsystem) -> None:
    answer = peer.ask(request("status", id="seven"))
    assert answer == {"jsonrpc": "2.0", "id": "seven", "result": fake.answers["status"]}


def test_only_what_the_caller_gave_reaches_the_verb(peer: Peer, fake: FakeSubsystem) -> None:
    peer.ask(request("volume.create", {"name": "ledger", "size": 1 << 29, "media": ["a", "b"]}))
    assert fake.calls == [("volume_create", ("ledger", 1 << 29), {"media": ["a", "b"]})]


def test_an_operation_is_told_its_door_and_request(peer: Peer, fake: FakeSubsystem) -> None:
    peer.ask(request("save", {"volume": "ledger", "request": "0f" * 16}))
    peer.ask(request("recover", {"save": "ledger@3"}))
    assert fake.calls == [
        ("save", ("ledger",), {"door": "terminal", "request": b"\x0f" * 16}),
        ("recover", ("ledger@3",), {"door": "terminal", "request": None}),
    ]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", wire.PARSE_ERROR),
        (b'{"jsonrpc": "2.0", "method": "st\xff"}', wire.PARSE_ERROR),
        (b"[" * 100_000, wire.PARSE_ERROR),
        (b"1", wire.INVALID_REQUEST),
        (b"[]", wire.INVALID_REQUEST),
        (b'{"jsonrpc": "2.0", "method": 1, "id": null}', wire.INVALID_REQUEST),
    ],
)
def test_what_is_no_request_is_told_so_and_the_line_stays_open(
    peer: Peer, line: bytes, code: int
) -> None:
    answer = peer.ask(line)
    assert answer["error"]["code"] == code
    assert answer["id"] is None
    assert "result" in peer.ask(request("status"))


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"method": "status", "id": 5}, wire.INVALID_REQUEST),
        ({"jsonrpc": "1.0", "method": "status", "id": 5}, wire.INVALID_REQUEST),
        ({"jsonrpc": "2.0", "method": "status", "params": 3, "id": 5}, wire.INVALID_REQUEST),
        ({"jsonrpc": "2.0", "method": "stats", "id": 5}, wire.METHOD_NOT_FOUND),
        ({"jsonrpc": "2.0", "method": "__init__", "id": 5}, wire.METHOD_NOT_FOUND),
        ({"jsonrpc": "2.0", "method": "status", "params": ["x"], "id": 5}, wire.INVALID_PARAMS),
    ],
)
def test_a_request_that_is_wrong_is_refused_under_its_id(
    peer: Peer, message: dict[str, Any], code: int
) -> None:
    answer = peer.ask(json.dumps(message).encode())
    assert (answer["error"]["code"], answer["id"]) == (code, 5)


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        ("save", {}, ["'volume'", "missing"]),
        ("save", {"volume": 3}, ["'volume'", "str"]),
        ("save", {"volume": "l", "polcy": "copy"}, ["'polcy'", "policy"]),
        ("save", {"volume": "l", "policy": "both"}, ["'policy'", "'both'", "split, copy"]),
        ("save", {"volume": "l", "request": "12"}, ["'request'"]),
        ("volume.create", {"name": "l", "size": 0}, ["'size'", "1"]),
        ("volume.create", {"name": "l", "size": 1 << 70}, ["'size'"]),
        ("volume.create", {"name": "l", "size": True}, ["'size'"]),
        ("volume.create", {"name": "l", "size": 9, "extent_size": 5000}, ["'extent_size'", "5000"]),
        ("media.add", {"path": "vdb"}, ["'path'", "absolute"]),
        ("restore", {"volume": "l"}, ["image", "backup"]),
        ("restore", {"volume": "l", "image": "/i", "backup": 1}, ["image", "backup"]),
        ("backup", {"save": "l", "path": "/b", "since": "l@1", "base": 1}, ["since"]),
        ("operation.rate", {"op": 1, "rate": 1000}, ["'rate'"]),
        ("export", {"volume": "l", "initiators": []}, ["'initiators'"]),
        ("export", {"volume": "l", "initiators": ["host"]}, ["'initiators'", "'host'"]),
        ("export", {"volume": "l", "initiators": [HOST], "portals": ["h"]}, ["'portals'", "'h'"]),
        (
            "export",
            {"volume": "l", "initiators": [HOST], "chap": {"user": "u", "password": "short"}},
            ["'chap'", "12 bytes"],
        ),
        ("operation.wait", {"op": 1, "timeout": 3600}, ["'timeout'", "60"]),
    ],
)
def test_a_wrong_parameter_is_named(
    peer: Peer, fake: FakeSubsystem, method: str, params: dict[str, Any], words: list[str]
) -> None:
    error = peer.ask(request(method, params))["error"]
    assert error["code"] == wire.INVALID_PARAMS
    assert error["data"]["reason"] == "usage"
    for word in [method, *words]:
        assert word in error["message"]
    assert fake.calls == []


def test_a_password_is_in_no_error(peer: Peer) -> None:
    chap = {"user": "u", "password": "hunter2"}
    answer = peer.ask(request("export", {"volume": "l", "initiators": [HOST], "chap": chap}))
    assert "hunter2" not in json.dumps(answer)


def test_portals_get_their_port(peer: Peer, fake: FakeSubsystem) -> None:
    portals = ["192.0.2.1", "192.0.2.1:3261", "2001:db8::1", "[2001:db8::1]:3261"]
    peer.ask(request("export", {"volume": "l", "initiators": [HOST], "portals": portals}))
    assert fake.calls[0][2]["portals"] == [
        "192.0.2.1:3260",
        "192.0.2.1:3261",
        "[2001:db8::1]:3260",
        "[2001:db8::1]:3261",
    ]


def test_a_notification_is_done_and_not_answered(peer: Peer, fake: FakeSubsystem) -> None:
    peer.send(b'{"jsonrpc": "2.0", "method": "release", "params": {"save": "ledger@3"}}')
    peer.send(b'{"jsonrpc": "2.0", "method": "no such"}')
    assert peer.ask(request("status", id=9))["id"] == 9
    assert [call[0] for call in fake.calls] == ["release", "status"]


def test_a_batch_is_answered_in_one_line_without_its_notifications(peer: Peer) -> None:
    batch = [
        {"jsonrpc": "2.0", "method": "media.list", "id": 1},
        {"jsonrpc": "2.0", "method": "status"},
        7,
        {"jsonrpc": "2.0", "method": "no such", "id": 2},
    ]
    answers = peer.ask(json.dumps(batch).encode())
    assert [answer["id"] for answer in answers] == [1, None, 2]
    assert [answer.get("error", {}).get("code") for answer in answers] == [
        None,
        wire.INVALID_REQUEST,
        wire.METHOD_NOT_FOUND,
    ]


def test_a_batch_of_notifications_has_no_answer(peer: Peer) -> None:
    peer.send(b'[{"jsonrpc": "2.0", "method": "status"}]')
    assert peer.ask(request("status", id=4))["id"] == 4


def test_a_refusal_carries_all_that_is_known_of_it(place: Path, fake: FakeSubsystem) -> None:
    fake.refuse("swap", Reason.BUSY, "it fills", object="ledger@3", hint="wait", progress=0.25)
    with Client.connect(place) as client, pytest.raises(ControlError) as caught:
        client.call("swap", save="ledger")
    error = caught.value
    assert (error.reason, error.message, error.object) == ("busy", "it fills", "ledger@3")
    assert (error.hint, error.progress) == ("wait", 0.25)


def test_a_failing_disk_is_the_environments_fault(place: Path, fake: FakeSubsystem) -> None:
    fake.raises["save"] = OSError(5, "Input/output error", "/dev/vdb")
    with Client.connect(place) as client, pytest.raises(ControlError) as caught:
        client.call("save", volume="ledger")
    assert caught.value.reason == "environment"
    assert "Input/output error (/dev/vdb)" in caught.value.message


def test_a_defect_is_told_as_one_and_logged(
    place: Path, fake: FakeSubsystem, caplog: pytest.LogCaptureFixture
) -> None:
    fake.raises["save"] = KeyError("secret")
    with Client.connect(place) as client, pytest.raises(ControlError) as caught:
        client.call("save", volume="ledger")
    assert caught.value.reason == "bug"
    assert "secret" not in caught.value.message
    assert "KeyError: 'secret'" in caplog.text


def test_a_result_that_is_no_json_is_a_defect(place: Path, fake: FakeSubsystem) -> None:
    fake.answers["status"] = {"volumes": object()}
    with Client.connect(place) as client:
        with pytest.raises(ControlError) as caught:
            client.call("status")
        assert caught.value.reason == "bug"
        assert client.call("media.list")


def test_a_line_that_is_too_long_is_refused_and_the_peer_sent_away(peer: Peer) -> None:
    sender = threading.Thread(target=_flood, args=(peer.socket,), daemon=True)
    sender.start()
    answer = json.loads(peer.lines.readline())
    assert answer["error"]["code"] == wire.INVALID_REQUEST
    sender.join(10)
    assert not sender.is_alive()


def _flood(connection: socket.socket) -> None:
    try:
        connection.sendall(b"x" * (4 * wire.MAX_LINE))
    except OSError:
        return


def test_a_peer_that_leaves_does_not_stop_its_verb(place: Path, fake: FakeSubsystem) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def slow() -> dict[str, Any]:
        begun.set()
        go_on.wait(10)
        ended.set()
        return {}

    fake.answers["save"] = slow
    peer = Peer(place)
    peer.send(request("save", {"volume": "ledger"}))
    assert begun.wait(10)
    peer.close()
    go_on.set()
    assert ended.wait(10)
    with Client.connect(place) as client:
        assert client.call("status")


def test_one_slow_verb_keeps_no_other_peer_waiting(place: Path, fake: FakeSubsystem) -> None:
    go_on = threading.Event()
    fake.answers["operation_wait"] = lambda: go_on.wait(10)
    waiting = Peer(place)
    waiting.send(request("operation.wait", {"op": 1, "timeout": 10}))
    with Client.connect(place) as client:
        assert client.call("status")
    go_on.set()
    waiting.close()


def test_the_socket_is_its_owners_alone(place: Path) -> None:
    mode = place.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660


def test_another_user_is_refused(fake: FakeSubsystem, tmp_path: Path) -> None:
    server = Server(fake, tmp_path / "s", users=frozenset({os.geteuid() + 1}))
    server.start()
    with Client.connect(tmp_path / "s") as client, pytest.raises(ControlError) as caught:
        client.call("status")
    server.stop(1)
    assert caught.value.reason == "rights"
    assert fake.calls == []


def test_the_socket_of_a_daemon_that_died_is_replaced(fake: FakeSubsystem, tmp_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "s"))
    stale.close()
    with pytest.raises(DaemonAway, match="not running"):
        Client.connect(tmp_path / "s")
    server = Server(fake, tmp_path / "s")
    server.start()
    with Client.connect(tmp_path / "s") as client:
        assert client.call("status")
    server.stop(1)


def test_a_second_daemon_is_refused_and_the_first_goes_on(place: Path, fake: FakeSubsystem) -> None:
    with pytest.raises(Refused, match="another targetplugind"):
        Server(fake, place).start()
    with Client.connect(place) as client:
        assert client.call("status")


def test_a_file_in_the_sockets_place_stays(fake: FakeSubsystem, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("mine")
    with pytest.raises(Refused, match="no socket"):
        Server(fake, tmp_path / "s").start()
    assert (tmp_path / "s").read_text() == "mine"


def test_a_stopped_server_answers_what_runs_and_leaves_no_socket(
    fake: FakeSubsystem, tmp_path: Path
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        go_on.wait(10)
        return "done"

    fake.answers["save"] = slow
    place = tmp_path / "s"
    server = Server(fake, place)
    server.start()
    peer, idle = Peer(place), Peer(place)
    peer.send(request("save", {"volume": "ledger"}))
    assert begun.wait(10)
    threading.Timer(0.1, go_on.set).start()
    server.stop(10)
    assert json.loads(peer.lines.readline())["result"] == "done"
    assert idle.lines.readline() == b""
    assert not place.exists()
    with pytest.raises(DaemonAway) as caught:
        Client.connect(place)
    assert caught.value.hint == "start it: systemctl start targetplugind"
    peer.close()
    idle.close()
    again = Server(fake, place)
    again.start()
    again.stop(1)


def test_a_daemon_that_dies_in_a_call_leaves_the_outcome_open(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()

    def die() -> None:
        connection, _ = listener.accept()
        connection.recv(100)
        connection.sendall(b'{"jsonrpc": "2.0", "resu')
        connection.close()

    thread = threading.Thread(target=die)
    thread.start()
    with Client.connect(tmp_path / "s") as client, pytest.raises(ControlError) as caught:
        client.call("save", volume="ledger")
    thread.join()
    listener.close()
    assert caught.value.reason == "environment"
    assert "operation list" in caught.value.hint


LISTENS_ON_DEAD = """
import ctypes, socket, sys, threading, time
place = socket.socket(socket.AF_UNIX)
place.bind(sys.argv[1])
place.listen()
threading.Thread(target=time.sleep, args=(60,)).start()
print("listens", flush=True)
ctypes.CDLL(None).syscall(60, 0)  # exit, of this thread alone
"""


def test_a_daemon_that_was_killed_and_cant_end_is_not_waited_for(tmp_path: Path) -> None:
    place = str(tmp_path / "control.sock")
    command = [sys.executable, "-c", LISTENS_ON_DEAD, place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as dead:
        try:
            assert dead.stdout is not None
            assert dead.stdout.readline() == "listens\n"
            with Client.connect(place) as client, pytest.raises(DaemonEnding) as lost:
                client.call("status")
            assert f"process {dead.pid}" in lost.value.message
        finally:
            dead.kill()
