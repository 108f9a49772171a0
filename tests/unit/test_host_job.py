"""Commands that pitcopy runs: how they end, and who is told of a signal. Each in a process of its own,
as pitcopy is.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from targetplugin.host import job, processes
from tests.waiting import until

# Runs a shell script as pitcopy does, and prints how it ended.
RUNNER = """
import os, sys
from targetplugin.host import job
with job.held() as watched:
    ended = job.execute(["/bin/sh", "-c", sys.argv[1]], watched)
    after = job.pending(watched)
print(ended.status, ended.told, ended.good, ended.code, after)
"""


class Runner:
    """A pitcopy-like process and what it says at its end."""

    def __init__(self, script: str, ignore: int | None = None, terminal: int | None = None) -> None:
        def prepare() -> None:
            os.setsid()
            if terminal is not None:
                fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
            if ignore is not None:
                signal.signal(ignore, signal.SIG_IGN)

        self.process = subprocess.Popen(
            [sys.executable, "-c", RUNNER, script],
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=prepare,
        )

    def ended(self) -> list[str]:
        said, _ = self.process.communicate(timeout=30)
        return said.split()


@pytest.fixture
def started(tmp_path: Path) -> Path:
    """A file that a script makes when it is under way."""
    return tmp_path / "started"


def test_an_exit_status_is_handed_on() -> None:
    assert Runner("exit 7").ended() == ["7", "0", "False", "7", "0"]
    assert Runner("exit 0").ended() == ["0", "0", "True", "0", "0"]


def test_an_end_by_a_signal_is_128_more() -> None:
    assert Runner("kill -KILL $$").ended()[:1] == ["137"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_pitcopy_is_passed_on(started: Path, number: int) -> None:
    runner = Runner(f"touch {started}; exec sleep 30")
    until(started.exists)
    runner.process.send_signal(number)
    assert runner.ended() == [str(128 + number), str(number), "False", str(128 + number), "0"]


def test_a_command_that_is_told_to_stop_and_ends_with_0_does_not_count(started: Path) -> None:
    runner = Runner(f"trap 'exit 0' TERM; touch {started}; while :; do sleep 0.05; done")
    until(started.exists)
    runner.process.terminate()
    assert runner.ended() == ["0", "15", "False", "143", "0"]


def test_what_the_command_started_is_told_too(started: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    runner = Runner(f"(sleep 60 & echo $! > {pid}); touch {started}; sleep 60; true")
    until(started.exists)
    runner.process.terminate()
    assert runner.ended()[0] == str(128 + 15)
    assert not processes.started(int(pid.read_text())), "the grandchild ended too"


def test_parents_are_told_before_their_children(tmp_path: Path) -> None:
    """Else a shell goes on after a child that ended, and may end well before it is told itself."""
    pids = tmp_path / "pids"
    nested = f"echo $$ >> {pids}; sh -c 'echo $$ >> {pids}; sleep 20; true'; true"
    top = subprocess.Popen(["sh", "-c", nested], start_new_session=True)
    try:
        until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        outer, inner = (int(one) for one in pids.read_text().split())
        found = processes.descendants(os.getpid())
        assert found.index(outer) < found.index(inner)
        with pytest.MonkeyPatch.context() as patch:
            told: list[int] = []
            patch.setattr(os, "kill", lambda pid, number: told.append(pid))
            job._tell(signal.SIGTERM, top.pid)
        assert told.index(outer) < told.index(inner)
    finally:
        os.killpg(top.pid, signal.SIGKILL)
        top.wait()


def test_what_it_starts_as_it_is_told_is_told_when_it_has_ended(
    started: Path, tmp_path: Path
) -> None:
    """A command that a signal ends while it starts another: the next knows nothing of it."""
    pid = tmp_path / "pid"
    late = f"sleep 60 & echo $! > {pid}; exit 3"
    runner = Runner(f"trap '{late}' TERM; touch {started}; while :; do sleep 0.05; done")
    until(started.exists)
    runner.process.terminate()
    assert runner.ended()[0] == "3"
    assert not processes.started(int(pid.read_text()))


def test_a_hangup_that_is_ignored_from_the_start_stays_so(started: Path) -> None:
    runner = Runner(f"touch {started}; sleep 0.5", ignore=signal.SIGHUP)
    until(started.exists)
    runner.process.send_signal(signal.SIGHUP)
    assert runner.ended() == ["0", "0", "True", "0", "0"]


def test_a_key_of_the_terminal_is_felt_once_and_the_command_decides(
    started: Path, tmp_path: Path
) -> None:
    master, slave = os.openpty()
    felt = tmp_path / "felt"
    loop = "while [ ! -e $FELT ]; do sleep 0.05; done; sleep 0.3"
    runner = Runner(
        f"FELT={felt}; trap 'echo x >> {felt}' INT; touch {started}; {loop}", terminal=slave
    )
    try:
        until(started.exists)
        os.write(master, b"\x03")
        assert runner.ended() == ["0", "2", "True", "130", "0"]
        assert felt.read_text() == "x\n"
    finally:
        os.close(master)
        os.close(slave)


def test_other_signals_reach_the_command_and_stop_nothing(started: Path) -> None:
    runner = Runner(f"trap 'exit 3' USR1; touch {started}; while :; do sleep 0.05; done")
    until(started.exists)
    runner.process.send_signal(signal.SIGUSR1)
    assert runner.ended() == ["3", "0", "False", "3", "0"]


def test_what_is_held_further_out_is_told_there() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with job.held() as watched:
        with job.held():
            signal.raise_signal(signal.SIGTERM)
        assert job.pending(watched) == signal.SIGTERM
        signal.raise_signal(signal.SIGTERM)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before, "the second was let go of"


def test_commands_start_with_no_signal_held(tmp_path: Path) -> None:
    shown = tmp_path / "status"
    Runner(f"grep SigBlk /proc/self/status > {shown}").ended()
    assert int(shown.read_text().split()[1], 16) == 0


def test_processes_are_found_again_by_when_they_began() -> None:
    child = subprocess.Popen(["sleep", "20"])
    try:
        assert processes.started(child.pid) > 0
        assert child.pid in processes.descendants(os.getpid())
    finally:
        child.kill()
        child.wait()
    assert processes.started(child.pid) == 0
