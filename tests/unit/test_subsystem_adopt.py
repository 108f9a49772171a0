"""Disks and files with data that become a volume: what is kept, and what is refused."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from targetplugin.errors import Reason, Refused
from targetplugin.media.layout import layout
from targetplugin.media.medium import Medium
from targetplugin.subsystem.volumes import adopt as adopting
from tests.unit.fake_engine import FakeEngine, PowerCut
from tests.unit.house import MIB, House


def data(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def refusal(run: Callable[[], Any]) -> Refused:
    with pytest.raises(Refused) as refused:
        run()
    return refused.value


@pytest.fixture
def disk(house: House) -> Path:
    """A file of 5 MiB of data."""
    path = house.folder / "old"
    path.write_bytes(data(5 * MIB))
    return path


@pytest.fixture
def as_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as devices: they can't be made longer."""
    real = adopting.device
    device = SimpleNamespace(
        size=real.size, is_block=lambda fd: True, block_size=lambda fd: real.block_size(fd)
    )
    monkeypatch.setattr(adopting, "device", device)


def test_a_file_becomes_a_volume_with_its_data_and_is_made_longer(house: House, disk: Path) -> None:
    before = disk.read_bytes()
    made = house.subsystem.volume_adopt("old", str(disk))
    assert (made["size"], made["state"], made["mirror"]) == (5 * MIB, "serving", 1)
    assert [leg["state"] for leg in made["legs"]] == ["in_sync"]
    assert house.engine.read(house.handle("old"), 0, 5 * MIB) == before
    assert disk.stat().st_size > 5 * MIB
    assert disk.read_bytes()[: 5 * MIB] == before
    house.restart()
    assert house.engine.read(house.handle("old"), 0, 5 * MIB) == before
    house.subsystem.leg_add("old")
    house.subsystem.save("old", policy="copy", label="first")
    house.finish()
    house.engine.write(house.handle("old"), 0, b"n" * 65536)
    house.subsystem.recover("old@first")
    house.finish()
    assert house.engine.read(house.handle("old"), 0, 5 * MIB) == before


@pytest.mark.parametrize("size", [4096, MIB, 5 * MIB + 4096, 3 * MIB + 1])
def test_any_length_is_kept_whole(house: House, size: int) -> None:
    path = house.folder / "old"
    path.write_bytes(data(size))
    made = house.subsystem.volume_adopt("old", str(path))
    assert made["size"] == -(-size // 4096) * 4096
    kept = house.engine.read(house.handle("old"), 0, made["size"])
    assert kept == data(size) + bytes(made["size"] - size)
    house.restart()
    assert path.read_bytes()[:size] == data(size)


def test_a_preview_does_nothing(house: House, disk: Path) -> None:
    told = house.subsystem.volume_adopt("old", str(disk), preview=True)
    assert (told["size"], told["grown_by"]) == (5 * MIB, MIB)
    assert disk.read_bytes() == data(5 * MIB)
    assert "old" not in house.states()


def test_what_is_adopted_is_not_deleted_as_if_it_held_nothing(house: House, disk: Path) -> None:
    house.subsystem.volume_adopt("old", str(disk))
    refused = refusal(lambda: house.subsystem.volume_delete("old"))
    assert refused.reason is Reason.DATA


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"name": "ledger"}, Reason.EXISTS),
        ({"name": "a b"}, Reason.USAGE),
        ({"path": "old"}, Reason.USAGE),
        ({"path": "/nowhere"}, Reason.NOT_FOUND),
        ({"path": "/dev/null"}, Reason.USAGE),
        ({"size": 4095}, Reason.USAGE),
        ({"size": 1 << 30}, Reason.USAGE),
        ({"extent_size": 5000}, Reason.USAGE),
        ({"rights": "some"}, Reason.USAGE),
    ],
)
def test_what_cant_be_adopted_is_refused_and_left_as_it_was(
    house: House, disk: Path, wrong: dict[str, Any], reason: Reason
) -> None:
    before = house.states()
    asked = {"name": "old", "path": str(disk), **wrong}
    assert refusal(lambda: house.subsystem.volume_adopt(**asked)).reason is reason
    assert disk.read_bytes() == data(5 * MIB)
    assert house.states() == before


def test_a_medium_of_ours_or_of_another_subsystem_is_refused(house: House, disk: Path) -> None:
    known = refusal(lambda: house.subsystem.volume_adopt("old", str(house.folder / "c")))
    assert known.reason is Reason.EXISTS
    other = House(house.folder / "other")
    other.media("x")
    other.volume("theirs", mirror=1)
    other.end()
    path = str(house.folder / "other" / "x")
    assert "medium of theirs" in refusal(lambda: house.subsystem.volume_adopt("old", path)).message


@pytest.mark.parametrize(
    "where", ["grow", "zero_trailer_room", "write_trailer", "add_volume", "added"]
)
@pytest.mark.parametrize("how", ["fails", "dies"])
def test_one_that_is_not_adopted_to_the_end_is_as_it_was(
    house: House, disk: Path, where: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or, where its record is durable already, the daemon may have died only in telling so."""
    before = house.states()
    error: BaseException = OSError(5, "failed") if how == "fails" else PowerCut()
    place: Any = {"grow": adopting, "add_volume": FakeEngine, "added": FakeEngine}.get(
        where, Medium
    )
    name = "add_volume" if where == "added" else where
    real = getattr(place, name)

    def stops(*arguments: Any) -> Any:
        if where in ("grow", "added", "write_trailer"):
            real(*arguments)
        raise error

    monkeypatch.setattr(place, name, stops)
    if how == "dies":  # nothing of what follows in this process counts
        monkeypatch.setattr(house.subsystem._volumes, "undo_create", lambda row: None)
    with pytest.raises((Refused, OSError, PowerCut)):
        house.subsystem.volume_adopt("old", str(disk))
    monkeypatch.undo()
    if how == "dies":
        for medium in list(house.floor.media.values()):
            if medium.path == str(disk):
                medium.close()
        house.restart()
    assert house.states() == before
    assert disk.read_bytes() == data(5 * MIB)
    house.subsystem.volume_adopt("old", str(disk))
    assert house.engine.read(house.handle("old"), 0, 5 * MIB) == data(5 * MIB)


# --- devices -----------------------------------------------------------------------------------


def ext(path: Path, size: int, of: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", str(path), f"{of // 1024}k"], check=True)


@pytest.mark.usefixtures("as_device")
def test_a_file_system_that_ends_before_is_adopted(house: House) -> None:
    path = house.folder / "old"
    ext(path, 16 * MIB, 12 * MIB)
    before = path.read_bytes()
    made = house.subsystem.volume_adopt("old", str(path))
    room = layout(16 * MIB).data_size
    assert made["size"] == room
    assert path.stat().st_size == 16 * MIB
    assert path.read_bytes()[:room] == before[:room]
    house.restart()
    assert house.engine.read(house.handle("old"), 0, MIB) == before[:MIB]


@pytest.mark.usefixtures("as_device")
def test_one_that_reaches_to_the_end_is_refused_with_how_to_shrink_it(house: House) -> None:
    path = house.folder / "old"
    ext(path, 16 * MIB, 16 * MIB)
    before = path.read_bytes()
    refused = refusal(lambda: house.subsystem.volume_adopt("old", str(path)))
    assert refused.reason is Reason.DATA
    room = layout(16 * MIB).data_size
    assert f"resize2fs {path} {room // 1024}K" in refused.hint
    assert path.read_bytes() == before
    subprocess.run(["resize2fs", str(path), f"{room // 1024}K"], check=True, capture_output=True)
    os.truncate(path, 16 * MIB)  # of a file it cuts off the rest, which a device does not do
    assert house.subsystem.volume_adopt("old", str(path))["size"] == room
    subprocess.run(["e2fsck", "-fn", str(path)], check=True, capture_output=True)


@pytest.mark.usefixtures("as_device")
def test_what_nobody_knows_the_end_of_is_adopted_on_the_users_word(house: House) -> None:
    path = house.folder / "old"
    path.write_bytes(data(4 * MIB) + bytes(4 * MIB))
    refused = refusal(lambda: house.subsystem.volume_adopt("old", str(path)))
    assert refused.reason is Reason.DATA
    assert "--size" in refused.hint
    too_much = refusal(lambda: house.subsystem.volume_adopt("old", str(path), size=8 * MIB))
    assert too_much.reason is Reason.DATA
    made = house.subsystem.volume_adopt("old", str(path), size=4 * MIB)
    assert made["size"] == 4 * MIB
    assert path.read_bytes()[: 4 * MIB] == data(4 * MIB)


def partition(path: Path, label: str, end: int) -> None:
    with path.open("wb") as file:
        file.truncate(16 * MIB)
    table = f"label: {label}\nstart=2048, size={end // 512 - 2048}\n"
    subprocess.run(["sfdisk", "-q", str(path)], input=table, text=True, check=True)


@pytest.mark.usefixtures("as_device")
@pytest.mark.parametrize(
    ("label", "end", "good"),
    [("dos", 8 * MIB, True), ("dos", 16 * MIB, False), ("gpt", 8 * MIB, False)],
)
def test_a_partition_table_says_where_its_disk_ends(
    house: House, label: str, end: int, good: bool
) -> None:
    path = house.folder / "old"
    partition(path, label, end)
    before = path.read_bytes()
    if good:
        assert house.subsystem.volume_adopt("old", str(path))["size"] == layout(16 * MIB).data_size
        return
    assert refusal(lambda: house.subsystem.volume_adopt("old", str(path))).reason is Reason.DATA
    assert path.read_bytes() == before
    if label == "gpt":  # not on the user's word either: its copy is in the last block
        asked = refusal(lambda: house.subsystem.volume_adopt("old", str(path), size=8 * MIB))
        assert "gpt lies at its end" in asked.message
