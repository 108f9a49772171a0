"""The terminal as it is typed: a process of its own against a real socket with a fake behind it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from targetplugin.control.server import Server
from targetplugin.errors import Reason
from targetplugin.terminal.progress import amount
from tests.unit.fake_subsystem import (
    HOST,
    FakeSubsystem,
    a_backup,
    a_save,
    a_volume,
    an_export,
    an_operation,
)

Run = Callable[..., "subprocess.CompletedProcess[str]"]
ROOT = Path(__file__).parents[2]
DOOR = {"door": "terminal", "request": None}


@pytest.fixture
def fake() -> FakeSubsystem:
    return FakeSubsystem()


@pytest.fixture
def place(fake: FakeSubsystem, tmp_path: Path) -> Iterator[Path]:
    server = Server(fake, tmp_path / "control.sock")
    server.start()
    yield tmp_path / "control.sock"
    server.stop(1)


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Run:
    def run(*words: str, typed: str = "", python: tuple[str, ...] = ()) -> Any:
        command = [sys.executable, *python, "-m", "targetplugin.terminal.main"]
        return subprocess.run(
            [*command, "--socket", str(place), *words],
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path / "state")},
        )

    return run


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("media add /dev/vdb", ("media_add", ("/dev/vdb",), {})),
        (
            "media add /s.img --size 1.5G --force --name spare",
            ("media_add", ("/s.img",), {"size": 3 << 29, "force": True, "name": "spare"}),
        ),
        ("media remove vdb --force", ("media_remove", ("vdb",), {"force": True})),
        ("media list", ("media_list", (), {})),
        (
            "volume create ledger --size 512M --mirror 2",
            ("volume_create", ("ledger", 512 << 20), {"mirror": 2}),
        ),
        (
            "volume create l --size 4096 --media a b --extent-size 4K --policy copy --rights save",
            (
                "volume_create",
                ("l", 4096),
                {"media": ["a", "b"], "extent_size": 4096, "policy": "copy", "rights": "save"},
            ),
        ),
        ("volume delete ledger --force", ("volume_delete", ("ledger",), {"force": True})),
        ("volume list", ("volume_list", (), {})),
        ("volume show ledger", ("volume_show", ("ledger",), {})),
        (
            f"export ledger --initiator {HOST} --portal 192.0.2.1 --target iqn.2026-01.a:l",
            (
                "export",
                ("ledger", [HOST]),
                {"portals": ["192.0.2.1:3260"], "target": "iqn.2026-01.a:l"},
            ),
        ),
        (f"export ledger@3 --initiator {HOST}", ("export", ("ledger@3", [HOST]), {})),
        (
            f"export ledger --initiator {HOST} --preview",
            ("export", ("ledger", [HOST]), {"preview": True}),
        ),
        ("unexport ledger --preview", ("unexport", ("ledger",), {"preview": True})),
        ("volume delete ledger --preview", ("volume_delete", ("ledger",), {"preview": True})),
        ("media remove vdb --preview", ("media_remove", ("vdb",), {"preview": True})),
        ("unexport ledger@night", ("unexport", ("ledger@night",), {})),
        ("unexport ledger", ("unexport", ("ledger",), {})),
        (
            f"unexport ledger --initiator {HOST} --force",
            ("unexport", ("ledger",), {"initiators": [HOST], "force": True}),
        ),
        (
            "save ledger --label night --policy copy --onto vdc",
            ("save", ("ledger",), {"label": "night", "policy": "copy", "onto": "vdc", **DOOR}),
        ),
        ("save ledger --no-fill", ("save", ("ledger",), {"policy": "sparse", **DOOR})),
        ("save ledger --hold 1d12h", ("save", ("ledger",), {"hold_seconds": 129600, **DOOR})),
        (
            "save ledger journal --hold 2126-12-01T00:00Z",
            (
                "save_group",
                (["ledger", "journal"],),
                {"hold_until": datetime(2126, 12, 1, tzinfo=UTC), **DOOR},
            ),
        ),
        (
            "save ledger journal --no-fill",
            ("save_group", (["ledger", "journal"],), {"policy": "sparse", **DOOR}),
        ),
        (
            "fill ledger@night --medium vdd --rate 50M --no-wait",
            ("fill", ("ledger@night",), {"onto": "vdd", "rate": 50 << 20, **DOOR}),
        ),
        (
            "save ledger journal --label night --deadline 200",
            (
                "save_group",
                (["ledger", "journal"],),
                {"label": "night", "deadline_ms": 200, **DOOR},
            ),
        ),
        (
            "recover ledger@night journal@5 --deadline 300 --force",
            (
                "recover_group",
                (["ledger@night", "journal@5"],),
                {"deadline_ms": 300, "force": True, **DOOR},
            ),
        ),
        (
            "recover ledger journal --no-undo",
            ("recover_group", (["ledger", "journal"],), {"no_undo": True, **DOOR}),
        ),
        (
            "undo ledger journal --operation 11 --no-undo --deadline 300 --force",
            (
                "undo_group",
                (["ledger", "journal"],),
                {"op": 11, "no_undo": True, "deadline_ms": 300, "force": True, **DOOR},
            ),
        ),
        (
            "swap ledger@night journal --deadline 300 --force",
            (
                "swap_group",
                (["ledger@night", "journal"],),
                {"deadline_ms": 300, "force": True, **DOOR},
            ),
        ),
        ("group create books l j", ("group_create", ("books", ["l", "j"]), {})),
        ("group list", ("group_list", (), {})),
        ("group delete books", ("group_delete", ("books",), {})),
        ("diff ledger@3", ("diff", ("ledger@3",), {})),
        ("recover ledger@night --force", ("recover", ("ledger@night",), {"force": True, **DOOR})),
        ("recover ledger --preview", ("recover", ("ledger",), {"preview": True, **DOOR})),
        ("recover ledger --no-undo", ("recover", ("ledger",), {"no_undo": True, **DOOR})),
        ("undo ledger", ("undo", ("ledger",), DOOR)),
        (
            "undo ledger --operation 11 --no-undo --force --preview",
            (
                "undo",
                ("ledger",),
                {"op": 11, "no_undo": True, "force": True, "preview": True, **DOOR},
            ),
        ),
        (
            "save ledger --replace ledger@night",
            ("save", ("ledger",), {"replace": "ledger@night", **DOOR}),
        ),
        (
            "restore ledger --from /i.qcow2 --onto vdd",
            ("restore", ("ledger",), {"image": "/i.qcow2", "onto": "vdd", **DOOR}),
        ),
        (
            "restore ledger --from /i --format raw --preview",
            ("restore", ("ledger",), {"image": "/i", "format": "raw", "preview": True, **DOOR}),
        ),
        ("restore ledger --backup 2", ("restore", ("ledger",), {"backup": 2, **DOOR})),
        ("swap ledger", ("swap", ("ledger",), DOOR)),
        (
            "clone ledger@night --name test --onto vdd",
            ("clone", ("ledger@night", "test"), {"onto": "vdd", **DOOR}),
        ),
        ("resync ledger@3", ("resync", ("ledger@3",), DOOR)),
        ("release ledger@3", ("release", ("ledger@3",), DOOR)),
        ("hold ledger@3 --for 1w2d", ("hold", ("ledger@3",), {"seconds": 9 * 86400})),
        (
            "hold ledger@night --until 2026-12-01T01:00+01:00 --force",
            (
                "hold",
                ("ledger@night",),
                {"until": datetime(2026, 12, 1, tzinfo=UTC), "force": True},
            ),
        ),
        ("unhold ledger@3 --force", ("unhold", ("ledger@3",), {"force": True})),
        (
            "retain ledger --last 3 --daily 7 --weekly 4 --keep-labelled",
            (
                "retain",
                ("ledger",),
                {"last": 3, "daily": 7, "weekly": 4, "keep_labelled": True},
            ),
        ),
        (
            "retain ledger --hourly 24 --monthly 6 --preview",
            ("retain", ("ledger",), {"hourly": 24, "monthly": 6, "preview": True}),
        ),
        ("retain ledger --show", ("retain", ("ledger",), {})),
        ("retain ledger --off", ("retain", ("ledger",), {"off": True})),
        ("retain ledger --now", ("retain", ("ledger",), {"now": True})),
        ("holds ledger", ("holds", (), {"volume": "ledger"})),
        (
            "volume set ledger --replace-failed on --replace-after 0",
            ("volume_set", ("ledger",), {"replace_failed": True, "replace_after": 0}),
        ),
        (
            "volume set ledger --policy copy --rights save --mirror 3",
            ("volume_set", ("ledger",), {"policy": "copy", "rights": "save", "mirror": 3}),
        ),
        ("volume adopt l /srv/l", ("volume_adopt", ("l", "/srv/l"), {})),
        (
            "volume adopt l /srv/l --size 1M --preview --policy copy",
            ("volume_adopt", ("l", "/srv/l"), {"size": 1 << 20, "policy": "copy", "preview": True}),
        ),
        (
            "volume resize ledger --size 2G",
            ("volume_resize", ("ledger", 2 << 30), DOOR),
        ),
        (
            "volume resize ledger --size 2G --rate 50M --no-wait",
            ("volume_resize", ("ledger", 2 << 30), {"rate": 50 << 20, **DOOR}),
        ),
        ("scrub ledger --wait", ("scrub", ("ledger",), DOOR)),
        ("scrub ledger --rate 1M", ("scrub", ("ledger",), {"rate": 1 << 20, **DOOR})),
        ("scrub ledger --preview", ("scrub", ("ledger",), {"preview": True, **DOOR})),
        ("leg add ledger", ("leg_add", ("ledger",), DOOR)),
        ("leg add ledger vdc --wait", ("leg_add", ("ledger",), {"medium": "vdc", **DOOR})),
        ("leg add ledger --preview", ("leg_add", ("ledger",), {"preview": True, **DOOR})),
        ("leg remove ledger vdb", ("leg_remove", ("ledger", "vdb"), DOOR)),
        (
            "leg remove ledger vdb --preview",
            ("leg_remove", ("ledger", "vdb"), {"preview": True, **DOOR}),
        ),
        ("abort 12", ("abort", (12,), {})),
        ("events", ("event_list", (), {})),
        ("events --volume ledger --limit 5", ("event_list", (), {"volume": "ledger", "limit": 5})),
        ("hook add /sbin/tell", ("hook_add", ("/sbin/tell",), {})),
        ("hook remove /sbin/tell", ("hook_remove", ("/sbin/tell",), {})),
        ("hook list", ("hook_list", (), {})),
        (
            "backup ledger@3 --to /b.raw --format raw --label m",
            ("backup", ("ledger@3", "/b.raw"), {"format": "raw", "label": "m"}),
        ),
        (
            "backup ledger@3 --to /b.raw --no-register --force",
            ("backup", ("ledger@3", "/b.raw"), {"register": False, "force": True}),
        ),
        (
            "backup ledger@3 --to /b.qcow2 --since ledger@2 --rate 50M",
            ("backup", ("ledger@3", "/b.qcow2"), {"since": "ledger@2", "rate": 50 << 20}),
        ),
        (
            "backup ledger@3 --to /b.qcow2 --base 2 --rate 1.5GiB/s",
            ("backup", ("ledger@3", "/b.qcow2"), {"base": 2, "rate": 3 << 29}),
        ),
        (
            "restore ledger --from /i --force --rate 64K",
            ("restore", ("ledger",), {"image": "/i", "force": True, "rate": 64 << 10, **DOOR}),
        ),
        (
            "backups register ledger /b --force",
            ("backup_register", ("ledger", "/b"), {"force": True}),
        ),
        ("operation rate 12 50M", ("operation_rate", (12,), {"rate": 50 << 20})),
        ("operation rate 12 none", ("operation_rate", (12,), {})),
        ("backups list", ("backup_list", (), {})),
        (
            "backups register ledger /b --format raw",
            ("backup_register", ("ledger", "/b"), {"format": "raw"}),
        ),
        ("backups forget 1", ("backup_forget", (1,), {})),
        ("status ledger", ("status", (), {"volume": "ledger"})),
        ("operation list --limit 5", ("operations", (), {"limit": 5})),
        ("operation show 12", ("operation", (12,), {})),
        ("operation watch 12", ("operation", (12,), {})),
    ],
)
def test_a_verb_is_one_call_told_in_words_or_as_its_result(
    run: Run, fake: FakeSubsystem, line: str, call: tuple[str, tuple[Any, ...], dict[str, Any]]
) -> None:
    told = run(*line.split())
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.strip()
    assert fake.calls == [call]
    as_json = run(*line.split(), "--json")
    assert as_json.returncode == 0
    assert json.loads(as_json.stdout) == fake.answers[call[0]]


def test_a_size_with_a_plus_is_added_to_what_the_volume_has(run: Run, fake: FakeSubsystem) -> None:
    told = run("volume", "resize", "ledger", "--size", "+1M", "--preview")
    assert "would grow" in told.stdout
    size = (512 << 20) + (1 << 20)
    assert fake.calls == [
        ("volume_show", ("ledger",), {}),
        ("volume_resize", ("ledger", size), {"preview": True, **DOOR}),
    ]


def test_a_size_that_the_volume_has_is_told_so(run: Run, fake: FakeSubsystem) -> None:
    fake.answers["volume_resize"] = {"operation": None, "volume": "ledger", "size": 1, "before": 1}
    assert "already" in run("volume", "resize", "ledger", "--size", "512M").stdout


def test_a_differential_between_two_points_is_told_as_rbd_tells_it(
    run: Run, fake: FakeSubsystem
) -> None:
    fake.answers["diff"]["between"] = ["ledger@3", "ledger@5"]
    words = ("diff", "ledger", "--from", "night", "--to", "5")
    told = run(*words)
    assert "from ledger@3 to ledger@5" in told.stdout
    assert fake.calls == [("diff", ("ledger",), {"since": "night", "to": "5"})]
    as_json = run(*words, "--json")
    assert json.loads(as_json.stdout) == [
        {"offset": 0, "length": 65536, "exists": "true"},
        {"offset": 1 << 20, "length": 2 * 65536, "exists": "true"},
    ]
    fake.answers["diff"]["list"] = []
    assert json.loads(run(*words, "--json").stdout) == []


@pytest.mark.parametrize(
    ("estimate", "told"),
    [
        (None, "not known: no copy of this volume was measured"),
        (
            {"seconds": 4.21, "rate": 50 << 20, "copies": 3, "verb": "recover"},
            "about 4.2 s, as fast as the last 3 recovers of this volume (50 MiB a second)",
        ),
        (
            {"seconds": 0.03, "rate": 1 << 20, "copies": 1, "verb": "save"},
            "takes less than a second, as fast as the last save",
        ),
        ({"seconds": 200.4, "rate": 1 << 20, "copies": 1, "verb": "save"}, "about 3 min 20 s, as"),
        ({"seconds": 7500, "rate": 1 << 20, "copies": 1, "verb": "resync"}, "the last resync of"),
    ],
)
def test_a_preview_tells_how_much_and_how_long(
    run: Run, fake: FakeSubsystem, estimate: dict[str, Any] | None, told: str
) -> None:
    fake.answers["recover"] = {
        "operation": an_operation(verb="recover", extents_changed=40),
        "preview": True,
        "bytes": 40 * 65536,
        "estimate": estimate,
    }
    done = run("recover", "ledger", "--preview")
    assert "40 extents differ (2.5 MiB)" in done.stdout
    assert told in done.stdout


@pytest.mark.parametrize("verb", ["save", "recover", "swap", "resync", "release", "undo", "scrub"])
def test_a_preview_waits_for_nothing(run: Run, fake: FakeSubsystem, verb: str) -> None:
    operation = an_operation(id=0, verb=verb, state="prepared")
    fake.answers[verb] = {"operation": operation, "preview": True}
    told = run(verb, "ledger", "--preview", "--wait")
    assert (told.returncode, told.stderr) == (0, "")
    assert "nothing was done now" in told.stdout
    assert [name for name, _, _ in fake.calls] == [verb]


def test_a_hold_is_shown_with_its_save(run: Run, fake: FakeSubsystem) -> None:
    assert "held until 2026-12-01 00:00:00Z" in run("hold", "ledger@3", "--for", "14d").stdout
    assert "HELD UNTIL" not in run("status").stdout
    save = a_save(held_until="2026-12-01T00:00:00.000Z")
    fake.answers["status"]["volumes"] = [a_volume(saves=[save])]
    assert "HELD UNTIL" in run("status").stdout
    assert "2026-12-01 00:00:00Z" in run("status").stdout


def test_what_rules_keep_and_what_goes_is_told_with_why(run: Run, fake: FakeSubsystem) -> None:
    told = run("retain", "ledger").stdout
    assert "ledger keeps of its saves: last 1, daily 7, all that are labelled." in told
    assert "last 1 of 1, daily 2026-01-05" in told
    assert "Not kept:" in told
    assert "targetplugin retain ledger --now" in told
    assert "1 would be released; nothing was done" in run("retain", "ledger", "--preview").stdout
    fake.answers["retain"] |= {"done": True, "refused": [{"name": "ledger@1", "why": "it is away"}]}
    told = run("retain", "ledger", "--now").stdout
    assert "Released:" in told
    assert "ledger@1 was not released: it is away" in told
    fake.answers["retain"] |= {"rules": None, "released": [], "refused": [], "done": False}
    for held in ([], ["it is held until 2026-12-01T00:00:00.000Z"]):
        fake.answers["retain"]["kept"][0]["why"] = held
        told = run("retain", "ledger", "--off")
        assert told.returncode == 0, told.stderr
        assert "ledger has no rules" in told.stdout
        assert "ledger@3" in told.stdout
    fake.answers["volume_show"] = a_volume(retention={"last": 3})
    assert "ledger keeps of its saves: last 3" in run("volume", "show", "ledger").stdout


def test_without_a_daemon_it_says_how_to_start_it(run: Run, tmp_path: Path) -> None:
    done = run("--socket", str(tmp_path / "none"), "status")
    assert done.returncode == 1
    assert "targetplugind is not running" in done.stderr
    assert "systemctl start targetplugind" in done.stderr


def test_a_refusal_is_a_sentence_a_hint_and_exit_status_1(run: Run, fake: FakeSubsystem) -> None:
    fake.refuse("swap", Reason.BUSY, "ledger@3 fills", hint="wait a little", progress=0.25)
    done = run("swap", "ledger")
    assert done.returncode == 1
    assert "ledger@3 fills (25% done)" in done.stderr
    assert "wait a little" in done.stderr
    assert done.stdout == ""


def test_a_refusal_is_an_object_with_json(run: Run, fake: FakeSubsystem) -> None:
    fake.refuse("swap", Reason.HOSTS, "two hosts", object="ledger", hint="--force")
    done = run("swap", "ledger", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"] == {
        "reason": "hosts",
        "message": "two hosts",
        "object": "ledger",
        "hint": "--force",
        "progress": None,
    }


@pytest.mark.parametrize(
    "line",
    [
        "sav ledger",
        "save",
        "save ledger --lab x",
        "save ledger --deadline 5",
        "save ledger journal --onto vdc",
        "save ledger journal --deadline 6000",
        "recover ledger@night --deadline 5",
        "group create books",
        "volume create ledger",
        "volume create ledger --size 512X",
        "volume create ledger --size 0.3",
        "volume create ledger --size 1M --extent-size 5000",
        "restore ledger",
        "restore ledger --from /i --backup 1",
        "backup ledger --to /b --since ledger@2 --base 1",
        "backup ledger --to /b --rate 1K",
        "operation rate 12 fast",
        "export ledger --initiator not-an-iqn",
        "abort twelve",
        "hold ledger@3",
        "retain ledger --last 0",
        "retain ledger --last 10001",
        "retain ledger --off --now",
        "retain ledger --show --last 3",
        "hold ledger@3 --for 14",
        "hold ledger@3 --for 0d",
        "hold ledger@3 --until tomorrow",
        "hold ledger@3 --for 14d --until 2026-12-01",
        "save ledger --label a-label-of-more-than-thirty-two-bytes",
        "volume create notes --size 1G --mirror 9",
        "export ledger --initiator iqn.2026-01.a:b --chap-password-file /none/such",
    ],
)
def test_wrong_usage_is_exit_status_2_and_no_verb(run: Run, fake: FakeSubsystem, line: str) -> None:
    done = run(*line.split())
    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr
    assert fake.calls == []


def test_a_verb_refused_for_its_argument_is_exit_status_2(run: Run, fake: FakeSubsystem) -> None:
    fake.refuse("save", Reason.USAGE, "'12' can't be a label")
    assert run("save", "ledger", "--label", "12").returncode == 2


def test_relative_paths_are_those_of_the_terminal(
    run: Run, fake: FakeSubsystem, tmp_path: Path
) -> None:
    run("media", "add", "spare.img", "--size", "1G")
    assert fake.calls[0][1] == (str(tmp_path / "spare.img"),)


def test_nothing_is_cut_or_coloured_in_a_pipe(run: Run, fake: FakeSubsystem) -> None:
    long = "iqn.2026-01.org.example:" + "x" * 190
    fake.answers["status"]["volumes"][0]["export"]["target"] = long
    done = run("status")
    assert long in done.stdout
    assert "\x1b" not in done.stdout


def test_status_shows_which_save_is_shown_to_whom(run: Run, fake: FakeSubsystem) -> None:
    shown = an_export(volume="ledger@3", target="iqn.2026-01.org.example:night")
    save = a_save(activity="recovering", export=shown)
    fake.answers["status"]["volumes"] = [a_volume(saves=[save], export=None)]
    fake.answers["volume_show"] = a_volume(saves=[save], export=None)
    for words in (("status",), ("status", "ledger"), ("volume", "show", "ledger")):
        told = run(*words).stdout
        assert "recovering, shown" in told
        line = next(line for line in told.splitlines() if "example:night" in line)
        assert "ledger@3" in line
        assert HOST in line


def test_a_clone_says_what_it_is_and_what_comes_next(run: Run, fake: FakeSubsystem) -> None:
    told = run("clone", "ledger@3", "--name", "test").stdout
    assert "test is a volume with the data of ledger@3 on virtio-media-a" in told
    assert "targetplugin export test" in told
    fake.answers["status"]["volumes"] = [a_volume(saves=[a_save(clones=["test"])])]
    assert "clone test" in run("status").stdout


def test_a_label_of_a_host_does_not_steer_the_terminal(run: Run, fake: FakeSubsystem) -> None:
    save = a_save(label="\x1b[2Jgone\n[red]")
    fake.answers["status"]["volumes"] = [a_volume(saves=[save])]
    done = run("status")
    assert "\\x1b[2Jgone\\n[red]" in done.stdout


def test_an_empty_subsystem_teaches_the_next_step(run: Run, fake: FakeSubsystem) -> None:
    fake.answers["status"] = {
        "volumes": [],
        "groups": [],
        "media": [],
        "operations": [],
        "version": "1",
    }
    assert "targetplugin media add" in run("status").stdout


def test_a_quick_verb_imports_neither_rich_nor_configshell_nor_msgspec(run: Run) -> None:
    done = run("status", "--json", python=("-X", "importtime"))
    assert done.returncode == 0
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in loaded
    assert loaded.isdisjoint({"rich", "configshell", "configshell_fb", "msgspec"})


# CHAP.


def test_chap_that_nobody_is_asked_for_is_made_up_and_shown_once(
    run: Run, fake: FakeSubsystem
) -> None:
    done = run("export", "ledger", "--initiator", HOST, "--chap")
    chap = fake.calls[0][2]["chap"]
    assert chap["user"] == "ledger"
    assert len(chap["password"]) == 16
    assert done.stdout.count(chap["password"]) == 1
    again = run("export", "ledger", "--initiator", HOST, "--chap", "--json")
    assert json.loads(again.stdout)["chap"] == fake.calls[1][2]["chap"]
    assert fake.calls[1][2]["chap"]["password"] != chap["password"]


def test_a_chap_password_comes_from_a_file_or_standard_input_and_is_not_shown(
    run: Run, fake: FakeSubsystem, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("correct horse\n")
    words = ["export", "ledger", "--initiator", HOST, "--chap-user", "night"]
    first = run(*words, "--chap-password-file", "secret")
    second = run(*words, "--chap-password-file", "-", typed="correct horse\n")
    for call in fake.calls:
        assert call[2]["chap"] == {"user": "night", "password": "correct horse"}
    assert "correct horse" not in first.stdout + first.stderr + second.stdout + second.stderr


def test_a_differential_is_drawn_into_a_file(run: Run, tmp_path: Path) -> None:
    done = run("diff", "ledger@3", "--map", "night.svg")
    assert done.returncode == 0
    assert "3 extents" in done.stdout
    text = (tmp_path / "night.svg").read_text()
    assert text.startswith("<svg ")
    assert "ledger: 192 KiB changed from ledger@3 to now" in text
    done = run("diff", "ledger@3", "--map", "none/night.svg")
    assert done.returncode == 2
    assert "none/night.svg" in done.stderr


# Waiting.


def steps(*operations: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """One answer after the other; the last again and again."""
    left = list(operations)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


RUNNING = {"state": "running", "verb": "recover", "progress": 0.1, "ended": None}


def test_waiting_writes_lines_and_tells_the_end(run: Run, fake: FakeSubsystem) -> None:
    fake.answers["recover"] = {"operation": an_operation(**RUNNING)}
    fake.answers["operation_wait"] = steps(
        an_operation(**{**RUNNING, "progress": 0.5}), an_operation(verb="recover")
    )
    done = run("recover", "ledger", "--wait")
    assert done.returncode == 0
    assert "recover ledger@3: 50%" in done.stderr
    assert "recover ledger@3: 100%" in done.stderr
    assert "ledger is back at ledger@3" in done.stdout
    assert "40 copied" in done.stdout


def test_a_recover_tells_what_it_kept_and_how_to_get_it_back(run: Run, fake: FakeSubsystem) -> None:
    kept = a_save(name="ledger@5", label="undo-12", undo=12, media=["vdd"])
    fake.answers["recover"] = {
        "operation": an_operation(verb="recover"),
        "save": a_save(),
        "undo": kept,
        "undo_why": "",
    }
    done = run("recover", "ledger")
    assert "kept as ledger@5 (undo-12) on vdd; back to it: targetplugin undo ledger" in done.stdout


def test_an_undo_tells_what_was_undone_and_that_it_can_not_be(run: Run) -> None:
    done = run("undo", "ledger")
    assert "operation 11 is undone: ledger is back at ledger@5" in done.stdout
    assert "can't be undone: there is no free medium of 512 MiB or more." in done.stdout


def test_several_that_are_taken_back_tell_how_to_have_it_again(run: Run) -> None:
    told = run("recover", "ledger", "journal").stdout
    assert "ledger@3 and journal@5 are taken back at one instant" in told
    assert "kept as ledger@6 (undo-12) and journal@6 (undo-12)" in told
    assert "targetplugin undo ledger journal" in told
    told = run("undo", "ledger", "journal").stdout
    assert "operation 11 is undone: back at ledger@3 and journal@5" in told
    assert "No undo saves were taken, and this can't be undone: there is no free medium" in told
    told = run("swap", "ledger", "journal").stdout
    assert "ledger and journal have the data of their saves at one instant" in told
    assert "back to it: targetplugin swap ledger@6 journal@6" in told


def test_previews_of_several_tell_what_each_would_get(run: Run, fake: FakeSubsystem) -> None:
    members = [
        {"volume": name, "save": f"{name}@5", "extents_changed": 7, "undo_onto": onto}
        for name, onto in (("ledger", "vdc"), ("journal", "vdd"))
    ]
    told = {"operation": an_operation(), "preview": True, "members": members, "undo_why": ""}
    for verb in ("recover_group", "undo_group", "swap_group"):
        fake.answers[verb] = told
    for verb in ("recover", "undo"):
        shown = run(verb, "ledger", "journal", "--preview").stdout
        assert "ledger@5 and journal@5 would be taken back at one instant" in shown
        assert "vdd" in shown
    assert "would be swapped in" in run("swap", "ledger", "journal", "--preview").stdout
    told["undo_why"] = "there is no room"
    shown = run("recover", "ledger", "journal", "--preview").stdout
    assert "No undo saves would be taken: there is no room." in shown


@pytest.mark.parametrize("verb", ["save", "recover", "undo", "swap"])
def test_a_deadline_is_for_several_volumes(run: Run, fake: FakeSubsystem, verb: str) -> None:
    done = run(verb, "ledger", "--deadline", "5")
    assert done.returncode == 2
    assert "--deadline is for several volumes" in done.stderr
    assert fake.calls == []


def test_status_marks_undo_saves(run: Run, fake: FakeSubsystem) -> None:
    fake.answers["volume_show"] = a_volume(saves=[a_save(label="undo-12", undo=12)])
    fake.answers["status"]["volumes"] = [fake.answers["volume_show"]]
    assert "undo of 12" in run("status").stdout


def test_without_wait_it_says_how_to_follow(run: Run, fake: FakeSubsystem) -> None:
    fake.answers["recover"] = {"operation": an_operation(**RUNNING)}
    done = run("recover", "ledger")
    assert "operation watch 12" in done.stdout
    assert [call[0] for call in fake.calls] == ["recover"]


def test_waiting_with_json_prints_the_result_of_the_end_alone(
    run: Run, fake: FakeSubsystem
) -> None:
    fake.answers["recover"] = {"operation": an_operation(**RUNNING), "save": a_save()}
    fake.answers["operation_wait"] = an_operation(verb="recover")
    done = run("recover", "ledger", "--wait", "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout) == {"operation": an_operation(verb="recover"), "save": a_save()}


@pytest.mark.parametrize("state", ["failed", "aborted"])
def test_what_fails_while_it_is_waited_for_is_exit_status_1(
    run: Run, fake: FakeSubsystem, state: str
) -> None:
    restore = {**RUNNING, "verb": "restore"}
    fake.answers["restore"] = {"operation": an_operation(**restore), "save": a_save()}
    ended = an_operation(**{**restore, "state": state, "error": "the image is damaged"})
    fake.answers["operation_wait"] = ended
    done = run("restore", "ledger", "--from", "/i.raw")
    assert done.returncode == 1
    assert state in done.stderr
    assert ("the image is damaged" in done.stderr) == (state == "failed")


def test_after_waiting_the_save_is_told_as_it_is_then(run: Run, fake: FakeSubsystem) -> None:
    filling = a_save(fill="filling", percent=7.5)
    fake.answers["save"] = {"operation": an_operation(**RUNNING), "save": filling}
    fake.answers["operation_wait"] = an_operation(verb="save")
    fake.answers["volume_show"] = a_volume(saves=[a_save()])
    done = run("save", "ledger", "--policy", "copy", "--wait", "--json")
    assert json.loads(done.stdout)["save"] == a_save()


def test_status_shows_what_saves_without_fill_share(run: Run, fake: FakeSubsystem) -> None:
    assert "Stores" not in run("status").stdout
    assert "KEPT" not in run("status").stdout
    store = {"medium": "virtio-media-d", "state": "ready", "size": 1 << 30, "used": 3 << 20}
    save = a_save(fill="unfilled", percent=0.0, media=["virtio-media-d"], kept_bytes=1 << 20)
    fake.answers["status"]["volumes"] = [a_volume(saves=[a_save(), save], store=store)]
    told = run("status").stdout
    assert "ledger  virtio-media-d  ready  1 GiB  3 MiB" in told
    assert "KEPT" in told
    assert "unfilled" in told
    fake.answers["volume_show"] = fake.answers["status"]["volumes"][0]
    assert "Stores of saves without fill" in run("volume", "show", "ledger").stdout


def test_a_save_without_fill_and_its_fill_are_told_as_what_they_are(
    run: Run, fake: FakeSubsystem
) -> None:
    save = a_save(fill="unfilled", media=["virtio-media-d"], kept_bytes=0)
    fake.answers["save"] = {"operation": an_operation(), "save": save}
    assert (
        "what is overwritten from now on is kept on virtio-media-d"
        in run("save", "ledger", "--no-fill").stdout
    )
    fake.answers["release"] = {"operation": an_operation(verb="release"), "save": save}
    assert "its room in the store is free" in run("release", "ledger").stdout
    filled = an_operation(verb="fill", bytes_copied=3 << 20, extents_copied=0)
    fake.answers["fill"] = {"operation": filled, "save": save}
    told = run("fill", "ledger@3").stdout
    assert "ledger@3 is whole" in told
    assert "3 MiB copied." in told


def test_what_had_ended_is_not_told_as_stopped(run: Run, fake: FakeSubsystem) -> None:
    fake.answers["abort"] = {"operation": an_operation(state="done")}
    assert "had ended already: it is done" in run("abort", "12").stdout


def test_restore_waits_unless_told_not_to(run: Run, fake: FakeSubsystem) -> None:
    restore = {**RUNNING, "verb": "restore"}
    fake.answers["restore"] = {"operation": an_operation(**restore), "save": a_save()}
    told = run("restore", "ledger", "--from", "/i.raw", "--no-wait").stdout
    assert "targetplugin swap ledger@before-night-run" in told
    assert [call[0] for call in fake.calls] == ["restore"]
    run("restore", "ledger", "--from", "/i.raw")
    assert [call[0] for call in fake.calls] == ["restore", "restore", "operation_wait"]


def test_waiting_outlives_a_restart_of_the_daemon(
    fake: FakeSubsystem, run: Run, tmp_path: Path
) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def hang() -> dict[str, Any]:
        asked.set()
        go_on.wait(30)
        return an_operation(**RUNNING)

    fake.answers["recover"] = {"operation": an_operation(**RUNNING)}
    fake.answers["operation_wait"] = hang
    place = tmp_path / "restarted"
    first = Server(fake, place)
    first.start()
    results: list[Any] = []
    words = ("--socket", str(place), "recover", "ledger", "--wait")
    terminal = threading.Thread(target=lambda: results.append(run(*words)))
    terminal.start()
    assert asked.wait(30)
    first.stop(0)
    fake.answers["operation_wait"] = an_operation(verb="recover")
    second = Server(fake, place)
    second.start()
    go_on.set()
    terminal.join(60)
    second.stop(1)
    assert results[0].returncode == 0, results[0].stderr


def test_on_a_terminal_tables_are_coloured_and_progress_is_a_bar(
    fake: FakeSubsystem, place: Path, tmp_path: Path
) -> None:
    fake.answers["recover"] = {"operation": an_operation(**RUNNING)}
    fake.answers["operation_wait"] = steps(
        an_operation(**{**RUNNING, "progress": 0.5}), an_operation(verb="recover")
    )
    status, bar = (
        on_a_pty(place, tmp_path, "status"),
        on_a_pty(place, tmp_path, "recover ledger --wait"),
    )
    assert "\x1b[32mserving" in status
    assert "━" in bar
    assert "ledger is back" in bar


def on_a_pty(place: Path, tmp_path: Path, line: str) -> str:
    """What a terminal of 200 columns is shown."""
    mine, theirs = pty.openpty()
    command = [sys.executable, "-m", "targetplugin.terminal.main", "--socket", str(place)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "200"}
    env.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [*command, *line.split()], stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path, env=env
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(mine, 4096)
        except OSError:  # the last one who held the other side has closed it
            break
        if not part:
            break
        shown += part
    os.close(mine)
    assert process.wait(30) == 0
    return shown.decode()


def test_a_reader_that_has_seen_enough_is_no_error(place: Path) -> None:
    command = f"'{sys.executable}' -m targetplugin.terminal.main --socket '{place}' status | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_events_are_followed_one_a_line(run: Run, fake: FakeSubsystem) -> None:
    fake.refuse("event_wait", Reason.STATE, "that is enough")
    told = run("events", "--follow", "--json")
    assert json.loads(told.stdout.splitlines()[0])["what"].startswith("save ledger")
    told = run("events", "--follow")
    assert told.stdout == (
        "2026-01-05 22:00:00Z [terminal root (process 812)] ledger:"
        " save ledger label=night: ledger@3 done\n"
    )
    assert told.returncode == 1
    assert fake.calls[-1] == ("event_wait", (7, 5.0), {})


def test_a_volume_set_to_nothing_is_wrong_usage(run: Run, fake: FakeSubsystem) -> None:
    assert run("volume", "set", "ledger").returncode == 2
    assert fake.calls == []


def test_a_scrub_that_found_something_fails(run: Run, fake: FakeSubsystem) -> None:
    wrong = {"offset": 65536, "length": 65536, "what": "differs", "media": ["a", "b"]}
    found = {"different": 1, "unreadable": 0, "list": [wrong]}
    fake.answers["scrub"] = {"operation": an_operation(verb="scrub", save=None, result=found)}
    told = run("scrub", "ledger", "--wait")
    assert told.returncode == 1
    assert "differs" in told.stdout
    assert "1 extents differ" in told.stderr


def test_the_list_of_backups_shows_what_stands_on_what(run: Run, fake: FakeSubsystem) -> None:
    whole = a_backup(save="ledger@3", stands_on=[], backing=None)
    third = a_backup(number=3, save="ledger@5", stands_on=[2, 1], backing="/backups/b.qcow2")
    loose = a_backup(number=4, save=None, stands_on=[], backing="/backups/loose.qcow2")
    fake.answers["backup_list"] = [whole, third, loose]
    told = run("backups", "list").stdout
    lines = {line.split()[0]: line for line in told.splitlines() if line.strip()}
    assert "whole" in lines["1"]
    assert "ledger@5" in lines["3"]
    assert "2, 1" in lines["3"]
    assert "loose.qcow2" in lines["4"]


def test_the_time_that_is_left_is_told_with_the_bytes() -> None:
    operation = {"bytes_total": 40 << 20, "bytes_copied": 10 << 20, "seconds_left": 125.2}
    assert amount(operation) == ", 10 MiB of 40 MiB, 2 min 5 s left"
    assert amount({"seconds_left": 3600}) == ", 1 h left"
    assert amount({"bytes_total": 5, "bytes_copied": 0, "seconds_left": None}) == ""
