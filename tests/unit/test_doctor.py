"""The doctor: each thing that is in a newcomer's way is found, and what to do about it is said."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from targetplugin import daemon
from targetplugin.control.server import Server
from targetplugin.doctor import disks, examine, ground, network, service
from targetplugin.doctor.finding import Finding, Level, worst
from targetplugin.doctor.machine import Machine
from targetplugin.media.medium import Medium
from tests.unit.fake_subsystem import FakeSubsystem, a_volume

RELEASE = "6.1.0-32-amd64"
MOUNTED = "30 25 0:24 / /sys/kernel/config rw,nosuid - configfs configfs rw"
HOST = "iqn.2026-01.org.example:host"
MIB = 1 << 20


def put(root: Path, path: str, text: str = "") -> Path:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text + "\n")
    return place


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """One on which nothing is wrong."""
    root = tmp_path / "root"
    for name in ("target_core_user", "iscsi_target_mod", "tcm_loop"):
        put(root, f"/sys/module/{name}/refcnt", "0")
    put(root, "/proc/self/mountinfo", MOUNTED)
    put(root, "/sys/kernel/config/.keep")
    put(root, "/run/systemd/system/.keep")
    put(root, "/run/dbus/system_bus_socket")
    put(root, "/lib/systemd/system/targetplugind.service")
    for name in service.BESIDE:
        put(root, f"/lib/systemd/system/{name}")
    put(root, "/etc/passwd", "root:x:0:0::/root:/bin/sh\ntargetplugin:x:997:997::/:/bin/false\n")
    put(root, "/etc/systemd/system/multi-user.target.wants/targetplugind.service")
    (root / "var/lib/targetplugin").mkdir(parents=True, mode=0o700)
    for name in (*ground.PROGRAMS, *ground.BACKUPS):
        put(root, f"/usr/bin/{name}", "#!/bin/sh").chmod(0o755)
    return Machine(root=root, user=0, release=RELEASE, programs=str(root / "usr/bin"))


def other(machine: Machine, **changed: object) -> Machine:
    fields = {name: getattr(machine, name) for name in machine.__struct_fields__}
    return Machine(**{**fields, **changed})  # type: ignore[arg-type]


def bad(findings: list[Finding] | Iterator[Finding]) -> list[Finding]:
    found = [one for one in findings if one.level is not Level.OK]
    assert all(one.what.endswith(".") and one.next for one in found), "what, and what to do"
    return found


def only(findings: list[Finding] | Iterator[Finding]) -> Finding:
    found = bad(findings)
    assert len(found) == 1, found
    return found[0]


# --- what all stands on ---------------------------------------------------------------------------


def test_nothing_is_wrong_where_nothing_is(machine: Machine) -> None:
    assert bad(ground.look(machine)) == []


def test_who_is_not_root_is_told_so(machine: Machine) -> None:
    found = only(ground.look(other(machine, user=1000)))
    assert found.check == "root"
    assert "user 1000" in found.what
    assert "sudo" in found.next


@pytest.mark.parametrize(
    ("release", "level"),
    [
        ("4.19.0-27-amd64", Level.PROBLEM),
        ("5.5.19", Level.PROBLEM),
        ("5.10.0-34-amd64", Level.WARNING),
        ("6.1.0-32-amd64", Level.OK),
        ("6.18.1", Level.OK),
        ("7.0-rc1", Level.OK),
    ],
)
def test_an_old_kernel_is_named(machine: Machine, release: str, level: Level) -> None:
    found = next(f for f in ground.look(other(machine, release=release)) if f.check == "kernel")
    assert found.level is level
    assert release in found.what


@pytest.mark.parametrize(
    ("disabled", "user", "bad"),
    [("0", 0, False), ("1", 0, False), ("1", 1000, True), ("2", 0, True)],
)
def test_io_uring_that_is_switched_off_is_found(
    machine: Machine, disabled: str, user: int, bad: bool
) -> None:
    put(machine.root, "/proc/sys/kernel/io_uring_disabled", disabled)
    found = next(one for one in ground.look(other(machine, user=user)) if one.check == "io_uring")
    assert (found.level is Level.PROBLEM) == bad
    assert ("kernel.io_uring_disabled" in found.next) == bad


def test_io_uring_that_a_policy_refuses_is_found(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ground, "_ring", lambda: os.strerror(1))
    assert "Operation not permitted" in only(ground.look(machine)).what


def test_the_kernel_is_really_asked_for_io_uring() -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert ground._ring() == ""
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("name", ground.MODULES)
def test_a_missing_module_is_named(machine: Machine, name: str) -> None:
    (machine.root / f"sys/module/{name}/refcnt").unlink()
    (machine.root / f"sys/module/{name}").rmdir()
    found = only(ground.look(machine))
    assert found.level is Level.PROBLEM
    assert name in found.what
    assert RELEASE in found.what


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("modules.dep", "kernel/drivers/target/target_core_user.ko.xz: kernel/x.ko"),
        ("modules.dep", "kernel/drivers/target/target_core_user.ko: kernel/x.ko"),
        ("modules.builtin", "kernel/drivers/target/target_core_user.ko"),
    ],
)
def test_a_module_that_can_be_loaded_is_not_missing(machine: Machine, file: str, line: str) -> None:
    (machine.root / "sys/module/target_core_user/refcnt").unlink()
    (machine.root / "sys/module/target_core_user").rmdir()
    put(machine.root, f"/lib/modules/{RELEASE}/{file}", "kernel/a.ko:\n" + line)
    assert bad(ground.look(machine)) == []


def test_a_module_that_others_need_is_not_there_for_that(machine: Machine) -> None:
    (machine.root / "sys/module/target_core_user/refcnt").unlink()
    (machine.root / "sys/module/target_core_user").rmdir()
    lists = "kernel/y.ko: kernel/not_target_core_user.ko"
    put(machine.root, f"/lib/modules/{RELEASE}/modules.dep", lists)
    assert only(ground.look(machine)).check == "modules"


def test_configfs_that_is_not_mounted_is_found(machine: Machine) -> None:
    put(machine.root, "/proc/self/mountinfo", "1 1 0:1 / / rw - ext4 /dev/vda rw")
    found = only(ground.look(machine))
    assert found.check == "configfs"
    assert "mount -t configfs" in found.next


@pytest.mark.parametrize(
    ("name", "package", "level"),
    [
        ("wipefs", "util-linux", Level.PROBLEM),
        ("modprobe", "kmod", Level.PROBLEM),
        ("qemu-img", "qemu-utils", Level.WARNING),
    ],
)
def test_a_program_that_is_not_installed_is_named_with_its_package(
    machine: Machine, name: str, package: str, level: Level
) -> None:
    (machine.root / "usr/bin" / name).unlink()
    found = only(ground.look(machine))
    assert (found.level, name in found.what, package in found.next) == (level, True, True)


def test_a_machine_without_systemd_or_its_bus_is_told_what_that_means(machine: Machine) -> None:
    (machine.root / "run/systemd/system/.keep").unlink()
    (machine.root / "run/systemd/system").rmdir()
    (machine.root / "run/dbus/system_bus_socket").unlink()
    found = bad(ground.look(machine))
    assert [one.check for one in found] == ["systemd", "dbus"]
    assert worst(found) is Level.WARNING


# --- the daemon -----------------------------------------------------------------------------------


def state(machine: Machine) -> Finding:
    return service._state(machine, examine.STATE_DIR)


def disk(monkeypatch: pytest.MonkeyPatch, **changed: int) -> None:
    """Has the state directory's file system say so."""
    seen = {"f_flag": 0, "f_bavail": 1 << 20, "f_frsize": 4096, "f_files": 1000, "f_favail": 900}
    monkeypatch.setattr(os, "statvfs", lambda place: SimpleNamespace(**{**seen, **changed}))


def test_the_doctor_looks_where_the_daemon_keeps_its_state() -> None:
    assert daemon.STATE_DIR == examine.STATE_DIR


def test_a_state_directory_with_room_is_well(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch)
    assert state(machine).level is Level.OK


@pytest.mark.parametrize(
    ("seen", "level", "words"),
    [
        ({"f_bavail": 0}, Level.PROBLEM, "nothing free"),
        ({"f_bavail": 2560}, Level.PROBLEM, "10 MiB free"),
        ({"f_bavail": 16 << 10}, Level.WARNING, "64 MiB free"),
        ({"f_favail": 0}, Level.PROBLEM, "no file more"),
        ({"f_files": 0, "f_favail": 0}, Level.OK, ""),  # btrfs counts no inodes
        ({"f_flag": os.ST_RDONLY}, Level.PROBLEM, "read-only"),
    ],
)
def test_a_state_directory_without_room_is_found(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    seen: dict[str, int],
    level: Level,
    words: str,
) -> None:
    disk(monkeypatch, **seen)
    found = state(machine)
    assert (found.level, words in found.what) == (level, True)
    assert examine.STATE_DIR in found.what


def test_a_state_directory_that_others_may_write_is_found(machine: Machine) -> None:
    (machine.root / "var/lib/targetplugin").chmod(0o777)
    assert state(machine).next == f"chmod go-w {examine.STATE_DIR}"


def test_a_state_directory_that_is_to_be_made_is_no_problem(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch)
    (machine.root / "var/lib/targetplugin").rmdir()
    found = state(machine)
    assert found.level is Level.OK
    assert "makes when it starts" in found.what
    assert not (machine.root / "var/lib/targetplugin").exists(), "the doctor changes nothing"


def test_a_service_that_is_not_installed_or_not_enabled_is_found(machine: Machine) -> None:
    (machine.root / "etc/systemd/system/multi-user.target.wants/targetplugind.service").unlink()
    assert only(service._unit(machine)).next == "systemctl enable targetplugind"
    (machine.root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    assert "no user targetplugin" in only(service._unit(machine)).what
    (machine.root / "lib/systemd/system/targetplugin-lio.socket").unlink()
    found = only(service._unit(machine))
    assert found.level is Level.PROBLEM
    assert "knows no targetplugin-lio.socket" in found.what
    (machine.root / "lib/systemd/system/targetplugind.service").unlink()
    assert "Install" in only(service._unit(machine)).next


def test_a_daemon_that_does_not_run_is_found(machine: Machine, tmp_path: Path) -> None:
    found = only(service._answers(machine, str(tmp_path / "control.sock")))
    assert found.level is Level.PROBLEM
    assert found.next == "start it: systemctl start targetplugind"


def test_what_the_daemon_says_of_its_volumes_is_told(machine: Machine, tmp_path: Path) -> None:
    fake = FakeSubsystem()
    leg = {"medium": "vdb", "state": "missing", "missed_extents": 0}
    fake.answers["status"] = {
        "volumes": [
            a_volume(),
            a_volume(name="notes", state="down", why="no leg is there"),
            a_volume(name="books", state="degraded", legs=[leg]),
        ],
        "media": [],
        "operations": [],
        "groups": [],
    }
    server = Server(fake, tmp_path / "control.sock")
    server.start()
    try:
        down, degraded = bad(service._answers(machine, str(tmp_path / "control.sock")))
    finally:
        server.stop(1)
    assert (down.level, down.what) == (Level.PROBLEM, "notes is down: no leg is there.")
    assert (degraded.level, degraded.what) == (
        Level.WARNING,
        "books is degraded: vdb is missing.",
    )


# --- hosts ----------------------------------------------------------------------------------------

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: {address}:{port} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1
"""


def listening(machine: Machine, address: str, *, inode: int = 77, state: str = "0A") -> None:
    name = "tcp6" if len(address) > 8 else "tcp"
    text = TCP.format(address=address, port="0CBC", state=state, inode=inode)
    put(machine.root, f"/proc/net/{name}", text)


def port(machine: Machine, named: str = "0.0.0.0") -> Finding:
    return network._portal(machine, named, ["10.0.0.1", "[fd00::1]"])


def test_a_free_port_is_well(machine: Machine) -> None:
    assert port(machine).level is Level.OK
    listening(machine, "0100000A", state="01")  # a connection, and nobody that listens
    assert port(machine).level is Level.OK


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("00000000", "0.0.0.0:3260"),
        ("0100000A", "10.0.0.1:3260"),
        ("0" * 32, "[::]:3260"),
        ("000000FD000000000000000001000000", "[fd00::1]:3260"),
    ],
)
def test_a_port_that_another_program_has_is_found(
    machine: Machine, address: str, shown: str
) -> None:
    listening(machine, address)
    process = machine.root / "proc/812"
    put(machine.root, "/proc/812/comm", "tgtd")
    (process / "fd").mkdir()
    (process / "fd/6").symlink_to("socket:[77]")
    found = port(machine)
    assert found.level is Level.PROBLEM
    assert f"tgtd (process 812) listens at {shown}" in found.what


def test_the_port_of_another_address_is_free(machine: Machine) -> None:
    listening(machine, "0200000A")
    assert port(machine, "10.0.0.1").level is Level.OK
    assert port(machine).level is Level.PROBLEM


def test_the_kernel_s_own_target_may_have_the_port(machine: Machine) -> None:
    listening(machine, "0100000A", inode=0)
    put(machine.root, f"{network.TARGETS}/iqn.2003-01.a.b:l/tpgt_1/np/10.0.0.1:3260")
    assert "The kernel's target listens" in port(machine, "10.0.0.1").what


@pytest.mark.parametrize(
    ("named", "words"), [("10.9.9.9", "not on this machine"), ("here", "is no portal")]
)
def test_a_portal_that_can_t_be_is_found(machine: Machine, named: str, words: str) -> None:
    found = port(machine, named)
    assert (found.level, words in found.what) == (Level.PROBLEM, True)


def test_a_port_of_this_very_machine_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        found = network._portal(Machine(), f"127.0.0.1:{number}", [])
    assert found.level is Level.PROBLEM
    assert f"process {os.getpid()}" in found.what


def export(machine: Machine, host: str = HOST, **attributes: str) -> Path:
    """A target in configfs with one host, and what the kernel has counted of its logins."""
    target = f"{network.TARGETS}/iqn.2003-01.org.linux-iscsi.here:ledger"
    group = f"{target}/tpgt_1"
    put(machine.root, f"{group}/acls/{host}/info", "No active iSCSI Session for Initiator")
    put(machine.root, "/sys/kernel/config/target/core/user_0/ledger/info")
    lun = machine.root / group.lstrip("/") / "lun/lun_0"
    lun.mkdir(parents=True)
    (lun / "x").symlink_to(machine.root / "sys/kernel/config/target/core/user_0/ledger")
    counted = {"authorize_fails": "0", "authenticate_fails": "0", **attributes}
    for name, value in counted.items():
        put(machine.root, f"{target}/fabric_statistics/iscsi_login_stats/{name}", value)
    put(machine.root, f"{target}/fabric_statistics/iscsi_tgt_attr/fail_intr_name", "Unknown")
    put(machine.root, f"{target}/fabric_statistics/iscsi_tgt_attr/fail_intr_addr", "10.0.0.7")
    return machine.root / group.lstrip("/")


@pytest.mark.parametrize("name", ["host", "iqn.2026-13.org.example:host", "iqn.2026-01.org_x:h"])
def test_an_initiator_name_that_is_none_is_found(machine: Machine, name: str) -> None:
    found = network._initiator(machine, name)
    assert (found.level, name in found.what) == (Level.PROBLEM, True)
    assert "/etc/iscsi/initiatorname.iscsi" in found.next


def test_an_initiator_is_told_where_it_may_log_in(machine: Machine) -> None:
    assert network._initiator(machine, HOST).level is Level.WARNING
    export(machine)
    found = network._initiator(machine, HOST.upper().replace("IQN", "iqn"))
    assert (found.level, "ledger" in found.what) == (Level.OK, True)


def test_a_login_under_a_wrong_name_is_explained(machine: Machine) -> None:
    export(machine, authorize_fails="2")
    line = "3,1,1,-;iSCSI Initiator Node: iqn.1993-08.org.debian:01:ab is not authorized to access"
    put(machine.root, "/dev/kmsg", f"{line} iSCSI target portal group: 1.")
    found = only(network.refused_logins(machine))
    assert "refused 2 times" in found.what
    assert "10.0.0.7" in found.what
    assert HOST in found.what, "whom it would have taken"
    assert "targetplugin export ledger --initiator iqn.1993-08.org.debian:01:ab" in found.next


def test_so_is_one_whose_name_nobody_has_kept(machine: Machine) -> None:
    export(machine, authorize_fails="1")
    found = only(network.refused_logins(machine))
    assert "refused once a host by its name, the last from 10.0.0.7" in found.what
    assert "--initiator IQN" in found.next


def test_a_login_with_a_wrong_password_is_explained(machine: Machine) -> None:
    export(machine, authenticate_fails="1")
    found = only(network.refused_logins(machine))
    assert "CHAP" in found.what
    assert HOST in found.what
    assert "iscsiadm -m node" in found.next


def test_a_target_whose_hosts_have_logged_in_since_is_well(machine: Machine) -> None:
    group = export(machine, authenticate_fails="1", authorize_fails="3")
    session = f"InitiatorName: {HOST}\nSession State: TARG_SESS_STATE_LOGGED_IN"
    (group / f"acls/{HOST}/info").write_text(session)
    assert bad(network.refused_logins(machine)) == []


# --- disks ----------------------------------------------------------------------------------------


def file(path: Path, size: int) -> str:
    with path.open("wb") as made:
        made.truncate(size)
    return str(path)


def test_an_empty_disk_would_be_taken_and_is_not_touched(tmp_path: Path) -> None:
    path = file(tmp_path / "disk", 16 * MIB)
    before = os.stat(path)
    found = disks.one_disk(path, 8 * MIB)
    assert (found.level, found.next) == (Level.OK, f"targetplugin media add {path}")
    after = os.stat(path)
    assert (before.st_mtime_ns, before.st_blocks) == (after.st_mtime_ns, after.st_blocks)


@pytest.mark.parametrize(
    ("size", "volume", "words"),
    [(MIB, None, "too small"), (16 * MIB, 16 * MIB, "too small: a volume of")],
)
def test_a_disk_that_is_too_small_is_found(
    tmp_path: Path, size: int, volume: int | None, words: str
) -> None:
    found = disks.one_disk(file(tmp_path / "disk", size), volume)
    assert (found.level, words in found.what) == (Level.PROBLEM, True)


def test_a_disk_with_data_is_found(tmp_path: Path) -> None:
    path = file(tmp_path / "disk", 16 * MIB)
    with open(path, "r+b") as disk:
        disk.write(b"precious")
    found = disks.one_disk(path, None)
    assert (found.level, "holds data" in found.what) == (Level.PROBLEM, True)
    assert "--force" in found.next


def test_a_disk_that_is_in_use_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file(tmp_path / "disk", 16 * MIB)
    monkeypatch.setattr("targetplugin.media.uses._swaps", lambda: [path])
    found = disks.one_disk(path, None)
    assert (found.level, "swap space" in found.what) == (Level.PROBLEM, True)
    assert found.next == f"swapoff {path}, and repeat"


def test_a_medium_of_ours_says_whose_it_is(tmp_path: Path) -> None:
    path = str(tmp_path / "medium")
    with Medium.create(path, 16 * MIB) as medium:
        medium.zero_trailer_room()
        medium.write_trailer(medium.fresh_trailer())
    assert disks.one_disk(path, None).level is Level.OK, "a free one holds nothing"


@pytest.mark.parametrize("path", ["/dev/none", "disk", "/dev/null"])
def test_what_is_no_disk_is_found(path: str) -> None:
    found = disks.one_disk(path, None)
    assert (found.level, path in found.what, bool(found.next)) == (Level.PROBLEM, True, True)


# --- as it is typed -------------------------------------------------------------------------------


def test_it_works_without_a_daemon_and_says_so_by_its_status(tmp_path: Path) -> None:
    words = ["--socket", str(tmp_path / "none"), "doctor", "--disk", "/dev/none", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "targetplugin.terminal.main", *words],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (1, "")
    told = json.loads(done.stdout)
    assert told["worst"] == "problem"
    checks = {one["check"]: one for one in told["checks"]}
    assert checks["daemon"]["level"] == checks["disk"]["level"] == "problem"
    assert checks["engine"]["level"] == "ok"
    assert set(checks["disk"]) == {"check", "level", "what", "next"}


def test_a_warning_alone_is_status_0(monkeypatch: pytest.MonkeyPatch) -> None:
    from targetplugin.doctor.finding import ok, problem, warning
    from targetplugin.terminal.main import main

    found = [ok("root", "Yes."), warning("dbus", "No.", "Mend it.")]
    monkeypatch.setattr(examine, "examine", lambda *_: found)
    assert main(["doctor"]) == 0
    found.append(problem("port", "It is taken.", "Free it."))
    assert main(["doctor"]) == 1
    assert main(["doctor", "--json"]) == 1
