"""`pitcopy jobs` against a real logical unit and subsystem. Steps are told apart by their text, and
write to the volume as a host would.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from targetplugin.host import device, job, journal, mounts, report, sequence, sgio, steps
from targetplugin.host.errors import Away, Refused, Usage
from targetplugin.host.job import Ended
from targetplugin.host.pitcopy import main
from targetplugin.scsi import pitcopy, sense
from targetplugin.scsi.logical_unit import LogicalUnit
from tests.unit.house import House

DISK = "/dev/sdz"


class Crash(BaseException):
    """pitcopy, or its host, is gone between two instructions."""


class Host:
    """A host with the disk; `steps` says what each step does, by its text, and `ran` what ran.

    A step is a letter: it finds the letter before it in extent 0, and nothing in the extent of its
    own number; so it can't run twice, nor on what another one left half-way.
    """

    def __init__(self, house: House, folder: Path) -> None:
        self.house = house
        self.list = folder / "night.list"
        self.ran: list[str] = []
        self.fails: dict[str, int] = {}
        self.dies: set[str] = set()
        self.told: set[str] = set()
        self.points = 0
        self.crash_at = -1

    def write(self, *lines: str) -> str:
        self.list.write_text("\n".join(lines) + "\n")
        return str(self.list)

    def jobs(self, *words: str) -> int:
        return main(["jobs", DISK, *words])

    def execute(self, command: list[str], watched: object, **more: Any) -> Ended:
        text = command[-1]
        self.ran.append(text)
        number = ord(text) - ord("a") + 1
        before = chr(ord(text) - 1) if text != "a" else ""
        assert self.content() == before, "it runs on what the steps before it left"
        assert self.house.read(number) == ""
        self.house.write(number, text)
        self.point()
        if text in self.dies:
            raise Crash
        if text in self.fails:
            return Ended(self.fails[text])
        self.house.write(0, text)
        return Ended(0, 15 if text in self.told else 0)

    def content(self) -> str:
        return self.house.read(0)

    def point(self) -> None:
        """A point at which the host may crash."""
        self.points += 1
        if self.points == self.crash_at:
            raise Crash

    def shown(self, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
        capsys.readouterr()
        assert self.jobs("--show", "--json") == 0
        return dict(json.loads(capsys.readouterr().out))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    host = make(tmp_path, monkeypatch)
    yield host
    host.house.end()


def make(folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Host:
    house = House(folder / "house")
    house.media("a", "b", "c")
    house.volume(**options)
    unit = LogicalUnit(house.subsystem, "ledger")
    host = Host(house, folder)

    def execute(path: str, cdb: bytes, *, data_out: bytes = b"", data_in: int = 0) -> bytes:
        changes = cdb[0] == pitcopy.PIT_COPY_OUT
        if changes:
            host.point()
        answer = unit.execute(cdb.ljust(16, b"\0"), data_out, data_in)
        if answer.status:
            value = sense.decode(answer.sense)
            assert value is not None
            raise sgio.Checked(value)
        if changes:
            host.point()
        return answer.data

    stored = journal.store

    def store(path: Path, value: Any) -> None:
        host.point()
        stored(path, value)
        host.point()

    monkeypatch.setattr(sgio, "execute", execute)
    monkeypatch.setattr(device, "whole_disk", lambda path: DISK)
    monkeypatch.setattr("targetplugin.host.pitcopy.whole_disk", lambda path: DISK)
    monkeypatch.setattr(journal, "FOLDER", folder / "journal")
    monkeypatch.setattr(journal, "store", store)
    monkeypatch.setattr(mounts, "mounts", lambda disk: [])
    monkeypatch.setattr(report, "PAUSE", 0.01)
    monkeypatch.setattr(job, "execute", host.execute)
    return host


# --- as it goes ---------------------------------------------------------------------------------


def test_all_steps_run_and_the_newest_save_stays(host: Host) -> None:
    assert host.jobs(host.write("a", "# a comment", "", "b", "c"), "--label", "night") == 0
    assert host.ran == ["a", "b", "c"]
    assert host.content() == "c"
    assert [s["label"] for s in host.house.show()["saves"]] == ["night-3"]


def test_a_step_that_fails_is_taken_back_and_its_status_returned(host: Host) -> None:
    host.fails["b"] = 5
    assert host.jobs(host.write("a", "b", "c")) == 5
    assert host.ran == ["a", "b"]
    assert host.content() == "a"
    assert host.house.read(2) == "", "what it wrote is gone"


def test_continue_goes_on_after_the_steps_that_are_done(host: Host) -> None:
    host.fails["b"] = 5
    assert host.jobs(host.write("a", "b", "c")) == 5
    host.fails.clear()
    assert host.jobs("--continue") == 0
    assert host.ran == ["a", "b", "b", "c"]
    assert host.content() == "c"
    assert host.jobs("--continue") == 0, "there is nothing left to do"
    assert host.ran == ["a", "b", "b", "c"]


def test_what_was_written_between_failure_and_continue_is_in_the_next_save(host: Host) -> None:
    host.fails["b"] = 5
    assert host.jobs(host.write("a", "b")) == 5
    host.house.write(9, "m")
    assert host.jobs("--continue") == 5
    assert host.house.read(9) == "m"


def test_to_start_takes_everything_back_and_begins_anew(host: Host) -> None:
    host.fails["c"] = 1
    assert host.jobs(host.write("a", "b", "c"), "--to-start") == 1
    assert host.content() == ""
    assert len(host.house.saves()) == 1
    host.fails.clear()
    assert host.jobs("--continue") == 0
    assert host.ran == ["a", "b", "c", "a", "b", "c"]


def test_steps_that_share_a_save_are_taken_back_together(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.fails["c"] = 1
    assert host.jobs(host.write("a", "b", "+ c", "d")) == 1
    assert host.content() == "a"
    states = [step["state"] for step in host.shown(capsys)["steps"]]
    assert states == ["done", "waiting", "failed", "waiting"]
    host.fails.clear()
    assert host.jobs("--continue") == 0
    assert host.ran == ["a", "b", "c", "b", "c", "d"]
    found = [step["generation"] for step in host.shown(capsys)["steps"]]
    assert found[1] == found[2]
    assert len(set(found)) == 3


def test_which_steps_ran_on_which_save_is_shown(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.fails["b"] = 5
    host.jobs(host.write("a", "b", "c"), "--label", "night")
    found = host.shown(capsys)
    assert [(s["number"], s["state"], s["status"]) for s in found["steps"]] == [
        (1, "done", 0),
        (2, "failed", 5),
        (3, "waiting", None),
    ]
    assert [s["generation"] for s in found["steps"]] == [1, 2, 0]
    assert not found["alive"]
    assert host.jobs("--show") == 0
    said = capsys.readouterr().out
    assert "stands before step 2 of 3 (b)" in said
    assert "--continue" in said


def test_where_a_list_stands_is_known_when_the_disk_is_away(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.fails["a"] = 1
    host.jobs(host.write("a"))
    monkeypatch.setattr(sgio, "execute", raiser(Away("/dev/sdz did not answer")))
    assert host.jobs("--show") == 0
    assert host.jobs("--forget") == 0
    assert host.jobs(str(host.list)) == 1


def test_a_signal_stops_it_before_the_next_step(host: Host) -> None:
    host.told.add("b")
    assert host.jobs(host.write("a", "b", "c")) == 128 + 15
    assert host.content() == "a", "a step that was told to stop is taken back, whatever its status"
    host.told.clear()
    assert host.jobs("--continue") == 0
    assert host.ran == ["a", "b", "b", "c"]


def test_with_json_there_is_one_value_and_events_beside(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.fails["b"] = 5
    assert host.jobs(host.write("a", "b"), "--json") == 5
    said = capsys.readouterr()
    assert json.loads(said.out)["steps"][1]["status"] == 5
    events = [json.loads(line) for line in said.err.splitlines()]
    told = [(e["event"], e.get("number")) for e in events if e["event"] in ("step", "recovered")]
    assert told == [("step", 1), ("step", 1), ("step", 2), ("step", 2), ("recovered", None)]


def test_a_volume_that_saves_by_copies_needs_one_spare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = make(tmp_path, monkeypatch, policy="copy")
    assert host.jobs(host.write("a", "b", "c")) == 0
    assert [leg["state"] for leg in host.house.show()["legs"]] == ["in_sync", "in_sync"]
    assert len(host.house.saves()) == 1
    host.house.end()


def test_the_next_sequence_gives_the_last_one_s_save_up(host: Host) -> None:
    assert host.jobs(host.write("a"), "--label", "one") == 0
    assert host.jobs(host.write("b"), "--label", "two") == 0
    assert [s["label"] for s in host.house.show()["saves"]] == ["two-1"]


# --- crashes ------------------------------------------------------------------------------------


def test_a_step_that_a_crash_cut_short_is_taken_back_and_run_again(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.dies.add("b")
    with pytest.raises(Crash):
        host.jobs(host.write("a", "b", "c"))
    assert host.house.read(2) == "b", "the crash left the disk as it was"
    host.dies.clear()
    assert main(["status", DISK]) == 0
    assert "was interrupted in step 2 of 3" in capsys.readouterr().out
    assert host.jobs("--continue") == 0
    assert host.ran == ["a", "b", "b", "c"]


@pytest.mark.parametrize(
    ("words", "shared"), [([], "b"), ([], "+ b"), (["--to-start"], "b")], ids=str
)
def test_no_crash_at_any_point_runs_a_step_on_another_s_remains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], shared: str
) -> None:
    """Points before and after each journal entry and request, and in each step, with a failure still
    to come. Every eighth, or as PITCOPY_CRASH_STRIDE says.
    """
    stride = int(os.environ.get("PITCOPY_CRASH_STRIDE", "8"))
    with monkeypatch.context() as patch:
        host = make(tmp_path / "count", patch)
        host.fails["c"] = 3
        host.jobs(host.write("a", shared, "c"), *words)
        points = host.points
        host.house.end()
    assert points > 15
    for at in range(1 + len(shared) % stride, points + 1, stride):
        with monkeypatch.context() as patch:
            (tmp_path / str(at)).mkdir()
            host = make(tmp_path / str(at), patch)
            host.fails["c"] = 3
            host.crash_at = at
            with suppress(Crash):
                host.jobs(host.write("a", shared, "c"), *words)
            host.fails.clear()
            if sequence.read(DISK) is None:
                assert host.ran == [], "nothing ran that is not remembered"
                assert host.jobs(str(host.list), *words) == 0
            else:
                assert host.jobs("--continue") == 0, at
            assert host.content() == "c"
            assert [host.house.read(n) for n in range(1, 4)] == ["a", "b", "c"]
            assert len(host.house.saves()) == 1, "old saves are given up"
            host.house.end()


def test_a_disk_that_can_t_be_left_is_taken_back_by_continue(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.fails["b"] = 5
    with monkeypatch.context() as patch:
        refuse = raiser(Refused("/mnt is held by vi (pid 7)"))
        patch.setattr("targetplugin.host.run.recover", refuse)
        assert host.jobs(host.write("a", "b")) == 5
    assert host.house.read(2) == "b"
    assert host.jobs(str(host.list)) == 1, "another one does not begin"
    host.fails.clear()
    assert host.jobs("--continue") == 0
    assert host.ran == ["a", "b", "b"]


def test_a_save_that_someone_took_away_is_missed(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.dies.add("b")
    with pytest.raises(Crash):
        host.jobs(host.write("a", "b"))
    host.house.subsystem.release(host.house.saves()[0])
    assert host.jobs("--continue") == 1
    assert "is not on /dev/sdz any more" in capsys.readouterr().err
    assert host.jobs("--forget") == 0
    assert host.house.read(2) == "b"


def test_a_step_that_outlived_pitcopy_is_not_run_beside_itself(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.dies.add("a")
    with pytest.raises(Crash):
        host.jobs(host.write("a"))
    found = sequence.read(DISK)
    assert found is not None
    found.job = journal.process(os.getpid())
    found.write()
    assert host.jobs("--continue") == 1
    assert host.jobs("--forget") == 1
    assert "still runs" in capsys.readouterr().err


# --- what is refused ----------------------------------------------------------------------------


def test_another_sequence_that_was_interrupted_is_in_the_way(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.fails["a"] = 1
    host.jobs(host.write("a"))
    assert host.jobs(str(host.list)) == 1
    said = capsys.readouterr().err
    assert "--continue" in said
    assert "--forget" in said
    assert main(["run", DISK, "--", "true"]) == 1, "and of a run too"
    assert host.jobs("--forget") == 0
    assert host.jobs("--continue") == 1
    host.fails.clear()
    assert host.jobs(str(host.list)) == 0


def test_an_interrupted_run_is_in_the_way(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    journal.Entry(DISK, 1, "running", "l", 1, ["job"]).write()
    assert host.jobs(host.write("a")) == 1
    assert "pitcopy keep" in capsys.readouterr().err


def test_a_list_that_was_changed_is_told_with_the_step(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.fails["b"] = 1
    host.jobs(host.write("a", "b", "c"))
    host.fails.clear()
    host.write("a", "b", "d")
    assert host.jobs("--continue") == 1
    assert "step 3 was 'c' and is 'd'" in capsys.readouterr().err
    host.write("x", "b", "c")
    assert host.jobs("--continue", "--changed") == 1
    assert "done already: step 1" in capsys.readouterr().err
    host.write("a", "b", "c", "d")
    assert host.jobs("--continue", "--changed") == 0
    assert host.ran == ["a", "b", "b", "c", "d"]


def test_a_label_that_is_taken_or_too_long_is_refused(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["save", DISK, "--label", "night-2"]) == 0
    assert host.jobs(host.write("a", "b"), "--label", "night") == 1
    assert "the label night-2 is taken" in capsys.readouterr().err
    assert host.jobs(str(host.list), "--label", "n" * 30) == 2
    assert host.ran == []


def test_without_the_right_to_recover_nothing_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    host = make(tmp_path, monkeypatch, rights="save")
    assert host.jobs(host.write("a")) == 1
    assert main(["run", DISK, "--", "true"]) == 1
    assert "could not be taken back" in capsys.readouterr().err
    assert (host.ran, host.house.saves()) == ([], [])
    host.house.end()


def test_two_at_once_are_refused(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    fd = journal._lock(DISK) if journal.FOLDER.mkdir() is None else None
    assert fd is not None
    assert host.jobs(host.write("a")) == 1
    assert "another pitcopy is at work" in capsys.readouterr().err
    os.close(fd)
    assert host.jobs(str(host.list)) == 0


def test_a_journal_that_can_t_be_read_is_not_taken_for_none(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.fails["a"] = 1
    host.jobs(host.write("a"))
    journal.path_of(DISK, sequence.ENDING).write_text("{")
    assert host.jobs(str(host.list)) == 1
    assert "can't be read" in capsys.readouterr().err
    assert host.jobs("--forget") == 0
    host.fails.clear()
    assert host.jobs(str(host.list)) == 0


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--show", "x"],
        ["--to-start", "/no/such/list"],
        ["--continue", "--label", "l"],
        ["x", "--changed"],
        ["/no/such/list"],
        ["/dev/null", "--to-start"],
    ],
)
def test_what_makes_no_sense_is_wrong_usage(host: Host, words: list[str]) -> None:
    assert host.jobs(*words) == 2


def raiser(error: Exception) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> None:
        raise error

    return refuse


# --- lists --------------------------------------------------------------------------------------


def test_a_directory_is_taken_as_run_parts_takes_it(tmp_path: Path) -> None:
    for name, mode in [("10-b", 0o755), ("09_a", 0o755), ("20.sh", 0o755), ("30-c", 0o644)]:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(mode)
    (tmp_path / "40-dir").mkdir()
    found = steps.read(str(tmp_path))
    assert [step.text for step in found.steps] == ["09_a", "10-b"]
    assert found.steps[0].command == (str(tmp_path / "09_a"),)
    assert [name.split()[0] for name in found.left_out] == ["20.sh", "30-c", "40-dir"]
    (tmp_path / "10-b").write_text("#!/bin/sh\nexit 1\n")
    (change,) = steps.changes(found.steps, steps.read(str(tmp_path)).steps)
    assert change == (2, "step 2, 10-b, has another content")


@pytest.mark.parametrize("text", ["+ a\n", "a\n+\n", "a \\\nb\n", "# none\n", "\xff"], ids=repr)
def test_a_list_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    place = tmp_path / "list"
    place.write_bytes(text.encode("latin-1"))
    with pytest.raises(Usage):
        steps.read(str(place))
