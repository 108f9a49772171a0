"""The lab itself: its commands are relied on by people and by every other test here."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from . import disks, machine
from .errors import LabError
from .lab import CommandFailed, Lab
from .state import CHECKOUT

MEDIUM = "/dev/disk/by-id/virtio-media-c"


def command(*arguments: str, data: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """The lab's command line, as people type it."""
    argv = [sys.executable, "-m", "tests.vm", *arguments]
    return subprocess.run(argv, cwd=CHECKOUT, input=data, capture_output=True, timeout=120)


def test_exec_keeps_output_errors_and_status_apart(lab: Lab) -> None:
    done = command("exec", "target", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)


def test_exec_tells_a_signal_as_a_shell_does(lab: Lab) -> None:
    done = command("exec", "initiator", "--", "sh", "-c", "kill -9 $$")
    assert done.returncode == 128 + signal.SIGKILL


def test_exec_of_an_unknown_command_is_127(lab: Lab) -> None:
    done = command("exec", "target", "--", "no-such-command")
    assert done.returncode == 127
    assert b"no-such-command: No such file" in done.stderr


def test_exec_passes_arguments_unchanged(lab: Lab) -> None:
    words = ["two words", "", "$HOME", "a'b\"c", "-n", "ü"]
    script = "import json, sys; print(json.dumps(sys.argv[1:]))"
    done = lab.exec("target", ["python3", "-c", script, *words])
    assert done.stdout == '["two words", "", "$HOME", "a\'b\\"c", "-n", "\\u00fc"]\n'


def test_exec_carries_binary_input_and_output(lab: Lab) -> None:
    data = os.urandom(3_000_001)
    done = command("exec", "target", "--", "cat", data=data)
    assert done.stdout == data


def test_exec_carries_input_however_short(lab: Lab) -> None:
    for size in (0, 1, 100, 70_000):
        data = os.urandom(size)
        assert lab.exec("target", ["cat"], input=data, timeout=20).raw_stdout == data


def test_a_warm_command_is_loaded_once_and_is_as_any_other(lab: Lab) -> None:
    script = """\
#!/usr/bin/python3
import os, signal, sys
loaded = os.getpid()
def main():
    if sys.argv[-1] == "sleep":
        signal.pause()
    print(loaded, sys.argv[1:], os.environ["WISH"], os.getcwd(), sys.stdin.read())
    sys.exit(3)
main()
"""
    path = "/usr/local/bin/warm-test"
    lab.exec("target", ["sh", "-c", f"cat > {path}; chmod 755 {path}"], input=script)
    how = {"warm": True, "check": False, "env": {"WISH": "a b"}, "cwd": "/tmp"}
    first = lab.exec("target", ["warm-test", "x", ""], input="said", **how)  # type: ignore[arg-type]
    again = lab.exec("target", ["warm-test", "y"], **how)  # type: ignore[arg-type]
    loaded = first.stdout.split()[0]
    assert first.returncode == again.returncode == 3
    assert first.stdout == f"{loaded} ['x', ''] a b /tmp said\n"
    assert again.stdout == f"{loaded} ['y'] a b /tmp \n"
    with pytest.raises(TimeoutError):
        lab.exec("target", ["warm-test", "sleep"], timeout=2, warm=True)
    gone = "sleep 1; ps ax -o ppid= | grep -cx ' *" + loaded + "'; true"
    assert lab.exec("target", ["sh", "-c", gone]).stdout.strip() == "0"


def test_exec_ends_when_input_is_not_read(lab: Lab) -> None:
    done = command("exec", "target", "--", "true", data=bytes(3_000_000))
    assert done.returncode == 0


def test_exec_does_not_wait_for_what_is_left_in_the_background(lab: Lab) -> None:
    began = time.monotonic()
    done = command("exec", "target", "--", "sh", "-c", "sleep 30 & echo started")
    assert done.stdout == b"started\n"
    assert time.monotonic() - began < 10


def test_commands_run_beside_each_other(lab: Lab) -> None:
    wait = "until [ -e /run/go-on ]; do sleep 0.1; done; echo"
    slow = [lab.spawn("target", ["sh", "-c", f"{wait} {n}"]) for n in range(4)]
    assert lab.exec("target", ["echo", "quick"]).stdout == "quick\n"
    assert all(running.is_running for running in slow)
    lab.exec("target", ["touch", "/run/go-on"])
    assert [running.wait(30).stdout for running in slow] == ["0\n", "1\n", "2\n", "3\n"]


def assert_ends(lab: Lab, where: str, pattern: str) -> None:
    """A process ends soon."""
    wait = f"for i in $(seq 20); do pgrep -f '{pattern}' || exit 0; sleep 1; done; exit 1"
    lab.shell(where, wait)


def test_commands_in_a_row_on_a_busy_machine_are_all_answered(lab: Lab) -> None:
    """Each takes the port that the one before has just let go of."""
    busy = [lab.spawn("target", ["sh", "-c", "while :; do :; done"]) for _ in range(3)]
    for number in range(60):
        assert lab.exec("target", ["echo", str(number)], timeout=60).stdout == f"{number}\n"
    for running in busy:
        running.kill()


def test_a_killed_client_takes_its_command_along_and_leaves_the_port_usable(lab: Lab) -> None:
    argv = [sys.executable, "-m", "tests.vm", "exec", "target", "--"]
    argv += ["sh", "-c", "echo started; exec sleep 3141"]
    for _ in range(3):
        client = subprocess.Popen(argv, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert client.stdout
        assert client.stdout.readline() == b"started\n"
        client.kill()
        client.wait()
        client.stdout.close()
        assert lab.exec("target", ["echo", "fine"]).stdout == "fine\n"
    assert_ends(lab, "target", "3141$")


def test_a_command_that_takes_too_long_is_ended(lab: Lab) -> None:
    with pytest.raises(TimeoutError):
        lab.exec("initiator", ["sleep", "2718"], timeout=1)
    assert_ends(lab, "initiator", "2718$")


def test_a_failed_command_raises_with_what_it_said(lab: Lab) -> None:
    with pytest.raises(CommandFailed, match="no reason"):
        lab.shell("target", "echo no reason >&2; exit 3")


def test_copy_goes_both_ways_and_keeps_the_mode(lab: Lab, tmp_path: Path) -> None:
    source, back = tmp_path / "a file", tmp_path / "back"
    source.write_bytes(os.urandom(2_000_000))
    source.chmod(0o750)
    assert command("copy", str(source), "initiator:/root").returncode == 0
    assert lab.exec("initiator", ["stat", "-c", "%a", "/root/a file"]).stdout == "750\n"
    assert command("copy", "initiator:/root/a file", str(back)).returncode == 0
    assert back.read_bytes() == source.read_bytes()


def test_copy_of_nothing_is_refused_with_a_sentence(lab: Lab) -> None:
    done = command("copy", "target:/no/such/file", "/tmp/never")
    assert done.returncode == 1
    assert b"No such file" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [["exec", "target"], ["copy", "here", "there"], ["disk", "target", "media-a", "--iops", "-1"]],
)
def test_wrong_usage_is_told_from_a_refusal(words: list[str]) -> None:
    done = command(*words)
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


def test_the_machines_reach_each_other_and_nothing_else(lab: Lab) -> None:
    lab.spawn("target", ["python3", "-m", "http.server", "--bind", "target", "8080"])
    fetch = "import urllib.request as r; print(r.urlopen('http://target:8080/').status)"
    attempt = f'for i in 1 2 3 4 5; do python3 -c "{fetch}" 2> /dev/null && exit; sleep 1; done'
    assert lab.shell("initiator", attempt).stdout == "200\n"
    lab.exec("target", ["pkill", "-f", "http.server"])
    assert lab.exec("initiator", ["ip", "route", "show", "default"]).stdout == ""


@pytest.mark.parametrize("where", ["target", "initiator"])
def test_a_machine_s_clock_goes_as_this_machine_s(lab: Lab, where: str) -> None:
    def uptime() -> float:
        return float(lab.exec(where, ["cat", "/proc/uptime"]).stdout.split()[0])

    begin, first = time.monotonic(), uptime()
    time.sleep(5)
    passed, counted = time.monotonic() - begin, uptime() - first
    assert 0.6 < counted / passed < 1.4, "its kernel measured its time stamp counter wrongly"


def test_lio_and_open_iscsi_serve_a_disk_between_the_machines(lab: Lab) -> None:
    name = "iqn.2026-11.org.targetplugin:lab"
    lab.shell(
        "target",
        f"""
        targetcli /backstores/ramdisk create lab 16M > /dev/null
        targetcli /iscsi create {name} > /dev/null
        targetcli /iscsi/{name}/tpg1/luns create /backstores/ramdisk/lab > /dev/null
        targetcli /iscsi/{name}/tpg1/acls create iqn.2026-11.org.targetplugin:initiator > /dev/null
        modprobe -a target_core_user tcm_loop
    """,
    )
    lab.shell(
        "initiator",
        f"""
        iscsiadm -m discovery -t sendtargets -p target > /dev/null
        iscsiadm -m node -T {name} --login > /dev/null
        udevadm settle
        test -b /dev/disk/by-path/ip-10.77.0.1:3260-iscsi-{name}-lun-0
        iscsiadm -m node -T {name} --logout > /dev/null
        iscsiadm -m node -o delete
    """,
    )
    lab.exec("target", ["targetcli", "clearconfig", "confirm=True"])


def test_a_power_cut_keeps_what_was_flushed(lab: Lab) -> None:
    content = hashlib.sha256(b"kept").hexdigest()
    lab.shell(
        "target",
        f"""
        echo {content} | dd of={MEDIUM} bs=4096 seek=7 conv=sync,fsync status=none
        echo {content} > /var/lib/kept
        sync /var/lib/kept
    """,
    )
    assert command("power-cut", "target").returncode == 0
    assert command("exec", "target", "--", "true").returncode == 255
    assert command("start", "target").returncode == 0
    read = (
        f"dd if={MEDIUM} bs=4096 skip=7 count=1 status=none | head -c 64; echo; cat /var/lib/kept"
    )
    assert lab.shell("target", read).stdout == f"{content}\n{content}\n"


def test_a_detached_medium_comes_back_as_the_same_disk(lab: Lab) -> None:
    lab.shell("target", f"echo marked | dd of={MEDIUM} conv=fsync status=none")
    assert command("disk", "target", "media-c", "--detach").returncode == 0
    lab.exec("target", ["test", "!", "-e", MEDIUM])
    assert command("disk", "target", "media-c", "--attach").returncode == 0
    assert lab.shell("target", f"head -c 6 {MEDIUM}").stdout == "marked"


def test_a_medium_is_detached_under_load(lab: Lab) -> None:
    write = ["fio", "--name=load", "--filename=" + MEDIUM, "--rw=randwrite", "--direct=1"]
    write += ["--iodepth=8", "--ioengine=libaio", "--time_based", "--runtime=60", "--size=64M"]
    load = lab.spawn("target", write)
    time.sleep(3)
    lab.disk("media-c", attach=False)
    assert load.wait(60, check=False).returncode != 0
    lab.disk("media-c", attach=True)
    lab.exec("target", ["test", "-b", MEDIUM])


def test_a_limited_medium_is_as_slow_as_it_was_told(lab: Lab) -> None:
    read = ["dd", f"if={MEDIUM}", "of=/dev/null", "bs=4k", "count=100", "iflag=direct"]

    def seconds() -> float:
        began = time.monotonic()
        lab.exec("target", read)
        return time.monotonic() - began

    assert command("disk", "target", "media-c", "--iops", "20").returncode == 0
    slow = seconds()
    lab.disk("media-c", iops=0)
    assert slow > 3.5
    assert seconds() < slow / 2


def test_media_are_told_by_name(lab: Lab) -> None:
    listed = lab.exec("target", ["ls", "/dev/disk/by-id"]).stdout.split()
    assert [f"virtio-{name}" for name in disks.MEDIA] == [n for n in listed if "media" in n]
    size = lab.exec("target", ["blockdev", "--getsize64", MEDIUM]).stdout
    assert int(size) == disks.MEDIUM_SIZE


def test_a_dead_machine_is_told_from_a_running_one(lab: Lab) -> None:
    assert command("status").returncode == 0
    (pid,) = machine.processes("initiator")
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(LabError, match=r"not running|went away"):
        lab.exec("initiator", ["sleep", "5"])
    assert command("status").returncode == 1
    lab.start("initiator")
    lab.exec("initiator", ["true"])


def test_up_follows_an_up_that_was_killed(lab: Lab) -> None:
    lab.exec("target", ["touch", "/root/old"])
    interrupted = subprocess.Popen([sys.executable, "-m", "tests.vm", "up"], cwd=CHECKOUT)
    time.sleep(4)
    interrupted.kill()
    interrupted.wait()
    lab.up()
    lab.shell("target", "test ! -e /root/old")
    lab.exec("initiator", ["true"])
