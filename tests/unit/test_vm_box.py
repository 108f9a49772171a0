"""What Vagrant takes agrees with the lab, and with the roles; the box's name tells what is in it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.collection.place import installed
from tests.vm import box, machine, network, overlay

FOLDER = Path(__file__).parents[2] / "vagrant"


def test_a_box_is_named_by_all_that_is_in_it_but_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    first = box.name()
    assert box.name() == first
    for place, name, value in (
        (box, "FILES", {**box.FILES, "etc/motd": "hello\n"}),
        (overlay, "MASKED", overlay.MASKED + "another.service"),
        (box, "KERNEL_ARGUMENTS", machine.KERNEL_ARGUMENTS + " more"),
    ):
        with monkeypatch.context() as changed:
            changed.setattr(place, name, value)
            assert box.name() != first, name


def test_a_machine_of_the_box_takes_its_owner_s_key_and_has_sshd() -> None:
    entries = {entry.path.removeprefix(f"{overlay.COMMON}/"): entry for entry in box.put("KEY\n")}
    keys = entries["root/.ssh/authorized_keys"]
    assert (keys.data, keys.mode & 0o7777) == (b"KEY\n", 0o600)
    masked = {path for path, entry in entries.items() if entry.data == b"/dev/null"}
    assert "etc/systemd/system/ssh.service" not in masked
    assert "etc/systemd/system/lab-agent.service" not in entries


def test_the_vagrantfile_and_the_playbook_have_the_lab_s_addresses() -> None:
    text = (FOLDER / "Vagrantfile").read_text()
    assert dict(re.findall(r'"(\w+)" => "([\d.]+)"', text)) == network.ADDRESSES
    assert (
        yaml.safe_load((FOLDER / "vars.yml").read_text())["portal"] == network.ADDRESSES["target"]
    )


def test_the_playbook_is_one_that_ansible_takes_and_its_linter_praises(tmp_path: Path) -> None:
    there = installed(tmp_path)
    programs = Path(sys.executable).parent
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(there),
        "ANSIBLE_HOME": str(tmp_path / "home"),
        "PATH": f"{programs}:{os.environ['PATH']}",
    }
    for words in (
        ["ansible-playbook", "-i", "target,initiator", "--syntax-check", "site.yml"],
        ["ansible-lint", "--offline", "--profile=production", "--strict", "site.yml"],
    ):
        done = subprocess.run(words, cwd=FOLDER, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", ["box", "libvirt"])
def test_a_script_is_one_that_the_shell_takes(script: str) -> None:
    subprocess.run(["bash", "-n", str(FOLDER / script)], check=True)
    assert os.access(FOLDER / script, os.X_OK)
