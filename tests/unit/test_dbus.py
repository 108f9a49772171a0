"""What targetcli is told of volumes, over a message bus of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from targetplugin.control.server import Server
from targetplugin.dbus.bus import Bus, Failed
from targetplugin.dbus.configs import DESCRIPTION, trouble
from targetplugin.dbus.objects import (
    MANAGED,
    MANAGER,
    MANAGER_PATH,
    OWN,
    ROOT,
    SERVICE,
    Answer,
    Call,
    Unknown,
    answer,
)
from tests.unit.fake_subsystem import FakeSubsystem, a_volume

CHECKOUT = Path(__file__).parents[2]
POLICY = CHECKOUT / "packaging/dbus/targetplugin.conf"
PROPERTIES = "org.freedesktop.DBus.Properties"
RECEIVE = "".join(
    f'<allow receive_type="{kind}"/>'
    for kind in ("method_call", "method_return", "error", "signal")
)
OPEN = (
    f"""<policy context="default"><allow own="*"/><allow send_destination="*"/>{RECEIVE}</policy>"""
)
NOBODY = 65534

needs_bus = pytest.mark.skipif(not shutil.which("dbus-daemon"), reason="dbus-daemon is not here")


# --- the objects ----------------------------------------------------------------------------------


def ask(path: str, interface: str, member: str, *body: Any, why: str = "") -> Answer:
    return answer(Call(path, interface, member, body), lambda config: why)


def test_targetcli_finds_one_kind_of_backstore_with_its_description() -> None:
    said = ask(ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")
    assert said.body == ({OWN: {SERVICE: {"ConfigDesc": ("s", DESCRIPTION)}}},)
    assert OWN.rpartition("/")[2] == "targetplugin", "what targetcli calls the backstore"
    assert ask(OWN, PROPERTIES, "Get", SERVICE, "ConfigDesc").body == (("s", DESCRIPTION),)
    assert ask(ROOT, PROPERTIES, "GetAll", SERVICE).body == ({},)


@pytest.mark.parametrize("path", [OWN, MANAGED])
@pytest.mark.parametrize("interface", ["", SERVICE])
def test_a_string_is_judged_for_targetcli_and_for_tcmu_runner(path: str, interface: str) -> None:
    assert ask(path, interface, "CheckConfig", "targetplugin/x") == Answer("bs", (True, ""))
    said = ask(path, interface, "CheckConfig", "targetplugin/x", why="no")
    assert said == Answer("bs", (False, "no"))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (("/", SERVICE, "CheckConfig", "x"), "UnknownObject"),
        ((ROOT, SERVICE, "CheckConfig", "x"), "UnknownMethod"),
        ((OWN, SERVICE, "CheckConfig"), "UnknownMethod"),
        ((OWN, SERVICE, "CheckConfig", 7), "UnknownMethod"),
        ((OWN, PROPERTIES, "Get", SERVICE, "Size"), "UnknownProperty"),
        ((OWN, PROPERTIES, "Set", SERVICE, "ConfigDesc", ("s", "x")), "UnknownMethod"),
    ],
)
def test_what_is_not_there_is_an_error_of_its_own_name(call: Any, name: str) -> None:
    with pytest.raises(Unknown) as caught:
        ask(*call)
    assert caught.value.name == f"org.freedesktop.DBus.Error.{name}"


def test_they_tell_what_they_are() -> None:
    for path in (ROOT, OWN, MANAGED):
        (text,) = ask(path, "org.freedesktop.DBus.Introspectable", "Introspect").body
        assert ElementTree.fromstring(text).tag == "node"


# --- what is wrong with a string ------------------------------------------------------------------


@pytest.fixture
def fake() -> FakeSubsystem:
    return FakeSubsystem()


@pytest.fixture
def control(fake: FakeSubsystem, tmp_path: Path) -> Iterator[str]:
    server = Server(fake, tmp_path / "control.sock")
    server.start()
    yield str(tmp_path / "control.sock")
    server.stop(1)


def test_a_volume_that_is_there_is_right(fake: FakeSubsystem, control: str) -> None:
    fake.answers["volume_show"] = a_volume(export=None)
    assert trouble("targetplugin/ledger", control) == ""
    assert [call[:2] for call in fake.calls] == [("volume_show", ("ledger",))]


@pytest.mark.parametrize("config", ["", "ledger", "targetplugin/", "qcow/ledger"])
def test_a_string_that_names_no_volume_says_what_it_should(config: str, control: str) -> None:
    assert "cfgstring=ledger" in trouble(config, control)


def test_a_volume_that_is_exported_says_so_and_what_to_do(
    fake: FakeSubsystem, control: str
) -> None:
    fake.answers["volume_show"] = a_volume(export={"target": "iqn.x:l"})
    said = trouble("targetplugin/ledger", control)
    assert "iqn.x:l" in said
    assert "targetplugin unexport ledger" in said


def test_an_unknown_volume_and_a_daemon_that_is_away_say_what_to_do(tmp_path: Path) -> None:
    said = trouble("targetplugin/ledger", str(tmp_path / "none.sock"))
    assert "systemctl start targetplugind" in said


# --- the bus --------------------------------------------------------------------------------------


@pytest.fixture
def start_bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Starts the bus with a policy; it is the system's to this test."""
    started = []

    def start(policy: str) -> None:
        config = tmp_path / "bus.conf"
        config.write_text(
            f"<busconfig><type>system</type><listen>unix:path={tmp_path}/bus</listen>"
            f"<auth>EXTERNAL</auth>{policy}</busconfig>"
        )
        command = ["dbus-daemon", f"--config-file={config}", "--nofork", "--print-address=1"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout
        address = process.stdout.readline().strip()
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address.partition(",guid")[0])

    yield start
    for process in started:
        process.kill()
        process.wait()


class Program:
    """targetplugin-dbus, running."""

    def __init__(self, socket: str, **more: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "targetplugin.dbus.main", "--socket", socket],
            env={**os.environ, "PYTHONPATH": ":".join([str(CHECKOUT), *sys.path])},
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    def end(self) -> str:
        """What it logged."""
        self.process.terminate()
        return self.process.communicate(timeout=20)[1]


class Runner:
    """tcmu-runner: has the service's name, or waits for it, and takes handlers."""

    def __init__(self, *, waits: bool) -> None:
        self.handlers: list[tuple[str, str]] = []
        self._bus = Bus()
        if waits:  # as GLib does it
            self._bus.call(
                "org.freedesktop.DBus",
                "/org/freedesktop/DBus",
                "org.freedesktop.DBus",
                "RequestName",
                "su",
                SERVICE,
                0,
            )
        else:
            assert self._bus.own(SERVICE)
        self._ending = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending:
            self._bus.receive(0.1, self._answer)

    def _answer(self, call: Call) -> Answer:
        if (call.path, call.interface, call.member) != (MANAGER_PATH, MANAGER, "RegisterHandler"):
            raise Unknown("UnknownMethod", call.member)
        self.handlers.append((call.body[0], call.body[1]))
        return Answer("bs", (True, "succeeded"))

    def end(self) -> None:
        self._ending = True
        self._thread.join()
        self._bus.close()


def until(reached: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.fixture
def program(start_bus: Callable[[str], None], control: str) -> Iterator[Program]:
    start_bus(OPEN)
    program = Program(control)
    yield program
    program.end()


def check(name: str, path: str, config: str) -> Any:
    bus = Bus()
    try:
        return bus.call(name, path, SERVICE, "CheckConfig", "s", config)
    finally:
        bus.close()


def has(name: str) -> bool:
    bus = Bus()
    try:
        return bool(bus.owner(name))
    finally:
        bus.close()


@needs_bus
def test_alone_it_has_the_service_s_name(program: Program, fake: FakeSubsystem) -> None:
    fake.answers["volume_show"] = a_volume(export=None)
    until(lambda: has(SERVICE), "the name")
    assert check(SERVICE, OWN, "targetplugin/ledger") == (True, "")
    ok, why = check(SERVICE, OWN, "targetplugin/")
    assert (ok, "names no volume" in why) == (False, True)
    with pytest.raises(Failed, match="no object"):
        check(SERVICE, f"{ROOT}/other", "targetplugin/ledger")


@needs_bus
def test_beside_tcmu_runner_it_is_registered_and_again_when_that_comes_back(
    start_bus: Callable[[str], None], control: str
) -> None:
    start_bus(OPEN)
    runner = Runner(waits=False)
    program = Program(control)
    try:
        until(lambda: runner.handlers == [("targetplugin", DESCRIPTION)], "registered")
        ok, _ = check(f"{MANAGER}.targetplugin", MANAGED, "targetplugin/")
        assert not ok, "asked as tcmu-runner asks it"
        runner.end()
        until(lambda: has(SERVICE), "the name that is free is taken")
        runner = Runner(waits=True)
        until(lambda: runner.handlers == [("targetplugin", DESCRIPTION)], "given up, registered")
    finally:
        runner.end()
        program.end()


@needs_bus
def test_a_program_that_takes_no_handlers_is_told_of_once(
    start_bus: Callable[[str], None], control: str
) -> None:
    start_bus(OPEN)
    other = Bus()
    assert other.own(SERVICE)
    program = Program(control)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        other.receive(0.1, lambda call: answer(call, lambda _: ""))
    said = program.end()
    other.close()
    assert said.count("does not take targetplugin") == 1
    assert "no object /org/kernel/TCMUService1/HandlerManager1" in said


@needs_bus
def test_a_bus_that_ends_ends_it_with_a_sentence(
    start_bus: Callable[[str], None], control: str, tmp_path: Path
) -> None:
    program = Program(control)  # there is no bus at all: DBUS_SYSTEM_BUS_ADDRESS is not set
    said = program.process.communicate(timeout=30)[1]
    if "finds targetplugin" in said:
        pytest.skip("this machine has a system bus of its own")
    assert program.process.returncode == 1
    assert "systemctl status dbus" in said
    assert "Traceback" not in said


@needs_bus
@pytest.mark.skipif(os.geteuid() != 0, reason="a policy is for root")
def test_the_policy_is_for_root_alone(
    start_bus: Callable[[str], None], control: str, tmp_path: Path
) -> None:
    rules = ElementTree.parse(POLICY).getroot()
    inner = "".join(ElementTree.tostring(one, encoding="unicode") for one in rules)
    closed = f"""<policy context="default"><allow user="*"/><deny own="*"/>{RECEIVE}
        <deny send_type="method_call"/><allow send_destination="org.freedesktop.DBus"/>
        <allow send_requested_reply="true" send_type="method_return"/>
        <allow send_requested_reply="true" send_type="error"/></policy>"""
    start_bus(closed + inner)
    (tmp_path / "bus").chmod(0o777)
    for place in [tmp_path, *tmp_path.parents]:
        if place.stat().st_mode & 0o001 == 0:  # one of pytest's own folders
            place.chmod(0o711)
    program = Program(control)
    try:
        until(lambda: has(SERVICE), "root may own it")
        assert check(SERVICE, OWN, "targetplugin/")[0] is False
        asked = (
            "from tests.unit.test_dbus import *; from targetplugin.dbus.bus import Bus\n"
            "try: print(check(SERVICE, OWN, 'targetplugin/'))\n"
            "except Failed as error: print('refused', error)\n"
            "bus = Bus()\n"
            "try: print(bus.own(MANAGER + '.targetplugin'))\n"
            "except Failed as error: print('refused', error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", asked],
            env={**os.environ, "PYTHONPATH": ":".join([str(CHECKOUT), *sys.path])},
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            capture_output=True,
            text=True,
            cwd="/",
        )
        if "No module named" in done.stderr:
            pytest.skip("this checkout can be read by root alone")
        assert done.stdout.count("refused") == 2, done.stdout + done.stderr
    finally:
        program.end()
