"""The shell: a tree that follows the daemon, commands that are verbs, scripts with exit status."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from targetplugin.control.server import Server
from targetplugin.errors import Reason
from targetplugin.terminal import settings
from tests.unit.fake_subsystem import HOST, FakeSubsystem, a_save, a_volume, an_operation

ROOT = Path(__file__).parents[2]
DOOR = {"door": "terminal", "request": None}


@pytest.fixture
def fake() -> FakeSubsystem:
    return FakeSubsystem()


@pytest.fixture
def shell(fake: FakeSubsystem, tmp_path: Path) -> Iterator[Shell]:
    server = Server(fake, tmp_path / "control.sock")
    server.start()
    yield Shell(tmp_path)
    server.stop(1)


class Shell:
    """The shell as a process of its own; `shown` and `told` are what it printed."""

    def __init__(self, home: Path) -> None:
        self.command = [sys.executable, "-m", "targetplugin.terminal.main", "--socket"]
        self.command += [str(home / "control.sock")]
        self.env = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(home)}
        self.shown = self.told = ""

    def type(self, lines: str) -> int:
        """Types lines from a pipe; returns the exit status."""
        done = subprocess.run(
            self.command, input=lines, capture_output=True, text=True, env=self.env, timeout=60
        )
        self.shown, self.told = done.stdout, done.stderr
        return done.returncode

    def type_on_a_terminal(self, lines: str) -> int:
        """The same on a terminal."""
        mine, theirs = pty.openpty()
        process = subprocess.Popen(
            self.command, stdin=theirs, stdout=theirs, stderr=theirs, env=self.env
        )
        os.close(theirs)
        os.write(mine, lines.encode())
        shown = b""
        with contextlib.suppress(OSError):  # the last one who held the other side has closed it
            while part := os.read(mine, 4096):
                shown += part
        os.close(mine)
        self.shown = shown.decode()
        return process.wait(30)


def verbs(fake: FakeSubsystem) -> list[tuple[object, ...]]:
    return [call for call in fake.calls if call[0] != "status"]


def test_the_tree_shows_all_there_is(shell: Shell, fake: FakeSubsystem) -> None:
    running = an_operation(id=77, state="running", verb="resync", progress=0.25)
    fake.answers["status"]["operations"] = [running]
    assert shell.type("ls\n") == 0
    shown = shell.shown
    for part in (
        "volumes",
        "ledger ",
        "serving, generation 4",
        "saves",
        "ledger@3",
        "before-night-run, whole",
        "groups",
        "books",
        "ledger, journal",
        "virtio-media-c",
        "77 ",
        "resync ledger@3, 25%",
    ):
        assert part in shown


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("/media add /dev/vdb name=spare", ("media_add", ("/dev/vdb",), {"name": "spare"})),
        ("/media remove vdb force=yes", ("media_remove", ("vdb",), {"force": True})),
        (
            "/volumes create l size=1G media=a,b rights=all",
            ("volume_create", ("l", 1 << 30), {"media": ["a", "b"], "rights": "all"}),
        ),
        ("/volumes delete ledger", ("volume_delete", ("ledger",), {})),
        (
            "/volumes/ledger save label=night policy=split onto=vdc",
            ("save", ("ledger",), {"label": "night", "policy": "split", "onto": "vdc", **DOOR}),
        ),
        ("/volumes/ledger diff", ("diff", ("ledger",), {})),
        (
            "/volumes/ledger retain last=3 daily=7 preview=yes",
            ("retain", ("ledger",), {"last": 3, "daily": 7, "preview": True}),
        ),
        (
            "/volumes/ledger save fill=no",
            ("save", ("ledger",), {"policy": "sparse", **DOOR}),
        ),
        (
            "/volumes/ledger/saves/before-night-run fill medium=vdd",
            ("fill", ("ledger@3",), {"onto": "vdd", **DOOR}),
        ),
        (
            "/volumes/ledger/saves/before-night-run hold 14d",
            ("hold", ("ledger@3",), {"seconds": 14 * 86400}),
        ),
        (
            "/volumes/ledger/saves/before-night-run unhold force=yes",
            ("unhold", ("ledger@3",), {"force": True}),
        ),
        (
            "/volumes/ledger diff since=monday to=now",
            ("diff", ("ledger",), {"since": "monday", "to": "now"}),
        ),
        ("/volumes/ledger recover force=yes", ("recover", ("ledger",), {"force": True, **DOOR})),
        ("/volumes/ledger undo no_undo=yes", ("undo", ("ledger",), {"no_undo": True, **DOOR})),
        (
            "/volumes/ledger/saves/ledger@3 recover no_undo=yes",
            ("recover", ("ledger@3",), {"no_undo": True, **DOOR}),
        ),
        ("/volumes/ledger swap", ("swap", ("ledger",), DOOR)),
        ("/volumes/ledger restore /i.raw", ("restore", ("ledger",), {"image": "/i.raw", **DOOR})),
        ("/volumes/ledger restore backup=2", ("restore", ("ledger",), {"backup": 2, **DOOR})),
        (
            "/volumes/ledger resize 2G preview=yes",
            ("volume_resize", ("ledger", 2 << 30), {"preview": True, **DOOR}),
        ),
        ("/volumes/ledger scrub rate=1M", ("scrub", ("ledger",), {"rate": 1 << 20, **DOOR})),
        ("/volumes/ledger leg_add vdc", ("leg_add", ("ledger",), {"medium": "vdc", **DOOR})),
        ("/volumes/ledger leg_remove vdb", ("leg_remove", ("ledger", "vdb"), DOOR)),
        (
            "/volumes/ledger set replace_failed=on",
            ("volume_set", ("ledger",), {"replace_failed": True}),
        ),
        (f"/volumes/ledger export {HOST}", ("export", ("ledger", [HOST]), {})),
        (
            f"/volumes/ledger unexport {HOST} force=yes",
            ("unexport", ("ledger",), {"initiators": [HOST], "force": True}),
        ),
        ("/volumes/ledger/saves/ledger@3 recover", ("recover", ("ledger@3",), DOOR)),
        ("/volumes/ledger/saves/before-night-run diff", ("diff", ("ledger@3",), {})),
        ("/volumes/ledger/saves/ledger@before-night-run swap", ("swap", ("ledger@3",), DOOR)),
        ("/volumes/ledger/saves/ledger@3 resync", ("resync", ("ledger@3",), DOOR)),
        ("/volumes/ledger/saves/ledger@3 release", ("release", ("ledger@3",), DOOR)),
        (
            "/volumes/ledger/saves/ledger@3 backup /b.raw format=raw",
            ("backup", ("ledger@3", "/b.raw"), {"format": "raw"}),
        ),
        (
            "/groups create books ledger,journal",
            ("group_create", ("books", ["ledger", "journal"]), {}),
        ),
        ("/groups delete books", ("group_delete", ("books",), {})),
        (
            "/groups/books save label=night policy=copy deadline=200",
            (
                "save_group",
                (["ledger", "journal"],),
                {"label": "night", "policy": "copy", "deadline_ms": 200, **DOOR},
            ),
        ),
        (
            "/groups/books recover night force=yes",
            ("recover_group", (["ledger@night", "journal@night"],), {"force": True, **DOOR}),
        ),
        ("/groups/books undo", ("undo_group", (["ledger", "journal"],), DOOR)),
        (
            "/groups/books undo no_undo=yes",
            ("undo_group", (["ledger", "journal"],), {"no_undo": True, **DOOR}),
        ),
        ("/groups/books swap", ("swap_group", (["ledger", "journal"],), DOOR)),
        (
            "/groups/books swap night deadline=200",
            ("swap_group", (["ledger@night", "journal@night"],), {"deadline_ms": 200, **DOOR}),
        ),
        ("/operations list", ("operations", (), {})),
    ],
)
def test_a_command_is_a_verb(
    shell: Shell, fake: FakeSubsystem, line: str, call: tuple[object, ...]
) -> None:
    assert shell.type(line + "\n") == 0
    assert verbs(fake) == [call]


def test_an_operation_is_watched_and_aborted_where_it_stands(
    shell: Shell, fake: FakeSubsystem
) -> None:
    fake.answers["status"]["operations"] = [an_operation(id=77, state="running")]
    assert shell.type("cd /operations/77\nwatch\nabort\n") == 0
    assert verbs(fake) == [("operation", (77,), {}), ("abort", (77,), {})]


@pytest.mark.parametrize("label", ["before the night", "a|b", "ümlaut", "x'y"])
def test_no_part_of_what_was_typed_is_lost(shell: Shell, fake: FakeSubsystem, label: str) -> None:
    assert shell.type(f'/volumes/ledger save label="{label}"\n') == 0
    assert fake.calls[2][2]["label"] == label


def test_one_walks_the_tree(shell: Shell, fake: FakeSubsystem) -> None:
    assert shell.type("cd /volumes/ledger\npwd\nsave\ncd saves/ledger@3\npwd\nrecover\nexit\n") == 0
    shown = shell.shown.splitlines()
    assert "/volumes/ledger" in shown
    assert "/volumes/ledger/saves/ledger@3" in shown
    assert [call[0] for call in verbs(fake)] == ["save", "recover"]


def test_the_tree_follows_what_others_do(shell: Shell, fake: FakeSubsystem) -> None:
    status = fake.answers["status"]
    later = a_volume(saves=[a_save(name="ledger@4", generation=4, label="")])
    answers = iter([status, status, status, {**status, "volumes": [later]}])
    last = {**status, "volumes": [later]}
    fake.answers["status"] = lambda: next(answers, last)
    assert shell.type("cd /volumes/ledger/saves/ledger@3\npwd\npwd\nls\n") == 0
    shown = shell.shown
    assert shown.splitlines()[:2] == [
        "/volumes/ledger/saves/ledger@3",
        "/volumes/ledger/saves",
    ]
    assert "ledger@4" in shown


def test_a_script_ends_at_its_first_error_with_its_status(
    shell: Shell, fake: FakeSubsystem
) -> None:
    fake.refuse("swap", Reason.BUSY, "it fills")
    assert shell.type("/volumes/ledger swap\n/volumes/ledger save\n") == 1
    assert [call[0] for call in verbs(fake)] == ["swap"]
    assert "it fills" in shell.told


@pytest.mark.parametrize(
    "line",
    [
        "sav",
        "/volumes/other save",
        "/volumes/ledger save lable=x",
        "/volumes/ledger save a b c d e f",
        "/volumes/ledger swap force=perhaps",
        "/volumes create l size=1Q",
        '/volumes/ledger save label="x',
        "cd",
        "cd /nowhere",
        "ls depth=x",
        "@nowhere ls",
    ],
)
def test_what_is_typed_wrong_is_told_and_is_status_2(
    shell: Shell, fake: FakeSubsystem, line: str
) -> None:
    assert shell.type(line + "\n") == 2
    told = shell.told
    assert told.strip()
    assert "Traceback" not in told
    assert verbs(fake) == []


def test_without_a_daemon_the_shell_says_so(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    assert shell.type("ls") == 1
    assert "systemctl start targetplugind" in shell.told


def test_on_a_terminal_an_error_does_not_end_it_and_history_is_kept(
    shell: Shell, fake: FakeSubsystem, tmp_path: Path
) -> None:
    fake.refuse("swap", Reason.BUSY, "it fills")
    typed = "cd /volumes/ledger\nswap\nnonsense\nsave label=x\nexit\n"
    assert shell.type_on_a_terminal(typed) == 0
    assert "/volumes/ledger> " in shell.shown
    assert "it fills" in shell.shown
    assert "nonsense" in shell.shown
    assert "Traceback" not in shell.shown
    assert [call[0] for call in verbs(fake)] == ["swap", "save"]
    assert "save label=x" in (tmp_path / "targetplugin/history").read_text()
    assert (tmp_path / "targetplugin/shell.json").exists()


def test_tab_completes_paths_and_commands(shell: Shell, fake: FakeSubsystem) -> None:
    assert shell.type_on_a_terminal("cd /vol\tled\t\nrec\t\nexit\n") == 0
    assert [call[:2] for call in verbs(fake)] == [("recover", ("ledger",))]


def test_settings_are_kept_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    settings.store({"color_mode": False, "path_history": ["/"], "bookmarks": {"l": "/volumes"}})
    kept = {"color_mode": False, "bookmarks": {"l": "/volumes"}}
    assert json.loads((tmp_path / "targetplugin/shell.json").read_text()) == kept
    assert settings.load() == kept


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"color_mode": 7, "bookmarks": {"l": 1}}', "\x80\x02}q\x00."]
)
def test_settings_that_are_damaged_are_as_good_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "targetplugin").mkdir()
    (tmp_path / "targetplugin/shell.json").write_text(text, encoding="latin-1")
    assert settings.load() == {}
