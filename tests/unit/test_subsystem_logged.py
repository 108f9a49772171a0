"""What a daemon logs: nothing while all is well but a line for what was asked; all lines of an operation by
its number, of a volume by its name; what stays as it is once.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from targetplugin.errors import Reason, Refused
from targetplugin.scsi.logical_unit import LogicalUnit
from targetplugin.subsystem.ground import journal
from targetplugin.subsystem.images import qemu_img
from targetplugin.subsystem.points import transfers
from tests.unit.fake_engine import EVENTS, buffered_write
from tests.unit.fake_journald import FakeJournald, logging_to
from tests.unit.house import House, image
from tests.unit.test_subsystem_full import Disk, disk  # noqa: F401
from tests.waiting import until

INFO, WARNING, ERROR = 6, 4, 3


@pytest.fixture
def logged(house: House, tmp_path: Path) -> Iterator[FakeJournald]:
    with logging_to(tmp_path / "journal") as journald:
        yield journald


@pytest.fixture
def ann(house: House) -> Any:
    return house.subsystem.asked("terminal", "ann")


# --- quiet when all is well ------------------------------------------------------------------


def test_a_save_is_one_line(logged: FakeJournald, ann: Any) -> None:
    ann.save("ledger", label="night")
    assert logged.messages(INFO) == ["save ledger label=night: ledger@1 done"]
    (found,) = logged.entries(PRIORITY=INFO)
    told = {k[13:]: v for k, v in found.items() if k.startswith("TARGETPLUGIN_")}
    assert told == {
        "DOOR": ["terminal"],
        "ASKER": ["ann"],
        "VOLUME": ["ledger"],
        "OPERATION": ["1"],
        "SAVE": ["ledger@1"],
        "EVENT": ["save"],
    }


def test_what_a_host_reads_is_not_told(house: House, logged: FakeJournald) -> None:
    """Hosts ask for modes, logs and states as often as they like."""
    before = house.subsystem.event_list()
    unit = LogicalUnit(house.subsystem.asked("in-band", volume="ledger"), "ledger")
    for cdb in (
        "5a 00 3f 00 00 00 00 00 fc 00",  # MODE SENSE(10), all pages
        "1a 00 08 00 fc 00",
        "4d 00 40 00 00 00 00 00 fc 00",  # LOG SENSE, supported pages
        "4d 00 42 00 00 00 00 00 fc 00",
        "12 00 00 00 fc 00",
        "12 01 b0 00 fc 00",
        "9e 10" + " 00" * 11 + " 20 00 00",
    ):
        assert unit.execute(bytes.fromhex(cdb), b"", 252).status == 0, cdb
    assert house.subsystem.event_list() == before
    assert logged.messages(INFO) == []


def test_what_is_copied_is_one_line_at_its_end(
    house: House, logged: FakeJournald, ann: Any
) -> None:
    house.engine.hold_copies = True
    op = ann.save("ledger", policy="copy")["operation"]["id"]
    assert logged.messages(INFO) == []
    house.finish()
    assert logged.messages(INFO) == [f"save ledger@1, operation {op}, is done"]
    assert len(logged.messages(TARGETPLUGIN_OPERATION=op)) == 3, "begun, asked, and over"


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not there")
@pytest.mark.parametrize(
    ("verb", "state"), [("backup", "done"), ("backup", "failed"), ("restore", "done")]
)
def test_work_on_an_image_is_one_line_and_an_event_at_its_end(
    house: House,
    logged: FakeJournald,
    ann: Any,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
    state: str,
) -> None:
    house.subsystem.save("ledger")
    if state == "failed":
        monkeypatch.setattr(qemu_img, "same", lambda *_: False)
    if verb == "backup":
        made = ann.backup("ledger@1", str(house.folder / "night.img"))
    else:
        made = ann.restore("ledger", image=image(house.folder / "night.img", "k"))
    done = house.wait(made)
    assert done["state"] == state
    house.subsystem._image_runs.stop()
    (line,) = logged.messages(INFO, TARGETPLUGIN_OPERATION=done["id"])
    assert f", operation {done['id']}, is {state}" in line
    assert logged.messages(INFO, TARGETPLUGIN_STATE=state) == [line]
    assert [e["what"] for e in house.subsystem.event_list() if e["kind"] == "operation"] == [line]


def test_a_recover_is_one_line_whether_it_is_over_at_once_or_not(
    house: House, logged: FakeJournald, ann: Any
) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger")
    for held in (True, False):
        house.write(3, "y")
        before = len(logged.messages(INFO))
        house.engine.hold_copies = held
        op = ann.recover("ledger@1")["operation"]["id"]
        house.finish()
        assert logged.messages(INFO)[before:] == [f"recover ledger@1, operation {op}, is done"]


def test_a_save_of_several_volumes_is_one_line_and_found_by_each(
    saved: House, tmp_path: Path
) -> None:
    saved.engine.hold_copies = True
    with logging_to(tmp_path / "journal") as logged:
        made = saved.subsystem.asked("terminal", "ann").save_group(
            ["ledger", "journal"], policy="split"
        )
        saved.finish()
        number = made["operation"]["id"]
        (line,) = logged.messages(INFO)
        assert line.startswith("save")
        assert "ledger" in line
        assert "journal" in line
        for name in ("ledger", "journal"):
            assert logged.messages(INFO, TARGETPLUGIN_VOLUME=name) == [line]
        for row in saved.catalog.operations()[:3]:
            assert logged.messages(INFO, TARGETPLUGIN_OPERATION=row.id) == [line]
        assert number in [row.id for row in saved.catalog.operations()[:3]]


def test_a_recover_of_several_volumes_is_found_by_each_save(saved: House, tmp_path: Path) -> None:
    with logging_to(tmp_path / "journal") as logged:
        saved.subsystem.recover_group(["ledger@night", "journal@night"])
        saved.finish()
        (line,) = logged.messages(INFO)
        for name in ("ledger@1", "journal@1"):
            assert logged.messages(INFO, TARGETPLUGIN_SAVE=name) == [line]


def test_a_start_and_an_end_of_what_is_well_say_nothing(house: House, tmp_path: Path) -> None:
    house.subsystem.save("ledger")
    house.end()
    with logging_to(tmp_path / "journal") as logged:
        house.boot()
        house.subsystem._comeback.look()
        house.subsystem._replace.look()
        house.end()
        assert logged.messages(INFO) == []
    house.boot()


def test_looking_says_nothing(house: House, logged: FakeJournald, ann: Any) -> None:
    ann.status()
    ann.volume_show("ledger")
    ann.event_list()
    ann.save("ledger", preview=True)
    assert logged.entries() == []


# --- an operation, a volume ------------------------------------------------------------------


def test_a_verb_that_the_disk_fails_is_found_by_its_number(
    house: House, logged: FakeJournald, ann: Any
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(5, "Input/output error")

    house.engine.save_split = fails  # type: ignore[method-assign]
    with pytest.raises(Refused):
        ann.save("ledger")
    (row,) = house.catalog.operations()
    assert row.state == "failed"
    told = logged.messages(WARNING, TARGETPLUGIN_OPERATION=row.id, TARGETPLUGIN_ASKER="ann")
    assert told == ["save ledger: refused, save of ledger failed: Input/output error"]


def test_what_is_asked_wrongly_is_no_warning(logged: FakeJournald, ann: Any) -> None:
    with pytest.raises(Refused):
        ann.recover("ledger@night")
    assert logged.messages(WARNING) == []
    (found,) = logged.entries()
    assert "refused, there is no save" in found["MESSAGE"][0]
    assert found["TARGETPLUGIN_VOLUME"] == ["ledger"]


def test_a_host_that_repeats_what_is_refused_is_one_line(
    house: House, logged: FakeJournald
) -> None:
    house.subsystem.volume_set("ledger", rights="status")
    host = house.subsystem.asked("in-band", volume="ledger")
    for _ in range(5):
        with pytest.raises(Refused):
            host.save("ledger", door="in-band")
    assert len(logged.entries(TARGETPLUGIN_DOOR="in-band")) == 1


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyError("a defect")])
def test_work_that_fails_in_its_own_thread_is_found_by_its_number(
    house: House, logged: FakeJournald, ann: Any, error: Exception
) -> None:
    """A defect has its traceback, and the operation ends all the same."""

    def fails(*_: Any) -> bytes:
        raise error

    house.subsystem.save("ledger", policy="sparse")
    house.engine.look = fails  # type: ignore[method-assign]
    op = house.wait(ann.fill("ledger@1"))["id"]
    (told,) = logged.messages(WARNING, TARGETPLUGIN_OPERATION=op, TARGETPLUGIN_STATE="failed")
    assert told.startswith(f"fill ledger@1, operation {op}, is failed: ")
    defects = logged.entries(TARGETPLUGIN_OPERATION=op, EXCEPTION_TYPE="KeyError")
    assert len(defects) == isinstance(error, KeyError)


def test_a_leg_that_fails_is_a_warning_of_its_volume_and_medium(
    house: House, logged: FakeJournald
) -> None:
    house.engine.broken.add(house.floor.medium_row("b").uuid)
    house.write(3, "x")
    house.subsystem.settled()
    (found,) = logged.entries(TARGETPLUGIN_VOLUME="ledger", TARGETPLUGIN_MEDIUM="b")
    assert (found["MESSAGE"], found["PRIORITY"]) == (["ledger: leg stale b"], ["4"])
    assert found["TARGETPLUGIN_EVENT"] == ["leg_stale"]
    house.engine.broken.clear()
    house.subsystem._comeback.look()
    house.finish()
    told = logged.messages(INFO, TARGETPLUGIN_VOLUME="ledger")
    assert told[-2:] == ["b is back", "ledger: leg in sync b"]


def test_a_scrub_says_what_differs_as_an_error(
    house: House, logged: FakeJournald, ann: Any
) -> None:
    fd = house.floor.media[house.floor.medium_row("b").uuid].fd
    buffered_write(fd, 5 * 65536, b"z" * 4096)
    op = house.wait(ann.scrub("ledger", rate=1 << 40))["id"]
    told = logged.messages(ERROR, TARGETPLUGIN_OPERATION=op, TARGETPLUGIN_VOLUME="ledger")
    assert told
    assert len(told) <= 2, "the first place, and the sum of it"
    assert logged.messages(INFO, TARGETPLUGIN_OPERATION=op)[-1].endswith("is done")


def test_saves_that_go_by_their_rules_are_told(house: House, logged: FakeJournald) -> None:
    house.subsystem.retain("ledger", last=1)
    for _ in range(2):
        house.subsystem.save("ledger", policy="copy")
        house.finish()
    house.subsystem.settled()
    (found,) = logged.entries(TARGETPLUGIN_DOOR="policy", PRIORITY=INFO)
    assert found["MESSAGE"][0].startswith("release ledger@1, operation ")
    assert found["TARGETPLUGIN_SAVE"] == ["ledger@1"]


def test_each_kind_of_event_has_its_level() -> None:
    known = {*EVENTS.values(), *transfers.OF_THE_STORE}
    bad = {kind for kind in known if kind.endswith(("lost", "broken", "failed", "stale", "low"))}
    assert bad <= journal.LEVELS.keys()
    assert {kind for kind in journal.LEVELS if journal.LEVELS[kind] == 10} <= known


# --- once ------------------------------------------------------------------------------------


def test_a_medium_that_is_missing_is_told_once_and_when_it_is_back(
    house: House, tmp_path: Path
) -> None:
    house.kill()
    (house.folder / "c").rename(house.folder / "away")
    with logging_to(tmp_path / "journal") as logged:
        house.boot()
        for _ in range(3):
            house.subsystem._comeback.look()
        (told,) = logged.messages(WARNING, TARGETPLUGIN_MEDIUM="c")
        assert told.startswith("the medium c is missing: ")
        (house.folder / "away").rename(house.folder / "c")
        house.subsystem._comeback.look()
        assert "the medium c is back" in logged.messages(INFO, TARGETPLUGIN_MEDIUM="c")


def test_a_volume_that_is_down_is_told_once_and_when_it_is_up(house: House, tmp_path: Path) -> None:
    house.kill()
    for name in "ab":
        (house.folder / name).rename(house.folder / f"{name}-away")
    with logging_to(tmp_path / "journal") as logged:
        house.boot()
        for _ in range(3):
            house.subsystem._comeback.look()
        (told,) = logged.messages(ERROR, TARGETPLUGIN_VOLUME="ledger")
        assert told.startswith("ledger is down: ")
        for name in "ab":
            (house.folder / f"{name}-away").rename(house.folder / name)
        house.subsystem._comeback.look()
        assert "ledger is up" in logged.messages(INFO, TARGETPLUGIN_VOLUME="ledger")


def test_what_the_catalog_cannot_take_is_told_once_and_logged_when_it_has_it(
    house: House,
    disk: Disk,  # noqa: F811
    logged: FakeJournald,
) -> None:
    disk.full = True
    house.engine.broken.add(house.floor.medium_row("b").uuid)
    house.write(3, "x")
    tries = []
    handle = house.subsystem._transfers._handle

    def counted(event: Any) -> None:
        tries.append(event)
        handle(event)

    house.subsystem._transfers._handle = counted  # type: ignore[method-assign]
    until(lambda: len(tries) > 3, awaited="more tries")
    wanted = {"LOGGER": transfers.__name__, "TARGETPLUGIN_VOLUME": "ledger"}
    assert logged.messages(ERROR, **wanted) == ["leg_stale can't be noted yet: the disk is full"]
    assert not logged.entries(EXCEPTION_TYPE="Refused"), "a full disk is no defect"
    disk.full = False
    until(lambda: logged.messages(TARGETPLUGIN_EVENT="leg_stale"), awaited="the event")
    house.engine.broken.clear()
    house.finish()
    known = [e["what"] for e in house.subsystem.event_list() if e["kind"] == "leg_stale"]
    told = logged.messages(TARGETPLUGIN_EVENT="leg_stale")
    assert told == [f"ledger: {what}" for what in known], "once each"


def test_what_was_undone_is_not_told(house: House, logged: FakeJournald) -> None:
    made = house.subsystem.save("ledger", policy="copy")
    house.finish()
    row = house.catalog.operation_get(made["operation"]["id"])
    assert row is not None
    before = logged.messages()

    def undone() -> None:
        with house.catalog.transaction():
            house.subsystem._operations.note(row, "done")
            house.catalog.operation_set(1 << 40, state="done")

    with pytest.raises(Refused):
        undone()
    assert logged.messages() == before


def test_a_line_that_the_journal_lacks_is_in_the_log(
    house: House,
    disk: Disk,  # noqa: F811
    logged: FakeJournald,
) -> None:
    disk.full = True
    with pytest.raises(Refused) as refused:
        house.subsystem.asked("terminal", "ann").save("ledger")
    assert refused.value.reason is Reason.ENVIRONMENT
    (told,) = logged.messages(ERROR, TARGETPLUGIN_VOLUME="ledger", TARGETPLUGIN_ASKER="ann")
    assert told.startswith("the journal lacks a line (the disk is full): save ledger: refused")
    disk.full = False
