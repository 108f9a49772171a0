"""Modules against the daemon's verbs, by its socket and the real terminal: what they change, and when."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from targetplugin.control.server import Server
from tests.collection.place import COLLECTION, installed
from tests.unit.house import House
from tests.unit.test_subsystem_exports import HOST, OTHER, FakeKernel

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
SECRET = "correct horse battery"
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel()


@pytest.fixture
def house(tmp_path: Path, kernel: FakeKernel) -> Iterator[House]:
    made = House(tmp_path / "house", kernel, kernel)
    yield made
    made.end()


@pytest.fixture
def run(
    house: House,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Run]:
    """Runs a module; fails the test where the module fails, unless `fails` is asked for."""
    monkeypatch.syspath_prepend(str(installed(tmp_path / "collections")))
    program = tmp_path / "targetplugin"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from targetplugin.terminal.main import main\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    server = Server(house.subsystem, tmp_path / "control.sock")
    server.start()

    def run(name: str, /, *, check: bool = False, fails: bool = False, **asked: Any) -> Any:
        where = {"executable": str(program), "socket": str(tmp_path / "control.sock")}
        ways = {"_ansible_check_mode": check, "_ansible_diff": True}
        with patch_module_args({**where, **asked, **ways}), pytest.raises(SystemExit):
            runpy.run_path(str(COLLECTION / f"plugins/modules/{name}.py"), run_name="__main__")
        said = capsys.readouterr().out
        assert SECRET not in said
        answer = json.loads(said)
        assert bool(answer.get("failed")) == fails, answer
        return answer

    yield run
    server.stop(1)


def thrice(run: Run, look: Callable[[], Any], name: str, /, **asked: Any) -> dict[str, Any]:
    """In check mode, then done, then again: only the second changes something. Returns its answer."""
    before = look()
    told = run(name, check=True, **asked)
    assert told["changed"]
    assert look() == before, "check mode changes nothing"
    done = run(name, **asked)
    assert done["changed"]
    after = look()
    assert after != before
    assert told["diff"]["after"].keys() == done["diff"]["after"].keys()
    again = run(name, **asked)
    assert not again["changed"]
    assert again["diff"]["before"] == again["diff"]["after"]
    assert look() == after
    return done


def media(house: House, run: Run, *names: str) -> list[Path]:
    paths = [house.folder / f"{name}.img" for name in names]
    for path in paths:
        run("targetplugin_media", path=str(path), name=path.stem, size="64M")
    return paths


def test_media_come_and_go(house: House, run: Run) -> None:
    path = house.folder / "a.img"
    asked = {"path": str(path), "name": "a", "size": "64M"}
    done = thrice(run, house.subsystem.media_list, "targetplugin_media", **asked)
    assert done["medium"]["name"] == "a"
    thrice(run, house.subsystem.media_list, "targetplugin_media", path=str(path), state="absent")


def test_a_medium_in_use_is_not_taken_back(house: House, run: Run) -> None:
    (path,) = media(house, run, "a")
    run("targetplugin_volume", name="ledger", size="8M", mirror=1)
    for check in (True, False):
        asked = {"path": str(path), "state": "absent"}
        refused = run("targetplugin_media", check=check, fails=True, **asked)
        assert "in use" in refused["msg"]


def test_a_volume_is_made_and_changed_as_it_is_declared(house: House, run: Run) -> None:
    media(house, run, "a", "b")
    look = house.subsystem.volume_list
    asked = {
        "name": "ledger",
        "size": "8M",
        "mirror": 2,
        "rights": "save",
        "replace_failed": True,
        "retain": {"last": 3, "daily": 7},
    }
    done = thrice(run, look, "targetplugin_volume", **asked)
    assert done["volume"]["retention"] == {"last": 3, "daily": 7}
    assert done["volume"]["replace_failed"]
    changed = {**asked, "rights": "all", "replace_failed": False, "retain": {}}
    done = thrice(run, look, "targetplugin_volume", **changed)
    assert done["volume"]["retention"] is None
    assert done["diff"]["before"]["rights"] == "save"
    assert done["diff"]["after"]["rights"] == "all"
    thrice(run, look, "targetplugin_volume", name="ledger", state="absent")


def test_a_volume_is_made_with_its_blocks_and_keeps_them(house: House, run: Run) -> None:
    media(house, run, "a")
    asked = {"name": "ledger", "size": "8M", "mirror": 1, "blocks": "4kn"}
    done = thrice(run, house.subsystem.volume_list, "targetplugin_volume", **asked)
    assert done["volume"]["block_size"] == 4096
    refused = run("targetplugin_volume", fails=True, **{**asked, "blocks": "512e"})
    assert "4kn blocks, not 512e" in refused["msg"]
    assert house.show()["blocks"] == "4kn"


def test_a_volume_that_is_declared_larger_grows_and_is_never_made_smaller(
    house: House, run: Run
) -> None:
    media(house, run, "a")
    look = house.subsystem.volume_list
    run("targetplugin_volume", name="ledger", size="8M", mirror=1)
    done = thrice(run, look, "targetplugin_volume", name="ledger", size="16M", mirror=1)
    assert done["volume"]["size"] == 16 * MIB
    refused = run("targetplugin_volume", fails=True, name="ledger", size="8M")
    assert f"{16 * MIB} bytes, more than {8 * MIB}" in refused["msg"]
    assert "another name" in refused["msg"]
    refused = run("targetplugin_volume", fails=True, name="ledger", extent_size="4K")
    assert "extent size of 65536 bytes" in refused["msg"]
    assert "needs a size" in run("targetplugin_volume", fails=True, name="notes")["msg"]


def test_an_export_has_the_hosts_that_are_declared(
    house: House, run: Run, kernel: FakeKernel
) -> None:
    media(house, run, "a")
    first = {"iqn": HOST, "chap_user": "night", "chap_password": SECRET}
    asked: dict[str, Any] = {"volume": "ledger", "hosts": [first]}
    assert run("targetplugin_export", check=True, **asked)["changed"], "it is yet to be made"
    run("targetplugin_volume", name="ledger", size="8M", mirror=1)

    def look() -> Any:
        return [(row.portals, row.initiators) for row in house.catalog.exports()]

    done = thrice(run, look, "targetplugin_export", **asked)
    assert done["diff"]["after"]["hosts"] == {HOST: "night"}
    thrice(run, look, "targetplugin_export", volume="ledger", hosts=[first, {"iqn": OTHER}])
    secret = {**first, "chap_password": SECRET + " staple"}
    thrice(run, look, "targetplugin_export", volume="ledger", hosts=[secret, {"iqn": OTHER}])
    kernel.hosts = {OTHER}
    kept = run("targetplugin_export", volume="ledger", hosts=[secret])
    assert not kept["changed"]
    assert kept["kept"] == [OTHER]
    assert any(OTHER in str(line) for line in kept["warnings"])
    kernel.hosts = set()
    thrice(run, look, "targetplugin_export", volume="ledger", hosts=[secret])
    thrice(run, look, "targetplugin_export", volume="ledger", state="absent")


def test_saves_of_one_label_are_taken_once_and_at_one_instant(house: House, run: Run) -> None:
    media(house, run, "a", "b", "c", "d")
    for name in ("ledger", "journal"):
        run("targetplugin_volume", name=name, size="8M")

    def look() -> Any:
        return [one["saves"] for one in house.subsystem.volume_list()]

    asked = {"volumes": ["ledger", "journal"], "label": "night"}
    done = thrice(run, look, "targetplugin_save", **asked)
    assert [one["label"] for one in done["saves"]] == ["night", "night"]
    run("targetplugin_save", volumes=["journal"], label="night", state="absent")
    refused = run("targetplugin_save", fails=True, **asked)
    assert "one instant" in refused["msg"]
    thrice(run, look, "targetplugin_save", state="absent", **asked)


def test_groups_are_declared(house: House, run: Run) -> None:
    media(house, run, "a", "b", "c")
    for name in ("ledger", "journal", "notes"):
        run("targetplugin_volume", name=name, size="8M", mirror=1)
    look = house.subsystem.group_list
    thrice(run, look, "targetplugin_group", name="books", volumes=["ledger", "journal"])
    thrice(run, look, "targetplugin_group", name="books", volumes=["ledger", "notes"])
    thrice(run, look, "targetplugin_group", name="books", state="absent")


def test_what_is_not_listed_goes_only_where_nothing_is_lost(
    house: House, run: Run, kernel: FakeKernel
) -> None:
    paths = media(house, run, "a", "b", "c", "d")
    for name in ("ledger", "journal", "notes"):
        run("targetplugin_volume", name=name, size="8M", mirror=1, media=[name_of(name)])
        run("targetplugin_export", volume=name, hosts=[{"iqn": HOST}])
    kernel.hosts = {HOST}
    nothing: dict[str, list[str]] = {"media": [], "volumes": [], "exports": [], "groups": []}
    kept = run("targetplugin_unlisted", **nothing)
    assert kept["removed"] == ["medium d"]
    assert len(kept["kept"]) == 3 + 3 + 3
    assert str(kept["warnings"]).count("is not listed and is kept") == 9
    kernel.hosts = set()
    run("targetplugin_save", volumes=["journal"], label="night", policy="copy", fails=True)
    house.subsystem.media_add(str(paths[3]), size=64 * MIB, name="d")
    run("targetplugin_save", volumes=["journal"], label="night", policy="copy")
    listed = {**nothing, "volumes": ["ledger"], "exports": ["ledger"], "media": [str(paths[0])]}
    run("targetplugin_unlisted", check=True, **listed)
    assert len(house.subsystem.volume_list()) == 3
    done = run("targetplugin_unlisted", **listed)
    assert done["removed"] == ["export journal", "export notes", "volume notes", "medium c"]
    assert [one["what"] for one in done["kept"]] == ["volume journal", "medium b", "medium d"]
    assert "journal@1" in done["kept"][0]["why"]
    assert not run("targetplugin_unlisted", **listed)["changed"]


def name_of(volume: str) -> str:
    return {"ledger": "a", "journal": "b", "notes": "c"}[volume]


def test_a_daemon_that_is_away_is_said_to_be(house: House, run: Run, tmp_path: Path) -> None:
    asked = {"path": "/srv/a.img", "socket": str(tmp_path / "none.sock")}
    refused = run("targetplugin_media", fails=True, **asked)
    assert "not running" in refused["msg"]
    assert "systemctl start targetplugind" in refused["msg"]
    away = {"path": "/srv/a.img", "executable": str(tmp_path / "none")}
    assert "install targetplugin" in run("targetplugin_media", fails=True, **away)["msg"]
