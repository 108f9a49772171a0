"""Increments, chains and their lineage, with the real qemu-img and a synchronous engine."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.images import chain, qcow2, qemu_img
from tests.unit.house import EXTENT, MIB, House, image
from tests.unit.test_subsystem_images import Held

pytestmark = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not there")
EXTENTS = 8 * MIB // EXTENT


def backup(house: House, save: str, name: str, **options: Any) -> str:
    """Writes a backup that succeeds; its path."""
    path = str(house.folder / name)
    done = house.wait(house.subsystem.backup(save, path, **options))
    assert done["state"] == "done", done["error"]
    return path


def content(path: str, format: str = "qcow2") -> list[str]:
    """The letters of an image's extents, read by qemu-img as any reader would, by its own names."""
    raw = f"{path}.content"
    subprocess.run(["qemu-img", "convert", "-f", format, "-O", "raw", path, raw], check=True)
    data = Path(raw).read_bytes()
    os.unlink(raw)
    found = [set(data[at : at + EXTENT]) for at in range(0, len(data), EXTENT)]
    assert all(len(letters) == 1 for letters in found)
    return ["" if letters == {0} else chr(letters.pop()) for letters in found]


def checked(path: str) -> None:
    told = subprocess.run(["qemu-img", "check", path], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "No errors" in told.stdout


def chain_of_three(house: House) -> list[str]:
    """monday, tuesday and wednesday, of which extents 1, 2 and 3 tell; 5 becomes zeros."""
    house.media("e")
    names = ["monday", "tuesday", "wednesday"]
    paths: list[str] = []
    house.write(5, "z")
    for number, name in enumerate(names):
        house.write(number + 1, name[0])
        if number:
            house.write(5, "\0")
        house.subsystem.save("ledger", label=name, policy="copy")
        house.finish()
        options = {"since": f"ledger@{names[number - 1]}"} if number else {}
        paths.append(backup(house, f"ledger@{name}", f"{name}.qcow2", **options))
    return paths


def test_an_increment_has_only_what_differs_and_any_reader_opens_it(house: House) -> None:
    paths = chain_of_three(house)
    for path in paths:
        checked(path)
    assert content(paths[0])[:6] == ["", "m", "", "", "", "z"]
    assert content(paths[1])[:6] == ["", "m", "t", "", "", ""]
    assert content(paths[2])[:6] == ["", "m", "t", "w", "", ""]
    told = subprocess.check_output(["qemu-img", "info", "--output=json", paths[2]])
    facts = json.loads(told)
    assert facts["backing-filename"] == "tuesday.qcow2"
    assert facts["backing-filename-format"] == "qcow2"
    mapped = json.loads(subprocess.check_output(["qemu-img", "map", "--output=json", paths[2]]))
    own = [(m["start"], m["length"]) for m in mapped if m["depth"] == 0]
    assert own == [(3 * EXTENT, EXTENT), (5 * EXTENT, EXTENT)]  # written again: zeros, and its own
    assert os.path.getsize(paths[2]) < 8 * EXTENT


def test_an_increment_is_restored_with_all_that_it_stands_on(house: House) -> None:
    chain_of_three(house)
    for save in house.saves():
        house.subsystem.release(save)
    restored = house.subsystem.restore("ledger", backup=3, door="in-band")
    assert house.wait(restored)["state"] == "done"
    medium = restored["save"]["media"][0]
    assert [house.on_medium(medium, n) for n in range(6)] == ["", "m", "t", "w", "", ""]
    assert restored["save"]["label"] == "wednesday"


def test_an_increment_stands_on_a_save_that_is_released(house: House) -> None:
    house.write(1, "a")
    house.subsystem.save("ledger", label="old")
    backup(house, "ledger@old", "old.qcow2")
    house.subsystem.release("ledger@old")
    house.write(2, "b")
    house.subsystem.save("ledger", label="new", policy="copy")
    house.finish()
    path = backup(house, "ledger@new", "new.qcow2", base=1)
    assert content(path)[:4] == ["", "a", "b", ""]
    again = backup(house, "ledger@new", "again.qcow2", since="ledger@1")
    assert content(again) == content(path)


def test_an_increment_stands_on_a_raw_backup_of_a_stated_format(house: House) -> None:
    house.write(1, "a")
    house.subsystem.save("ledger", label="old", policy="copy")
    house.finish()
    backup(house, "ledger@old", "old.raw", format="raw")
    house.write(1, "b")
    house.subsystem.save("ledger", policy="copy")
    house.finish()
    path = backup(house, "ledger", "new.qcow2", base=1)
    checked(path)
    assert content(path)[:2] == ["", "b"]
    facts = json.loads(subprocess.check_output(["qemu-img", "info", "--output=json", path]))
    assert facts["backing-filename-format"] == "raw"


def test_an_increment_of_a_recovered_volume_goes_by_the_tree(house: House) -> None:
    """The differential of two points on different branches is what differs on the way."""
    house.media("e", "f")
    house.write(1, "a")
    house.subsystem.save("ledger", label="one", policy="copy")
    house.finish()
    house.write(1, "b")
    house.write(2, "b")
    house.subsystem.save("ledger", label="two", policy="copy")
    house.finish()
    backup(house, "ledger@two", "two.qcow2")
    house.subsystem.recover("ledger@one")
    house.finish()
    house.write(3, "c")
    house.subsystem.save("ledger", label="three", policy="copy")
    house.finish()
    path = backup(house, "ledger@three", "three.qcow2", since="ledger@two")
    assert content(path)[:5] == ["", "a", "", "c", ""]


@pytest.mark.parametrize("extent", [4096, 65536, 1 << 20])
def test_extents_of_any_size_and_an_end_within_a_cluster(tmp_path: Path, extent: int) -> None:
    house = House(tmp_path)
    house.media("a", "b", "c")
    size = 5 * MIB + 4096
    house.volume(size=size, mirror=1, extent_size=extent, policy="copy")
    shuffled = random.Random(1)
    model = bytearray(size)
    for number in range(3):
        for _ in range(5):
            at, length = shuffled.randrange(0, size, 4096), 4096 * shuffled.randint(1, 40)
            length = min(length, size - at)
            data = shuffled.choice([bytes(length), shuffled.randbytes(length)])
            model[at : at + length] = data
            house.engine.write(house.handle(), at, data)
        house.subsystem.save("ledger", label=f"s{number}")
        house.finish()
        options = {"since": f"ledger@s{number - 1}"} if number else {}
        path = backup(house, f"ledger@s{number}", f"{number}.qcow2", **options)
        checked(path)
        raw = tmp_path / "content"
        subprocess.run(["qemu-img", "convert", "-O", "raw", path, raw], check=True)
        assert raw.read_bytes() == model
        if number:
            house.subsystem.release(f"ledger@s{number - 1}")
    house.end()


def test_a_base_that_others_stand_on_is_not_forgotten_or_written_over(house: House) -> None:
    paths = chain_of_three(house)
    listed = house.subsystem.backup_list("ledger")
    assert [b["stands_on"] for b in listed] == [[], [1], [2, 1]]
    assert [b["save"] for b in listed] == ["ledger@1", "ledger@2", "ledger@3"]
    with pytest.raises(Refused) as refused:
        house.subsystem.backup_forget(1)
    assert refused.value.reason is Reason.STATE
    assert "backup 2 stands on it" in refused.value.message
    with pytest.raises(Refused) as refused:
        house.subsystem.backup("ledger@3", paths[0], force=True)
    assert "can't be written over" in refused.value.message
    with pytest.raises(Refused) as refused:
        house.subsystem.backup("ledger@1", paths[2], force=True, base=3)
    assert "would stand on it" in refused.value.message
    for number in (3, 2, 1):
        house.subsystem.backup_forget(number)
    assert house.subsystem.backup_list() == []
    assert content(paths[2])[3] == "w"


def test_a_base_is_kept_while_a_backup_is_written_onto_it(house: House, monkeypatch: Any) -> None:
    house.subsystem.save("ledger", label="old", policy="copy")
    house.finish()
    backup(house, "ledger@old", "old.qcow2")
    house.subsystem.save("ledger", label="new")
    held = Held(monkeypatch)
    answer = house.subsystem.backup("ledger@new", str(house.folder / "new.qcow2"), base=1)
    with pytest.raises(Refused) as refused:
        house.subsystem.backup_forget(1)
    assert refused.value.reason is Reason.BUSY
    held.go()
    assert house.wait(answer)["state"] == "done"


def test_no_increment_without_a_base_that_is_sure(house: House) -> None:
    house.media("e")
    (house.folder / "other").mkdir()
    house.volume("second", mirror=1)
    house.subsystem.save("ledger", label="one", policy="copy")
    house.finish()
    with pytest.raises(Refused) as refused:
        house.subsystem.backup("ledger@one", str(house.folder / "x"), since="ledger@one")
    assert "no registered backup" in refused.value.message
    path = backup(house, "ledger@one", "one.qcow2")
    house.write(1, "a")
    house.subsystem.save("ledger", label="two")
    foreign = image(house.folder / "foreign.img", "k")
    house.subsystem.backup_register("ledger", foreign)
    for why, options in {
        "is not in the folder": {"path": str(house.folder / "other" / "x"), "base": 1},
        "nobody knows which point": {"base": 2},
        "has no backup 9": {"base": 9},
        "an increment is a qcow2 image": {"base": 1, "format": "raw"},
        "is no save of ledger": {"since": "second@1"},
        "one base": {"since": "ledger@one", "base": 1},
    }.items():
        with pytest.raises(Refused) as refused:
            house.subsystem.backup("ledger@two", **{"path": str(house.folder / "x"), **options})
        assert why in refused.value.message
    with pytest.raises(Refused) as refused:
        house.subsystem.backup("ledger@one", str(house.folder / "x"), base=1)
    assert "holds ledger@1 already" in refused.value.message
    shutil.copy(backup(house, "ledger@two", "two.qcow2", register=False), path)
    with pytest.raises(Refused) as refused:
        house.subsystem.backup("ledger@two", str(house.folder / "x"), base=1)
    assert "is not the one that is registered" in refused.value.message
    assert not (house.folder / "x").exists()


def test_a_base_whose_content_changed_is_found_out_by_comparing(house: House) -> None:
    house.subsystem.save("ledger", label="one", policy="copy")
    house.finish()
    path = backup(house, "ledger@one", "one.qcow2")
    house.write(1, "a")
    house.subsystem.save("ledger", label="two")
    subprocess.run(["qemu-io", "-c", "write -P 7 3M 64k", path], check=True, capture_output=True)
    answer = house.subsystem.backup("ledger@two", str(house.folder / "two.qcow2"), base=1)
    done = house.wait(answer)
    assert done["state"] == "failed"
    assert "does not hold what the save holds, on backup 1" in done["error"]
    assert not [name for name in os.listdir(house.folder) if "two" in name]


def test_a_chain_of_another_volume_is_refused_unless_forced(house: House) -> None:
    paths = chain_of_three(house)
    house.subsystem.release("ledger@1")
    house.volume("second", mirror=1)
    for ask in (
        lambda: house.subsystem.restore("second", image=paths[1]),
        lambda: house.subsystem.backup_register("second", paths[1]),
    ):
        with pytest.raises(Refused) as refused:
            ask()
        assert "is a backup of another volume than second" in refused.value.message
    number = house.subsystem.backup_register("second", paths[1], force=True)["number"]
    house.subsystem.release("ledger@2")
    assert house.wait(house.subsystem.restore("second", backup=number))["state"] == "done"
    with pytest.raises(Refused) as refused:
        house.subsystem.restore("second", image=paths[1], force=True, door="in-band")
    assert refused.value.reason in (Reason.RIGHTS, Reason.USAGE)


def test_a_file_in_the_place_of_another_is_refused(house: House) -> None:
    paths = chain_of_three(house)
    os.rename(paths[1], f"{paths[1]}.away")
    with pytest.raises(Refused) as refused:
        qemu_img.look(paths[2])
    assert refused.value.reason is Reason.NOT_FOUND
    shutil.copy(paths[0], paths[1])
    with pytest.raises(Refused) as refused:
        qemu_img.look(paths[2])
    assert "not the image that it was written onto" in refused.value.message


def test_an_older_increment_is_taken_out_by_rebase_and_the_rest_registered_again(
    house: House,
) -> None:
    paths = chain_of_three(house)
    before = content(paths[2])
    rebase = ["qemu-img", "rebase", "-f", "qcow2", "-F", "qcow2", "-b", "monday.qcow2", paths[2]]
    subprocess.run(rebase, check=True)
    again = house.subsystem.backup_register("ledger", paths[2])
    assert (again["number"], again["stands_on"], again["save"]) == (3, [1], "ledger@3")
    assert again["label"] == ""
    house.subsystem.backup_forget(2)
    os.unlink(paths[1])
    assert content(paths[2]) == before
    house.write(9, "n")
    house.subsystem.release("ledger@1")
    house.subsystem.save("ledger", label="next", policy="copy")
    house.finish()
    assert content(backup(house, "ledger@next", "next.qcow2", base=3))[9] == "n"


def test_a_backup_that_was_forgotten_is_a_base_again_by_its_stamp(house: House) -> None:
    paths = chain_of_three(house)
    house.subsystem.backup_forget(3)
    moved = str(house.folder / "moved.qcow2")
    os.rename(paths[2], moved)
    again = house.subsystem.backup_register("ledger", moved)
    assert (again["number"], again["save"], again["stands_on"]) == (4, "ledger@3", [2, 1])


def test_a_restored_image_is_no_point_that_a_stamp_alone_proves(house: House) -> None:
    """The numbers of restored images begin again when a catalog was lost."""
    house.write(1, "a")
    house.subsystem.save("ledger", label="one")
    path = backup(house, "ledger@one", "one.qcow2")
    restored = house.subsystem.restore("ledger", image=path)
    house.wait(restored)
    path = backup(house, restored["save"]["name"], "again.qcow2")
    number = house.subsystem.backup_list("ledger")[-1]["number"]
    assert house.subsystem.backup_list("ledger")[-1]["save"] == restored["save"]["name"]
    house.subsystem.backup_forget(number)
    assert house.subsystem.backup_register("ledger", path)["save"] is None


def test_another_image_at_a_path_gets_a_number_of_its_own(house: House) -> None:
    path = image(house.folder / "one.img", "k")
    assert house.subsystem.backup_register("ledger", path, label="l")["number"] == 1
    again = house.subsystem.backup_register("ledger", path)
    assert (again["number"], again["label"]) == (1, "l")
    image(house.folder / "one.img", "kl")
    assert house.subsystem.backup_register("ledger", path)["number"] == 2
    assert [b["number"] for b in house.subsystem.backup_list()] == [2]


def test_another_backup_at_a_path_takes_the_old_ones_number_off(house: House) -> None:
    house.subsystem.save("ledger", label="one")
    path = backup(house, "ledger@one", "one.qcow2")
    backup(house, "ledger@one", "one.qcow2", force=True)
    assert [b["number"] for b in house.subsystem.backup_list()] == [2]
    assert content(path) == [""] * EXTENTS


# --- kills ----------------------------------------------------------------------------------------


def test_a_backup_cut_short_leaves_nothing_and_says_so(house: House, monkeypatch: Any) -> None:
    house.subsystem.save("ledger", label="one", policy="copy")
    house.finish()
    backup(house, "ledger@one", "one.qcow2")
    house.subsystem.save("ledger", label="two")
    with monkeypatch.context() as patch:
        patch.setattr(house.subsystem._backups, "_begin", lambda *_: None)  # dead at once
        answer = house.subsystem.backup("ledger@two", str(house.folder / "two.qcow2"), base=1)
    (house.folder / f".two.qcow2.{answer['operation']['id']}.part").write_bytes(b"half")
    house.restart()
    found = house.subsystem.operation(answer["operation"]["id"])
    assert found["state"] == "failed"
    assert "nothing was written to" in found["error"]
    assert not [name for name in os.listdir(house.folder) if "two" in name]


def test_a_full_disk_leaves_no_increment_and_says_so(house: House, monkeypatch: Any) -> None:
    house.subsystem.save("ledger", label="one", policy="copy")
    house.finish()
    backup(house, "ledger@one", "one.qcow2")
    house.write(1, "a")
    house.subsystem.save("ledger", label="two")

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        answer = house.subsystem.backup("ledger@two", str(house.folder / "two.qcow2"), base=1)
        done = house.wait(answer)
    assert done["state"] == "failed"
    assert "can't be written: No space left" in done["error"]
    assert not [name for name in os.listdir(house.folder) if "two" in name]


@pytest.mark.parametrize("renamed", [False, True])
def test_a_backup_that_was_whole_when_the_daemon_died_gets_its_name(
    house: House, monkeypatch: Any, renamed: bool
) -> None:
    class Dead(BaseException):
        pass

    def dies(*arguments: Any, **folders: Any) -> None:
        if renamed:
            real(*arguments, **folders)
        raise Dead

    house.write(1, "a")
    house.subsystem.save("ledger", label="one")
    real = os.rename
    with monkeypatch.context() as patch:
        patch.setattr(house.subsystem._backups, "_begin", lambda *_: None)
        path = str(house.folder / "one.qcow2")
        answer = house.subsystem.backup("ledger@one", path)
        row = house.catalog.operation_get(answer["operation"]["id"])
        beside = image(house.folder / f".one.qcow2.{row.id}.part", "k", "qcow2")
        patch.setattr(os, "rename", dies)
        with pytest.raises(Dead):
            house.subsystem._backups._put_in_place(row, beside)
    house.restart()
    assert house.subsystem.operation(row.id)["state"] == "done"
    assert os.listdir(house.folder).count("one.qcow2") == 1
    assert not list(house.folder.glob(".*"))
    assert [b["save"] for b in house.subsystem.backup_list()] == ["ledger@1"]


# --- pace -----------------------------------------------------------------------------------------


def test_a_rate_holds_a_backup_back_and_can_be_taken_away(house: House) -> None:
    data = random.Random(1).randbytes(8 * MIB)
    house.engine.write(house.handle(), 0, data)
    house.subsystem.save("ledger", label="one", policy="copy")
    house.finish()
    path = str(house.folder / "one.qcow2")
    answer = house.subsystem.backup("ledger@one", path, rate=MIB)
    op = answer["operation"]["id"]
    time.sleep(1)
    shown = house.subsystem.operation(op)
    assert (shown["state"], shown["rate"]) == ("running", MIB)
    with pytest.raises(Refused):
        house.subsystem.operation_rate(op + 100, rate=None)
    assert house.subsystem.operation_rate(op, rate=None)["rate"] is None
    began = time.monotonic()
    assert house.wait(answer)["state"] == "done"
    assert time.monotonic() - began < 5
    with pytest.raises(Refused) as refused:
        house.subsystem.operation_rate(op, rate=MIB)
    assert "is over" in refused.value.message

    house.engine.write(house.handle(), 0, data[::-1])
    house.subsystem.save("ledger", label="two")
    began = time.monotonic()
    backup(house, "ledger@two", "two.qcow2", base=1, rate=8 * MIB)
    assert 0.9 < time.monotonic() - began < 10  # 8 MiB are written, and more compared


def test_a_run_that_is_held_can_be_aborted(house: House) -> None:
    house.engine.write(house.handle(), 0, random.Random(1).randbytes(8 * MIB))
    house.subsystem.save("ledger", label="one")
    path = str(house.folder / "one.qcow2")
    answer = house.subsystem.backup("ledger@one", path, rate=65536)
    time.sleep(0.5)
    began = time.monotonic()
    aborted = house.subsystem.abort(answer["operation"]["id"])
    assert aborted["operation"]["state"] == "aborted"
    assert time.monotonic() - began < 5
    assert not os.path.exists(path)


# --- at random ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_chains_at_random_hold_what_the_saves_held(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    house = House(tmp_path)
    house.media("a", "b", "c", "d", "e", "f")
    house.volume(policy="copy")
    now = dict.fromkeys(range(EXTENTS), "")
    points: dict[str, dict[int, str]] = {}  # of all saves that were backed up, by name
    numbers: dict[str, int] = {}
    for step in range(9):
        for _ in range(rng.randint(0, 6)):
            extent, letter = rng.randrange(EXTENTS), rng.choice(["", "x", "y", "z"])
            house.write(extent, letter or "\0")
            now[extent] = letter
        name = f"ledger@{house.subsystem.save('ledger')['save']['generation']}"
        house.finish()
        base = rng.choice([None, *numbers.values()]) if step else None
        path = backup(house, name, f"{step}.qcow2", base=base)
        checked(path)
        points[name] = dict(now)
        numbers[name] = house.subsystem.backup_list()[-1]["number"]
        assert content(path) == list(now.values())
        back = rng.choice([*house.saves(), None, None])
        if back is not None:
            house.subsystem.recover(back, no_undo=True)
            house.finish()
            now = dict(points[back])
        while len(house.saves()) > 2:
            house.subsystem.release(rng.choice(house.saves()))
        if rng.random() < 0.3:
            house.restart()
    for name, number in rng.sample(sorted(numbers.items()), 3):
        restored = house.subsystem.restore("ledger", backup=number)
        assert house.wait(restored)["state"] == "done"
        medium = restored["save"]["media"][0]
        held = [house.on_medium(medium, extent) for extent in range(EXTENTS)]
        assert held == list(points[name].values())
        house.subsystem.release(restored["save"]["name"])
    house.end()


def test_an_image_closes_what_it_opened(house: House) -> None:
    paths = chain_of_three(house)
    before = len(os.listdir("/proc/self/fd"))
    with chain.open_image(paths[2]) as opened:
        assert len(opened.links) == 3
        assert isinstance(opened.stamp, qcow2.Stamp)
    assert len(os.listdir("/proc/self/fd")) == before
