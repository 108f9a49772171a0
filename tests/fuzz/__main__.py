"""`python3 -m tests.fuzz [--cases N] [--seconds N] [--seed S]`: how many cases it ran, what was answered.

With sanitizers in the native part, built into a directory of its own:

    SANITIZE=1 python3 setup.py build_ext --build-lib DIR --build-temp DIR/tmp
    cp -rn targetplugin DIR
    PYTHONPATH=DIR LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
        ASAN_OPTIONS=detect_leaks=0 python3 -m tests.fuzz
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.driver import Driver, Wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, help="end after so long")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--folder", help="where the media are: a file system with O_DIRECT")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        driver = Driver(Path(folder), options.seed)
        began = time.monotonic()
        try:
            done = driver.run(options.cases, options.seconds)
        except Wrong as wrong:
            print(f"seed {options.seed}: {wrong}", file=sys.stderr)
            return 1
        finally:
            driver.close()
    seconds = time.monotonic() - began
    for what in sorted({name for name, _ in driver.counts}):
        good, refused = (driver.counts.get((what, how), 0) for how in ("good", "refused"))
        print(f"{good:9} good {refused:9} refused  {what}")
    print(
        f"{done} cases with seed {options.seed} in {seconds:.0f} s, {done / seconds:.0f} a second"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
