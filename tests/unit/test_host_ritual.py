"""What a host does around a verb, command by command, and what it tells meanwhile."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from targetplugin.host import lvm, mounts, report, ritual, users
from targetplugin.host.errors import Busy, Refused
from targetplugin.host.mounts import Mount
from targetplugin.host.stack import Logical

DISK = "/dev/sdb"
WHOLE = Mount("/dev/sdb1", "/whole", "ext4", "rw")
AGAIN = Mount("/dev/sdb1", "/again", "ext4", "rw")
BOUND = Mount("/dev/sdb1", "/bound", "ext4", "ro", "/whole/sub")
ON_LVM = Mount("/dev/mapper/vg-lv", "/lvm", "xfs", "rw")


class Host:
    """What was called, in order; `fails` are beginnings of commands that do."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.fails: tuple[str, ...] = ()

    def run(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        text = " ".join(command)
        self.called.append(text)
        failed = bool(self.fails) and text.startswith(self.fails)
        return subprocess.CompletedProcess(command, 32 if failed else 0, "", "target is busy")

    def verb(self) -> None:
        self.called.append("VERB")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()
    monkeypatch.setattr(subprocess, "run", host.run)
    monkeypatch.setattr(mounts, "mounts", lambda disk: [WHOLE, AGAIN, ON_LVM, BOUND])
    monkeypatch.setattr(lvm, "active", lambda disk: [Logical("vg", "lv"), Logical("vg", "two")])
    monkeypatch.setattr(users, "check_leavable", lambda disk: None)
    monkeypatch.setattr(users, "check_left", lambda disk: None)
    monkeypatch.setattr(mounts, "drop_caches", lambda disk: host.called.append("DROP"))
    monkeypatch.setattr(mounts, "reread_partitions", lambda disk: host.called.append("PARTITIONS"))
    return host


def test_a_disk_is_taken_down_and_up_in_order(host: Host) -> None:
    ritual.left(DISK, host.verb)
    assert host.called == [
        "umount /bound",
        "umount /lvm",
        "umount /again",
        "umount /whole",
        "vgchange -an vg",
        "VERB",
        "DROP",
        "PARTITIONS",
        "lvchange -ay vg/lv",
        "lvchange -ay vg/two",
        "e2fsck -p /dev/sdb1",
        "mount -t ext4 -o rw /dev/sdb1 /whole",
        "mount -t ext4 -o rw /dev/sdb1 /again",
        "mount -t xfs -o rw /dev/mapper/vg-lv /lvm",
        "mount --bind /whole/sub /bound",
        "mount -o remount,bind,ro /bound",
    ]


def test_what_can_t_be_unmounted_is_mounted_again_and_nothing_done(host: Host) -> None:
    host.fails = ("umount /again",)
    with pytest.raises(Refused, match="/again can't be unmounted"):
        ritual.left(DISK, host.verb)
    assert "VERB" not in host.called
    assert host.called[-2:] == ["mount --bind /whole/sub /bound", "mount -o remount,bind,ro /bound"]


def test_a_group_that_can_t_be_switched_off_is_on_again(host: Host) -> None:
    host.fails = ("vgchange",)
    with pytest.raises(Refused, match="vgchange -an vg failed"):
        ritual.left(DISK, host.verb)
    assert "VERB" not in host.called
    assert "lvchange -ay vg/two" in host.called
    assert sum(one.startswith("mount") for one in host.called) == 5


def test_a_verb_that_is_refused_leaves_all_as_it_was(host: Host) -> None:
    def refuse() -> None:
        raise Refused("no")

    with pytest.raises(Refused, match=r"^no$"):
        ritual.left(DISK, refuse)
    at = host.called.index("DROP")
    assert host.called[at + 1 : at + 3] == ["lvchange -ay vg/lv", "lvchange -ay vg/two"]
    host.fails = ("mount -t ext4",)
    with pytest.raises(Refused, match=r"no; and: /whole can't be mounted again"):
        ritual.left(DISK, refuse)


def test_what_can_t_be_mounted_again_is_told(host: Host) -> None:
    host.fails = ("e2fsck",)
    with pytest.raises(Refused, match=r"it was done, and .*damaged") as refused:
        ritual.left(DISK, host.verb)
    assert refused.value.hint == "e2fsck -f /dev/sdb1"


def test_a_file_system_that_is_mounted_twice_is_frozen_once(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "freeze", lambda where: host.called.append(f"freeze {where}"))
    monkeypatch.setattr(mounts, "thaw", lambda where: host.called.append(f"thaw {where}"))
    with ritual.frozen(DISK):
        host.verb()
    assert host.called == [
        "freeze /whole",
        "freeze /lvm",
        "VERB",
        "thaw /lvm",
        "thaw /whole",
    ]


# --- what is told -------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """Standard error that is, or is not, a terminal."""

    def __init__(self, tty: bool) -> None:
        super().__init__()
        self._tty = tty

    def isatty(self) -> bool:
        return self._tty


@pytest.fixture(autouse=True)
def in_words() -> Iterator[None]:
    yield
    report.as_events(False)


def follow(monkeypatch: pytest.MonkeyPatch, *, tty: bool) -> str:
    """What is told of a wait that goes from 0 to 1 in steps of a hundredth, one a second."""
    terminal = Terminal(tty)
    clock = iter(range(10000))
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(report.time, "monotonic", lambda: float(next(clock)))
    progress = report.Progress("copying")
    for percent in range(100):
        progress(percent / 100)
    progress.end()
    return terminal.getvalue()


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    said = follow(monkeypatch, tty=True)
    assert said.count("\n") == 1
    assert "\rpitcopy: copying [############------------]  50%, 51 s left" in said


def test_in_a_log_there_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    said = follow(monkeypatch, tty=False).splitlines()
    assert len(said) == 10
    assert said[0] == "pitcopy: copying: 0%"
    assert said[5].startswith("pitcopy: copying: 50%, ")


def test_for_programs_there_are_events(monkeypatch: pytest.MonkeyPatch) -> None:
    report.as_events(True)
    said = [json.loads(line) for line in follow(monkeypatch, tty=True).splitlines()]
    assert [one["event"] for one in said] == ["progress"] * 11
    assert (said[5]["what"], said[5]["progress"]) == ("copying", 0.5)
    assert said[5]["seconds_left"] > 0
    assert said[-1]["progress"] == 1.0


def test_a_busy_volume_is_waited_for_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "PAUSE", 0)
    answers = iter([Busy("busy", 0.2), Busy("busy", 0.6), None])

    def ask() -> str:
        if (error := next(answers)) is not None:
            raise error
        return "done"

    assert report.patiently("waiting", ask) == "done"
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in said] == [
        "pitcopy: waiting: 20%",
        "pitcopy: waiting: 60%",
    ]


def test_a_terminal_that_went_away_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr("sys.stderr", Gone(True))
    report.say("still here")
    report.Progress("copying")(0.5)
