"""qemu-img run by the service that does nothing else: it opens what it is handed, is told a few things alone,
and ends with who asked.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from targetplugin.errors import Reason, Refused
from targetplugin.qemu import launch, running, service, words
from targetplugin.qemu.conversation import Start, line
from targetplugin.qemu.remote import GONE, Images
from targetplugin.service import handed
from targetplugin.service.listener import Listener, listening
from targetplugin.subsystem.images import nbd, qemu_img
from tests.unit.test_kernel_service import me, opened
from tests.unit.test_subsystem_images import alive
from tests.waiting import until

MIB = 1 << 20
FILE = {"driver": "file", "filename": "/proc/self/fd/7"}
RAW = {"driver": "raw", "file": FILE}


def told(node: Any) -> str:
    return "json:" + json.dumps(node)


# --- what it may be told ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["info", "--output=json", "-U", told(RAW)],
        ["check", "-q", "-U", told({"driver": "qcow2", "file": FILE, "backing": RAW})],
        ["check", "-q", "-U", told({"driver": "qcow2", "file": FILE, "backing": None})],
        ["convert", "-p", "-O", "qcow2", told(RAW), "/proc/self/fd/7"],
        [
            *["compare", "-p", "-U", told({**RAW, "offset": 0, "size": 512})],
            told({"driver": "nbd", "server": {"type": "fd", "str": "7"}}),
        ],
        [
            *["convert", "-p", "-n", "-U", "-O", "raw", told(RAW)],
            told({**RAW, "file": {**FILE, "driver": "host_device", "cache": {"direct": True}}}),
        ],
    ],
)
def test_descriptors_have_the_numbers_that_they_have_there(command: list[str]) -> None:
    found = words.renumbered(["qemu-img", *command], {7: 12})
    assert found[0] == "qemu-img"
    for was, now in zip(command, found[1:], strict=True):
        if was.startswith("json:"):
            text = json.dumps(json.loads(was.removeprefix("json:")))
            changed = text.replace("fd/7", "fd/12").replace('"7"', '"12"')
            assert json.loads(now.removeprefix("json:")) == json.loads(changed)
        else:
            assert now == was.replace("fd/7", "fd/12")


@pytest.mark.parametrize(
    "command",
    [
        ["qemu-img", "info", "--output=json", "-U", "/etc/passwd"],
        ["qemu-img", "info", "--output=json", "-U", told({**RAW, "file": "/etc/passwd"})],
        ["qemu-img", "info", "--output=json", "-U", told({**FILE, "filename": "/proc/self/fd/7"})],
        ["qemu-img", "info", "-U", told(RAW)],
        ["qemu-img", "convert", "-p", "-O", "qcow2", told(RAW), "/etc/cron.d/x"],
        ["qemu-img", "convert", "-p", "-O", "qcow2", told(RAW), "/proc/self/fd/7/../../x"],
        ["qemu-img", "convert", "-p", "-O", "qcow2", told(RAW), "/proc/self/fd/8"],
        ["qemu-img", "convert", "-p", "-O", "vmdk", told(RAW), "/proc/self/fd/7"],
        ["qemu-img", "create", "-f", "raw", "/tmp/x", "1M"],
        ["sh", "info", "--output=json", "-U", told(RAW)],
        ["qemu-img"],
        [],
        *(
            ["qemu-img", "check", "-q", "-U", told(node)]
            for node in (
                {**RAW, "file": {**FILE, "filename": "/etc/passwd"}},
                {**RAW, "file": {**FILE, "filename": "/proc/self/fd/7\n"}},
                {**RAW, "file": {**FILE, "locking": "off"}},
                {**RAW, "file": {**FILE, "driver": "ssh"}},
                {"driver": "qcow2", "file": FILE, "backing": "/etc/passwd"},
                {"driver": "qcow2", "file": FILE, "data-file": FILE},
                {"driver": "nbd", "server": {"type": "inet", "host": "::1", "port": "1"}},
                {"driver": "nbd", "server": {"type": "unix", "path": "/run/x"}},
                {"driver": "vvfat", "dir": "/etc"},
            )
        ),
    ],
)
def test_it_is_told_nothing_else(command: list[str]) -> None:
    with pytest.raises(Refused, match="is not told that"):
        words.renumbered(command, {7: 12})


# --- the service -----------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A service in this process; what runs images asks it."""
    path = tmp_path / "images.sock"
    made = listening(path, "targetplugin-images")
    listener = Listener(made, service.converse(os.geteuid()))
    thread = threading.Thread(target=listener.run, daemon=True)
    thread.start()
    running.run_by(Images(path).launch)
    yield path
    running.run_by(launch.here)
    listener.stop()
    thread.join(10)
    made.close()


def children() -> list[int]:
    """Processes of qemu-img below this one."""
    return below(os.getpid())


def test_an_image_is_written_looked_at_compared_and_filled_from(
    place: Path, tmp_path: Path
) -> None:
    disk, image = tmp_path / "disk", str(tmp_path / "image.qcow2")
    content = os.urandom(MIB) + bytes(3 * MIB)
    disk.write_bytes(content)
    far: list[float] = []
    with open(disk, "r+b") as file:
        window = qemu_img.Target(file.fileno(), len(content), False, False)
        qemu_img.write(qemu_img.Run(), window, image, "qcow2", far.append)
        assert far[-1] == 1.0
        assert os.stat(image).st_mode & 0o777 == 0o600
        assert os.stat(image).st_size < 2 * MIB
        with qemu_img.look(image, "qcow2") as found:
            assert found.size == len(content)
            qemu_img.check(qemu_img.Run(), found)
            assert qemu_img.same(qemu_img.Run(), found, window, far.append)
            file.write(b"other")
            file.flush()
            assert not qemu_img.same(qemu_img.Run(), found, window, far.append)
            qemu_img.fill(qemu_img.Run(), found, window, far.append)
    assert disk.read_bytes() == content
    for path in (disk, Path(image)):
        until(lambda one=path: opened(one) == [], awaited="the service's copies closed")
    assert children() == []


def test_what_is_read_by_a_function_is_written(place: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "image")
    with nbd.Server(lambda at, length: b"x" * length, MIB) as server:
        offered = qemu_img.Offered(server.client.fileno(), MIB)
        qemu_img.write(qemu_img.Run(), offered, path, "raw", lambda done: None)
    assert Path(path).read_bytes() == b"x" * MIB


def test_a_run_is_held_to_its_rate_and_stopped(place: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(os.urandom(64 * MIB))
    run = qemu_img.Run(rate=MIB)  # it would take a minute
    with open(disk, "rb") as file:
        window = qemu_img.Target(file.fileno(), 64 * MIB, False, False)
        ended: list[type] = []

        def write() -> None:
            try:
                qemu_img.write(run, window, str(tmp_path / "image"), "raw", lambda done: None)
            except qemu_img.Stopped:
                ended.append(qemu_img.Stopped)

        thread = threading.Thread(target=write)
        thread.start()
        until(children, awaited="a run")
        time.sleep(2)
        assert thread.is_alive(), "it was not held"
        run.stop()
        thread.join(20)
    assert ended == [qemu_img.Stopped]
    until(lambda: children() == [], awaited="the end of what was run")


def test_what_qemu_img_complains_of_is_told(place: Path, tmp_path: Path) -> None:
    path = tmp_path / "image.qcow2"
    path.write_bytes(b"QFI\xfb" + bytes(600))
    with pytest.raises(Refused):
        qemu_img.look(str(path), "qcow2")
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(MIB))
    with open(disk, "rb") as file, open("/dev/full", "wb") as full:
        command = [
            *["qemu-img", "convert", "-p", "-n", "-U", "-O", "raw"],
            told({"driver": "raw", "file": {**FILE, "filename": f"/proc/self/fd/{file.fileno()}"}}),
            told({"driver": "raw", "file": {**FILE, "filename": f"/proc/self/fd/{full.fileno()}"}}),
        ]
        with pytest.raises(Refused, match="qemu-img convert failed: qemu-img: ") as refused:
            qemu_img.Run().follow(command, lambda done: None, file.fileno(), full.fileno())
    assert refused.value.reason is Reason.ENVIRONMENT


def test_a_run_ends_with_who_asked_for_it(place: Path, tmp_path: Path) -> None:
    """The daemon is killed while it waits: its connection ends."""
    ours, other = socket.socketpair()
    node = {"driver": "nbd", "server": {"type": "fd", "str": str(ours.fileno())}}
    command = ["qemu-img", "info", "--output=json", "-U", told(node)]
    with ours, other, open(os.devnull, "wb") as null, socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(place))
        start = line(Start(command, [ours.fileno()]))
        handed.send(peer, start, [ours.fileno(), null.fileno(), null.fileno()])
        handed.receive(peer)
        until(children, awaited="a run that waits for the other end to speak")
        (child,) = children()
        peer.close()
        until(lambda: not alive(child), awaited="its end")


def test_nobody_else_is_answered_and_nothing_but_qemu_img_runs(tmp_path: Path) -> None:
    path = tmp_path / "images.sock"
    with listening(path, "targetplugin-images") as made:
        listener = Listener(made, service.converse(os.geteuid() + 1))
        thread = threading.Thread(target=listener.run, daemon=True)
        thread.start()
        with open(os.devnull, "wb") as null, pytest.raises(Refused, match="may not ask") as refused:
            Images(path).launch(["qemu-img"], [], null.fileno(), null.fileno())
        assert refused.value.reason is Reason.ENVIRONMENT
        listener.stop()
        thread.join(10)


def test_a_command_of_another_form_is_not_run(place: Path) -> None:
    with open(os.devnull, "wb") as null, pytest.raises(Refused, match="is not told that"):
        Images(place).launch(["qemu-img", "--version"], [], null.fileno(), null.fileno())


def test_a_run_is_not_over_before_the_program_is_though_its_service_is_killed(
    tmp_path: Path,
) -> None:
    """What it still writes would go to a medium that is another's by then."""
    path = tmp_path / "images.sock"
    command = [sys.executable, "-m", "targetplugin.qemu.service", "--socket", str(path)]
    program = subprocess.Popen([*command, "--user", me()])
    until(lambda: reached(path))
    one, other = socket.socketpair()
    node = {"driver": "nbd", "server": {"type": "fd", "str": str(one.fileno())}}
    ended: list[Refused] = []

    def follow() -> None:
        try:
            qemu_img.Run().follow(
                ["qemu-img", "check", "-q", "-U", told(node)], print, one.fileno()
            )
        except Refused as refused:
            ended.append(refused)

    running.run_by(Images(path).launch)
    try:
        thread = threading.Thread(target=follow)
        thread.start()
        until(lambda: below(program.pid), awaited="a run that waits for the other end to speak")
        (child,) = below(program.pid)
        program.kill()
        program.wait()
        time.sleep(1)
        assert thread.is_alive()
        os.kill(child, signal.SIGKILL)
        thread.join(20)
    finally:
        running.run_by(launch.here)
        one.close()
        other.close()
    (refused,) = ended
    assert "qemu-img check failed" in refused.message


def below(process: int) -> list[int]:
    """Processes of qemu-img below another."""
    found = subprocess.run(["pgrep", "-P", str(process), "qemu-img"], capture_output=True)
    return [int(number) for number in found.stdout.split()]


def test_a_service_that_is_killed_ends_the_run_as_failed(tmp_path: Path) -> None:
    path = tmp_path / "images.sock"
    command = [sys.executable, "-m", "targetplugin.qemu.service", "--socket", str(path)]
    program = subprocess.Popen([*command, "--user", me()])
    until(path.exists)
    one, other = socket.socketpair()
    with open(os.devnull, "wb") as null, one, other:
        node = {"driver": "nbd", "server": {"type": "fd", "str": str(one.fileno())}}
        asked = ["qemu-img", "info", "--output=json", "-U", told(node)]
        until(lambda: reached(path))
        away = Images(path).launch(asked, [one.fileno()], null.fileno(), null.fileno())
        program.kill()
        program.wait()
        assert away.wait() == GONE
    with open(os.devnull, "wb") as null, pytest.raises(Refused, match="can't be asked") as refused:
        Images(path).launch(["qemu-img"], [], null.fileno(), null.fileno())
    assert "targetplugin-images.socket" in refused.value.hint


def reached(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as peer:
        return peer.connect_ex(str(path)) == 0
