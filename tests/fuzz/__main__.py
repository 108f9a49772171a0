"""`python3 -m tests.fuzz [--cases N] [--seconds N] [--seed S] [--block-size B]`: how many cases it ran, what
was answered.

With sanitizers in the native part, built into a directory of its own:

    SANITIZE=1 python3 setup.py build_ext --build-lib DIR --build-temp DIR/tmp
    cp -rn targetplugin DIR
    PYTHONPATH=DIR:. \
        LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
        ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1 \
        python3 -P -m tests.fuzz --cases 10000000

It says where the engine lies that it tested, and whether that has them. About 10,000 cases a second; half
of that with sanitizers.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path

from targetplugin.engine import executor
from tests.fuzz.driver import Driver
from tests.fuzz.judge import Wrong
from tests.fuzz.model import BLOCKS
from tests.fuzz.told import coverage, table

PART = 20_000  # cases from one look at the clock, and at the media, to the next
TELL = 60  # seconds from one word of how far it is to the next
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # disks would be most of the time


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, help="end after so long")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--block-size", type=int, choices=BLOCKS, default=512, help="of the volume")
    parser.add_argument("--folder", default=MEMORY, help="where the media are: in memory")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        driver = Driver(Path(folder), options.seed, options.block_size)
        began = told = time.monotonic()
        done = 0
        try:
            while done < options.cases and (left := end_of(began, options.seconds)) > 0:
                done += driver.run(min(PART, options.cases - done), left)
                if time.monotonic() > told + TELL:
                    told = time.monotonic()
                    print(f"{done} cases in {told - began:.0f} s", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
        except Wrong as wrong:
            print(
                f"seed {options.seed}, blocks of {options.block_size}, after {done} cases: {wrong}",
                file=sys.stderr,
            )
            return 1
        finally:
            driver.close()
    seconds = time.monotonic() - began
    print("\n".join(table(driver.counts)))
    print(coverage(driver.counts, len(driver.opcodes)))
    with_them = "with" if sanitized() else "without"
    print(f"the engine, {with_them} sanitizers, is {executor.__file__}")
    print(
        f"{done} cases with seed {options.seed} in {seconds:.0f} s, {done / seconds:.0f} a second"
    )
    return 0


def end_of(began: float, seconds: float | None) -> float:
    """How many seconds are left of so many."""
    return math.inf if seconds is None else began + seconds - time.monotonic()


def sanitized() -> bool:
    return (
        "libasan" in Path("/proc/self/maps").read_text()
        and b"__asan_init" in Path(executor.__file__).read_bytes()
    )


if __name__ == "__main__":
    sys.exit(main())
