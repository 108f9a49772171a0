"""Messages on netlink: their parts, and what TCMU's say."""

from __future__ import annotations

import os
import socket
import struct
import threading

import pytest

from targetplugin.kernel import netlink, tcmu_events
from targetplugin.kernel.tcmu_events import Made, Resized, TcmuEvents, events
from tests.waiting import until

NAME = b"tcm-user/1/ledger/targetplugin/ledger\0"


def message(command: int, *attributes: bytes) -> bytes:
    body = struct.pack("=BBH", command, 2, 0) + b"".join(attributes)
    return netlink.HEAD.pack(netlink.HEAD.size + len(body), 30, 0, 0, 0) + body


def test_a_size_that_was_set_is_told() -> None:
    size = netlink.attribute(5, struct.pack("=Q", 64 << 20))
    found = events(message(3, netlink.attribute(1, NAME), netlink.attribute(2, bytes(4)), size))
    assert found == [Resized("ledger", 64 << 20)]


def test_one_that_is_made_is_told() -> None:
    assert events(message(1, netlink.attribute(1, NAME))) == [Made("ledger")]


@pytest.mark.parametrize(
    "data",
    [
        message(2, netlink.attribute(1, NAME), netlink.attribute(5, bytes(8))),
        message(1),
        message(3, netlink.attribute(1, NAME), netlink.attribute(5, bytes(4))),
        message(3, netlink.attribute(1, NAME)),
        message(3, netlink.attribute(5, bytes(8))),
        message(3, netlink.attribute(1, b"tcm-user/1/x/rbd/x\0"), netlink.attribute(5, bytes(8))),
        message(3, netlink.attribute(1, b"\xff\0"), netlink.attribute(5, bytes(8))),
        message(3),
        b"",
        b"\0" * 40,
        b"\xff" * 40,
        message(3, b"\x02\0\1\0"),
    ],
)
def test_what_else_comes_says_nothing(data: bytes) -> None:
    assert events(data) == []


def test_random_bytes_do_no_harm() -> None:
    for _ in range(2000):
        assert events(message(3, os.urandom(60))) == []


def test_an_error_of_the_kernel_s_is_raised() -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 16) as asked:
        body = struct.pack("=BBH", 3, 1, 0) + netlink.attribute(2, b"no such family\0")
        with pytest.raises(FileNotFoundError):
            list(netlink.ask(asked, 16, 0, body))


def test_what_is_made_is_told_a_moment_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcmu_events, "REFUSED_WITHIN", 0.2)
    kernel, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    told: list[object] = []
    listener = TcmuEvents(told.append, told.append)
    listener._socket = ours
    listener._thread.start()
    kernel.send(message(1, netlink.attribute(1, NAME)))
    kernel.send(message(3, netlink.attribute(1, NAME), netlink.attribute(5, bytes(8))))
    until(lambda: len(told) == 2)
    assert told == [Resized("ledger", 0), Made("ledger")]
    listener.stop()
    kernel.close()


def test_a_listener_starts_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the kernel's own family, which every machine has."""
    monkeypatch.setattr(tcmu_events, "_FAMILY", "nlctrl")
    monkeypatch.setattr(tcmu_events, "_GROUP", "notify")
    listener = TcmuEvents(print, print)
    listener.start()
    until(lambda: any(one.name == "tcmu-events" for one in threading.enumerate()))
    listener.stop()
    assert not any(one.name == "tcmu-events" for one in threading.enumerate())


def test_without_the_module_there_is_none(caplog: pytest.LogCaptureFixture) -> None:
    listener = TcmuEvents(print, print)
    with pytest.MonkeyPatch.context() as patch, caplog.at_level("INFO"):
        patch.setattr(tcmu_events, "_FAMILY", "no-such")
        listener.start()
    assert "LIO's events are not listened to" in caplog.text
    listener.stop()
