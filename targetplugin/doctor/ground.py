"""What all stands on: root, the kernel, its modules, configfs, io_uring, systemd, programs."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
from collections.abc import Iterator

from targetplugin.doctor.finding import Finding, ok, problem, warning
from targetplugin.doctor.machine import Machine

OLDEST = (5, 6)  # io_uring's plain reads and writes, which the engine asks for
TESTED = (6, 1)  # Debian 12's; from 6.0 on hosts with and without CHAP may share a volume
MODULES = {
    "target_core_user": "volumes can't be served",
    "iscsi_target_mod": "volumes can't be exported",
}
LOOP = "tcm_loop"
PROGRAMS = {  # -> the Debian package that has it, and what needs it
    "wipefs": ("util-linux", "media add looks with it at what is on a disk"),
    "modprobe": ("kmod", "the kernel's modules are loaded with it"),
}
BACKUPS = ("qemu-img", "qemu-nbd")
IO_URING_SETUP = 425  # the same on all processors that the engine is built for
_PARAMS = 120  # bytes of struct io_uring_params


def look(machine: Machine) -> Iterator[Finding]:
    """All of it, in the order in which one would mend it."""
    yield _root(machine)
    yield _kernel(machine)
    yield _io_uring(machine)
    yield from _modules(machine)
    yield _configfs(machine)
    yield from _programs(machine)
    yield _systemd(machine)
    yield _bus(machine)


def _root(machine: Machine) -> Finding:
    if machine.is_root:
        return ok("root", "This runs as root.")
    return problem(
        "root",
        f"This runs as user {machine.user}: the daemon and its terminal are root's, and disks can't"
        " be looked at.",
        "Run it with sudo.",
    )


def _kernel(machine: Machine) -> Finding:
    found = re.match(r"(\d+)\.(\d+)", machine.release)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    tested, named = f"{TESTED[0]}.{TESTED[1]}", f"Linux {machine.release}"
    if version < OLDEST:
        return problem(
            "kernel",
            f"{named} is too old: the engine needs {OLDEST[0]}.{OLDEST[1]} or later.",
            f"Boot a kernel from {tested} on, which is Debian 12's.",
        )
    if version < TESTED:
        return warning(
            "kernel",
            f"{named} is older than what this is tested with.",
            f"Boot a kernel from {tested} on, which is Debian 12's.",
        )
    return ok("kernel", f"{named} is new enough.")


def _io_uring(machine: Machine) -> Finding:
    """The kernel is asked for a ring of no use, and it is closed again: policies have many places."""
    forbidden = machine.text("/proc/sys/kernel/io_uring_disabled")
    if forbidden == "2" or (forbidden == "1" and not machine.is_root):
        return problem(
            "io_uring",
            f"io_uring is switched off: kernel.io_uring_disabled is {forbidden}.",
            "sysctl kernel.io_uring_disabled=1 leaves it to root; set it in /etc/sysctl.d, too.",
        )
    why = _ring()
    if why:
        return problem(
            "io_uring",
            f"The kernel gives no io_uring: {why}.",
            "In a container, allow it io_uring (seccomp); the daemon belongs on the machine itself.",
        )
    return ok("io_uring", "The kernel gives io_uring.")


def _ring() -> str:
    """Why a ring of one entry is not to be had; "" where it is."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = int(libc.syscall(IO_URING_SETUP, 1, ctypes.create_string_buffer(_PARAMS)))
    if descriptor < 0:
        return os.strerror(ctypes.get_errno())
    os.close(descriptor)
    return ""


def _modules(machine: Machine) -> Iterator[Finding]:
    missing = [name for name in MODULES if not _has_module(machine, name)]
    for name in missing:
        yield problem(
            "modules",
            f"The kernel {machine.release} has no module {name}: {MODULES[name]}.",
            "Boot a kernel that has it: Debian's linux-image-amd64 or linux-image-arm64. After an"
            " upgrade of the kernel that is a reboot.",
        )
    if not missing:
        yield ok("modules", f"The kernel has {' and '.join(MODULES)}.")
    if not _has_module(machine, LOOP):
        yield warning(
            "modules",
            f"The kernel {machine.release} has no module {LOOP}: targetplugind loop, a volume as a"
            " disk of this machine, will be refused.",
            "Boot a kernel that has it, if you need that.",
        )


def _has_module(machine: Machine, name: str) -> bool:
    """Loaded, built in, or there to be loaded."""
    if machine.there(f"/sys/module/{name}"):
        return True
    folder = f"/lib/modules/{machine.release}"
    lists = machine.text(f"{folder}/modules.dep") + "\n" + machine.text(f"{folder}/modules.builtin")
    return re.search(rf"(^|/){name}\.ko(\.\w+)?(:|$)", lists, re.MULTILINE) is not None


def _configfs(machine: Machine) -> Finding:
    mounted = any(
        " /sys/kernel/config " in line and " - configfs " in line
        for line in machine.text("/proc/self/mountinfo").splitlines()
    )
    if mounted:
        return ok("configfs", "configfs is mounted at /sys/kernel/config.")
    if machine.there("/sys/kernel/config"):
        return problem(
            "configfs",
            "configfs is not mounted at /sys/kernel/config: nothing can be exported.",
            "systemctl start sys-kernel-config.mount, or: mount -t configfs configfs"
            " /sys/kernel/config",
        )
    return problem(
        "configfs",
        "There is no /sys/kernel/config: the kernel's configfs is not loaded.",
        "modprobe configfs; in a container, use the machine itself.",
    )


def _programs(machine: Machine) -> Iterator[Finding]:
    missing = [name for name in PROGRAMS if not shutil.which(name, path=machine.programs)]
    for name in missing:
        package, why = PROGRAMS[name]
        yield problem("programs", f"{name} is not installed: {why}.", f"apt-get install {package}")
    without = [name for name in BACKUPS if not shutil.which(name, path=machine.programs)]
    if without:
        yield warning(
            "programs",
            f"{' and '.join(without)} can't be found: backup and restore will be refused.",
            "apt-get install qemu-utils",
        )
    elif not missing:
        yield ok("programs", "The programs that are called are installed.")


def _systemd(machine: Machine) -> Finding:
    if machine.there("/run/systemd/system"):
        return ok("systemd", "systemd runs.")
    return warning(
        "systemd",
        "systemd does not run here: nobody starts targetplugind at boot, or again when it ends.",
        "Use a machine that systemd has booted, or have another supervisor run targetplugind serve.",
    )


def _bus(machine: Machine) -> Finding:
    if machine.there("/run/dbus/system_bus_socket"):
        return ok("dbus", "The system's D-Bus is there.")
    return warning(
        "dbus",
        "The system's D-Bus is not there. targetplugin does without; targetcli and, for users other"
        " than root, systemctl do not.",
        "systemctl start dbus; where it is not installed: apt-get install dbus",
    )
