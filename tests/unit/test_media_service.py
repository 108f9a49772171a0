"""The service that opens files and disks, asked over a real socket: they come as open descriptors, locks with
them; nobody else is answered, nothing but media and images is opened, and one that hangs holds nobody up.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from targetplugin.errors import Reason, Refused
from targetplugin.media import asked, service
from targetplugin.media import by_path as place
from targetplugin.media.by_path import ByPath, done_by
from targetplugin.media.here import Here
from targetplugin.media.remote import RemoteFiles
from targetplugin.media.rules import SMALLEST, MediaAndImages
from targetplugin.service import handed
from targetplugin.service.listener import Listener, listening
from tests.unit.house import MIB, House
from tests.unit.test_kernel_service import me, opened
from tests.waiting import until

Serve = Callable[..., RemoteFiles]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Makes a service, and says how it is asked."""
    ends: list[Callable[[], Any]] = []

    def made(who: ByPath | None = None, user: int | None = None) -> RemoteFiles:
        path = tmp_path / f"files{len(ends)}.sock"
        where = listening(path, "targetplugin-files")
        number = os.geteuid() if user is None else user
        listener = Listener(where, service.converse(number, who))
        thread = threading.Thread(target=listener.run, daemon=True)
        thread.start()
        ends.append(lambda: (listener.stop(), thread.join(10), where.close()))
        return RemoteFiles(path, 0.3)

    yield made
    for end in ends:
        end()


@pytest.fixture
def remote(serve: Serve) -> RemoteFiles:
    """As the program serves it."""
    return serve()


def file_of(path: Path, size: int = SMALLEST, mode: int = 0o600) -> str:
    path.write_bytes(b"d" * size)
    path.chmod(mode)
    return str(path)


# --- descriptors -----------------------------------------------------------------------------------


def test_what_is_taken_is_locked_until_its_descriptor_is_closed(
    remote: RemoteFiles, tmp_path: Path
) -> None:
    path = file_of(tmp_path / "medium")
    taken = remote.take(path)
    until(lambda: opened(Path(path)) == [taken], awaited="the service's own copy closed")
    assert fcntl.fcntl(taken, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    with pytest.raises(BlockingIOError):
        remote.take(path)
    with open(path, "rb") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    copy = os.dup(taken)
    os.close(taken)
    with pytest.raises(BlockingIOError):
        remote.take(path)
    os.close(copy)
    os.close(remote.take(path))


def test_what_is_read_can_t_be_written_and_keeps_nobody_out(
    remote: RemoteFiles, tmp_path: Path
) -> None:
    path = file_of(tmp_path / "medium")
    read = remote.read(path, direct=False)
    assert os.pread(read, 1, 0) == b"d"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(read, b"x", 0)
    os.close(remote.take(path))
    os.close(read)


def test_the_system_s_errors_come_as_they_are(remote: RemoteFiles, tmp_path: Path) -> None:
    none = str(tmp_path / "none")
    for ask in (remote.take, lambda p: remote.read(p, direct=True), remote.uses):
        with pytest.raises(FileNotFoundError) as raised:
            ask(none)
        assert raised.value.filename == none
    assert remote.look(none) is None
    remote.make(str(tmp_path / "m"), MIB)
    with pytest.raises(FileExistsError):
        remote.make(str(tmp_path / "m"), MIB)


def test_both_see_the_same(remote: RemoteFiles, tmp_path: Path) -> None:
    path = file_of(tmp_path / "file")
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "loose").symlink_to(tmp_path / "none")
    here = Here()
    for name in ("file", "link", "loose", "none", "."):
        seen = str(tmp_path / name)
        assert remote.look(seen) == here.look(seen)
        assert remote.stable(seen) == here.stable(seen)
    assert remote.look("/dev/null") == here.look("/dev/null")
    many = [f"{tmp_path}/link/{number}" for number in range(250)]
    assert remote.real(many) == here.real(many) == [f"{path}/{n}" for n in range(250)]
    assert remote.real([]) == []
    assert (remote.disks(), remote.uses(path)) == (here.disks(), [])


def test_a_length_is_changed_once_however_often_it_is_asked_for(
    remote: RemoteFiles, tmp_path: Path
) -> None:
    path = file_of(tmp_path / "file")
    for _ in range(2):
        remote.set_length(path, SMALLEST, MIB)
        assert os.path.getsize(path) == MIB
    with pytest.raises(Refused, match="has changed its size") as refused:
        remote.set_length(path, SMALLEST, 2 * MIB)
    assert refused.value.reason is Reason.BUSY


def test_a_part_gets_its_name_once_however_often_it_is_asked_for(
    remote: RemoteFiles, tmp_path: Path
) -> None:
    part, path = str(tmp_path / ".b.qcow2.7.part"), str(tmp_path / "b.qcow2")
    os.close(remote.part(part))
    descriptor = remote.part(part)
    os.pwrite(descriptor, b"x" * SMALLEST, 0)
    os.close(descriptor)
    assert os.stat(part).st_mode & 0o777 == 0o600
    seen = remote.look(part)
    assert seen is not None
    for _ in range(2):
        remote.put(part, path, seen.identity)
        assert os.listdir(tmp_path).count("b.qcow2") == 1
    assert not os.path.exists(part)
    with pytest.raises(FileNotFoundError):
        remote.put(part, path, [1, 2, 3])
    remote.drop(part)
    os.close(remote.part(part))
    remote.drop(part)
    assert not os.path.exists(part)


def test_of_an_image_s_folder_only_files_are_opened(remote: RemoteFiles, tmp_path: Path) -> None:
    file_of(tmp_path / "image")
    (tmp_path / "link").symlink_to("image")
    os.mkfifo(tmp_path / "pipe")
    os.close(remote.image(str(tmp_path), "image"))
    for name, why in (("link", "symbolic links"), ("pipe", "Invalid"), ("none", "No such file")):
        with pytest.raises(OSError, match=why):
            remote.image(str(tmp_path), name)
    other = tmp_path.with_name("other")
    other.symlink_to(tmp_path)
    with pytest.raises(OSError, match="symbolic links"):
        remote.image(str(other), "image")


# --- what is not done ------------------------------------------------------------------------------


def test_nobody_else_is_answered(serve: Serve, tmp_path: Path) -> None:
    path = file_of(tmp_path / "medium")
    with pytest.raises(Refused, match=f"User {os.geteuid()} may not ask") as refused:
        serve(user=os.geteuid() + 1).take(path)
    assert refused.value.reason is Reason.RIGHTS


@pytest.mark.parametrize(
    "line",
    [
        {"do": "Take", "path": "etc/passwd"},
        {"do": "Take", "path": "/a\0b"},
        {"do": "Take", "path": "/a", "flags": 2},
        {"do": "Take"},
        {"do": "Open", "path": "/a"},
        {"do": "Image", "folder": "/srv", "name": "../etc/shadow"},
        {"do": "Make", "path": "/srv/a", "size": -1},
        {"do": "Put", "part": "/srv/.a.1.part", "path": "/srv/a", "identity": [1]},
        [],
        None,
    ],
)
def test_what_is_not_of_the_narrow_form_is_not_done(remote: RemoteFiles, line: Any) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(remote.path))
        peer.sendall(json.dumps(line).encode() + b"\n")
        answer = asked.answer(handed.receive(peer)[0])
    assert answer.refused is not None
    assert answer.refused.reason is Reason.USAGE


def test_the_system_s_own_files_are_not_opened(remote: RemoteFiles, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/shadow")
    for path in ("/etc/passwd", "/usr/bin/env", str(tmp_path / "link"), "/proc/self/mem"):
        with pytest.raises(Refused, match="the system's own") as refused:
            remote.take(path)
        assert refused.value.reason is Reason.RIGHTS
    with pytest.raises(Refused, match="the system's own"):
        remote.read("/etc/shadow", direct=False)
    os.close(remote.read("/etc/passwd", direct=False))  # which anybody reads
    for new in ("/etc/new", "/usr/new", "/run/new", "/var/spool/cron/new"):
        with pytest.raises((Refused, FileNotFoundError)):
            remote.make(new, MIB)
    with pytest.raises(Refused, match="the system's own"):
        remote.part("/etc/.cron.1.part")


def test_what_says_how_a_machine_works_is_not_written(remote: RemoteFiles, tmp_path: Path) -> None:
    """A daemon that somebody has in hand has not root's shell."""
    small = file_of(tmp_path / "script", SMALLEST - 1)
    keys = tmp_path / ".ssh"
    keys.mkdir()
    for path in (small, file_of(keys / "authorized_keys")):
        for ask in (
            remote.take,
            lambda p: remote.set_length(p, SMALLEST - 1, MIB),
            lambda p: remote.read(p, direct=False),
        ):
            with pytest.raises(Refused):
                ask(path)
    for hidden in (tmp_path / ".profile", keys / "new"):
        with pytest.raises(Refused, match="begins with a dot"):
            remote.make(str(hidden), MIB)
    with pytest.raises(Refused, match="no name for what is not whole"):
        remote.part(str(tmp_path / "script"))
    with pytest.raises(Refused, match="begins with a dot"):
        remote.part(str(tmp_path / "..profile.1.part"))
    part = str(tmp_path / ".script.1.part")
    os.close(remote.part(part))
    seen = remote.look(part)
    assert seen is not None
    with pytest.raises(Refused, match="fewer than"):
        remote.put(part, small, seen.identity)
    with pytest.raises(Refused, match="no name for what is not whole"):
        remote.put(part, str(tmp_path / "other"), seen.identity)


def test_neither_a_pipe_nor_a_folder_nor_a_device_that_is_no_disk(
    remote: RemoteFiles, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        for ask in (remote.take, lambda p: remote.read(p, direct=False)):
            with pytest.raises(OSError, match="Invalid argument"):
                ask(str(path))


def test_a_disk_with_a_mounted_file_system_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("targetplugin.media.uses.stat.S_ISBLK", lambda mode: True)
    used = [place.Finding("vda1 is mounted at /", False, "umount /, and repeat")]
    monkeypatch.setattr("targetplugin.media.uses.uses", lambda path: used)
    rules = MediaAndImages()
    with pytest.raises(Refused, match="mounted at /"):
        rules.check_found("/dev/vda", os.stat("/dev/null"), False)
    rules.check_found("/dev/vda", os.stat("/dev/null"), True)  # the kernel keeps it out


# --- one that hangs, and one that dies -------------------------------------------------------------


def test_one_disk_that_hangs_holds_no_other_up(serve: Serve, tmp_path: Path) -> None:
    plug = threading.Event()

    class Slow(Here):
        def read(self, path: str, *, direct: bool) -> int:
            if path.endswith("slow"):
                plug.wait()
            return super().read(path, direct=direct)

    remote = serve(Slow())
    path = file_of(tmp_path / "slow")
    got: list[int] = []
    threads = [
        threading.Thread(target=lambda: got.append(remote.read(path, direct=False)))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    begun = time.monotonic()
    for number in range(20):
        os.close(remote.read(file_of(tmp_path / f"quick{number}"), direct=False))
    assert time.monotonic() - begun < 10
    assert got == []
    plug.set()
    for thread in threads:
        thread.join(20)
    assert len(got) == 20
    handed.close(got)


PROGRAM = [sys.executable, "-m", "targetplugin.media.service"]


def test_the_program_answers_goes_on_after_a_kill_and_ends_cleanly(tmp_path: Path) -> None:
    path, medium = tmp_path / "files.sock", file_of(tmp_path / "medium")
    remote = RemoteFiles(path, 20)
    for number in (signal.SIGKILL, signal.SIGTERM):
        running = subprocess.Popen([*PROGRAM, "--socket", str(path), "--user", me()])
        taken = remote.take(medium)
        running.send_signal(number)
        assert running.wait(20) == (0 if number == signal.SIGTERM else -number)
        assert os.fstat(taken).st_size, "what was handed over stays open"
        os.close(taken)


def test_a_service_that_does_not_come_is_named(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"can't be asked at .*/none.sock") as refused:
        RemoteFiles(tmp_path / "none.sock", 0.2).take("/a")
    assert refused.value.reason is Reason.ENVIRONMENT
    assert "systemctl start targetplugin-files.socket" in refused.value.hint


# --- the whole subsystem by it ---------------------------------------------------------------------


@pytest.fixture
def by_service(serve: Serve) -> Iterator[None]:
    """Nothing is opened by path in this process but by the service."""
    done_by(serve())
    yield
    done_by(Here())


@pytest.mark.usefixtures("by_service")
@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not there")
def test_media_volumes_backups_and_what_is_adopted(tmp_path: Path) -> None:
    house = House(tmp_path / "house")
    house.media("a", "b", "c", "d")
    house.volume()
    house.write(1, "k")
    house.subsystem.save("ledger", label="one", policy="copy")
    house.finish()
    path = str(tmp_path / "one.qcow2")
    assert house.wait(house.subsystem.backup("ledger@one", path))["state"] == "done"
    house.subsystem.release("ledger@one")
    house.write(1, "x")
    assert house.wait(house.subsystem.restore("ledger", image=path))["state"] == "done"
    house.subsystem.swap("ledger")
    assert house.read(1) == "k"
    old = tmp_path / "old"
    old.write_bytes(b"o" * (5 * MIB))
    house.subsystem.volume_adopt("old", str(old))
    house.restart()
    assert house.read(1) == "k"
    assert house.engine.read(house.handle("old"), 0, 5 * MIB) == b"o" * (5 * MIB)
    with pytest.raises(Refused, match="is there already and has another size"):
        house.subsystem.media_add(path, size=MIB)
    os.unlink(house.folder / "d")
    assert house.states()["d"] == "missing"
    house.end()


@pytest.mark.usefixtures("by_service")
def test_a_daemon_that_is_killed_has_its_media_again(tmp_path: Path) -> None:
    house = House(tmp_path / "house")
    house.media("a", "b")
    house.volume()
    house.write(3, "x")
    house.kill()
    house.boot()
    assert [leg["state"] for leg in house.show()["legs"]] == ["in_sync", "in_sync"]
    assert house.read(3) == "x"
    house.end()
