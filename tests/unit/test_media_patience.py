"""Disks that do not answer: nobody waits longer than the time, and not twice for the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from targetplugin.errors import Reason, Refused
from targetplugin.media import discover, fence, medium, uses
from targetplugin.media.here import Here
from targetplugin.media.patience import Patience


@pytest.fixture
def plug() -> Iterator[threading.Event]:
    """Set, everything answers."""
    event = threading.Event()
    yield event
    event.set()


def test_answers_come_whole_and_the_silent_one_is_told(plug: threading.Event) -> None:
    def question(path: str) -> str:
        if path == "/dead":
            plug.wait()
        return path.upper()

    late: list[str] = []
    told = threading.Event()
    patience = Patience(0.2)
    patience.answered = lambda path: (late.append(path), told.set())[0]
    begun = time.monotonic()
    assert patience.ask(question, ["/a", "/dead", "/b"]) == {"/a": "/A", "/dead": None, "/b": "/B"}
    assert 0.2 <= time.monotonic() - begun < 5
    begun = time.monotonic()
    assert patience.ask(question, ["/dead"]) == {"/dead": None}
    assert time.monotonic() - begun < 0.2, "it waited for it again"
    plug.set()
    assert told.wait(5)
    assert late == ["/dead"]
    assert patience.ask(question, ["/dead"]) == {"/dead": "/DEAD"}
    assert late == ["/dead"], "what answers in time was never silent"


def test_one_disk_by_two_names_is_asked_once(plug: threading.Event, tmp_path: Path) -> None:
    (tmp_path / "by-id").symlink_to(tmp_path / "disk")
    asked = []

    def question(path: str) -> bool:
        asked.append(path)
        return plug.wait()

    patience = Patience(0.1)
    assert patience.ask(question, [str(tmp_path / "disk")]) == {str(tmp_path / "disk"): None}
    assert patience.ask(question, [str(tmp_path / "by-id")]) == {str(tmp_path / "by-id"): None}
    assert asked == [str(tmp_path / "disk")]


def test_what_a_question_raises_reaches_who_asked() -> None:
    def question(path: str) -> None:
        raise ValueError(path)

    with pytest.raises(ValueError, match="/a"):
        Patience(1).ask(question, ["/a"])


def test_a_silent_medium_is_not_found(
    plug: threading.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(path: str) -> None:
        plug.wait()

    monkeypatch.setattr(discover, "peek", silent)
    uuid = b"u" * 16
    wanted = [discover.Wanted(uuid, str(tmp_path / "disk"))]
    nowhere = str(tmp_path / "none")
    found = discover.find(wanted, Patience(0.1), at=Here(by_id=nowhere, sys_block=nowhere))
    assert found[uuid].path == ""
    assert "does not answer" in found[uuid].why


def test_one_that_answers_while_others_are_waited_for_is_silent_no_more(
    plug: threading.Event,
) -> None:
    slow, told = threading.Event(), threading.Event()

    def question(path: str) -> str:
        (plug if path == "/dead" else slow).wait()
        return path

    patience = Patience(0.3)
    patience.answered = lambda path: told.set()
    assert patience.ask(question, ["/dead"]) == {"/dead": None}

    def both() -> None:
        plug.set()
        told.wait(5)
        slow.set()

    threading.Timer(0.1, both).start()
    assert patience.ask(question, ["/slow", "/dead"])["/slow"] == "/slow"
    assert patience.ask(question, ["/dead"]) == {"/dead": "/dead"}


def test_partitions_that_a_host_made_do_not_count_as_use(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(path: str) -> None:
        raise Refused(Reason.BUSY, "it is in use")

    monkeypatch.setattr(medium, "try_exclusively", busy)
    monkeypatch.setattr(uses.stat, "S_ISBLK", lambda mode: True)
    monkeypatch.setattr(uses.device, "partitions", lambda number: {"sdx1": 0})
    monkeypatch.setattr(uses, "_uses_of", lambda name, number: iter(()))
    assert fence.held("/dev/null")
    assert not fence.held("/dev/there/is/no/such")
