"""The service that runs hooks, asked over a real socket: what it runs, for whom, and how that ends."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from targetplugin.errors import Reason, Refused
from targetplugin.hooks import asked, service
from targetplugin.hooks.remote import RemoteRunner
from targetplugin.hooks.run import check
from targetplugin.service import handed
from targetplugin.service.listener import Listener, listening
from targetplugin.subsystem.ground.hooks import Hooks
from tests.unit.house import House
from tests.waiting import until

EVENT: dict[str, Any] = {
    "id": 7,
    "time": "2026-11-27T10:00:00.000Z",
    "door": "terminal",
    "who": "ann",
    "volume": "ledger",
    "kind": "save",
    "what": "save ledger@1: done",
    "operation": None,
    "details": {"label": "$(reboot)"},
}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., RemoteRunner]]:
    """Makes a service, and says how it is asked."""
    ends: list[Callable[[], Any]] = []

    def made(user: int | None = None) -> RemoteRunner:
        path = tmp_path / f"hooks{len(ends)}.sock"
        where = listening(path, "targetplugin-hooks")
        listener = Listener(where, service.converse(os.geteuid() if user is None else user))
        thread = threading.Thread(target=listener.run, daemon=True)
        thread.start()
        ends.append(lambda: (listener.stop(), thread.join(10), where.close()))
        return RemoteRunner(path, 0.3)

    yield made
    for end in ends:
        end()


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    def make(script: str) -> str:
        path = tmp_path / "hook"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        return str(path)

    return make


def test_a_hook_is_told_and_what_went_wrong_is_said(
    serve: Callable[..., RemoteRunner], program: Callable[[str], str], tmp_path: Path
) -> None:
    runner = serve()
    assert runner.tell(program(f"cat > {tmp_path}/told"), EVENT, 5) == ""
    assert json.loads((tmp_path / "told").read_text()) == EVENT
    assert runner.tell(program("exit 3"), EVENT, 5) == "it ended with status 3"
    assert "did not end within 0.2 s" in runner.tell(program("sleep 60"), EVENT, 0.2)


def test_what_can_be_no_hook_is_neither_added_nor_run(
    serve: Callable[..., RemoteRunner], program: Callable[[str], str], tmp_path: Path
) -> None:
    runner = serve()
    path = program(f"touch {tmp_path}/mark")
    runner.check(path)
    os.chmod(path, 0o722)
    with pytest.raises(Refused, match="written by others") as refused:
        runner.check(path)
    assert refused.value.reason is Reason.RIGHTS
    assert "written by others" in runner.tell(path, EVENT, 5)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("path", ["/bin/sh", "/usr/bin/env", "/sbin/reboot"])
def test_the_system_s_own_programs_are_no_hooks(path: str, tmp_path: Path) -> None:
    """A shell would take an event for commands, and who has the daemon in hand could choose it."""
    if not os.path.exists(path):
        pytest.skip("this machine has none")
    link = tmp_path / "hook"
    link.symlink_to(path)
    for one in (path, str(link)):
        with pytest.raises(Refused, match="the system's own program"):
            check(one)


def test_nobody_else_is_answered_and_nothing_but_an_event_is_told(
    serve: Callable[..., RemoteRunner], program: Callable[[str], str], tmp_path: Path
) -> None:
    path = program(f"touch {tmp_path}/mark")
    other = serve(os.geteuid() + 1)
    assert "may not ask" in other.tell(path, EVENT, 5)
    with pytest.raises(Refused, match="may not ask"):
        other.check(path)
    runner = serve()
    for event in ({}, {**EVENT, "more": 1}, {**EVENT, "what": 5}):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(runner.path))
            line = {"do": "Tell", "program": path, "event": event, "seconds": 5}
            peer.sendall(json.dumps(line).encode() + b"\n")
            answer = asked.answer(handed.receive(peer)[0])
        assert answer.refused is not None
        assert answer.refused.reason is Reason.USAGE
    assert not (tmp_path / "mark").exists()


def test_a_hook_ends_with_who_asked_for_it(
    serve: Callable[..., RemoteRunner], program: Callable[[str], str], tmp_path: Path
) -> None:
    runner = serve()
    told: list[str] = []
    path = program(f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; sleep 60")
    thread = threading.Thread(target=lambda: told.append(runner.tell(path, EVENT, 50)))
    thread.start()
    until((tmp_path / "pid").exists)
    process = int((tmp_path / "pid").read_text())
    begun = time.monotonic()
    runner.stop()
    thread.join(20)
    assert time.monotonic() - begun < 10
    assert told == [""]
    until(lambda: not os.path.exists(f"/proc/{process}"), awaited="its end")
    assert runner.tell(path, EVENT, 5) == "", "none is told any more"


def test_a_service_that_is_not_there_is_a_failure_of_the_hook(tmp_path: Path) -> None:
    said = RemoteRunner(tmp_path / "none.sock", 0.2).tell("/srv/hook", EVENT, 5)
    assert "The service that runs hooks can't be asked" in said


def test_events_of_the_subsystem_are_told_by_it(
    house: House,
    serve: Callable[..., RemoteRunner],
    program: Callable[[str], str],
    tmp_path: Path,
) -> None:
    house.subsystem._hooks.stop()
    hooks = Hooks(house.catalog, house.floor.journal, 5.0, serve())
    hooks.start()
    hooks.add(program(f"cat >> {tmp_path}/told"))
    house.subsystem.asked("terminal", "ann").save("ledger")
    told = tmp_path / "told"
    until(lambda: told.exists() and told.read_text().endswith("\n"))
    hooks.stop()
    assert json.loads(told.read_text()) == house.subsystem.event_list()[-1]
