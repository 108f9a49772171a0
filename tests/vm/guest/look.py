#!/usr/bin/python3
"""A bank on two disks that can't be written to, looked at as on another machine: runs on the initiator.

What is written goes to memory, and all is in namespaces of its own, where the disks are mounted in the same
places as those of the bank that is open meanwhile.

    look.py DATA WAL    as `bank.py inspect`
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, "/opt/targetplugin/checkout")

from tests.vm.guest import bank, postgres

SELF, INSIDE = "/opt/targetplugin/checkout/tests/vm/guest/look.py", "--inside"
APART = ["unshare", "--mount", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"]
ROOM = 64 << 20  # bytes for what is written to a disk
CHUNK = 8  # sectors


def said(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@contextmanager
def overlay(name: str, disk: str) -> Iterator[str]:
    """The path of a device that is a disk, but for what is written to it."""
    file, device = Path(f"/dev/shm/look-{os.getpid()}-{name}"), f"look-{os.getpid()}-{name}"
    with ExitStack() as undo:
        file.touch()
        undo.callback(file.unlink)
        os.truncate(file, ROOM)
        loop = said("losetup", "--find", "--show", str(file))
        undo.callback(said, "losetup", "--detach", loop)
        sectors = said("blockdev", "--getsz", disk)
        table = f"0 {sectors} snapshot {disk} {loop} N {CHUNK}"
        said("dmsetup", "create", device, "--table", table)
        undo.callback(said, "dmsetup", "remove", "--retry", device)
        yield f"/dev/mapper/{device}"


def look(data: str, wal: str) -> str:
    said("modprobe", "loop")
    with overlay("data", data) as one, overlay("wal", wal) as other:
        return said(*APART, "python3", "-B", SELF, INSIDE, one, other)


def inside(data: str, wal: str) -> str:
    said("mount", "-t", "tmpfs", "none", "/run")  # the other server's socket is there
    said("mount", data, str(postgres.DATA))
    said("mount", wal, str(postgres.WAL))
    return json.dumps(bank.inspect())


if __name__ == "__main__":
    words = sys.argv[1:]
    print(inside(*words[1:]) if words[0] == INSIDE else look(*words))
