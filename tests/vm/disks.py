"""The machines' disks: a fresh layer over the image for each, and the target's six media.

Owns their files and how QEMU is told of them. A machine's flush ends in this machine's page cache:
that outlives a killed QEMU, which is all that a power cut is here. So does what was not flushed, but
on volatile media (`volatile.py`).
"""

import json
import subprocess
from pathlib import Path
from typing import Any

from . import volatile
from .errors import LabError
from .qmp import Qmp
from .recipe import Image
from .state import DiskState, disk_dir

MEDIA = tuple(f"media-{letter}" for letter in "abcdef")
MEDIUM_SIZE = 1 << 30
ONE_QUEUE = "media-f"  # its flushes end in the order in which they began: log-writes wants that
MEDIUM_LIMITS = ("bps", "bps_rd", "bps_wr", "iops_rd", "iops_wr")


def by_id(name: str) -> str:
    """The name that a medium has in the target."""
    return f"/dev/disk/by-id/virtio-{name}"


def root_layer(machine: str) -> Path:
    return disk_dir() / f"{machine}.qcow2"


def make_fresh(machines: tuple[str, ...], image: Image) -> None:
    """Throws away what an earlier run wrote."""
    for name in machines:
        command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image.root)]
        made = subprocess.run([*command, str(root_layer(name))], capture_output=True, text=True)
        if made.returncode:
            raise LabError(f"No disk for {name}: {made.stderr.strip()}")
    for name in MEDIA:
        with open(disk_dir() / f"{name}.raw", "wb") as file:
            file.truncate(MEDIUM_SIZE)


def are_there(machines: tuple[str, ...]) -> bool:
    files = [root_layer(name) for name in machines]
    return all(path.exists() for path in files + [disk_dir() / f"{name}.raw" for name in MEDIA])


def _blockdev(node: str, path: Path, **more: Any) -> list[str]:
    cache = {"direct": False, "no-flush": True}
    file = {"driver": "file", "filename": str(path), "cache": cache, "discard": "unmap"}
    top = {"node-name": node, "discard": "unmap", "cache": cache, "file": file, **more}
    return ["-blockdev", json.dumps(top)]


def system_arguments(machine: str, site: Path) -> list[str]:
    """QEMU's arguments for the root disk and the read-only one of Python dependencies."""
    return [
        *_blockdev("root", root_layer(machine), driver="qcow2"),
        "-device",
        "virtio-blk-pci,drive=root,serial=root",
        "-blockdev",
        json.dumps(
            {"driver": "file", "node-name": "site", "filename": str(site), "read-only": True}
        ),
        "-device",
        "virtio-blk-pci,drive=site,serial=site",
    ]


def _volatile_blockdev(name: str) -> list[str]:
    """Flushes matter here: nbdkit keeps in memory what was not flushed, and dies with the power."""
    cache = {"direct": False, "no-flush": False}
    server = {"type": "unix", "path": str(volatile.socket(name))}
    file = {"driver": "nbd", "server": server, "cache": cache, "discard": "unmap"}
    top = {"driver": "raw", "node-name": name, "discard": "unmap", "cache": cache, "file": file}
    return ["-blockdev", json.dumps(top)]


def media_arguments(disks: dict[str, DiskState], are_volatile: bool) -> list[str]:
    """QEMU's arguments for the media: a slot to plug each into, and those plugged in."""
    arguments = []
    for number, (name, disk) in enumerate(disks.items()):
        port = f"pcie-root-port,id=slot-{name},chassis={number + 1},slot={number + 1}"
        port += f",addr=0x10.{number:x},multifunction=on"
        arguments += ["-device", port]
        if are_volatile:
            arguments += _volatile_blockdev(name)
        else:
            arguments += _blockdev(name, disk_dir() / f"{name}.raw", driver="raw")
        if disk.attached:
            device = ",".join(f"{key}={value}" for key, value in _device(name).items())
            arguments += ["-device", device]
    return arguments


def _device(name: str) -> dict[str, str]:
    return {
        "driver": "virtio-blk-pci",
        "id": name,
        "drive": name,
        "serial": name,
        "bus": f"slot-{name}",
        **({"num-queues": "1"} if name == ONE_QUEUE else {}),
    }


def attach(qmp: Qmp, name: str) -> None:
    """Plugs a medium in, as the same disk as before."""
    qmp.execute("device_add", _device(name))


def detach(qmp: Qmp, name: str) -> None:
    """Unplugs a medium; returns when it is out."""
    qmp.execute("device_del", {"id": name})
    try:
        qmp.wait_for("DEVICE_DELETED", name)
    except TimeoutError:
        raise LabError(
            f"The target did not let go of {name} in 15 s; is it still starting? Try again."
        ) from None


def limit(qmp: Qmp, name: str, iops: int) -> None:
    """Limits a medium's requests a second; 0 lifts the limit."""
    none = dict.fromkeys(MEDIUM_LIMITS, 0)
    device = f"/machine/peripheral/{name}/virtio-backend"
    qmp.execute("block_set_io_throttle", {"id": device, "iops": iops, **none})
