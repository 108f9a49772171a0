"""The Debian packages as dpkg sees them, and that what is in them runs from there alone."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from targetplugin import __version__
from tools import deb

BARE = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = deb.build(tmp_path_factory.mktemp("packages"))
    return {path.name.partition("_")[0]: path for path in made}


def asked(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def unpacked(package: Path, folder: Path) -> Path:
    asked("dpkg-deb", "-R", str(package), str(folder))
    return folder


def test_they_have_the_checkout_s_version_and_need_what_runs_them(
    packages: dict[str, Path],
) -> None:
    fields = "${Package} ${Version} ${Architecture}"
    for name, package in packages.items():
        architecture = "all" if name == "pitcopy" else deb.processor()
        told = asked("dpkg-deb", "-W", f"--showformat={fields}", str(package))
        assert told == f"{name} {__version__} {architecture}"
    needs = asked("dpkg-deb", "-f", str(packages["targetplugin"]), "Depends")
    assert "liburing2" in needs
    assert asked("dpkg-deb", "-f", str(packages["pitcopy"]), "Depends") == "python3 (>= 3.11)\n"


def test_files_are_root_s_and_match_their_sums(packages: dict[str, Path], tmp_path: Path) -> None:
    for name, package in packages.items():
        for line in asked("dpkg-deb", "-c", str(package)).splitlines():
            mode, owner = line.split()[:2]
            assert owner == "root/root"
            assert mode[5] == mode[8] == "-", f"nobody else may write: {line}"
        tree = unpacked(package, tmp_path / name)
        done = subprocess.run(["md5sum", "-c", "--quiet", "DEBIAN/md5sums"], cwd=tree)
        assert done.returncode == 0


def test_they_say_whose_they_are_and_whose_what_they_bring_is(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    for name, package in packages.items():
        tree = unpacked(package, tmp_path / name)
        told = (tree / f"usr/share/doc/{name}/copyright").read_text()
        assert "Copyright: the targetplugin authors\nLicense: Apache-2.0\n" in told
        brought = list((tree / deb.SITE).glob("*.dist-info"))
        assert told.count("\nComment: ") == len(brought)
        assert "see its text" not in told


def test_the_scripts_are_shell(packages: dict[str, Path], tmp_path: Path) -> None:
    tree = unpacked(packages["targetplugin"], tmp_path / "tree")
    for script in deb.SCRIPTS:
        asked("sh", "-n", str(tree / "DEBIAN" / script))


@pytest.mark.parametrize("name", ["pitcopy", *deb.PROGRAMS])
def test_a_program_runs_with_nothing_but_its_package(
    packages: dict[str, Path], tmp_path: Path, name: str
) -> None:
    tree = unpacked(packages["pitcopy" if name == "pitcopy" else "targetplugin"], tmp_path / "t")
    program = tree / "usr/bin" / name
    if name != "pitcopy":  # its places begin at the root of the machine
        program.write_text(program.read_text().replace('"/usr/lib', f'"{tree}/usr/lib'))
    done = subprocess.run(
        ["/usr/bin/python3", "-s", str(program), "--help"],
        env={**BARE, "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {name} ")
    assert os.access(tree / "usr/bin" / name, os.X_OK)


def test_the_units_and_the_pages_of_the_checkout_are_in_it(
    packages: dict[str, Path], tmp_path: Path
) -> None:
    tree = unpacked(packages["targetplugin"], tmp_path / "tree")
    for source, place in deb.FILES.items():
        assert (tree / place).read_bytes() == (deb.CHECKOUT / source).read_bytes()
    units = {path.name for path in (deb.CHECKOUT / "packaging").glob("targetplugin*.s*")}
    assert {path.name for path in (tree / "lib/systemd/system").iterdir()} == units
    found = {path.name for path in (tree / "usr/share/man/man8").iterdir()}
    assert found == {f"{program}.8.gz" for program in deb.PROGRAMS}
    host = unpacked(packages["pitcopy"], tmp_path / "host")
    for name, place in (("targetplugin", tree), ("pitcopy", host)):
        completion = place / "usr/share/bash-completion/completions" / name
        asked("bash", "-n", str(completion))
        assert f"complete -F _{name} {name}" in completion.read_text()
    board = tree / "usr/share/doc/targetplugin/grafana.json"
    assert json.loads(board.read_text())["title"] == "targetplugin"
