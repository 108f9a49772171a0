"""Images: what qemu-img says of them, and running it to fill a medium, to write a backup and to
compare both.

Every file is given to qemu-img with its format and without a backing file, so that the content of
an image can name no
other file. Knows descriptors and paths; no save, volume or catalog.
"""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from targetplugin.errors import Reason, Refused

FORMATS = ("raw", "qcow2")
_QCOW2_MAGIC = b"QFI\xfb"
_CORRUPT = 2  # incompatible features of a qcow2 header
_DATA_FILE = 4
_PROGRESS = re.compile(rb"\(\s*([0-9.]+)/100%\)")


@dataclass(frozen=True)
class Image:
    """An image that can be restored: `size` is that of the disk in it, in bytes."""

    path: str
    format: str
    size: int


class Stopped(Exception):
    """The run was aborted by whoever asked for it."""


def _refuse(reason: Reason, path: str, why: str, hint: str) -> Refused:
    return Refused(reason, f"the image {path} {why}", object=path, hint=hint)


def _opened(path: str, format: str) -> str:
    """The file as qemu-img takes it, with its format and no backing file.

    A window on a medium has a size.
    """
    node: dict[str, Any] = {"driver": format, "file": {"driver": "file", "filename": path}}
    if format == "qcow2":
        node["backing"] = None
    return "json:" + json.dumps(node)


def _window(descriptor: int, size: int, block_device: bool, direct: bool) -> str:
    """The first `size` bytes of a medium that is open here, and passed on under the same number."""
    node = {
        "driver": "raw",
        "offset": 0,
        "size": size,
        "file": {
            "driver": "host_device" if block_device else "file",
            "filename": f"/proc/self/fd/{descriptor}",
            "cache": {"direct": direct},
        },
    }
    return "json:" + json.dumps(node)


def look(path: str, format: str | None = None) -> Image:
    """What an image is.

    Args:
        format: "raw" or "qcow2"; None: by its first bytes.
    Raises:
        Refused: no such file, not an absolute path, damaged, encrypted, or it names other files.
    """
    if not os.path.isabs(path):
        raise _refuse(Reason.USAGE, path, "is not an absolute path", "give the path from /")
    if format is not None and format not in FORMATS:
        raise Refused(Reason.USAGE, f"{format!r} is no format", hint="say raw or qcow2")
    try:
        if not Path(path).is_file():
            raise _refuse(Reason.NOT_FOUND, path, "is not there or no file", "check the path")
        with open(path, "rb") as file:
            magic = file.read(104)
    except OSError as error:
        raise _refuse(
            Reason.ENVIRONMENT, path, f"can't be read: {error.strerror}", "check it"
        ) from error
    format = format or ("qcow2" if magic[:4] == _QCOW2_MAGIC else "raw")
    if format == "qcow2":
        _check_qcow2(path, magic)
    facts: dict[str, Any] = json.loads(
        _run(["qemu-img", "info", "--output=json", "-U", _opened(path, format)])
    )
    return Image(path, format, int(facts["virtual-size"]))


def _check_qcow2(path: str, header: bytes) -> None:
    """Reads the header before qemu-img does, so that no file which it names is ever opened."""
    if len(header) < 72 or header[:4] != _QCOW2_MAGIC:
        raise _refuse(Reason.DATA, path, "is no qcow2 image", "name its format")
    version, backing, crypt = struct.unpack_from(">4xIQ", header) + struct.unpack_from(
        ">I", header, 32
    )
    features = struct.unpack_from(">Q", header, 72)[0] if version >= 3 else 0
    plain = "convert it with qemu-img to an image that stands for itself"
    if backing:
        raise _refuse(Reason.DATA, path, "has a backing file", plain)
    if crypt:
        raise _refuse(Reason.DATA, path, "is encrypted", plain)
    if features & _DATA_FILE:
        raise _refuse(Reason.DATA, path, "keeps its data in another file", plain)
    if features & _CORRUPT:
        raise _refuse(Reason.DATA, path, "is marked corrupt", "check it with qemu-img check")


def _run(command: list[str]) -> bytes:
    try:
        done = subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise Refused(
            Reason.ENVIRONMENT, "qemu-img is not installed", hint="install the package qemu-utils"
        ) from error
    if done.returncode:
        raise _failed(command, done.returncode, done.stderr)
    return done.stdout


def _failed(command: list[str], code: int, told: bytes) -> Refused:
    last = told.decode(errors="replace").strip().splitlines()[-1:] or [f"it ended with {code}"]
    return Refused(
        Reason.ENVIRONMENT,
        f"{' '.join(command[:2])} failed: {last[0]}",
        hint="check the image and the disk that it is on",
    )


class Run:
    """One run of qemu-img that can be followed and stopped."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def stop(self) -> None:
        """Ends what runs, and lets nothing start any more; the one who waits gets Stopped."""
        self._stopped = True
        process = self._process
        if process is not None:
            process.terminate()

    def follow(
        self, command: list[str], progress: Callable[[float], None], *descriptors: int
    ) -> int:
        """Runs a command of qemu-img with -p. Returns its exit status; progress gets 0.0 to 1.0.

        It dies with this process. Until its last request is over it keeps the descriptors, and
        with them the lock that lets nobody else open the medium (rule 19).
        """
        if self._stopped:
            raise Stopped
        try:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=descriptors,
            )
        except FileNotFoundError as error:
            raise Refused(
                Reason.ENVIRONMENT, "setpriv is not installed", hint="install util-linux"
            ) from error
        self._process = process
        if self._stopped:
            process.terminate()
        assert process.stdout is not None
        assert process.stderr is not None
        with process:
            while told := os.read(process.stdout.fileno(), 4096):
                found = _PROGRESS.findall(told)
                if found:
                    progress(float(found[-1]) / 100)
            complaint = process.stderr.read()
        self._process = None
        if self._stopped:
            raise Stopped
        if process.returncode not in (0, 1) or (process.returncode and complaint):
            raise _failed(command, process.returncode, complaint)
        return process.returncode


@dataclass(frozen=True)
class Target:
    """A medium as qemu-img sees it: the first `size` bytes behind an open descriptor."""

    descriptor: int
    size: int
    block_device: bool
    direct: bool


def fill(run: Run, image: Image, target: Target, progress: Callable[[float], None]) -> None:
    """Writes the image's disk onto the medium from offset 0; what lies behind it is not touched."""
    window = _window(target.descriptor, image.size, target.block_device, target.direct)
    opened = _opened(image.path, image.format)
    run.follow(
        ["qemu-img", "convert", "-p", "-n", "-U", "-O", "raw", opened, window],
        progress,
        target.descriptor,
    )


def write(
    run: Run, target: Target, path: str, format: str, progress: Callable[[float], None]
) -> None:
    """Writes the medium's first `size` bytes to a new image; on stable storage when it returns."""
    window = _window(target.descriptor, target.size, target.block_device, target.direct)
    run.follow(
        ["qemu-img", "convert", "-p", "-O", format, window, path], progress, target.descriptor
    )
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def same(run: Run, image: Image, target: Target, progress: Callable[[float], None]) -> bool:
    """Whether the medium's first `size` bytes are the image's disk, followed by zeros."""
    window = _window(target.descriptor, target.size, target.block_device, target.direct)
    opened = _opened(image.path, image.format)
    return (
        run.follow(["qemu-img", "compare", "-p", "-U", opened, window], progress, target.descriptor)
        == 0
    )
