"""Imports run downwards only: the architecture as a table, held true by reading every import."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "targetplugin"

# Room -> what it may import of the package. A file's own room is always allowed.
# fmt: off
MAY: dict[str, set[str]] = {
    "errors": set(),
    "logs": set(),
    "engine": {"errors"},
    "media": {"errors", "engine", "service", "qemu"},
    "catalog": {"errors"},
    "service": {"errors", "logs"},
    "hooks": {"errors", "service"},
    "kernel": {"errors", "logs", "service"},
    "qemu": {"errors", "service"},
    "subsystem": {"errors", "logs", "engine", "media", "catalog", "kernel", "qemu", "hooks"},
    "scsi": {"errors", "logs", "subsystem", "engine.native"},
    "control": {"errors", "logs", "subsystem"},
    "doctor": {"errors", "engine.executor", "media", "kernel", "control.client"},
    "terminal": {"control.client", "doctor"},
    "host": {"scsi.pitcopy", "scsi.sense"},
    "metrics": {"errors"},
    "dbus": {"control.client", "kernel.tcmu", "logs"},
    "daemon": {
        "errors", "logs", "engine", "media", "catalog", "kernel", "qemu", "hooks", "subsystem",
        "scsi", "control", "metrics",
    },
}
# fmt: on
# The floors of the subsystem, the lowest first: each may import those below it.
SUBSYSTEM = (
    "ground",
    "images",
    "mirror",
    "saves",
    "hosts",
    "backups",
    "volumes",
    "points",
    "start",
    "asker",
    "subsystem",
)  # fmt: skip
# One file of a room may be the only one that knows a library.
ONLY = {
    "rtslib_fb": {"kernel/lio.py"},
    "pyudev": {"kernel/hotplug.py"},
    "jeepney": {"dbus/bus.py"},
}
# These run where nothing but Python's standard library is.
STANDARD_LIBRARY_ONLY = {"host", "scsi/pitcopy.py", "scsi/sense.py"}


def imports(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, at any depth."""
    relative = path.relative_to(PACKAGE.parent).with_suffix("")
    package = list(relative.parts[:-1])
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    return names


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_what_lies_below_it(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    allowed = MAY[room]
    for name in imports(path):
        if not name.startswith("targetplugin."):
            continue
        inner = name.removeprefix("targetplugin.")
        if inner.split(".")[0] == room or inner == "__version__":
            continue
        whole = any(inner == may or inner.startswith(may + ".") for may in allowed)
        leads_to = any(may.startswith(inner + ".") for may in allowed)
        assert whole or leads_to, f"{room} imports {name}"


@pytest.mark.parametrize("floor", SUBSYSTEM)
def test_a_floor_of_the_subsystem_imports_only_those_below_it(floor: str) -> None:
    allowed = SUBSYSTEM[: SUBSYSTEM.index(floor) + 1]
    room = PACKAGE / "subsystem"
    for path in [*(room / floor).glob("*.py"), *room.glob(f"{floor}.py")]:
        for name in imports(path):
            _, found, inner = name.partition("targetplugin.subsystem.")
            assert not found or inner.split(".")[0] in allowed, f"{path} imports {name}"


def test_every_file_of_the_subsystem_is_on_a_floor() -> None:
    there = {path.stem for path in (PACKAGE / "subsystem").iterdir() if path.name[0] != "_"}
    assert there == set(SUBSYSTEM)


def test_a_library_is_known_to_one_file_alone() -> None:
    for library, homes in ONLY.items():
        users = {
            str(path.relative_to(PACKAGE))
            for path in files()
            if any(name.split(".")[0] == library for name in imports(path))
        }
        assert users <= homes, f"{library} is imported by {users - homes}"


def test_what_is_shipped_to_hosts_needs_the_standard_library_alone() -> None:
    import sys

    for path in files():
        relative = str(path.relative_to(PACKAGE))
        if room_of(path) not in STANDARD_LIBRARY_ONLY and relative not in STANDARD_LIBRARY_ONLY:
            continue
        for name in imports(path):
            top = name.split(".")[0]
            assert top in sys.stdlib_module_names or top == "targetplugin", f"{relative}: {name}"


def test_every_file_is_in_a_room_of_the_table() -> None:
    rooms = {room_of(path) for path in files()} - {"__init__", "__main__"}
    assert rooms <= set(MAY)
