"""Restore and backup, with the real qemu-img."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.images import qemu_img
from tests.unit.house import MIB, House, image
from tests.waiting import until

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not there")


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_a_restored_image_becomes_the_volume_by_a_swap(house: House, format: str) -> None:
    path = image(house.folder / "backup.img", "klm", format)
    house.write(3, "x")
    answer = house.subsystem.restore("ledger", image=path)
    assert answer["save"]["origin"] == "image"
    assert house.read(3) == "x"
    done = house.wait(answer)
    assert (done["state"], done["progress"]) == ("done", 1.0)
    assert house.states()["c"] == "restored image of ledger"
    assert house.show()["saves"][0]["fill"] == "whole"
    house.subsystem.swap("ledger")
    assert [house.read(extent) for extent in range(4)] == ["k", "l", "m", ""]
    house.subsystem.swap("ledger")
    assert [house.read(extent) for extent in range(4)] == ["", "", "", "x"]


def test_a_spare_that_held_other_data_holds_zeros_behind_a_smaller_image(house: House) -> None:
    house.subsystem.save("ledger", policy="copy", onto="c")
    house.finish()
    house.write(9, "x")
    house.subsystem.save("ledger", policy="copy", onto="d")
    house.finish()
    house.subsystem.release("ledger@2")
    answer = house.subsystem.restore(
        "ledger", image=image(house.folder / "small.img", "k"), onto="d"
    )
    assert house.wait(answer)["state"] == "done"
    assert house.on_medium("d", 9) == ""


def test_a_difference_to_a_restored_image_is_everything(house: House) -> None:
    answer = house.subsystem.restore("ledger", image=image(house.folder / "one.img", "k"))
    name = answer["save"]["name"]
    house.wait(answer)
    assert house.subsystem.diff(name)["extents"] == 128
    house.subsystem.recover(name)
    house.finish()
    assert house.read(0) == "k"
    assert house.saves() == [name, "ledger@1"]
    assert house.show()["saves"][1]["undo"]


def test_an_image_is_whole_before_it_can_be_swapped_in(house: House, monkeypatch: Any) -> None:
    held = Held(monkeypatch)
    path = image(house.folder / "one.img", "k")
    answer = house.subsystem.restore("ledger", image=path)
    for verb in (house.subsystem.swap, house.subsystem.recover, house.subsystem.release):
        with pytest.raises(Refused) as refused:
            verb(answer["save"]["name"])
        assert refused.value.reason is Reason.BUSY
    held.go()
    assert house.wait(answer)["state"] == "done"


def test_an_aborted_restore_frees_its_medium(house: House, monkeypatch: Any) -> None:
    Held(monkeypatch)
    answer = house.subsystem.restore("ledger", image=image(house.folder / "one.img", "k"))
    assert house.subsystem.abort(answer["operation"]["id"])["operation"]["state"] == "aborted"
    assert house.states()["c"] == "free"
    assert house.saves() == []


def test_a_restore_cut_short_frees_its_medium(house: House, monkeypatch: Any) -> None:
    path = image(house.folder / "one.img", "k")
    monkeypatch.setattr(house.subsystem._restores, "_begin", lambda *_: None)  # dead at once
    answer = house.subsystem.restore("ledger", image=path)
    assert house.states()["c"] == "restored image of ledger"
    house.restart()
    assert house.subsystem.operation(answer["operation"]["id"])["state"] == "failed"
    assert house.states()["c"] == "free"
    assert house.saves() == []


def test_images_that_name_other_files_or_do_not_fit_are_refused(house: House) -> None:
    (house.folder / "elsewhere").mkdir()
    base = image(house.folder / "elsewhere" / "base.img", "k")
    made = {
        "has a backing file outside its folder": ["-b", base, "-F", "raw"],
        "keeps its data in another file": ["-o", f"data_file={house.folder}/data", "1M"],
        "does not fit": ["1G"],
    }
    for number, (why, options) in enumerate(made.items()):
        path = str(house.folder / f"{number}.qcow2")
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", *_order(path, options)], check=True
        )
        with pytest.raises(Refused) as refused:
            house.subsystem.restore("ledger", image=path)
        assert why in refused.value.message
    assert house.saves() == []
    assert house.states()["c"] == "free"


def _order(path: str, options: list[str]) -> list[str]:
    """The size of an image comes last."""
    flags = options[:-1] if options[-1][0].isdigit() else options
    return [*flags, path, *options[len(flags) :]]


@pytest.mark.parametrize("format", ["raw", "qcow2"])
def test_a_backup_is_an_image_of_the_save_and_not_of_the_volume(house: House, format: str) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger", label="night")
    house.write(3, "y")
    path = house.folder / f"night.{format}"
    answer = house.subsystem.backup("ledger@night", str(path), format=format, label="nightly")
    assert house.wait(answer)["state"] == "done"
    found = qemu_img.look(str(path), format)
    assert path.stat().st_mode & 0o777 == 0o600, "a disk that others may not read"
    assert found.size == 8 * MIB
    assert [p.name for p in house.folder.glob(".*")] == []
    listed = house.subsystem.backup_list("ledger")
    assert [(b["number"], b["label"], b["fits"]) for b in listed] == [(1, "nightly", True)]
    restored = house.subsystem.restore("ledger", backup=1, door="in-band")
    assert house.wait(restored)["state"] == "done"
    assert restored["save"]["label"] == "nightly"
    assert house.on_medium("c", 3) == "x"


def test_a_backup_overwrites_nothing_unless_forced(house: House) -> None:
    house.subsystem.save("ledger")
    path = house.folder / "there"
    path.write_text("mine")
    with pytest.raises(Refused) as refused:
        house.subsystem.backup("ledger", str(path))
    assert refused.value.reason is Reason.EXISTS
    assert path.read_text() == "mine"
    assert house.wait(house.subsystem.backup("ledger", str(path), force=True))["state"] == "done"


def test_an_aborted_backup_leaves_no_file(house: House, monkeypatch: Any) -> None:
    house.subsystem.save("ledger")
    Held(monkeypatch)
    answer = house.subsystem.backup("ledger", str(house.folder / "out"))
    with pytest.raises(Refused) as refused:
        house.subsystem.swap("ledger")
    assert refused.value.reason is Reason.BUSY
    house.subsystem.abort(answer["operation"]["id"])
    assert not [name for name in os.listdir(house.folder) if "out" in name]
    assert house.subsystem.backup_list() == []


def test_a_host_names_a_number_and_only_of_its_own_volume(house: House) -> None:
    path = image(house.folder / "one.img", "k")
    house.volume("other", mirror=1)
    number = house.subsystem.backup_register("other", path, label="one")["number"]
    with pytest.raises(Refused) as refused:
        house.subsystem.restore("ledger", backup=number, door="in-band")
    assert refused.value.reason is Reason.NOT_FOUND
    with pytest.raises(Refused) as refused:
        house.subsystem.restore("ledger", image=path, door="in-band")
    assert refused.value.reason is Reason.USAGE
    house.subsystem.backup_forget(number)
    assert house.subsystem.backup_list() == []
    assert Path(path).exists()


def test_qemu_img_dies_with_the_daemon(tmp_path: Path) -> None:
    program = (
        "from targetplugin.subsystem.images.qemu_img import Run\n"
        "Run().follow(['sh', '-c', 'echo $$; exec sleep 60'], print)\n"
    )
    program = program.replace("'echo $$;", f"'echo $$ > {tmp_path}/child;")
    daemon = subprocess.Popen([sys.executable, "-c", program])
    told = tmp_path / "child"
    until(lambda: told.exists() and told.read_text())
    child = int(told.read_text())
    daemon.kill()
    daemon.wait()
    until(lambda: not alive(child))


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for runs no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # gone, or just going
        return False


class Held:
    """qemu-img waits before it writes, until it is told to go or stopped."""

    def __init__(self, monkeypatch: Any) -> None:
        self._gone = threading.Event()
        self._runs: list[qemu_img.Run] = []
        real = qemu_img.Run.follow

        def follow(
            run: qemu_img.Run, command: list[str], progress: Any, *passed: int, **more: Any
        ) -> int:
            self._runs.append(run)
            while not self._gone.wait(0.01):
                if run.stopped:
                    raise qemu_img.Stopped
            return real(run, command, progress, *passed, **more)

        monkeypatch.setattr(qemu_img.Run, "follow", follow)

    def go(self) -> None:
        self._gone.set()
