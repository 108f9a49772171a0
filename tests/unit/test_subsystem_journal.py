"""The journal and its hooks: who asked what, and programs that are told of it."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from targetplugin.control.client import Client
from targetplugin.control.server import Server
from targetplugin.errors import Reason, Refused
from targetplugin.hooks.run import check
from targetplugin.subsystem.asker import sentence
from targetplugin.subsystem.ground.hooks import Hooks
from tests.unit.house import House
from tests.waiting import until


def lines(house: House, **chosen: Any) -> list[tuple[str, str, str]]:
    found = house.subsystem.event_list(**chosen)
    return [(e["door"], e["volume"], e["what"]) for e in found]


# --- who asked what --------------------------------------------------------------------------


def test_what_is_asked_stands_in_the_journal_with_its_door_and_who(house: House) -> None:
    verbs = house.subsystem.asked("terminal", "ann")
    done = verbs.save("ledger", label="night")
    verbs.status()
    verbs.volume_show("ledger")
    verbs.release("ledger@night", preview=True)
    house.engine.hold_copies = True
    house.subsystem.asked("in-band", volume="ledger").save("ledger", door="in-band", policy="copy")
    told = house.subsystem.event_list()
    assert [(e["door"], e["who"], e["volume"], e["kind"]) for e in told] == [
        ("terminal", "ann", "ledger", "save"),
        ("in-band", "", "ledger", "save"),
    ]
    assert told[0]["what"] == "save ledger label=night: ledger@1 done"
    assert told[0]["operation"] == done["operation"]["id"]
    assert told[1]["what"] == "save ledger policy=copy: ledger@2 running"


def test_what_is_refused_stands_there_too(house: House) -> None:
    house.subsystem.volume_set("ledger", rights="status")
    host = house.subsystem.asked("in-band", volume="ledger")
    for _ in range(3):
        with pytest.raises(Refused):
            host.save("ledger", door="in-band")
    operator = house.subsystem.asked("terminal", "ann")
    for _ in range(2):
        with pytest.raises(Refused):
            operator.volume_delete("nowhere")
    told = lines(house)
    assert [door for door, _, _ in told] == ["in-band", "terminal", "terminal"]
    assert told[0][2].startswith("save ledger: refused, hosts of ledger have no right")
    assert told[1][1] == "nowhere"


def test_what_ends_in_the_background_is_told(house: House) -> None:
    house.engine.hold_copies = True
    made = house.subsystem.asked("terminal", "ann").leg_add("ledger")
    house.finish()
    told = house.subsystem.event_list(volume="ledger")
    assert [e["kind"] for e in told] == ["leg_add", "operation", "leg_in_sync"]
    assert told[1]["what"] == f"leg add ledger, operation {made['operation']['id']}, is done"
    assert told[1]["operation"] == made["operation"]["id"]
    assert told[1]["details"] == {"state": "done"}
    assert told[2]["details"] == {"medium": "c"}


def test_a_verb_that_a_crash_undid_is_told(house: House) -> None:
    house.killed_in("split", in_force=False, run=lambda: house.subsystem.save("ledger"))
    (told,) = house.subsystem.event_list()
    assert (told["kind"], told["details"]) == ("operation", {"state": "failed"})


def test_passwords_do_not_get_into_it() -> None:
    chap = {"user": "night", "password": "secret-secret"}
    asked = {"volume": "ledger", "initiators": ["iqn.a", "iqn.b"], "chap": chap, "force": True}
    assert sentence("export", asked) == "export ledger initiators=iqn.a,iqn.b chap=night force"
    asked = {"name": "ledger", "replace_failed": False, "rights": "save"}
    assert sentence("volume_set", asked) == "volume set ledger no-replace-failed rights=save"
    assert sentence("release", {"save": "ledger@1", "force": False}) == "release ledger@1"


def test_events_are_of_one_volume_or_after_one(house: House) -> None:
    verbs = house.subsystem.asked("terminal")
    house.media("e", "f")
    verbs.volume_create("other", 4 << 20)
    verbs.save("ledger")
    verbs.media_add(str(house.folder / "g"), size=12 << 20)
    assert [v for _, v, _ in lines(house)] == ["other", "ledger", ""]
    assert [v for _, v, _ in lines(house, volume="ledger")] == ["ledger"]
    assert [v for _, v, _ in lines(house, limit=2)] == ["ledger", ""]
    first = house.subsystem.event_list(limit=3)[0]["id"]
    assert [v for _, v, _ in lines(house, after=first)] == ["ledger", ""]


def test_whoever_waits_is_told_of_the_next(house: House) -> None:
    assert house.subsystem.event_wait(0, 0.0) == []
    later = threading.Timer(0.2, lambda: house.subsystem.asked("terminal").save("ledger"))
    later.start()
    began = time.monotonic()
    (told,) = house.subsystem.event_wait(0, 10.0, volume="ledger")
    assert told["kind"] == "save"
    assert time.monotonic() - began < 5
    later.join()
    assert house.subsystem.event_wait(told["id"], 0.1) == []


def test_a_full_state_directory_fails_no_verb_by_its_journal(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> int:
        raise Refused(Reason.ENVIRONMENT, "the disk is full")

    monkeypatch.setattr(house.catalog, "event_add", full)
    assert house.subsystem.asked("terminal").save("ledger")["operation"]["state"] == "done"


def test_the_socket_says_who(house: House, tmp_path: Path) -> None:
    place = tmp_path / "control.sock"
    server = Server(
        house.subsystem, place, asked_by=lambda who: house.subsystem.asked("terminal", who)
    )
    server.start()
    try:
        with Client.connect(place) as client:
            client.call("save", volume="ledger")
            (told,) = client.call("event.list")
    finally:
        server.stop(1)
    assert f"(process {os.getpid()})" in told["who"]
    assert (told["door"], told["kind"]) == ("terminal", "save")


# --- hooks -----------------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    def make(script: str) -> str:
        path = tmp_path / "hook"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        return str(path)

    return make


@pytest.fixture
def hooks(house: House) -> Iterator[Hooks]:
    """With a limit of a second."""
    house.subsystem._hooks.stop()
    made = Hooks(house.catalog, house.floor.journal, 1.0)
    made.start()
    yield made
    made.stop()


def test_a_hook_gets_each_event_as_json(
    house: House, hooks: Hooks, program: Callable[[str], str], tmp_path: Path
) -> None:
    told = tmp_path / "told"
    hooks.add(program(f"cat >> {told}"))
    house.subsystem.asked("terminal", "ann").save("ledger")
    house.subsystem.asked("terminal", "ann").release("ledger")
    until(lambda: told.exists() and len(told.read_text().splitlines()) == 2)
    assert [json.loads(line) for line in told.read_text().splitlines()] == (
        house.subsystem.event_list()
    )
    (shown,) = hooks.all()
    assert (shown["runs"], shown["failures"], shown["dropped"]) == (2, 0, 0)


def test_a_hook_that_hangs_is_killed_and_holds_nothing_up(
    house: House, hooks: Hooks, program: Callable[[str], str], tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    path = program(f"echo >> {mark}; sleep 60 & wait; echo late >> {mark}")
    hooks.add(path)
    began = time.monotonic()
    house.subsystem.asked("terminal").save("ledger")
    house.subsystem.asked("terminal").release("ledger")
    assert time.monotonic() - began < 1.0
    until(lambda: hooks.all()[0]["failures"] == 2)
    assert "did not end within 1 s" in hooks.all()[0]["error"]
    assert mark.read_text() == "\n\n"


def test_a_hook_that_does_not_read_or_fails_is_counted(
    house: House, hooks: Hooks, program: Callable[[str], str]
) -> None:
    hooks.add(program("exec 0<&-; exit 3"))
    house.subsystem.asked("terminal").save("ledger", label="x" * 32)
    until(lambda: hooks.all()[0]["failures"] == 1)
    assert hooks.all()[0]["error"] == "it ended with status 3"


def test_of_too_many_events_the_oldest_are_dropped_and_that_is_said(
    house: House, hooks: Hooks, program: Callable[[str], str], tmp_path: Path
) -> None:
    told = tmp_path / "told"
    hooks.stop()
    late = Hooks(house.catalog, house.floor.journal, 1.0)
    hooks.add(program(f"cat >> {told}; exec sleep 60"))
    with house.catalog.transaction():
        for number in range(1005):
            house.floor.journal.note("test", f"{number}", door="policy")
    late.start()
    until(lambda: told.exists() and told.read_text())
    late.stop()
    assert json.loads(told.read_text().splitlines()[0])["what"] == "5"
    assert late.all()[0]["dropped"] == 5
    assert house.subsystem.event_list(limit=1)[0]["kind"] == "hook_dropped"


def test_a_hook_is_kept_over_a_restart_and_removed(
    house: House, program: Callable[[str], str]
) -> None:
    path = program("true")
    house.subsystem.hook_add(path)
    with pytest.raises(Refused):
        house.subsystem.hook_add(path)
    house.restart()
    assert [h["program"] for h in house.subsystem.hook_list()] == [path]
    house.subsystem.hook_remove(path)
    assert house.subsystem.hook_list() == []
    with pytest.raises(Refused) as refused:
        house.subsystem.hook_remove(path)
    assert refused.value.reason is Reason.NOT_FOUND


@pytest.mark.parametrize(
    ("mode", "why"),
    [(0o722, "written by others"), (0o720, "written by others"), (0o600, "executed")],
)
def test_what_others_could_change_is_no_hook(
    program: Callable[[str], str], mode: int, why: str
) -> None:
    path = program("true")
    os.chmod(path, mode)
    with pytest.raises(Refused) as refused:
        check(path)
    assert refused.value.reason is Reason.RIGHTS
    assert why in refused.value.message


def test_nor_one_in_a_folder_of_others_or_of_another_user(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    path = Path(program("true"))
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    inside = folder / "hook"
    inside.write_bytes(path.read_bytes())
    inside.chmod(0o700)
    link = tmp_path / "link"
    link.symlink_to(inside)
    for wrong in (inside, link, folder, tmp_path / "none"):
        with pytest.raises(Refused):
            check(str(wrong))
    if os.geteuid() == 0:
        os.chown(path, 65534, -1)
        with pytest.raises(Refused, match="does not belong to root"):
            check(str(path))


def test_a_hook_that_was_changed_since_is_not_run(
    house: House, hooks: Hooks, program: Callable[[str], str], tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    path = program(f"touch {mark}")
    hooks.add(path)
    os.chmod(path, 0o722)
    house.subsystem.asked("terminal").save("ledger")
    until(lambda: hooks.all()[0]["failures"] == 1)
    assert "written by others" in hooks.all()[0]["error"]
    assert not mark.exists()
