"""The collection as its readers and Ansible's own linter see it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from targetplugin import __version__
from tests.collection.place import COLLECTION, installed

BIN = Path(sys.executable).parent
MODULES = sorted(path.stem for path in (COLLECTION / "plugins/modules").glob("*.py"))
ROLES = sorted(path.name for path in (COLLECTION / "roles").iterdir())


def run(place: Path, *words: str) -> str:
    path = f"{BIN}:{os.environ['PATH']}"
    home = {"HOME": str(place), "ANSIBLE_HOME": str(place / "home"), "PATH": path}
    done = subprocess.run(
        words,
        cwd=COLLECTION,
        capture_output=True,
        text=True,
        env={**os.environ, **home, "ANSIBLE_COLLECTIONS_PATH": str(place), "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("collections"))


def test_the_linter_s_production_profile_finds_nothing(place: Path) -> None:
    run(place, "ansible-lint", "--strict", ".")


def test_ansible_doc_prints_every_module_and_role(place: Path) -> None:
    names = [f"targetplugin.iscsi.{name}" for name in MODULES]
    said = run(place, "ansible-doc", *names)
    for name in names:
        assert f"> MODULE {name}" in said
    said = run(place, "ansible-doc", "-t", "role", *(f"targetplugin.iscsi.{r}" for r in ROLES))
    for role in ROLES:
        assert f"targetplugin.iscsi.{role}" in said


@pytest.mark.parametrize("role", ROLES)
def test_a_role_s_options_and_defaults_are_the_same(role: str) -> None:
    def read(path: str) -> Any:
        return yaml.safe_load((COLLECTION / "roles" / role / path).read_text())

    options = read("meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert {name: one["default"] for name, one in options.items()} == read("defaults/main.yml")


def test_the_readme_names_every_module() -> None:
    text = (COLLECTION / "README.md").read_text()
    assert [name for name in MODULES if f"`{name}`" not in text] == []


def test_it_builds_and_installs_as_users_do(tmp_path: Path) -> None:
    run(tmp_path, "ansible-galaxy", "collection", "install", str(COLLECTION), "-p", str(tmp_path))
    there = tmp_path / "ansible_collections/targetplugin/iscsi"
    assert (there / "plugins/modules/targetplugin_volume.py").exists()
    assert __version__ in (there / "README.md").read_text()
