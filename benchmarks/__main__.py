"""`python3 -m benchmarks [GROUP...]`: peers and this project in the same machine, in turns.

Prints tables in Markdown; with --write they also take the place of their groups in
docs/performance.md. A group is a module of this folder with `run(options) -> list[Table]`; the first
line of its docstring says what it measures.
"""

from __future__ import annotations

import argparse
import importlib
import sys

from . import report
from .table import Options

# In the order in which they run and are written: name on the command line -> module.
GROUPS = {
    "native": "native",
    "footprint": "footprint",
    "many": "many",
    "throughput": "throughput",
    "throughput-iscsi": "throughput_iscsi",
    "writes-after-save": "writes_after_save",
    "recover": "recover",
    "pause": "pause",
}
SECONDS = "of each run of a load; twice as many where disks are slow (default: 1)"


def main() -> int:
    arguments = argparse.ArgumentParser(
        prog="python3 -m benchmarks", description=__doc__.splitlines()[0]
    )
    arguments.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    arguments.add_argument("--turns", type=int, metavar="N", help="default: 3")
    arguments.add_argument(
        "--seconds", type=int, default=Options.seconds, metavar="N", help=SECONDS
    )
    arguments.add_argument(
        "--quick", action="store_true", help="a look: one turn, fewer loads and sizes"
    )
    arguments.add_argument("--write", action="store_true", help="into docs/performance.md too")
    wish = arguments.parse_args()
    unknown = [name for name in wish.groups if name not in GROUPS]
    if unknown:
        arguments.error(f"no such group: {', '.join(unknown)}")
    turns = wish.turns or (1 if wish.quick else Options.turns)
    options = Options(turns, wish.seconds, wish.quick)
    for name in wish.groups or GROUPS:
        meter = report.Meter()
        group = importlib.import_module(f".{GROUPS[name]}", __package__)
        tables = group.run(options)
        text = report.section(name, group.__doc__ or "", tables, options, meter)
        print(text, flush=True)
        if wish.write:
            report.write(name, text, tuple(GROUPS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
