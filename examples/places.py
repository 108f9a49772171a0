"""Where the demo runs: in the lab's two machines, or on this one through tcm_loop. Owns setting up
and taking down.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Protocol

from tests.vm.lab import Lab

CHECKOUT = Path(__file__).parents[1]
IQN = "iqn.2026-11.org.targetplugin:initiator"
MEDIA = ("media-a", "media-b", "media-c")
MOUNT = "/mnt/targetplugin-demo"  # on the host


class Failed(Exception):
    """A command of the story failed; the message is what it said."""


class Place(Protocol):
    """An operator's machine and a host's; both may be this one."""

    volume: str  # its name
    disk: str  # as the host sees it
    ledger: str  # the ledger's program, on the host

    def up(self) -> None: ...
    def down(self) -> None: ...
    def operator(self, *command: str) -> str: ...
    def host(self, *command: str, status: int = 0) -> str: ...
    def start(self, *command: str) -> Any: ...
    def image(self) -> str: ...
    def written(self) -> dict[str, int]: ...


def told(what: str, result: Any, status: int) -> str:
    """Standard output of a command that ended as it should. Raises Failed."""
    code = result.status if hasattr(result, "status") else result.returncode
    if code != status:
        raise Failed(f"{what} ended with {code}:\n{result.stdout}{result.stderr}")
    if result.stderr:
        print(result.stderr, end="", flush=True)
    return str(result.stdout)


class InLab:
    """Target and initiator in virtual machines."""

    volume = "ledger"
    ledger = "/root/ledger.py"

    def __init__(self) -> None:
        self.lab = Lab()
        self.disk = ""

    def up(self) -> None:
        self.lab.up()
        for name in MEDIA:
            self.operator("targetplugin", "media", "add", f"/dev/disk/by-id/virtio-{name}")
        self.operator(
            "targetplugin", "volume", "create", self.volume, "--size", "512M", "--mirror", "2"
        )
        made = json.loads(
            self.operator(
                "targetplugin", "export", self.volume, "--initiator", IQN, "--chap", "--json"
            )
        )
        self._log_in(made["target"], made["chap"]["user"], made["chap"]["password"])
        self.lab.copy_to(CHECKOUT / "examples/ledger.py", "initiator", self.ledger)

    def _log_in(self, target: str, user: str, password: str) -> None:
        node = ("iscsiadm", "-m", "node", "-T", target, "-p", "target:3260")
        self.host(*node, "-o", "new")
        for name, value in (("authmethod", "CHAP"), ("username", user), ("password", password)):
            self.host(*node, "-o", "update", "-n", f"node.session.auth.{name}", "-v", value)
        self.host(*node, "--login")
        self.host("udevadm", "settle")
        link = f"/dev/disk/by-path/ip-target:3260-iscsi-{target}-lun-0"
        self.disk = self.host("readlink", "-f", link).strip()

    def down(self) -> None:
        self.lab.down()

    def operator(self, *command: str) -> str:
        return told(" ".join(command), self._exec("target", command), 0)

    def host(self, *command: str, status: int = 0) -> str:
        return told(" ".join(command), self._exec("initiator", command), status)

    def _exec(self, where: str, command: tuple[str, ...]) -> Any:
        return self.lab.exec(where, list(command), check=False, timeout=900)

    def start(self, *command: str) -> Any:
        return self.lab.spawn("initiator", list(command))

    def image(self) -> str:
        return "/var/tmp/ledger.qcow2"

    def written(self) -> dict[str, int]:
        """Bytes written so far to each medium, by its disk's own count."""
        script = "; ".join(
            f"cat /sys/block/$(basename $(readlink -f /dev/disk/by-id/virtio-{name}))/stat"
            for name in MEDIA
        )
        lines = self.operator("sh", "-c", script).splitlines()
        return {name: int(line.split()[6]) * 512 for name, line in zip(MEDIA, lines, strict=True)}


class Here:
    """This machine's own LIO; everything else is in a temporary folder and goes with it."""

    volume = "targetplugin-demo"  # LIO has one name space for all
    ledger = str(CHECKOUT / "examples/ledger.py")

    def __init__(self) -> None:
        self.disk = ""
        self.folder = Path(tempfile.mkdtemp(prefix="targetplugin-demo-"))
        self.socket = self.folder / "run" / "control.sock"
        self.daemon: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        if os.geteuid() != 0:
            raise Failed("./demo --here needs root: it loads kernel modules and mounts a disk")
        for module in ("target_core_user", "tcm_loop"):
            if subprocess.run(["modprobe", module], capture_output=True).returncode:
                raise Failed(
                    f"this machine's kernel has no module {module}: run ./demo, which brings its own"
                )
        if not os.path.ismount("/sys/kernel/config"):
            subprocess.run(["mount", "-t", "configfs", "none", "/sys/kernel/config"], check=True)
        state, run = self.folder / "state", self.folder / "run"
        state.mkdir(mode=0o700)
        run.mkdir(mode=0o755)
        log = (self.folder / "daemon.log").open("wb")
        arguments = ["--state-dir", str(state), "--run-dir", str(run), "serve"]
        self.daemon = subprocess.Popen(
            [sys.executable, "-m", "targetplugin.daemon", *arguments], stderr=log, cwd=CHECKOUT
        )
        for _ in range(600):
            if self.socket.exists():
                break
            if self.daemon.poll() is not None:
                self.daemon = None
                said = (self.folder / "daemon.log").read_text()[-2000:]
                raise Failed(f"the daemon did not start:\n{said}")
            time.sleep(0.1)
        for name in MEDIA:
            path = str(self.folder / name)
            self.operator("targetplugin", "media", "add", path, "--size", "700M", "--name", name)
        self.operator(
            "targetplugin", "volume", "create", self.volume, "--size", "512M", "--mirror", "2"
        )
        self.operator(
            "targetplugin",
            "export",
            self.volume,
            "--initiator",
            IQN,
            "--portal",
            "127.0.0.1:3260",
        )
        self.disk = self.operator("targetplugind", "loop", self.volume).strip()

    def down(self) -> None:
        if os.path.ismount(MOUNT):  # the demo was interrupted
            subprocess.run(["umount", MOUNT])
        if self.daemon is not None:
            for command in (
                ("targetplugind", "unloop", self.volume),
                ("targetplugin", "unexport", self.volume, "--force"),
                ("targetplugin", "volume", "delete", self.volume, "--force"),
            ):
                try:
                    self.operator(*command)
                except Failed as failed:
                    print(failed, file=sys.stderr)
            self.daemon.terminate()
            self.daemon.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _command(self, command: tuple[str, ...]) -> list[str]:
        modules = {
            "targetplugin": ["targetplugin.terminal.main", "--socket", str(self.socket)],
            "targetplugind": ["targetplugin.daemon"],
            "pitcopy": ["targetplugin.host"],
        }
        if command[0] in modules:
            return [sys.executable, "-m", *modules[command[0]], *command[1:]]
        return list(command)

    def operator(self, *command: str) -> str:
        result = subprocess.run(
            self._command(command), capture_output=True, text=True, cwd=CHECKOUT
        )
        return told(" ".join(command), result, 0)

    def host(self, *command: str, status: int = 0) -> str:
        result = subprocess.run(
            self._command(command), capture_output=True, text=True, cwd=CHECKOUT
        )
        return told(" ".join(command), result, status)

    def start(self, *command: str) -> Any:
        return subprocess.Popen(self._command(command), cwd=CHECKOUT, stdout=subprocess.DEVNULL)

    def image(self) -> str:
        return str(self.folder / "ledger.qcow2")

    def written(self) -> dict[str, int]:
        """Bytes that each medium's file takes."""
        return {name: (self.folder / name).stat().st_blocks * 512 for name in MEDIA}
