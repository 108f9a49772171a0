"""The module that logs a host in, against an iscsiadm that keeps records and sessions in a file."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from tests.collection.place import COLLECTION

MODULE = COLLECTION / "plugins/modules/iscsi_login.py"
TARGET = "iqn.2026-01.org.example:ledger"
SECRET = "correct horse battery"
# Its ways are open-iscsi's: status 21 where there is nothing, "<empty>" for what is not set.
ISCSIADM = """
import json, pathlib, sys
place = pathlib.Path(__file__).with_name("state.json")
state = json.loads(place.read_text()) if place.exists() else {"records": {}, "sessions": []}
words = sys.argv[1:]
def value(option): return words[words.index(option) + 1] if option in words else None
one = f"{value('-p')},1 {value('-T')}"
fresh = {"node.startup": "manual", "node.session.auth.authmethod": "None",
         "node.session.auth.username": "<empty>", "node.session.auth.password": "<empty>"}
if value("-m") == "session":
    if not state["sessions"]: print("iscsiadm: No active sessions.", file=sys.stderr); sys.exit(21)
    for number, name in enumerate(state["sessions"], 1): print(f"tcp: [{number}] {name} (non-flash)")
elif "-T" not in words:
    if not state["records"]: print("iscsiadm: No records found", file=sys.stderr); sys.exit(21)
    print("\\n".join(state["records"]))
elif value("-o") == "new": state["records"][one] = fresh
elif one not in state["records"]: print("iscsiadm: No records found", file=sys.stderr); sys.exit(21)
elif value("-o") == "show":
    for name, is_now in state["records"][one].items(): print(f"{name} = {is_now}")
elif value("-o") == "update": state["records"][one][value("-n")] = value("-v")
elif value("-o") == "delete": del state["records"][one]
elif "-l" in words: state["sessions"].append(one)
elif "-u" in words: state["sessions"].remove(one)
place.write_text(json.dumps(state))
"""
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    program = tmp_path / "iscsiadm"
    program.write_text(f"#!{sys.executable}\n{ISCSIADM}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    place = tmp_path / "state.json"
    return lambda: json.loads(place.read_text()) if place.exists() else {"records": {}}


@pytest.fixture
def run(state: object, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*, check: bool = False, fails: bool = False, disks: Any = (), **asked: Any) -> Any:
        where = {"target": TARGET, "portal": "192.0.2.1", **asked}
        ways = {"_ansible_check_mode": check, "_ansible_diff": True}
        module = runpy.run_path(str(MODULE), run_name="module")
        module["Records"].wait_for_device = lambda self: None
        module["Records"].disks = lambda self: list(disks)
        with patch_module_args({**where, **ways}), pytest.raises(SystemExit):
            module["main"]()
        said = capsys.readouterr().out
        assert SECRET not in said
        answer = json.loads(said)
        assert bool(answer.get("failed")) == fails, answer
        return answer

    return run


def test_a_host_is_logged_in_once_and_logged_out_once(run: Run, state: Any) -> None:
    asked = {"chap_user": "night", "chap_password": SECRET}
    assert run(check=True, **asked)["changed"]
    assert not state()["records"]
    done = run(**asked)
    assert done["changed"]
    assert done["device"] == f"/dev/disk/by-path/ip-192.0.2.1:3260-iscsi-{TARGET}-lun-0"
    (record,) = state()["records"].values()
    assert record["node.session.auth.password"] == SECRET
    assert record["node.startup"] == "automatic"
    assert len(state()["sessions"]) == 1
    assert not run(**asked)["changed"]
    assert run(check=True, state="absent")["changed"]
    assert len(state()["sessions"]) == 1
    assert run(state="absent")["changed"]
    assert state() == {"records": {}, "sessions": []}
    assert not run(state="absent")["changed"]


def test_what_is_logged_in_with_may_change(run: Run, state: Any) -> None:
    run(chap_user="night", chap_password=SECRET)
    assert run(chap_user="night", chap_password=SECRET + " staple")["changed"]
    (record,) = state()["records"].values()
    assert record["node.session.auth.password"] == SECRET + " staple"
    assert run(startup="manual")["changed"]
    assert not run(startup="manual")["changed"]


def test_another_target_of_the_portal_is_another_s(run: Run, state: Any) -> None:
    run(target=f"{TARGET}2")
    assert run()["changed"]
    run(state="absent")
    assert [name.split()[1] for name in state()["records"]] == [f"{TARGET}2"]


@pytest.mark.parametrize(
    ("portal", "whole"),
    [
        ("192.0.2.1", "192.0.2.1:3260"),
        ("192.0.2.1:3261", "192.0.2.1:3261"),
        ("[2001:db8::1]", "[2001:db8::1]:3260"),
        ("[2001:db8::1]:3261", "[2001:db8::1]:3261"),
    ],
)
def test_a_portal_has_a_port(run: Run, state: Any, portal: str, whole: str) -> None:
    run(portal=portal)
    assert [name.partition(",")[0] for name in state()["records"]] == [whole]


def test_a_disk_in_use_is_not_taken_away(run: Run, state: Any, tmp_path: Path) -> None:
    run()
    refused = run(state="absent", disks=[str(tmp_path / "held")], fails=True)
    assert "in use" in refused["msg"]
    assert "lsblk" in refused["msg"]
    assert len(state()["sessions"]) == 1
