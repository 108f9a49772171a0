"""A password is in no log: whatever carries one is driven, well and badly, with all that is logged at debug,
and all of that is searched.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import pkgutil
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import pytest

import targetplugin
from targetplugin.catalog import rows
from targetplugin.control.client import Client
from targetplugin.control.methods import METHODS, Chap
from targetplugin.control.server import Server
from targetplugin.errors import Reason, Refused
from targetplugin.kernel import asked, lio
from targetplugin.kernel.lio import Lio
from targetplugin.kernel.remote import RemoteLio, Service
from targetplugin.kernel.service import Performer
from targetplugin.logs.lines import Lines
from targetplugin.subsystem.hosts import exports
from tests.unit.fake_journald import FakeJournald, logging_to
from tests.unit.fake_kernel import HOST, FakeKernel
from tests.unit.house import House
from tests.unit.test_control_server import Peer
from tests.unit.test_kernel_configfs import TARGET, tree  # noqa: F401
from tests.unit.test_kernel_service import Place

SECRET = "correct-horse-battery"
CHAP = {"user": "night", "password": SECRET}
NAMES = re.compile("password|secret|chap$")


class Kernel(FakeKernel):
    """One whose export fails with what it was given in its hands."""

    raises: type[Exception] | None = None

    def ensure_export(self, name: str, target: str, portals: Any, initiators: Any) -> bool:
        if self.raises is Refused:
            raise Refused(Reason.ENVIRONMENT, "the kernel refused")
        if self.raises is not None:
            raise self.raises(initiators, asked.EnsureExport(name, target, portals, initiators))
        return super().ensure_export(name, target, portals, initiators)

    def find(self, name: str) -> None:
        return None


class All:
    """A daemon before a service that has the rights to LIO, and all that both log."""

    def __init__(self, folder: Path, journald: FakeJournald, lines: io.StringIO) -> None:
        self.journald = journald
        self.lines = lines
        self.kernel = Kernel()
        self.lio = Place(folder / "lio.sock", Performer(self.kernel, self.kernel).perform)  # type: ignore[arg-type]
        remote = RemoteLio(Service(folder / "lio.sock", 0.3), self.kernel)  # type: ignore[arg-type]
        self.house = House(folder / "house", remote, self.kernel)
        self.house.media("a", "b", "c")
        self.house.volume()
        self.house.subsystem.save("ledger", label="night", policy="copy")
        self.house.finish()
        verbs = self.house.subsystem
        self.server = Server(
            verbs, folder / "control.sock", asked_by=lambda who: verbs.asked("terminal", who)
        )
        self.server.start()
        self.control = folder / "control.sock"

    def close(self) -> None:
        self.server.stop(1)
        self.house.end()
        self.lio.end()

    def logged(self) -> str:
        self.journald.entries()  # all has come
        told = b"\n".join(self.journald.raw).decode(errors="replace") + self.lines.getvalue()
        return told + str(self.house.subsystem.event_list(limit=1000))

    def ask(self, **params: Any) -> Any:
        with Client.connect(self.control) as client:
            return client.call("export", **params)

    def send(self, line: bytes) -> Any:
        peer = Peer(self.control)
        try:
            return peer.ask(line)
        finally:
            peer.close()


@pytest.fixture
def everything(tmp_path: Path) -> Iterator[All]:
    with logging_to(tmp_path / "journal") as journald:
        lines = io.StringIO()
        handler = logging.StreamHandler(lines)
        handler.setFormatter(Lines())
        logging.getLogger().addHandler(handler)
        made = All(tmp_path, journald, lines)
        yield made
        made.close()
        logging.getLogger().removeHandler(handler)


def test_one_method_alone_carries_a_password() -> None:
    """So that the others need not be driven. A new one is to be driven here, too."""
    carries = {
        name
        for name, method in METHODS.items()
        if "Chap" in str(get_type_hints(method.params).values())
        or any(NAMES.search(field) for field in method.params.__struct_fields__)
    }
    assert carries == {"export"}


@pytest.mark.parametrize("name", ["ledger", "ledger@night"])
@pytest.mark.parametrize("raises", [None, Refused, OSError, KeyError])
def test_an_export_logs_no_password_whatever_becomes_of_it(
    everything: All, name: str, raises: type[Exception] | None
) -> None:
    everything.kernel.raises = raises
    try:
        everything.ask(volume=name, initiators=[HOST], chap=CHAP)
        assert raises is None
    except Exception:
        assert raises is not None
    everything.kernel.raises = None
    everything.ask(volume=name, initiators=[HOST], chap=CHAP)
    everything.house.restart()
    everything.house.subsystem.restore_exports()
    told = everything.logged()
    assert "chap=night" in told, "what was asked for is there"
    assert "EXCEPTION_TYPE=KeyError" in told or raises is not KeyError
    assert SECRET not in told


CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "export",
    "params": {"volume": "ledger", "initiators": [HOST], "chap": CHAP},
}


def call(**changed: Any) -> bytes:
    return json.dumps({**CALL, "params": {**CALL["params"], **changed}}).encode()  # type: ignore[dict-item]


@pytest.mark.parametrize(
    "line",
    [
        call()[:-3],
        call()[:-3] + b"\xff}}",
        call().replace(b'"jsonrpc": "2.0"', b'"jsonrpc": 2'),
        call().replace(b'"method": "export"', b'"method": "exprt"'),
        call().replace(b'"method": "export"', b'"method": null'),
        b"[" + call() + b",1," + call(chap=SECRET) + b"]",
        json.dumps({**CALL, "params": ["ledger", SECRET]}).encode(),
        call(chap=SECRET),
        call(chap=[SECRET]),
        call(chap={"user": "night", "password": [SECRET]}),
        call(chap={"user": "night", "pasword": SECRET}),
        call(chap={"user": "", "password": SECRET}),
        call(chap={"user": "night", "password": SECRET * 20}),
        call(portals=["nowhere"]),
        call(initiators=["nobody"]),
        call(volume="nothing"),
        call(volume="ledger@nothing"),
        call(target="iqn.2026-11.org.example:other", more=1),
    ],
    ids=lambda line: "line",
)
def test_what_is_no_good_request_logs_no_password(everything: All, line: bytes) -> None:
    answer = everything.send(line)
    assert "error" in str(answer)
    assert SECRET not in everything.logged()


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line[:-4],
        lambda line: line.replace(b"night", b"\xff"),
        lambda line: line.replace(b'"password"', b'"pasword"'),
        lambda line: line.replace(b'"EnsureExport"', b'"EnsureExprt"'),
        lambda line: line.replace(b'"night"', b"1"),
        lambda line: line.replace(b'"ledger"', b'"../ledger"'),
        lambda line: line.replace(b'"ledger"', b'"other"'),
    ],
    ids=lambda change: "change",
)
def test_the_service_for_lio_logs_none_of_what_it_does_not_take(
    everything: All, change: Any
) -> None:
    hosts = [lio.Initiator(HOST, "night", SECRET)]
    line = asked.line(asked.EnsureExport("ledger", TARGET, ["192.0.2.1:3260"], hosts))
    changed = change(line.removesuffix(b"\n"))
    assert changed != line.removesuffix(b"\n")
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.connect(str(everything.lio.path))
        peer.sendall(changed + b"\n")
        assert b'"refused"' in peer.recv(1 << 16)
    assert SECRET not in everything.logged()


@pytest.mark.parametrize("secret", [SECRET + "\x07", SECRET])
def test_what_lio_itself_does_not_take_is_logged_without(
    everything: All,
    tree: Path,  # noqa: F811
    secret: str,
) -> None:
    hosts = [lio.Initiator(HOST, "night", secret)]
    with pytest.raises(Refused) as refused:
        Lio(tree, lambda: True).ensure_export("ledger", TARGET, ["192.0.2.1:3260"], hosts)
    logging.getLogger("targetplugin").error("%r", refused.value, exc_info=refused.value)
    assert SECRET not in everything.logged()


# --- what could be logged --------------------------------------------------------------------


def structs() -> list[type[msgspec.Struct]]:
    for module in pkgutil.walk_packages(targetplugin.__path__, "targetplugin."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: list[type[msgspec.Struct]] = []
    new = msgspec.Struct.__subclasses__()
    while new:
        found += new
        new = [under for one in new for under in one.__subclasses__()]
    return [one for one in found if one.__module__.startswith("targetplugin.")]


def test_what_has_a_password_does_not_show_it() -> None:
    """Nor does what holds one of these: its repr is made of theirs."""
    chap = Chap(user="night", password=SECRET)
    shown = [
        lio.Initiator(HOST, "night", SECRET),
        rows.Initiator(HOST, "night", SECRET),
        exports.Host(HOST, "night", SECRET),
        exports.Asked([HOST], CHAP),
        chap,
        METHODS["export"].params(volume="ledger", initiators=[HOST], chap=chap),  # type: ignore[call-arg]
        asked.EnsureExport("ledger", TARGET, [], [lio.Initiator(HOST, "night", SECRET)]),
        rows.Export(b"", TARGET, (), 0, (rows.Initiator(HOST, "night", SECRET),)),
    ]
    for one in shown:
        assert SECRET not in repr(one)
        assert HOST in repr(one) or "night" in repr(one)
    known = {type(one) for one in shown}
    carry = {s for s in structs() if any(NAMES.search(field) for field in s.__struct_fields__)}
    assert carry <= known, "what is new and has a password has a repr without, and stands here"


def test_ansible_is_told_which_arguments_are_passwords() -> None:
    """So that it masks them in the target's log and in its own output."""
    modules = Path(__file__).parents[2] / "ansible/plugins/modules"
    found = [
        one
        for path in modules.glob("*.py")
        for one in re.findall(r'"\w*password\w*": (\{[^}]*"type"[^}]*\})', path.read_text())
    ]
    assert len(found) == 2
    assert all('"no_log": True' in one for one in found)
