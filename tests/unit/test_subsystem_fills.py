"""A save without fill is made whole on a spare, and is backed up as it is."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from targetplugin.errors import Reason, Refused
from targetplugin.media import device
from targetplugin.media.medium import Medium
from targetplugin.subsystem.backups import fills
from tests.unit.fake_engine import PowerCut
from tests.unit.fake_store import StoreEngine
from tests.unit.house import EXTENT, House


@pytest.fixture
def sparse(house: House) -> House:
    """`ledger@1` and `ledger@2` without fill, in the store c, with "x" and "y" in extent 3, and "z" now."""
    for letter in "xy":
        house.write(3, letter)
        house.subsystem.save("ledger", policy="sparse")
    house.write(3, "z")
    return house


class Gate:
    """Lets the engine's looks through up to an offset, and the others when it is opened."""

    def __init__(self, house: House, offset: int = 0) -> None:
        self.opened, self.reached = threading.Event(), threading.Event()
        look = house.engine.look

        def waits(handle: int, generation: int, at: int, length: int) -> bytes:
            if at >= offset:
                self.reached.set()
                assert self.opened.wait(30)
            return look(handle, generation, at, length)

        house.engine.look = waits  # type: ignore[method-assign]


def save(house: House, name: str) -> dict[str, Any]:
    return next(one for one in house.show()["saves"] if one["name"] == name)


def refused(reason: Reason, part: str, ask: Any, *rest: Any, **more: Any) -> None:
    with pytest.raises(Refused) as caught:
        ask(*rest, **more)
    assert caught.value.reason is reason
    assert part in caught.value.message


# --- fill -------------------------------------------------------------------------------------------


def test_a_fill_makes_a_save_whole_on_a_spare_and_the_store_is_without_it(sparse: House) -> None:
    answer = sparse.subsystem.fill("ledger@1")
    done = sparse.wait(answer)
    assert (done["state"], done["progress"], done["bytes_copied"]) == ("done", 1.0, 8 << 20)
    told = save(sparse, "ledger@1")
    assert (told["fill"], told["media"], told["kept_bytes"]) == ("whole", ["d"], None)
    assert sparse.on_medium("d", 3) == "x"
    (store,) = sparse.stores.values()
    assert list(store.saves) == [2]
    assert sparse.states()["d"] == "save ledger@1"


def test_the_last_save_that_is_filled_frees_the_store(sparse: House) -> None:
    sparse.subsystem.release("ledger@2")
    sparse.wait(sparse.subsystem.fill("ledger@1", onto="d"))
    assert sparse.states()["c"] == "free"
    sparse.subsystem.swap("ledger@1")
    assert sparse.read(3) == "x"


def test_while_it_is_filled_its_medium_is_its_own_and_other_verbs_go_on(sparse: House) -> None:
    gate = Gate(sparse)
    answer = sparse.subsystem.fill("ledger@1")
    assert gate.reached.wait(30)
    assert save(sparse, "ledger@1")["activity"] == "being-filled"
    assert sparse.states()["d"] == "save ledger@1"
    refused(Reason.STATE, "in use", sparse.subsystem.media_remove, "d")
    refused(Reason.BUSY, "is being filled", sparse.subsystem.release, "ledger@1")
    refused(Reason.BUSY, "is being filled", sparse.subsystem.fill, "ledger@1")
    sparse.subsystem.save("ledger", policy="sparse")
    sparse.subsystem.release("ledger@3")
    assert sparse.states()["d"] == "save ledger@1"
    gate.opened.set()
    assert sparse.wait(answer)["state"] == "done"
    assert sparse.on_medium("d", 3) == "x"


def test_it_can_be_recovered_from_while_it_is_filled_and_leaves_the_store_then(
    sparse: House,
) -> None:
    gate = Gate(sparse)
    answer = sparse.subsystem.fill("ledger@1")
    assert gate.reached.wait(30)
    sparse.engine.hold_copies = True
    sparse.subsystem.recover("ledger@1", no_undo=True)
    gate.opened.set()
    assert sparse.wait(answer)["state"] == "done"
    (store,) = sparse.stores.values()
    assert list(store.saves) == [1, 2], "the recover reads it"
    sparse.finish()
    assert sparse.read(3) == "x"
    assert list(store.saves) == [2]


def test_an_aborted_fill_leaves_the_save_as_it_was_and_the_spare_free(sparse: House) -> None:
    gate = Gate(sparse, 1 << 20)
    answer = sparse.subsystem.fill("ledger@1", rate=1 << 20)
    assert gate.reached.wait(30)
    threading.Timer(0.1, gate.opened.set).start()
    assert sparse.subsystem.abort(answer["operation"]["id"])["operation"]["state"] == "aborted"
    assert save(sparse, "ledger@1")["fill"] == "unfilled"
    assert sparse.states()["d"] == "free"
    sparse.subsystem.recover("ledger@1")
    assert sparse.read(3) == "x"


def test_a_save_that_is_lost_meanwhile_fails_its_fill(sparse: House) -> None:
    gate = Gate(sparse, 1 << 20)
    answer = sparse.subsystem.fill("ledger@1")
    assert gate.reached.wait(30)
    sparse.engine.fill_up(sparse.handle(), 1)
    gate.opened.set()
    done = sparse.wait(answer)
    assert done["state"] == "failed"
    assert "ledger@1 was lost before all of it was copied" in done["error"]
    sparse.subsystem.settled()
    assert save(sparse, "ledger@1")["fill"] == "broken"
    assert sparse.states()["d"] == "free"


def test_a_spare_that_fails_is_told_and_the_save_stays(
    sparse: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(fd: int, offset: int, data: bytes) -> None:
        monkeypatch.undo()  # once
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    gate = Gate(sparse)
    answer = sparse.subsystem.fill("ledger@1")
    assert gate.reached.wait(30)
    monkeypatch.setattr(device, "write", fails)
    gate.opened.set()
    done = sparse.wait(answer)
    assert done["state"] == "failed"
    assert "can't be written" in done["error"]
    assert save(sparse, "ledger@1")["fill"] == "unfilled"
    assert sparse.states()["d"] == "free"


# --- a daemon that ends meanwhile -------------------------------------------------------------------


def left_behind(house: House, offset: int = 4 << 20, *, clean: bool = False, **how: Any) -> int:
    """The number of a fill that copies what is at an offset when the daemon ends; it is not there yet."""
    gate = Gate(house, offset)
    answer = house.subsystem.fill("ledger@1", **how)
    assert gate.reached.wait(30)
    end = threading.Thread(target=house.subsystem._image_runs.stop if clean else house.end_fills)
    end.start()
    number = int(answer["operation"]["id"])
    while not house.subsystem._image_runs._runs[number].stopped:
        time.sleep(0.001)
    gate.opened.set()
    end.join()
    (house.end if clean else house.kill)()
    return number


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The offsets that daemons look up which start from now on."""
    seen: list[int] = []
    look = StoreEngine.look

    def notes(engine: StoreEngine, handle: int, generation: int, at: int, length: int) -> bytes:
        seen.append(at >> 20)
        return look(engine, handle, generation, at, length)

    monkeypatch.setattr(StoreEngine, "look", notes)
    return seen


def goes_on(house: House, number: int) -> None:
    """It comes to its end under its number."""
    done = house.wait({"operation": {"id": number}})
    assert (done["state"], done["progress"], done["error"]) == ("done", 1.0, None)
    assert done["bytes_copied"] == 8 << 20
    told = save(house, "ledger@1")
    assert (told["fill"], told["media"]) == ("whole", ["d"])
    assert house.on_medium("d", 3) == "x"
    (store,) = house.stores.values()
    assert list(store.saves) == [2]


@pytest.mark.parametrize("offset", [0, 1 << 20, 7 << 20])
def test_a_fill_goes_on_after_a_kill(sparse: House, offset: int) -> None:
    number = left_behind(sparse, offset)
    sparse.boot()
    goes_on(sparse, number)


def test_a_fill_goes_on_where_a_clean_end_left_it(sparse: House, looked_at: list[int]) -> None:
    number = left_behind(sparse, clean=True)
    looked_at.clear()
    sparse.boot()
    goes_on(sparse, number)
    assert looked_at == [5, 6, 7]


def test_how_far_a_fill_is_outlives_a_kill(
    sparse: House, looked_at: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fills, "KEEP", 0.0)
    number = left_behind(sparse)
    looked_at.clear()
    sparse.boot()
    goes_on(sparse, number)
    assert looked_at == [4, 5, 6, 7]


def test_a_fill_that_is_slow_stays_slow_and_has_its_medium_after_a_kill(sparse: House) -> None:
    number = left_behind(sparse, 0, rate=65536)
    sparse.boot()
    told = sparse.subsystem.operation(number)
    assert (told["state"], told["rate"]) == ("running", 65536)
    assert save(sparse, "ledger@1")["activity"] == "being-filled"
    assert sparse.states()["d"] == "save ledger@1"
    sparse.subsystem._comeback.look()
    assert len(sparse.subsystem._image_runs._threads) == 1
    sparse.subsystem.operation_rate(number, rate=None)
    goes_on(sparse, number)


def test_a_fill_waits_for_its_medium_after_a_kill(sparse: House) -> None:
    number = left_behind(sparse)
    (sparse.folder / "d").rename(sparse.folder / "away")
    sparse.boot()
    told = sparse.subsystem.operation(number)
    assert told["state"] == "running"
    assert told["error"] == "d is missing; the fill goes on when it is back"
    refused(Reason.BUSY, "is being filled", sparse.subsystem.release, "ledger@1")
    assert sparse.subsystem.operation_rate(number, rate=1 << 30)["rate"] == 1 << 30
    (sparse.folder / "away").rename(sparse.folder / "d")
    sparse.subsystem._comeback.look()
    goes_on(sparse, number)


def test_a_fill_that_waits_can_be_aborted_and_its_medium_is_free_when_it_is_back(
    sparse: House,
) -> None:
    number = left_behind(sparse)
    (sparse.folder / "d").rename(sparse.folder / "away")
    sparse.boot()
    assert sparse.subsystem.abort(number)["operation"]["state"] == "aborted"
    sparse.subsystem.release("ledger@1")
    (sparse.folder / "away").rename(sparse.folder / "d")
    sparse.subsystem._comeback.look()
    assert sparse.states()["d"] == "free"


def test_a_fill_waits_for_its_volume_and_ends_with_it(sparse: House) -> None:
    number = left_behind(sparse)
    for leg in "ab":
        (sparse.folder / leg).rename(sparse.folder / f"{leg}-away")
    sparse.boot()
    assert sparse.show()["state"] == "down"
    assert sparse.subsystem.operation(number)["state"] == "running"
    assert sparse.states()["d"] == "save ledger@1"
    for leg in "ab":
        (sparse.folder / f"{leg}-away").rename(sparse.folder / leg)
    sparse.subsystem._comeback.look()
    goes_on(sparse, number)


def test_a_volume_is_deleted_with_a_fill_that_waits(sparse: House) -> None:
    number = left_behind(sparse)
    (sparse.folder / "d").rename(sparse.folder / "away")
    sparse.boot()
    sparse.subsystem.volume_delete("ledger", force=True)
    assert sparse.subsystem.operation(number)["state"] == "aborted"
    (sparse.folder / "away").rename(sparse.folder / "d")
    sparse.subsystem._comeback.look()
    assert "left over" in sparse.states()["d"]


def test_a_fill_of_a_save_that_was_lost_before_a_start_fails(sparse: House) -> None:
    number = left_behind(sparse)
    (store,) = sparse.stores.values()
    store.saves[1].broken = True
    sparse.boot()
    done = sparse.subsystem.operation(number)
    assert done["state"] == "failed"
    assert "ledger@1 was lost before all of it was copied" in done["error"]
    assert save(sparse, "ledger@1")["fill"] == "broken"
    assert sparse.states()["d"] == "free"


def test_a_fill_whose_medium_was_given_away_fails(sparse: House) -> None:
    number = left_behind(sparse)
    with Medium.open(str(sparse.folder / "d")) as medium:
        assert medium.trailer is not None
        medium.write_trailer(replace(medium.trailer, op=number + 1))
    sparse.boot()
    done = sparse.subsystem.operation(number)
    assert (done["state"], done["error"]) == ("failed", "d was given to something else meanwhile")
    assert save(sparse, "ledger@1")["fill"] == "unfilled"


def test_a_fill_that_had_not_begun_when_the_daemon_was_killed_has_no_trace(
    sparse: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: Any) -> None:
        raise PowerCut

    monkeypatch.setattr(sparse.subsystem._settle, "claim", cut)
    with pytest.raises(PowerCut):
        sparse.subsystem.fill("ledger@1")
    sparse.restart()
    done = sparse.subsystem.operations("ledger")[0]
    assert (done["state"], done["error"]) == ("failed", "the daemon ended before it began")
    assert sparse.states()["d"] == "free"


def test_a_fill_that_was_whole_but_for_its_end_is_done_after_a_kill(sparse: House) -> None:
    answer = sparse.subsystem.fill("ledger@1")
    sparse.wait(answer)
    sparse.catalog.operation_set(answer["operation"]["id"], state="running", progress=0.9)
    sparse.restart()
    assert sparse.subsystem.operation(answer["operation"]["id"])["state"] == "done"
    assert save(sparse, "ledger@1")["fill"] == "whole"


def test_what_is_whole_is_not_filled(sparse: House) -> None:
    sparse.engine.hold_copies = True
    sparse.subsystem.save("ledger", policy="copy", label="whole")
    refused(Reason.BUSY, "still fills", sparse.subsystem.fill, "ledger@whole")
    sparse.finish()
    refused(Reason.STATE, "is whole already", sparse.subsystem.fill, "ledger@whole")
    refused(Reason.NO_MEDIUM, "1 free medium", sparse.subsystem.fill, "ledger@1")


def test_a_preview_of_a_fill_says_where(sparse: House) -> None:
    told = sparse.subsystem.fill("ledger@1", preview=True)
    assert (told["onto"], told["kind"]) == ("d", "fill")
    assert sparse.states()["d"] == "free"


def test_the_rate_of_a_fill_can_be_changed(sparse: House) -> None:
    gate = Gate(sparse, 1 << 20)
    answer = sparse.subsystem.fill("ledger@1", rate=65536)
    number = answer["operation"]["id"]
    assert sparse.subsystem.operation_rate(number)["rate"] is None
    gate.opened.set()
    assert sparse.wait(answer)["state"] == "done"


# --- backup -----------------------------------------------------------------------------------------


def converted(path: Path) -> bytes:
    raw = path.with_suffix(".raw")
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(path), str(raw)], check=True)
    return raw.read_bytes()


def test_a_save_without_fill_is_backed_up_whole_and_as_an_increment(
    sparse: House, tmp_path: Path
) -> None:
    one, two = tmp_path / "one.qcow2", tmp_path / "two.qcow2"
    assert sparse.wait(sparse.subsystem.backup("ledger@1", str(one)))["state"] == "done"
    answer = sparse.subsystem.backup("ledger@2", str(two), since="ledger@1")
    assert sparse.wait(answer)["state"] == "done"
    for path, letter in ((one, b"x"), (two, b"y")):
        content = converted(path)
        assert content[3 * EXTENT : 4 * EXTENT] == letter * EXTENT
        assert not any(content[4 * EXTENT :])
    assert two.stat().st_size < one.stat().st_size + 4 * EXTENT


def test_a_backup_of_a_save_that_is_lost_meanwhile_says_so(sparse: House, tmp_path: Path) -> None:
    gate = Gate(sparse, 1 << 20)
    answer = sparse.subsystem.backup("ledger@1", str(tmp_path / "one.qcow2"))
    assert gate.reached.wait(30)
    sparse.engine.fill_up(sparse.handle(), 1)
    gate.opened.set()
    done = sparse.wait(answer)
    assert (done["state"], done["error"]) == ("failed", "there is no save 1")
    assert os.listdir(tmp_path).count("one.qcow2") == 0


def test_a_save_that_fills_is_backed_up_at_once(sparse: House, tmp_path: Path) -> None:
    sparse.engine.volumes[sparse.handle()].core.allowed(0)
    sparse.subsystem.save("ledger", policy="copy", label="late")
    sparse.write(100, "w")
    assert save(sparse, "ledger@3")["fill"] == "filling"
    answer = sparse.subsystem.backup("ledger@late", str(tmp_path / "late.qcow2"))
    assert sparse.wait(answer)["state"] == "done"
    content = converted(tmp_path / "late.qcow2")
    assert content[3 * EXTENT : 4 * EXTENT] == b"z" * EXTENT
    assert not any(content[4 * EXTENT :])
    sparse.engine.volumes[sparse.handle()].core.allowed(2)


def test_what_is_being_backed_up_is_not_filled(sparse: House, tmp_path: Path) -> None:
    gate = Gate(sparse)
    answer = sparse.subsystem.backup("ledger@1", str(tmp_path / "one.qcow2"))
    assert gate.reached.wait(30)
    refused(Reason.BUSY, "written to a backup", sparse.subsystem.fill, "ledger@1")
    gate.opened.set()
    assert sparse.wait(answer)["state"] == "done"
