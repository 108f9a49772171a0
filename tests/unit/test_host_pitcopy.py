"""pitcopy against a real logical unit and subsystem; only the SG_IO call in between is short-circuited."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from targetplugin.host import device, job, journal, mounts, onefile, run, sgio
from targetplugin.host.errors import Refused
from targetplugin.host.job import Ended
from targetplugin.host.pitcopy import main
from targetplugin.scsi import sense
from targetplugin.scsi.logical_unit import LogicalUnit
from targetplugin.scsi.pitcopy import OutAction
from tests.unit.house import House

DISK = "/dev/sdz"


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    # A pitcopy has one thread; those of the house here are not to take the signals that it holds.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, job.STOPPING)
    house = House(tmp_path / "house")
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    house.media("a", "b", "c")
    house.volume()
    unit = LogicalUnit(house.subsystem, "ledger")

    def execute(path: str, cdb: bytes, *, data_out: bytes = b"", data_in: int = 0) -> bytes:
        answer = unit.execute(cdb.ljust(16, b"\0"), data_out, data_in)
        if answer.status:
            value = sense.decode(answer.sense)
            assert value is not None
            raise sgio.Checked(value)
        return answer.data

    monkeypatch.setattr(sgio, "execute", execute)
    monkeypatch.setattr(device, "whole_disk", lambda path: DISK)
    monkeypatch.setattr("targetplugin.host.pitcopy.whole_disk", lambda path: DISK)
    monkeypatch.setattr(journal, "FOLDER", tmp_path / "journal")
    monkeypatch.setattr(mounts, "mounts", lambda disk: [])
    yield house
    house.end()


def out(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def test_a_command_that_works_leaves_what_it_wrote(house: House) -> None:
    house.write(1, "o")
    assert main(["run", DISK, "--label", "l", "--", "true"]) == 0
    assert house.read(1) == "o"
    assert house.saves() == ["ledger@1"]
    assert journal.read(DISK) is None


def test_a_command_that_fails_is_taken_back_and_its_status_returned(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.write(1, "o")

    def spoil(*_: object) -> Ended:
        house.write(1, "n")
        return Ended(7)

    monkeypatch.setattr(run, "_execute", spoil)
    assert main(["run", DISK, "--", "sh", "-c", "exit 7"]) == 7
    assert house.read(1) == "o"
    assert journal.read(DISK) is None
    assert house.states()["c"] == "free", "nobody wants back what a job that failed has left"


def test_a_command_that_is_not_there_is_not_saved_for(house: House) -> None:
    assert main(["run", DISK, "--", "/no/such/command"]) == 127
    assert house.saves() == []


def test_options_after_the_dashes_are_the_command_s(house: House) -> None:
    assert main(["run", DISK, "--", "sh", "-c", "test $1 = --json", "sh", "--json"]) == 0


def test_a_command_that_a_signal_ends_counts_128_more(house: House) -> None:
    assert main(["run", DISK, "--", "sh", "-c", "kill -TERM $$"]) == 128 + signal.SIGTERM


def tell_when_started(started: Path, thread: int) -> None:
    """Sends SIGTERM to a thread: sent to the process, it might go to one of pytest's own."""
    end = time.monotonic() + 20
    while not started.exists() and time.monotonic() < end:
        time.sleep(0.02)
    signal.pthread_kill(thread, signal.SIGTERM)


def test_a_pitcopy_that_is_told_to_stop_tells_its_command_and_takes_the_disk_back(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = tmp_path / "started"
    script = f"trap 'exit 0' TERM; touch {started}; while :; do sleep 0.05; done"
    teller = threading.Thread(target=tell_when_started, args=(started, threading.get_ident()))
    teller.start()
    assert main(["run", DISK, "--", "sh", "-c", script]) == 128 + signal.SIGTERM
    teller.join()
    said = capsys.readouterr().err
    assert "told to stop by signal 15 and ended with status 0" in said
    assert "is as it was before" in said
    assert journal.read(DISK) is None


def test_an_interrupted_run_is_told_and_blocks_the_next(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["save", DISK, "--label", "l"]) == 0
    journal.Entry(DISK, 2**22 + 5, "running", "l", 1, ["job"]).write()
    assert main(["run", DISK, "--", "true"]) == 1
    assert "pitcopy recover" in capsys.readouterr().err
    assert main(["status", DISK]) == 0
    assert "interrupted" in out(capsys)
    assert main(["recover", DISK, "--save", "1"]) == 0
    assert journal.read(DISK) is None
    journal.Entry(DISK, 2**22 + 5, "running", "l", 1, ["job"]).write()
    assert main(["keep", DISK]) == 0
    assert journal.read(DISK) is None


def test_the_next_run_gives_up_an_earlier_run_s_save_for_a_leg(house: House) -> None:
    assert main(["run", DISK, "--", "true"]) == 0
    (first,) = house.saves()
    assert main(["run", DISK, "--", "true"]) == 0
    assert first not in house.saves()
    assert [leg["state"] for leg in house.show()["legs"]] == ["in_sync"]


def test_undo_takes_a_recover_back_with_the_same_ritual(
    house: House, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["undo", DISK]) == 1
    assert "nothing to undo" in capsys.readouterr().err
    assert main(["save", DISK, "--label", "night"]) == 0
    house.write(2, "n")
    assert main(["recover", DISK]) == 0
    house.finish()
    assert "pitcopy undo" in out(capsys)
    assert house.read(2) == ""
    left: list[str] = []
    ritual = run.ritual.left

    def watched(disk: str, verb: object, remembered: object = None) -> object:
        left.append(disk)
        return ritual(disk, verb, remembered)  # type: ignore[arg-type]

    monkeypatch.setattr(run.ritual, "left", watched)
    assert main(["undo", DISK, "--json"]) == 0
    told = json.loads(out(capsys))
    assert (told["extents_changed"], told["save"]["undo"]) == (1, True)
    assert left == [DISK]
    assert house.read(2) == "n"
    house.finish()
    # The one spare held the undo save, so this undo could take none.
    assert main(["undo", DISK]) == 1
    assert "took no undo save" in capsys.readouterr().err
    assert left == [DISK]


def test_recover_without_an_undo_save_keeps_nothing(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["save", DISK]) == 0
    assert main(["recover", DISK, "--no-undo"]) == 0
    assert "can't be undone" in out(capsys)
    assert house.saves() == ["ledger@1"]


def test_a_save_is_taken_onto_an_older_one_s_medium(house: House) -> None:
    assert main(["save", DISK, "--label", "night"]) == 0
    house.write(2, "n")
    assert main(["save", DISK, "--replace", "night", "--wait"]) == 0
    (save,) = house.show()["saves"]
    assert (save["name"], save["label"], save["media"]) == ("ledger@2", "night", ["b"])


def test_a_save_is_held_from_its_first_moment(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["save", DISK, "--label", "kept", "--hold", "1w2d"]) == 0
    assert "held until" in out(capsys)
    (save,) = house.show()["saves"]
    until = datetime.fromisoformat(save["held_until"]) - datetime.now(UTC)
    assert timedelta(days=8) < until < timedelta(days=10)
    assert main(["release", DISK, "--save", "kept"]) == 1


@pytest.mark.parametrize("time", ["soon", "0d", "14", "40000d", "1.5h"])
def test_a_time_that_is_none_is_refused_before_anything_is_saved(house: House, time: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["save", DISK, "--hold", time])
    assert ended.value.code == 2
    assert house.saves() == []


def test_saves_without_fill_share_a_medium_and_are_recovered_from(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    house.write(1, "o")
    for label in ("noon", "later"):
        assert main(["save", DISK, "--no-fill", "--label", label]) == 0
    house.write(1, "n")
    assert house.states()["c"] == "store of ledger"
    assert main(["status", DISK]) == 0
    assert capsys.readouterr().out.count("unfilled") == 2
    assert main(["recover", DISK, "--save", "noon"]) == 0
    assert house.read(1) == "o"


def test_a_run_s_save_that_is_held_is_shown_and_stays(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", DISK, "--", "true"]) == 0
    (first,) = house.saves()
    house.subsystem.hold(first, seconds=3600)
    assert main(["status", DISK]) == 0
    assert "HELD UNTIL" in out(capsys)
    assert main(["release", DISK, "--save", first.partition("@")[2]]) == 1
    main(["run", DISK, "--", "true"])
    assert first in house.saves()


def test_a_run_that_finds_no_medium_gives_up_the_oldest_save_of_a_run_that_it_may(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = device.Disk.request

    def request(disk: device.Disk, action: OutAction, **more: Any) -> bytes:
        if action is OutAction.RELEASE and more["generation"] == 1:
            raise Refused("the save is held")
        return asked(disk, action, **more)

    monkeypatch.setattr(device.Disk, "request", request)
    for label in ("run-one", "run-two"):
        assert main(["save", DISK, "--label", label]) == 0
    house.finish()
    monkeypatch.setattr(run, "make_room", lambda disk: None)
    assert main(["run", DISK, "--label", "three", "--", "true"]) == 0
    assert [s["label"] for s in house.show()["saves"]] == ["run-one", "three"]
    assert "the save is held" in capsys.readouterr().err


def test_verbs_speak_json(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["save", DISK, "--label", "night", "--json"]) == 0
    assert json.loads(out(capsys))["label"] == "night"
    house.write(2, "n")
    assert main(["diff", DISK, "--save", "night", "--json"]) == 0
    found = json.loads(out(capsys))
    assert (found["extents"], found["list"]) == (1, [{"offset": 131072, "length": 65536}])
    assert main(["recover", DISK, "--save", "night", "--json"]) == 0
    assert json.loads(out(capsys))["extents_changed"] == 1
    assert main(["operations", DISK, "--json"]) == 0
    assert [o["verb"] for o in json.loads(out(capsys))] == ["recover", "save"]
    assert main(["status", DISK, "--json"]) == 0
    assert json.loads(out(capsys))["legs"] == [{"state": "in_sync", "lacks": 0}]


def test_swap_and_back_release_and_resync(house: House) -> None:
    house.write(0, "1")
    assert main(["save", DISK, "--label", "one"]) == 0
    house.write(0, "2")
    assert main(["swap", DISK, "--save", "one"]) == 0
    assert house.read(0) == "1"
    assert main(["swap", DISK]) == 0
    assert house.read(0) == "2"
    assert main(["resync", DISK]) == 0
    house.finish()
    assert [leg["state"] for leg in house.show()["legs"]] == ["in_sync", "in_sync"]


def test_what_is_refused_is_said_in_words_and_ends_with_1(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recover", DISK]) == 1
    assert "has no save" in capsys.readouterr().err
    assert main(["save", DISK, "--label", "x" * 33]) == 2
    assert main(["save", DISK]) == 0
    assert main(["save", DISK]) == 0
    house.finish()
    capsys.readouterr()
    assert main(["save", DISK]) == 1
    assert "no free medium" in capsys.readouterr().err


def test_what_can_t_be_asked_for_is_told_before_it_is_asked(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["save", DISK, "--label", "12"]) == 2
    assert main(["run", DISK, "--label", "12", "--", "true"]) == 2
    assert main(["restore", DISK, "--backup", "9"]) == 1
    said = capsys.readouterr().err
    assert "would look like a generation" in said
    assert "has no backup 9" in said
    assert house.saves() == []


def test_another_disk_never_gets_a_vendor_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = []

    def execute(path: str, cdb: bytes, **_: object) -> bytes:
        sent.append(cdb[0])
        return bytes(252)

    monkeypatch.setattr(sgio, "execute", execute)
    monkeypatch.setattr(device, "whole_disk", lambda path: DISK)
    assert main(["save", DISK]) == 1
    assert "does not know" in capsys.readouterr().err
    assert sent == [0x12]


def test_what_is_no_disk_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(tmp_path)]) == 2
    assert main(["status", str(tmp_path / "gone")]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_one_file_is_all_a_host_needs(tmp_path: Path) -> None:
    target = tmp_path / "pitcopy"
    onefile.build(target)
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(target), "run", "--help"],
        capture_output=True,
        text=True,
        cwd="/",
    )
    assert done.returncode == 0
    assert "COMMAND" in done.stdout
    assert os.access(target, os.X_OK)


def test_who_holds_a_file_system_is_named(tmp_path: Path) -> None:
    with (tmp_path / "held").open("w"):
        child = subprocess.Popen(["sleep", "20"], cwd=tmp_path)
        try:
            assert child.pid in [holder.pid for holder in mounts.holders(str(tmp_path))]
        finally:
            child.kill()
            child.wait()


# --- several disks ------------------------------------------------------------------------------

SECOND = "/dev/sdy"


@pytest.fixture
def both(house: House, monkeypatch: pytest.MonkeyPatch) -> House:
    """The volumes of a group as two disks of the host."""
    house.media("e", "f")
    house.volume("journal", media=["e", "f"])
    house.subsystem.group_create("books", ["ledger", "journal"])
    units = {
        DISK: LogicalUnit(house.subsystem, "ledger"),
        SECOND: LogicalUnit(house.subsystem, "journal"),
    }

    def execute(path: str, cdb: bytes, *, data_out: bytes = b"", data_in: int = 0) -> bytes:
        answer = units[path].execute(cdb.ljust(16, b"\0"), data_out, data_in)
        if answer.status:
            value = sense.decode(answer.sense)
            assert value is not None
            raise sgio.Checked(value)
        return answer.data

    monkeypatch.setattr(sgio, "execute", execute)
    monkeypatch.setattr(device, "whole_disk", lambda path: path)
    return house


def test_several_disks_are_saved_at_one_instant(
    both: House, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["save", DISK, SECOND, "--label", "night", "--deadline", "700", "--json"]) == 0
    told = json.loads(out(capsys))
    assert [(one["device"], one["label"]) for one in told] == [(DISK, "night"), (SECOND, "night")]
    assert both.saves() == ["ledger@1"]
    assert both.saves("journal") == ["journal@1"]
    assert main(["save", DISK, SECOND, "--wait"]) == 1  # one has no leg left, and too few spares
    assert both.saves("journal") == ["journal@1"]


def test_several_disks_are_taken_back_at_one_instant(
    both: House, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["save", DISK, SECOND, "--label", "night"]) == 0
    both.write(1, "n")
    both.write(1, "n", "journal")
    assert main(["recover", DISK, SECOND, "--save", "night"]) == 0
    both.finish()
    assert "all at one instant" in out(capsys)
    assert [both.read(1, name) for name in ("ledger", "journal")] == ["", ""]
    assert main(["recover", DISK, "--deadline", "5"]) == 2


def test_several_disks_that_were_taken_back_are_as_before_at_one_instant(
    both: House, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("ledger", "journal")
    both.media("g", "h")
    assert main(["save", DISK, SECOND, "--label", "night"]) == 0
    for name in names:
        both.write(1, "n", name)
    assert main(["undo", DISK, SECOND]) == 1
    assert "was not recovered" in capsys.readouterr().err
    assert main(["recover", DISK, SECOND, "--save", "night"]) == 0
    both.finish()
    assert f"pitcopy undo {DISK} {SECOND}" in out(capsys)
    assert main(["undo", DISK, SECOND, "--json"]) == 0
    both.finish()
    assert [both.read(1, name) for name in names] == ["n", "n"]
    assert [one["device"] for one in json.loads(out(capsys))] == [DISK, SECOND]
    assert main(["recover", DISK, SECOND, "--save", "night", "--no-undo"]) == 0
    assert "no undo save was taken" in out(capsys)
    both.finish()
    assert main(["undo", DISK, SECOND]) == 1
    assert main(["undo", DISK, "--deadline", "5"]) == 2


def test_several_disks_are_swapped_at_one_instant(
    both: House, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("ledger", "journal")
    assert main(["save", DISK, SECOND, "--label", "night"]) == 0
    for name in names:
        both.write(1, "n", name)
    assert main(["swap", DISK, SECOND, "--save", "night"]) == 0
    assert "all at one instant" in out(capsys)
    assert [both.read(1, name) for name in names] == ["", ""]
    assert main(["swap", DISK, SECOND, "--json"]) == 0
    assert [both.read(1, name) for name in names] == ["n", "n"]
    assert main(["swap", DISK, "--deadline", "5"]) == 2


def test_disks_that_do_not_belong_together_are_refused_in_words(
    both: House, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["save", DISK, DISK]) == 2
    assert main(["save", DISK, "--deadline", "5"]) == 2
    both.subsystem.group_delete("books")
    assert main(["save", DISK, SECOND]) == 1
    told = capsys.readouterr().err
    assert "belongs to no group of 2 disks" in told
    assert "targetplugin group create" in told
    assert both.saves() == []
