"""Completion in bash: the script that the parser makes, run in bash with the daemon behind it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from targetplugin.control.server import Server
from targetplugin.terminal.completion import script
from targetplugin.terminal.verbs import build_parser
from tests.unit.fake_subsystem import FakeSubsystem
from tools.completion import pitcopy_script

ROOT = Path(__file__).parents[2]
BREAKS = " \t\n\"'@><=;|&(:"  # bash's default


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with `targetplugin` to be run, the script, and a daemon."""
    scene = tmp_path_factory.mktemp("completion")
    server = Server(FakeSubsystem(), scene / "control.sock")
    server.start()
    socket = shlex.quote(str(scene / "control.sock"))
    program = scene / "targetplugin"
    program.write_text(
        f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)}"
        f' -m targetplugin.terminal.main --socket {socket} "$@"\n'
    )
    program.chmod(0o755)
    (scene / "script").write_text(script(build_parser()))
    (scene / "image.qcow2").touch()
    yield scene
    server.stop(1)


def complete(
    scene: Path, line: str, breaks: str = BREAKS, program: str = "targetplugin"
) -> list[str]:
    """What bash is told to complete the end of the line with."""
    asked = f"""
        source script
        COMP_WORDBREAKS={shlex.quote(breaks)}
        COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}
        _{program}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", asked],
        capture_output=True,
        text=True,
        cwd=scene,
        env={**os.environ, "PATH": f"{scene}:{os.environ['PATH']}"},
        timeout=60,
    )
    assert done.stderr == ""
    return sorted(done.stdout.split())


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("targetplugin re", ["recover", "release", "restore", "resync", "retain"]),
        (
            "targetplugin volume ",
            ["adopt", "create", "delete", "list", "resize", "set", "show"],
        ),
        ("targetplugin leg ", ["add", "remove"]),
        ("targetplugin hook ", ["add", "list", "remove"]),
        ("targetplugin events --volume ", ["ledger"]),
        ("targetplugin leg add ledger virtio-media-", None),
        ("targetplugin volume set ledger --replace-failed ", ["off", "on"]),
        ("targetplugin volume create led --ex", ["--extent-size"]),
        ("targetplugin save ", ["ledger"]),
        ("targetplugin save ledger --policy ", ["copy", "split"]),
        ("targetplugin save ledger --policy copy --onto virtio-media-", None),
        ("targetplugin volume create l --media virtio-media-a ", None),
        ("targetplugin recover l", ["ledger", "ledger@3", "ledger@before-night-run"]),
        ("targetplugin --socket s recover ledger@", ["3", "before-night-run"]),
        ("targetplugin restore ledger --from im", ["image.qcow2"]),
        (
            "targetplugin diff ledger --from ",
            ["ledger@3", "ledger@before-night-run", "now"],
        ),
        ("targetplugin backups forget ", ["1"]),
        ("targetplugin export ledger --initiator ", []),
        ("targetplugin nonsense ", []),
    ],
)
def test_completion_offers(scene: Path, line: str, found: list[str] | None) -> None:
    expected = ["virtio-media-a", "virtio-media-c"] if found is None else found
    assert complete(scene, line) == expected


def test_where_bash_does_not_break_at_signs_whole_names_are_offered(scene: Path) -> None:
    assert complete(scene, "targetplugin recover ledger@b", " \t\n") == ["ledger@before-night-run"]


def test_without_a_daemon_nothing_is_offered_and_nothing_is_said(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "targetplugin.terminal.main", "--socket", str(tmp_path / "s")]
    done = subprocess.run(
        [*command, "completion", "names", "save"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- pitcopy, whose script is made from its own parser --------------------------------------------


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the script, and a `pitcopy` that knows two saves of any disk."""
    host = tmp_path_factory.mktemp("pitcopy")
    saves = '{"saves": [{"generation": 3, "label": "night"}, {"generation": 5, "label": "a b"}]}'
    program = host / "pitcopy"
    program.write_text(f"""#!/bin/sh\n[ "$1 $3" = "status --json" ] && echo '{saves}'\n""")
    program.chmod(0o755)
    (host / "script").write_text(pitcopy_script())
    (host / "list").touch()
    (host / "dev/disk").mkdir(parents=True)
    (host / "dev/null").touch()
    return host


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("pitcopy re", ["recover", "release", "restore", "resync"]),
        ("pitcopy save /dev/sdb --no", ["--no-fill"]),
        ("pitcopy recover /dev/sdb --save ", ["3", "5", "night"]),
        ("pitcopy recover /dev/sdb --save n", ["night"]),
        ("pitcopy recover --save ", []),
        ("pitcopy save /dev/sdb --replace ni", ["night"]),
        ("pitcopy save dev/", ["dev/disk"]),
        ("pitcopy save /dev/sdb dev/", ["dev/disk"]),
        ("pitcopy jobs /dev/sdb li", ["list"]),
        ("pitcopy save /dev/sdb --label ", []),
        ("pitcopy run /dev/sdb -- pitco", ["pitcopy"]),
        ("pitcopy run /dev/sdb -- cat --li", []),
        ("pitcopy run /dev/sdb -- cat li", ["list"]),
    ],
)
def test_pitcopy_is_completed(host: Path, line: str, found: list[str]) -> None:
    assert complete(host, line, program="pitcopy") == found
