"""Records as the journal, or who reads standard error, gets them; and that logging waits for nobody."""

from __future__ import annotations

import ast
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from targetplugin import logs
from targetplugin.logs.context import of
from targetplugin.logs.journald import MOST, Journald, encoded
from targetplugin.logs.lines import Lines
from tests.unit.fake_journald import Entry, FakeJournald, logging_to

ROOT = Path(__file__).parents[2]
CALLS = {"logs.about", "logs.learn", "about"}  # as they are called
log = logging.getLogger("targetplugin.some.room")


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[FakeJournald]:
    with logging_to(tmp_path / "journal") as journald:
        yield journald


def record(text: str = "a line", level: int = logging.INFO, *args: Any) -> logging.LogRecord:
    return log.makeRecord(log.name, level, __file__, 7, text, args, None)


# --- to the journal --------------------------------------------------------------------------


def test_a_record_has_the_journal_s_own_fields(journald: FakeJournald) -> None:
    log.warning("%s of %d legs", 1, 2)
    (found,) = journald.entries()
    assert found.pop("CODE_LINE")[0].isdigit()
    assert found == {
        "MESSAGE": ["1 of 2 legs"],
        "PRIORITY": ["4"],
        "SYSLOG_FACILITY": ["3"],
        "SYSLOG_IDENTIFIER": ["targetplugind"],
        "LOGGER": ["targetplugin.some.room"],
        "THREAD": [threading.current_thread().name],
        "CODE_FILE": [__file__],
        "CODE_FUNC": ["test_a_record_has_the_journal_s_own_fields"],
    }


@pytest.mark.parametrize(
    ("level", "priority"),
    [("DEBUG", 7), ("INFO", 6), ("WARNING", 4), ("ERROR", 3), ("CRITICAL", 2)],
)
def test_a_level_is_a_priority_of_syslog(journald: FakeJournald, level: str, priority: int) -> None:
    log.log(logging.getLevelName(level), "a line")
    assert journald.entries()[0]["PRIORITY"] == [str(priority)]


def test_what_has_lines_stays_one_record(journald: FakeJournald) -> None:
    text = "first\nPRIORITY=0\n\nlast="
    log.info("%s", text)
    assert journald.messages() == [text]


def test_what_is_no_text_is_told_all_the_same() -> None:
    name = os.fsdecode(b"night\xff.img")
    assert encoded([("MESSAGE", name)]) == b"MESSAGE=night\\udcff.img\n"


def test_an_exception_is_one_record_with_its_traceback(journald: FakeJournald) -> None:
    try:
        {}["ledger"]
    except KeyError:
        log.exception("save met a bug")
    (found,) = journald.entries()
    assert found["EXCEPTION_TYPE"] == ["KeyError"]
    assert found["EXCEPTION_TEXT"][0].startswith("Traceback (most recent call last):\n")
    assert found["EXCEPTION_TEXT"][0].endswith("\nKeyError: 'ledger'")
    assert found["MESSAGE"] == [f"save met a bug\n{found['EXCEPTION_TEXT'][0]}"]


def test_what_is_long_is_cut_in_the_middle_and_goes_whatever_it_is_of(
    journald: FakeJournald,
) -> None:
    try:
        raise ValueError("\N{GRINNING FACE}" * 3 * MOST + "the end")
    except ValueError:
        log.exception("the beginning%s", "\N{GRINNING FACE}" * MOST)
    (found,) = journald.entries()
    told = found["MESSAGE"][0]
    assert told.startswith("the beginning")
    assert told.endswith("the end")
    assert len(told) < MOST + 100
    assert "characters are left out" in told


# --- what a line is about --------------------------------------------------------------------


def test_what_is_said_once_comes_along_with_each_line(journald: FakeJournald) -> None:
    with logs.about(door="terminal", asker="ann", volume=""):
        with logs.about(volume="ledger"):
            logs.learn(operation=17, save=None)
            log.info("within")
        log.info("around")
    log.info("outside")
    told = [
        {k: v for k, v in one.items() if k.startswith("TARGETPLUGIN_")}
        for one in journald.entries()
    ]
    door = {"TARGETPLUGIN_DOOR": ["terminal"], "TARGETPLUGIN_ASKER": ["ann"]}
    within = {"TARGETPLUGIN_VOLUME": ["ledger"], "TARGETPLUGIN_OPERATION": ["17"]}
    assert told == [{**door, **within}, door, {}]


def test_what_is_learnt_outside_of_anything_is_nobody_s(journald: FakeJournald) -> None:
    logs.learn(operation=17)
    log.info("a line")
    assert not journald.entries(TARGETPLUGIN_OPERATION=17)


def test_an_operation_on_several_volumes_is_found_by_each(journald: FakeJournald) -> None:
    with logs.about(operation=(4, 5, 6), volume=("ledger", "journal")):
        log.info("all")
        with logs.about(operation=4):
            log.info("said of one")
    for number in (4, 5, 6):
        assert journald.messages(TARGETPLUGIN_OPERATION=number) == ["all", "said of one"]
    assert journald.messages(TARGETPLUGIN_VOLUME="journal") == ["all", "said of one"]


def test_threads_are_about_their_own(journald: FakeJournald) -> None:
    both = threading.Barrier(2)

    def run(number: int) -> None:
        with logs.about(operation=number):
            both.wait(10)
            log.info("a line of %d", number)
            both.wait(10)

    threads = [threading.Thread(target=run, args=(number,)) for number in (1, 2)]
    with logs.about(operation=3):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    for number in (1, 2):
        assert journald.messages(TARGETPLUGIN_OPERATION=number) == [f"a line of {number}"]


def test_an_exception_keeps_what_it_was_about(journald: FakeJournald) -> None:
    caught: list[BaseException] = []
    try:
        with logs.about(door="terminal"), logs.about(operation=17):
            raise KeyError("ledger")
    except KeyError as error:
        caught.append(error)
        log.exception("farther out")
    log.error("later", extra=logs.came_from(caught[0]))
    assert journald.messages(TARGETPLUGIN_OPERATION=17, TARGETPLUGIN_DOOR="terminal")[1:] == [
        "later"
    ]
    assert len(journald.entries(TARGETPLUGIN_OPERATION=17)) == 2


def test_a_thread_that_dies_is_one_record(tmp_path: Path) -> None:
    said = ran(
        tmp_path,
        "import threading\n"
        "def run():\n"
        "    with logs.about(operation=17): {}['ledger']\n"
        "one = threading.Thread(target=run, name='transfers'); one.start(); one.join()\n"
        "raise ValueError('of the main thread')",
        status=1,
    )
    first, second = said.entries
    assert first["MESSAGE"][0].startswith("the thread transfers ends by a defect\nTraceback")
    assert (first["TARGETPLUGIN_OPERATION"], first["PRIORITY"]) == (["17"], ["2"])
    assert second["EXCEPTION_TYPE"] == ["ValueError"]


def test_fields_are_called_as_the_reference_has_them() -> None:
    used = set()
    for path in (ROOT / "targetplugin").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
                used |= {one.arg for one in node.keywords if one.arg is not None}
    assert used == set(logs.FIELDS)


# --- what does not take it -------------------------------------------------------------------


def lines(ear: socket.socket) -> list[str]:
    """What came to standard error so far; empty lines are none, as to systemd."""
    ear.setblocking(False)
    data = b""
    while True:
        try:
            data += ear.recv(1 << 20)
        except BlockingIOError:
            return [line for line in data.decode().split("\n") if line]


def test_what_the_journal_does_not_take_goes_to_standard_error(tmp_path: Path) -> None:
    """It is not there yet; then it is; then it is another one, at the same place."""
    mouth, ear = socket.socketpair()
    handler = Journald("targetplugind", tmp_path / "journal", mouth.fileno())
    with logs.about(operation=17):
        handler.handle(record("first\nline", logging.ERROR))
    told = "<3>ERROR targetplugin.some.room: first\\nline operation=17"
    assert lines(ear) == [told]
    for text in ("second", "third"):
        journald = FakeJournald(tmp_path / "journal")
        handler.handle(record(text))
        assert journald.messages() == [text]
        journald.close()
    handler.handle(record("fourth"))
    assert lines(ear) == ["<6>INFO targetplugin.some.room: fourth"]
    handler.close()


def test_nobody_waits_for_a_journal_that_takes_nothing(tmp_path: Path) -> None:
    """Neither its socket nor standard error is read: what is lost is counted, and told when it is read."""
    stuck = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    stuck.bind(str(tmp_path / "journal"))
    mouth, ear = socket.socketpair()
    handler = Journald("targetplugind", tmp_path / "journal", mouth.fileno())
    begin = time.monotonic()
    sent = 5000
    for number in range(sent):
        handler.handle(record("%d " + "x" * 1000, logging.INFO, number))
    assert time.monotonic() - begin < 30
    stuck.setblocking(False)
    taken = 0
    while True:
        try:
            stuck.recv(1 << 20)
        except BlockingIOError:
            break
        taken += 1
    aside = lines(ear)
    assert taken
    assert aside
    handler.handle(record("it is read again"))
    assert b"MESSAGE=it is read again\n" in stuck.recv(1 << 20)
    lost = sent - taken - sum(line.startswith("<6>") for line in aside)
    told = f"MESSAGE={lost} lines of the log were lost: the journal took none\n"
    assert told.encode() in stuck.recv(1 << 20)
    handler.handle(record("and all is well"))
    assert b"MESSAGE=and all is well\n" in stuck.recv(1 << 20)
    handler.close()
    stuck.close()


# --- where it goes ---------------------------------------------------------------------------


class Ran(NamedTuple):
    """What came of a program: what the journal got, and what standard error got."""

    entries: list[Entry]
    aside: str


def ran(place: Path, program: str, status: int = 0, journal: str = "%d:%d") -> Ran:
    """What a program logs whose standard error is the journal's by what systemd says."""
    journald = FakeJournald(place / "journal")
    mouth, ear = socket.socketpair()
    at = os.fstat(mouth.fileno())
    begin = (
        "import logging, functools; from pathlib import Path; from targetplugin import logs\n"
        "from targetplugin.logs import start\n"
        f"start.Journald = functools.partial(start.Journald, path=Path({str(journald.path)!r}))\n"
        "logs.begin('targetplugin-some'); log = logging.getLogger('targetplugin.some')\n"
    )
    named = journal % (at.st_dev, at.st_ino) if "%" in journal else journal
    done = subprocess.run(
        [sys.executable, "-c", begin + program],
        stderr=mouth,
        cwd=ROOT,
        env={**os.environ, "JOURNAL_STREAM": named},
        timeout=60,
    )
    aside = "\n".join(lines(ear))
    assert done.returncode == status, aside
    entries = journald.entries()
    journald.close()
    mouth.close()
    ear.close()
    return Ran(entries, aside)


def test_the_journal_gets_records_where_it_takes_standard_error(tmp_path: Path) -> None:
    said = ran(tmp_path, "log.info('a line'); log.debug('one more'); import warnings")
    (found,) = said.entries
    assert (found["MESSAGE"], found["SYSLOG_IDENTIFIER"]) == (["a line"], ["targetplugin-some"])
    assert said.aside == ""


@pytest.mark.parametrize("journal", ["1:2", "", "nonsense"])
def test_elsewhere_there_are_lines_with_their_time(tmp_path: Path, journal: str) -> None:
    """JOURNAL_STREAM is inherited by what has another standard error."""
    said = ran(tmp_path, "with logs.about(operation=17): log.warning('a line')", journal=journal)
    assert said.entries == []
    assert said.aside.startswith("20")
    assert said.aside.endswith(" WARNING targetplugin.some: a line operation=17")


# --- lines -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (17, "17"),
        ("ledger@3", "ledger@3"),
        ((4, 5), "4,5"),
        ("root (process 812)", '"root (process 812)"'),
        ('say "no"', '"say \\"no\\""'),
        ("a=b", '"a=b"'),
        ("two\nlines\x1b[2J", '"two\\nlines\\u001b[2J"'),
        ("Größe", "Größe"),
    ],
)
def test_a_field_s_value_is_one_word_or_quoted(value: Any, told: str) -> None:
    with logs.about(some=value):
        line = Lines().format(record())
    assert line.endswith(f": a line some={told}")
    if told.startswith('"'):
        assert json.loads(told) == value


def test_what_a_host_sends_makes_no_line_and_no_command_to_a_terminal() -> None:
    line = Lines().format(record("label=%s", logging.INFO, "a\nERROR b\x1b[2J"))
    assert line.endswith("INFO targetplugin.some.room: label=a\\nERROR b\\x1b[2J")


def test_a_line_of_its_own_fields_has_no_others() -> None:
    one = record()
    one.__dict__.update(logs.extra({"volume": "ledger", "save": ""}))
    with logs.about(operation=17):
        assert of(one) == {"volume": "ledger"}


# --- again and again -------------------------------------------------------------------------


def test_what_is_looked_at_again_and_again_is_said_when_it_changes() -> None:
    said = logs.Said()
    assert [said.new("a", what) for what in ("gone", "gone", "silent", "gone")] == [
        True,
        False,
        True,
        True,
    ]
    assert said.new("b", "gone")
    assert [said.forget("a"), said.forget("a")] == [True, False]
    assert said.new("a", "gone")
