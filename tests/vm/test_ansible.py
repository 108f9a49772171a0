"""The collection's roles on both machines: what is declared is there, a second run changes nothing, and
what is taken out of the lists goes only where that is safe.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.collection.place import installed

from .lab import Lab
from .long import long
from .network import ADDRESSES, INITIATOR_NAME
from .state import CHECKOUT

pytestmark = long

TARGET = "iqn.2026-01.org.example:ledger"
SECRET = "correct-horse-battery"
DEVICE = f"/dev/disk/by-path/ip-{ADDRESSES['target']}:3260-iscsi-{TARGET}-lun-0"
HOST = {"iqn": INITIATOR_NAME, "chap_user": "night", "chap_password": "{{ vault_password }}"}
LEDGER: dict[str, Any] = {
    "target_media": [
        {"path": f"/dev/disk/by-id/virtio-media-{letter}", "force": True} for letter in "abc"
    ],
    "target_volumes": [
        {"name": "ledger", "size": "64M", "mirror": 2, "retain": {"last": 2}},
        {"name": "notes", "size": "64M", "mirror": 1},
    ],
    "target_exports": [{"volume": "ledger", "target": TARGET, "hosts": [HOST]}],
}
LOGIN = {
    "target": TARGET,
    "portal": ADDRESSES["target"],
    "chap_user": "night",
    "chap_password": "{{ vault_password }}",
}


class Ansible:
    """Plays the roles from here, over the lab's own channel."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        secrets = folder / "secrets.yml"
        (folder / "vault-password").write_text("the vault's\n")
        secrets.write_text(json.dumps({"vault_password": SECRET}))
        installed(folder / "collections")
        self._run("ansible-vault", "encrypt", str(secrets))
        assert SECRET not in secrets.read_text()

    def _run(self, *words: str) -> str:
        where = {
            "ANSIBLE_COLLECTIONS_PATH": str(self._folder / "collections"),
            "ANSIBLE_CONNECTION_PLUGINS": str(CHECKOUT / "tests/vm/ansible"),
            "ANSIBLE_VAULT_PASSWORD_FILE": str(self._folder / "vault-password"),
            "ANSIBLE_HOME": str(self._folder / "home"),
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_NOCOLOR": "1",
            "PYTHONPATH": str(CHECKOUT),
        }
        done = subprocess.run(
            [str(Path(sys.executable).parent / words[0]), *words[1:]],
            cwd=self._folder,
            capture_output=True,
            text=True,
            timeout=600,
            env={**os.environ, **where},
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        return said

    def play(
        self, target: dict[str, Any], logins: list[dict[str, Any]], *options: str
    ) -> tuple[int, str]:
        """Plays both roles. Returns how many tasks changed something, and all that was said."""
        initiator = {
            "initiator_packages": [],  # they are in the image
            "initiator_name": INITIATOR_NAME,
            "initiator_targets": logins,
        }
        plays = [
            {
                "hosts": where,
                "gather_facts": False,
                "vars_files": ["secrets.yml"],
                "roles": [{"role": f"targetplugin.iscsi.{where}", "vars": variables}],
            }
            for where, variables in (("target", target), ("initiator", initiator))
        ]
        (self._folder / "site.yml").write_text(json.dumps(plays))
        python = "ansible_connection=lab ansible_python_interpreter=/usr/bin/python3"
        (self._folder / "hosts").write_text(f"target {python}\ninitiator {python}\n")
        said = self._run("ansible-playbook", "-i", "hosts", "site.yml", "--diff", *options)
        assert SECRET not in said
        return sum(map(int, re.findall(r"changed=(\d+)", said))), said


@pytest.fixture
def ansible(lab: Lab, tmp_path: Path) -> Iterator[Ansible]:
    yield Ansible(tmp_path)
    node = f"iscsiadm -m node -T {TARGET}"
    lab.shell(
        "initiator",
        f"(set +e; umount /mnt/ledger; {node} -u; {node} -o delete) > /dev/null 2>&1 || true",
    )
    lab.shell(
        "target",
        "(set +e; targetplugin unexport ledger --force; for name in ledger notes; do"
        " targetplugin volume delete $name --force; done; for letter in a b c; do"
        " targetplugin media remove virtio-media-$letter --force; done) > /dev/null 2>&1 || true",
    )


def test_roles_declare_a_target_and_its_host(lab: Lab, ansible: Ansible) -> None:
    def status() -> dict[str, Any]:
        return json.loads(lab.shell("target", "targetplugin status --json").stdout)

    changed, said = ansible.play(LEDGER, [LOGIN])
    assert changed == 4, said  # media, volumes, the export, the login
    found = {one["name"]: one for one in status()["volumes"]}
    assert len(found["ledger"]["legs"]) == 2
    assert found["ledger"]["retention"] == {"last": 2}
    assert found["ledger"]["export"]["initiators"][0]["logged_in"], "with the vault's password"
    lab.shell(
        "initiator", f"mkfs.ext4 -q {DEVICE} && mkdir -p /mnt/ledger && mount {DEVICE} /mnt/ledger"
    )
    assert ansible.play(LEDGER, [LOGIN])[0] == 0, "a second run changes nothing"

    less = {"target_media": LEDGER["target_media"][:2], "target_volumes": [], "target_exports": []}
    before = status()["volumes"]
    told, said = ansible.play(less, [LOGIN], "--check")
    assert told == 1, said
    assert status()["volumes"] == before, "check mode changes nothing"
    changed, said = ansible.play(less, [LOGIN])
    assert changed == 1
    assert "is logged in to ledger" in said
    left = {one["name"]: one for one in status()["volumes"]}
    assert set(left) == {"ledger"}, "notes was never written; a host has the other"
    assert left["ledger"]["export"] is not None
    assert [one["name"] for one in status()["media"]] == ["virtio-media-a", "virtio-media-b"]
    lab.shell("initiator", "umount /mnt/ledger")
    ansible.play(LEDGER, [{**LOGIN, "state": "absent"}])
    assert lab.shell("initiator", "iscsiadm -m session || test $? = 21").stdout == ""
