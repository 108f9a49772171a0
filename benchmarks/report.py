"""docs/performance.md: a section for each group of benchmarks, on what machine and when it was made.

Owns the file's text. A run of some groups replaces their sections and leaves the others.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .table import Options, Table

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
HEAD = """\
# Performance

Made by `python3 -m benchmarks --write`, which runs peers and this project in the same machine, in turns.
Figures are medians (lowest-highest) over the turns, ratios are made turn by turn. Compare within a
section only: the lab's machines are virtual, and absolute figures say more about the machine below than
about what is measured.
"""


class Meter:
    """How long a group took, and what others on this machine used of its processors meanwhile."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._busy, self._own = self._processors()

    def __str__(self) -> str:
        took = time.monotonic() - self._began
        busy, own = self._processors()
        others = max(0.0, (busy - self._busy) - (own - self._own)) / (took * (os.cpu_count() or 1))
        return f"{took / 60:.1f} minutes, others used {others:.0%} of the processors"

    @staticmethod
    def _processors() -> tuple[float, float]:
        """Seconds of all, and of this process and those that it has waited for."""
        with open("/proc/stat") as file:
            user, nice, system, _, _, irq, softirq, *_ = (
                int(n) for n in file.readline().split()[1:]
            )
        busy = (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
        return busy, sum(os.times()[:4])


def section(
    name: str, document: str, tables: Sequence[Table], options: Options, meter: Meter
) -> str:
    """A group's part of the page."""
    summary = " ".join(document.strip().split("\n\n")[0].split())
    words = f"{name}{' --quick' if options.quick else ''}"
    made = (
        f"`python3 -m benchmarks {words} --turns {options.turns} --seconds {options.seconds}`,"
        f" {time.strftime('%Y-%m-%d %H:%M')}, {meter}; {machine()}"
    )
    body = "\n".join(table.markdown() for table in tables)
    return f"## {name}\n\n{summary}\n\n{body}\n{made}\n"


def machine() -> str:
    """This machine in one line."""
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*: (.*)", text, re.MULTILINE)
    cpu = found[1] if found else os.uname().machine
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) / (1 << 20)
    system = os.uname()
    return (
        f"{os.cpu_count()} x {cpu}, {memory:.0f} GiB, Linux {system.release.split('-')[0]},"
        f" Python {sys.version.split()[0]}"
    )


def write(name: str, text: str, order: Sequence[str]) -> None:
    """Puts a group's section into the page, in the order of the groups; what was written by hand last."""
    page = PAGE.read_text() if PAGE.exists() else HEAD
    parts = re.split(r"^(?=## )", page, flags=re.MULTILINE)[1:]
    sections = {part.split("\n")[0].removeprefix("## "): part.strip() + "\n" for part in parts}
    sections[name] = text.strip() + "\n"
    there = [group for group in order if group in sections]
    there += [section for section in sections if section not in order]
    PAGE.write_text("\n".join([HEAD, *(sections[group] for group in there)]))
