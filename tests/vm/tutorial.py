"""The tutorial, typed word for word: `python3 -m tests.vm.tutorial --write` keeps what it said.

Owns how its lines are read and typed, and how the recording looks. The tutorial drives the lab itself.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .state import CHECKOUT

TUTORIAL = CHECKOUT / "docs/tutorial.md"
RECORDING = CHECKOUT / "docs/tutorial-session.txt"
PROMPT = "$ "
TIMEOUT = 600.0  # seconds for a line; the first `up` of all builds an image
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEAD = """\
The tutorial, as a terminal showed it. Made by python3 -m tests.vm.tutorial --write, on a machine
without KVM; what the machines print of times and dates differs from run to run.
"""


class Wrong(AssertionError):
    """A line of the tutorial ended with another status than 0."""


def lines(page: str) -> list[str]:
    """What a reader types, in order."""
    return [line for block in BLOCK.findall(page) for line in block.splitlines()]


def typed(line: str) -> str:
    """Runs one line in a shell at the checkout. Returns what came out, both outputs in their order."""
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT,
    )
    said = done.stdout.decode()
    if done.returncode != 0:
        raise Wrong(f"{line}\nended with {done.returncode}:\n{said}")
    return said


def session(page: str) -> Iterator[tuple[str, str]]:
    """Types all of it. Gives each line, and what it said."""
    for line in lines(page):
        yield line, typed(line)


def recorded(recording: str) -> list[tuple[str, str]]:
    """The lines of a recording, each with what it said."""
    parts = re.split(rf"^{re.escape(PROMPT)}", recording, flags=re.MULTILINE)[1:]
    return [(line, said) for line, _, said in (part.partition("\n") for part in parts)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.vm.tutorial", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"keep it in {RECORDING.name}")
    options = parser.parse_args()
    begin, kept = time.monotonic(), HEAD + "\n"
    for line, said in session(TUTORIAL.read_text()):
        part = f"{PROMPT}{line}\n{said}"
        print(part, end="", flush=True)
        kept += part
    print(f"Done in {time.monotonic() - begin:.0f} s.", file=sys.stderr)
    if options.write:
        Path(RECORDING).write_text(kept)
    return 0


if __name__ == "__main__":
    sys.exit(main())
