"""A save without fill is made whole on a spare, and is backed up as it is."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from targetplugin.errors import Reason, Refused
from targetplugin.media import device
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


def test_a_fill_that_a_kill_ended_has_no_trace(sparse: House) -> None:
    gate = Gate(sparse, 1 << 20)
    answer = sparse.subsystem.fill("ledger@1")
    assert gate.reached.wait(30)
    threads = list(sparse.subsystem._image_runs._threads.values())
    sparse.subsystem._image_runs.over = lambda *a, **k: None  # type: ignore[method-assign]
    gate.opened.set()
    for thread in threads:  # it ends with the process
        thread.join()
    sparse.restart()
    done = sparse.subsystem.operation(answer["operation"]["id"])
    assert (done["state"], done["error"]) == ("failed", "the daemon ended before it was done")
    assert save(sparse, "ledger@1")["fill"] == "unfilled"
    assert sparse.states()["d"] == "free"
    sparse.wait(sparse.subsystem.fill("ledger@1"))
    assert sparse.on_medium("d", 3) == "x"


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


def test_what_is_being_backed_up_is_not_filled(sparse: House, tmp_path: Path) -> None:
    gate = Gate(sparse)
    answer = sparse.subsystem.backup("ledger@1", str(tmp_path / "one.qcow2"))
    assert gate.reached.wait(30)
    refused(Reason.BUSY, "written to a backup", sparse.subsystem.fill, "ledger@1")
    gate.opened.set()
    assert sparse.wait(answer)["state"] == "done"
