"""From `vagrant up`, in a libvirt apart from this machine, to `vagrant destroy`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .long import long
from .state import CHECKOUT

pytestmark = [
    long,
    pytest.mark.skipif(
        not shutil.which("vagrant"), reason="tools/prepare vagrant installs Vagrant"
    ),
]

FOLDER = CHECKOUT / "vagrant"
DISK = "/dev/sda"


class Vagrant:
    """Vagrant, with a home and a libvirt of its own."""

    def __init__(self, folder: Path) -> None:
        self._environment = {
            **os.environ,
            "VAGRANT_HOME": str(folder / "home"),
            "VAGRANT_DOTFILE_PATH": str(folder / "dot"),
            "TARGETPLUGIN_LIBVIRT": str(folder / "libvirt"),
        }

    def run(self, *command: str, timeout: float = 300) -> str:
        done = subprocess.run(
            command,
            cwd=FOLDER,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def __call__(self, *words: str, timeout: float = 300) -> str:
        return self.run("./libvirt", "vagrant", *words, timeout=timeout)

    def ssh(self, machine: str, command: str) -> str:
        return self("ssh", machine, "-c", command)

    def virsh(self, *words: str) -> list[str]:
        """The names that virsh lists."""
        listed = self.run("./libvirt", "virsh", "-q", "-c", "qemu:///system", *words)
        return [line.split()[0] for line in listed.splitlines() if line.strip()]


def interfaces() -> set[str]:
    return set(os.listdir("/sys/class/net"))


@pytest.fixture
def vagrant(tmp_path: Path) -> Iterator[Vagrant]:
    vagrant = Vagrant(tmp_path)
    vagrant.run("./box", timeout=1200)
    yield vagrant
    vagrant.run("./libvirt", "--stop")


def test_vagrant_brings_up_a_disk_that_can_be_taken_back_and_leaves_nothing(
    vagrant: Vagrant,
) -> None:
    before = interfaces()
    said = vagrant("up", timeout=1800)
    assert said.count("failed=0") == 2, said
    assert interfaces() == before, "the networks are in a namespace"

    assert "serving" in vagrant.ssh("initiator", f"pitcopy status {DISK}")
    write = f"dd of={DISK} bs=1M seek=5 conv=fsync oflag=direct status=none iflag=fullblock"
    look = f"dd if={DISK} bs=1M skip=5 count=1 iflag=direct status=none | md5sum"
    vagrant.ssh("initiator", f"head -c 1M /dev/urandom | {write}")
    good = vagrant.ssh("initiator", look)
    vagrant.ssh("initiator", f"pitcopy save {DISK} --label good")
    vagrant.ssh("initiator", f"head -c 1M /dev/urandom | {write}")
    assert vagrant.ssh("initiator", look) != good
    vagrant.ssh("initiator", f"pitcopy recover {DISK} --save good")
    assert vagrant.ssh("initiator", look) == good
    (volume,) = said_by(vagrant, "targetplugin status --json")["volumes"]
    assert "good" in [save["label"] for save in volume["saves"]]
    assert newest(volume, vagrant)["verb"] == "recover"

    vagrant("destroy", "--force")
    assert vagrant.virsh("list", "--all") == []
    assert vagrant.virsh("net-list", "--all") == []
    (image,) = vagrant.virsh("vol-list", "default")
    assert "_vagrant_box_image_" in image, "what the next machines start from"


def said_by(vagrant: Vagrant, command: str) -> Any:
    """What it prints as JSON on the target; Vagrant warns before it of addresses that end with .1."""
    printed = vagrant.ssh("target", command).splitlines()
    first = next(at for at, line in enumerate(printed) if line[:1] in ("{", "["))
    return json.loads("\n".join(printed[first:]))


def newest(volume: dict[str, Any], vagrant: Vagrant) -> dict[str, Any]:
    """The newest operation of a volume."""
    listed = said_by(vagrant, "targetplugin operation list --json")
    return dict(next(one for one in listed if one["volume"] == volume["name"]))
