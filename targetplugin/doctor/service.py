"""The daemon: where it keeps what it knows, whether it runs, and what it says of its volumes."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from targetplugin.control.client import Client, ControlError, DaemonAway
from targetplugin.doctor.finding import Finding, ok, problem, warning
from targetplugin.doctor.machine import Machine

UNIT = "targetplugind.service"
UNIT_PLACES = ("/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system")
BESIDE = tuple(f"targetplugin-{name}.socket" for name in ("lio", "files", "images", "hooks"))
USER = "targetplugin"  # who the daemon runs as
NEEDED = 16 << 20  # bytes that the catalog may want at once: a write-ahead log, and maps
ROOMY = 128 << 20
MIB = 1 << 20


def look(machine: Machine, socket: str, state_dir: str) -> Iterator[Finding]:
    yield _state(machine, state_dir)
    yield from _unit(machine)
    yield from _answers(machine, socket)


def _state(machine: Machine, state_dir: str) -> Finding:
    """The directory, or the nearest above it that is there."""
    folder = machine.place(state_dir)
    try:
        if not folder.is_dir() and folder.exists():
            return problem(
                "state",
                f"{state_dir} is no directory: the daemon keeps there what it knows.",
                "Move it away.",
            )
        there = folder if folder.is_dir() else _above(folder)
        seen, room = os.stat(there), os.statvfs(there)
    except OSError as error:
        return problem(
            "state", f"{state_dir} can't be looked at: {error.strerror}.", "Run it as root."
        )
    if there == folder and seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return problem(
            "state",
            f"{state_dir} can be written by other users, and the daemon will not start.",
            f"chmod go-w {state_dir}",
        )
    if room.f_flag & os.ST_RDONLY:
        return problem(
            "state",
            f"The file system of {state_dir} is mounted read-only.",
            "See why (dmesg), and mount it read-write.",
        )
    free = room.f_bavail * room.f_frsize
    told = f"{free // MIB} MiB" if free >= MIB else "nothing"
    if free < NEEDED or (room.f_files and room.f_favail < 16):
        full = f"{told} free" if free < NEEDED else "no file more to be made"
        return problem(
            "state",
            f"The file system of {state_dir} is full: {full}. No verb can be written down.",
            f"Make room: df {state_dir}",
        )
    if free < ROOMY:
        return warning(
            "state",
            f"The file system of {state_dir} is nearly full: {told} free.",
            f"Make room: df {state_dir}",
        )
    made = "" if there == folder else ", which the daemon makes when it starts"
    return ok("state", f"There is room for {state_dir}{made}: {told} free.")


def _above(folder: Path) -> Path:
    return next(parent for parent in folder.parents if parent.is_dir())


def _unit(machine: Machine) -> Iterator[Finding]:
    if not machine.there("/run/systemd/system"):
        return
    if not _known(machine, UNIT):
        yield warning(
            "service",
            f"systemd knows no {UNIT}.",
            "Install the Debian package, or copy packaging/targetplugin*.s* to"
            " /etc/systemd/system; then: systemctl enable --now targetplugind",
        )
    elif missing := [unit for unit in BESIDE if not _known(machine, unit)]:
        yield problem(
            "service",
            f"systemd knows no {' and no '.join(missing)}, which {UNIT} needs.",
            "Install the Debian package, or copy packaging/targetplugin*.s* to"
            " /etc/systemd/system; then: systemctl daemon-reload; systemctl restart targetplugind",
        )
    elif not re.search(f"^{USER}:", machine.text("/etc/passwd"), re.MULTILINE):
        yield problem(
            "service",
            f"There is no user {USER}, whom {UNIT} runs as.",
            "From a checkout: systemd-sysusers packaging/sysusers.conf; the Debian package makes it.",
        )
    elif machine.there(f"/etc/systemd/system/multi-user.target.wants/{UNIT}"):
        yield ok("service", f"{UNIT} is started at boot.")
    else:
        yield warning(
            "service",
            f"{UNIT} is not started at boot: after a reboot hosts would wait for it in vain.",
            "systemctl enable targetplugind",
        )


def _known(machine: Machine, unit: str) -> bool:
    return any(machine.there(f"{place}/{unit}") for place in UNIT_PLACES)


def _answers(machine: Machine, socket: str) -> Iterator[Finding]:
    """What the daemon says. Nothing is asked of it but its status."""
    try:
        with Client.connect(socket) as client:
            status = client.call("status")
    except DaemonAway as away:
        hint = away.hint if machine.there("/run/systemd/system") else "start it: targetplugind"
        yield problem("daemon", f"{away.message}.", hint)
        return
    except ControlError as error:
        yield problem("daemon", f"{error.message}.", error.hint)
        return
    volumes = status["volumes"]
    count = "1 volume" if len(volumes) == 1 else f"{len(volumes)} volumes"
    yield ok("daemon", f"targetplugind answers at {socket}: {count}.")
    for one in volumes:
        if one["state"] == "down":
            why = one.get("why") or "it does not say why"
            yield problem(
                "volumes",
                f"{one['name']} is down: {why}.",
                f"targetplugin status {one['name']}",
            )
        elif one["state"] == "degraded":
            bad = ", ".join(
                f"{leg['medium']} is {leg['state']}"
                for leg in one["legs"]
                if leg["state"] != "in_sync"
            )
            yield warning(
                "volumes",
                f"{one['name']} is degraded: {bad}.",
                f"It comes back by itself, or: targetplugin leg add {one['name']}",
            )
