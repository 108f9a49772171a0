"""Builds a core in which each rule of order can be left out, and runs the simulator on it.

`python3 -m tests.sim.left_out FOLDER [NAME...]` does it and says how soon each was found.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.sim.process import simulate
from tests.sim.rules import FENCE, NEWEST, RULES

CHECKOUT = Path(__file__).parents[2]
CHOICE = """
cdef extern from "stdlib.h" nogil:
    int atoi(const char *text)
    char *getenv(const char *name)

cdef int left_out = atoi(getenv(b"SIM_LEFT_OUT")) if getenv(b"SIM_LEFT_OUT") != NULL else 0

"""
SETUP = """
from Cython.Build import cythonize
from setuptools import Extension, setup

core = Extension(
    "targetplugin.engine.core",
    ["targetplugin/engine/core.pyx"],
    libraries=["z"],
    extra_compile_args=["-O1", "-w", *FLAGS],
    extra_link_args=FLAGS,
)
setup(name="core", packages=[], ext_modules=cythonize([core], quiet=True))
"""


def build(folder: Path, flags: Sequence[str] = ()) -> None:
    """Makes a copy of the package in `folder` whose core has every rule's place changed.

    Args:
        flags: more of them, for the compiler and the linker.
    """
    copy = folder / "targetplugin"
    shutil.copytree(CHECKOUT / "targetplugin", copy, ignore=shutil.ignore_patterns("*.so", "*.c"))
    shutil.copytree(CHECKOUT / "tests/sim", folder / "tests/sim")
    shutil.copy(CHECKOUT / "tests/__init__.py", folder / "tests")
    engine = copy / "engine"
    for number, rule in enumerate(RULES, 1):
        path = engine / rule.file
        path.write_text(rule.leave_out(path.read_text(), f"(left_out == {number})"))
    for built in (CHECKOUT / "targetplugin/engine").glob("executor*.so"):
        shutil.copy(built, engine)
    core = engine / "core.pyx"
    core.write_text(
        core.read_text().replace(
            'include "rules/bitmap.pxi"', CHOICE + 'include "rules/bitmap.pxi"', 1
        )
    )
    setup = f"FLAGS = {list(flags)!r}\n{SETUP}"
    command = [sys.executable, "-c", setup, "-q", "build_ext", "--inplace"]
    subprocess.run(command, cwd=folder, check=True)


def run(folder: Path, name: str, seconds: float, seeds: int = 1_000_000) -> tuple[bool, str]:
    """Runs the simulator without one rule; whether it found that, and what it said."""
    number = {rule.name: number for number, rule in enumerate(RULES, 1)}.get(name, 0)
    first = int(RULES[number - 1].first or 0) if number else 0
    words = [f"--seeds={first}:{first + seeds}", f"--seconds={seconds}", "--shorten=0"]
    words += {FENCE: ["--no-fence"], NEWEST: ["--any-record"]}.get(name, [])
    done = simulate(folder, *words, timeout=seconds + 300, SIM_LEFT_OUT=str(number))
    return "fails at step" in done.stdout, done.stdout + done.stderr


def main() -> int:
    folder = Path(sys.argv[1])
    if not (folder / "targetplugin").exists():
        build(folder)
    missed = 0
    for name in sys.argv[2:] or [*(rule.name for rule in RULES), FENCE, NEWEST]:
        begin = time.monotonic()
        found, said = run(folder, name, 600)
        missed += not found
        line = next((line for line in said.splitlines() if "fails at" in line), said[-300:])
        print(
            f"{'found ' if found else 'MISSED'} {name:24} {time.monotonic() - begin:5.1f} s  {line}",
            flush=True,
        )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
