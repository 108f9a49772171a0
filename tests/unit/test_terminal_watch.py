"""`status --watch`: its picture fits any terminal, and the terminal is given back as it was."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from targetplugin.control.server import Server
from targetplugin.terminal.board import Rates, board
from tests.unit.fake_subsystem import FakeSubsystem, a_save, a_volume, an_operation
from tests.unit.house import EXTENT, MIB, House

ROOT = Path(__file__).parents[2]
NOTHING = dict.fromkeys(
    ("reads", "writes", "bytes_read", "bytes_written", "read_us", "write_us"), 0
)
WHEN = "2026-01-05 22:00:00Z"
ENTER, LEAVE, CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


def a_status(*volumes: dict[str, Any], operations: Any = ()) -> dict[str, Any]:
    return {"volumes": list(volumes), "media": [], "operations": list(operations), "groups": []}


def drawn(status: dict[str, Any], rates: Rates | None = None, size: Any = (80, 24)) -> list[str]:
    console = Console(width=size[0], height=size[1], file=io.StringIO(), record=True)
    console.print(board(status, rates or Rates(), *size, WHEN))
    return console.export_text().splitlines()


# --- the picture ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(80, 24), (80, 8), (40, 5), (200, 60), (20, 3)])
@pytest.mark.parametrize("many", [1, 40])
def test_it_fits_whatever_there_is(size: tuple[int, int], many: int) -> None:
    name = "a-volume-with-quite-a-long-name-as-people-like-them"
    saves = [a_save(name=f"{name}@{i}", label="x" * 32) for i in range(many)]
    running = [an_operation(id=i, state="running", progress=0.5) for i in range(many)]
    status = a_status(*[a_volume(name=name, saves=saves)] * many, operations=running)
    lines = drawn(status, size=size)
    assert len(lines) <= size[1]
    assert max(map(len, lines)) <= size[0]


def test_what_is_not_shown_is_counted() -> None:
    saves = [a_save(name=f"ledger@{i}") for i in range(50)]
    lines = drawn(a_status(a_volume(saves=saves)))
    assert len(lines) == 24, "the whole terminal is used"
    shown = sum(line.startswith("ledger@") for line in lines)
    assert lines[-1].strip() == f"... {50 - shown} more"


def test_the_newest_saves_are_those_that_are_shown() -> None:
    saves = [a_save(name=f"l@{i}", created=f"2026-01-{i:02}T00:00:00Z") for i in range(1, 29)]
    lines = [line for line in drawn(a_status(a_volume(saves=saves))) if line.startswith("l@")]
    assert lines[0].startswith("l@28")


def test_rates_are_what_was_done_in_between() -> None:
    rates = Rates()
    counted = {**NOTHING, "reads": 100, "writes": 50, "bytes_read": 1 << 20}
    rates.look(a_status(a_volume(counters=counted)), 10.0)
    more = {**counted, "reads": 400, "bytes_read": 5 << 20, "read_us": 300 * 1500}
    status = a_status(a_volume(counters=more))
    rates.look(status, 12.0)
    line = next(line for line in drawn(status, rates) if line.startswith("ledger "))
    assert line.split()[-6:] == ["MiB/s", "1.5ms", "0", "0", "B/s", "-"]


def test_a_daemon_that_was_started_anew_gives_no_rate_and_no_negative_one() -> None:
    rates = Rates()
    for seconds, reads in enumerate((100, 7)):
        counted = {**NOTHING, "reads": reads}
        rates.look(a_status(a_volume(counters=counted)), float(seconds))
    assert rates.hosts == {"ledger": {}}
    rates.look(a_status(a_volume(state="down", counters=None)), 3.0)
    assert rates.hosts == {"ledger": {}}


def test_an_operation_has_a_bar_a_rate_and_a_time() -> None:
    rates = Rates()
    for second in (1, 2, 3):
        one = an_operation(
            state="running", progress=0.25 * second, bytes_copied=second << 20, seconds_left=63
        )
        status = a_status(a_volume(), operations=[one])
        rates.look(status, float(second))
    line = next(line for line in drawn(status, rates) if "save ledger@3" in line)
    assert "75%" in line
    assert "1 MiB/s" in line
    assert "1 min 3 s" in line
    assert "━" in line


def test_what_a_host_calls_a_save_does_not_steer_the_terminal() -> None:
    status = a_status(a_volume(saves=[a_save(label="\x1b[2Jgone")]))
    assert not any("\x1b" in line for line in drawn(status))


def test_the_daemon_tells_what_hosts_did(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.media("a", "b", size=12 * MIB)
    house.volume()
    house.write(0, "x")
    house.read(0)
    house.read(1)
    counted = house.show()["counters"]
    house.end()
    assert (counted["writes"], counted["bytes_written"]) == (1, EXTENT)
    assert (counted["reads"], counted["bytes_read"]) == (2, 2 * EXTENT)


# --- the terminal ---------------------------------------------------------------------------------


class Watched:
    """The program on a terminal of its own."""

    def __init__(self, socket: Path, *words: str, term: str = "xterm", size: Any = (24, 80)):
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("4H", *size, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        self.said = ""
        command = [sys.executable, "-m", "targetplugin.terminal.main", "--socket", str(socket)]
        self.process = subprocess.Popen(
            [*command, "status", "--watch", *words],
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": term},
        )

    def until(self, text: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while text not in self.said:
            assert time.monotonic() < end, f"{text!r} did not come: {self.said!r}"
            if select.select([self.master], [], [], 0.2)[0]:
                self.said += os.read(self.master, 65536).decode()

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def ended(self) -> int:
        """Its status; what it says in the meantime is read, so that it can end."""
        end = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < end:
            if select.select([self.master], [], [], 0.05)[0]:
                self.said += os.read(self.master, 65536).decode()
        while select.select([self.master], [], [], 0.05)[0]:
            self.said += os.read(self.master, 65536).decode()
        return self.process.wait(1)

    def is_as_it_was(self) -> bool:
        left = self.said.rindex(LEAVE) if LEAVE in self.said else -1
        shown = left > self.said.rindex(ENTER) and CURSOR in self.said
        return shown and termios.tcgetattr(self.slave) == self.before

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def fake() -> FakeSubsystem:
    return FakeSubsystem()


@pytest.fixture
def server(fake: FakeSubsystem, tmp_path: Path) -> Iterator[Server]:
    server = Server(fake, tmp_path / "control.sock")
    server.start()
    yield server
    server.stop(1)


@pytest.fixture
def watched(server: Server, tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path / "control.sock")
    watched.until("before-night-run")
    yield watched
    watched.close()


@pytest.mark.parametrize(("keys", "status"), [(b"q", 0), (b"\x03", 130)])
def test_q_and_ctrl_c_end_it_with_the_terminal_as_it_was(
    watched: Watched, keys: bytes, status: int
) -> None:
    assert termios.tcgetattr(watched.slave) != watched.before
    watched.type(keys)
    assert watched.ended() == status
    assert watched.is_as_it_was()
    assert "Traceback" not in watched.said


def test_so_does_a_service_manager_or_a_connection_that_ends(watched: Watched) -> None:
    watched.process.send_signal(signal.SIGTERM)
    assert watched.ended() == 130
    assert watched.is_as_it_was()


def test_other_keys_are_not_echoed_and_do_nothing(watched: Watched) -> None:
    watched.type(b"zzz\x1a")
    watched.said = ""
    watched.until("targetplugin status")
    assert "zzz" not in watched.said
    watched.type(b"q")
    assert watched.ended() == 0


def test_it_outlives_the_daemon_and_says_so(
    watched: Watched, server: Server, fake: FakeSubsystem, tmp_path: Path
) -> None:
    server.stop(1)
    watched.until("as it was")
    again = Server(fake, tmp_path / "control.sock")
    again.start()
    try:
        watched.said = ""
        watched.until("before-night-run")
        watched.type(b"q")
        assert watched.ended() == 0
    finally:
        again.stop(1)


@pytest.mark.parametrize(
    ("words", "term", "why"),
    [(("--json",), "xterm", "for a program"), ((), "dumb", "TERM")],
)
def test_it_refuses_where_it_makes_no_sense(
    server: Server, tmp_path: Path, words: tuple[str, ...], term: str, why: str
) -> None:
    watched = Watched(tmp_path / "control.sock", *words, term=term)
    try:
        assert watched.ended() == 2
        assert why in watched.said
        assert ENTER not in watched.said
    finally:
        watched.close()


def test_it_refuses_without_a_terminal(server: Server, tmp_path: Path) -> None:
    socket = str(tmp_path / "control.sock")
    words = ["--socket", socket, "status", "--watch"]
    done = subprocess.run(
        [sys.executable, "-m", "targetplugin.terminal.main", *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs a terminal" in done.stderr
    assert "targetplugin status --json" in done.stderr
