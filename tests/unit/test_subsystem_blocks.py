"""The blocks of a volume: chosen when it is made, kept by what is made of it; and which media can hold it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from targetplugin.catalog import Catalog
from targetplugin.catalog.schema import APPLICATION, STEPS
from targetplugin.errors import Reason, Refused
from targetplugin.media import device
from targetplugin.subsystem.ground import blocks
from tests.unit.fake_kernel import HOST, FakeKernel
from tests.unit.house import MIB, House, image, letter_of

FORMATS = {"512n": (512, 512), "512e": (512, 4096), "4kn": (4096, 4096)}


@pytest.fixture(autouse=True)
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files whose names begin with `large` are disks of 4096-byte logical blocks."""
    monkeypatch.setattr(device, "block_size", block_size)


def block_size(fd: int) -> int:
    name = os.path.basename(os.readlink(f"/proc/self/fd/{fd}"))
    return 4096 if name.startswith("large") else 512


@pytest.fixture
def house(tmp_path: Path, kernel: FakeKernel) -> Iterator[House]:
    """Free media: a and b of 512-byte logical blocks, large-c and large-d of 4096."""
    made = House(tmp_path, kernel, kernel)
    made.media("a", "b", "large-c", "large-d")
    yield made
    made.end()


def refused(reason: Reason, ask: Any, *rest: Any, **more: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        ask(*rest, **more)
    assert caught.value.reason is reason
    return caught.value


def lengths(shown: dict[str, Any]) -> tuple[int, int]:
    return shown["block_size"], shown["physical_block_size"]


# --- what a volume is -----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "both"), FORMATS.items())
def test_a_volume_has_the_blocks_that_it_was_made_with(
    house: House, kernel: FakeKernel, name: str, both: tuple[int, int]
) -> None:
    made = house.volume(blocks=name)
    assert (made["blocks"], *lengths(made)) == (name, *both)
    house.subsystem.export("ledger", [HOST])
    assert kernel.blocks["ledger"] == both[0]
    house.restart()
    assert lengths(house.show()) == both


def test_without_a_word_it_is_512e(house: House) -> None:
    assert house.volume()["blocks"] == blocks.DEFAULT == "512e"


def test_blocks_that_no_disk_has_are_refused_and_nothing_is_made(house: House) -> None:
    found = refused(Reason.USAGE, house.volume, blocks="520")
    assert "520" in found.message
    assert "512n, 512e, 4kn" in found.message
    assert house.subsystem.volume_list() == []
    assert set(house.states().values()) == {"free"}


def test_a_clone_and_a_shown_save_have_their_volume_s(house: House, kernel: FakeKernel) -> None:
    house.volume(blocks="4kn")
    house.write(0, "x")
    house.subsystem.save("ledger", label="night")
    assert lengths(house.subsystem.save_shown("ledger@night")) == (4096, 4096)
    house.subsystem.export("ledger@night", [HOST])
    assert kernel.blocks["ledger@1"] == 4096
    copy = house.subsystem.clone("ledger@night", "copy")["volume"]
    assert (copy["blocks"], lengths(copy)) == ("4kn", (4096, 4096))


def test_volumes_of_an_older_catalog_are_512e(tmp_path: Path) -> None:
    before = sqlite3.connect(tmp_path / "catalog.db")
    script = "".join(STEPS[: next(i for i, step in enumerate(STEPS) if "COLUMN blocks" in step)])
    before.executescript(script)
    before.execute(
        "INSERT INTO volumes VALUES (?, 'old', ?, 1048576, 65536, 'split', 'all', 1, 1, 0, 0, 0, '', '{}')",
        (bytes(16), "6" * 32),
    )
    before.execute(f"PRAGMA application_id = {APPLICATION}")
    before.execute("PRAGMA user_version = 9")
    before.commit()
    before.close()
    catalog = Catalog(tmp_path)
    found = catalog.volume_find("old")
    catalog.close()
    assert found is not None
    assert found.blocks == "512e"


# --- which media can hold it -----------------------------------------------------------------------


def test_media_tell_their_blocks(house: House) -> None:
    told = {row["name"]: row["block_size"] for row in house.subsystem.media_list()}
    assert told == {"a": 512, "b": 512, "large-c": 4096, "large-d": 4096}


def test_a_volume_of_large_blocks_takes_media_of_both(house: House) -> None:
    house.volume(blocks="4kn", media=["a", "large-c"])
    house.write(3, "x")
    house.subsystem.leg_add("ledger", medium="large-d")
    house.finish()
    assert [house.on_medium(name, 3) for name in ("a", "large-c", "large-d")] == ["x"] * 3


@pytest.mark.parametrize("name", ["512n", "512e"])
def test_one_of_512_takes_none_of_larger_blocks(house: House, name: str) -> None:
    found = refused(Reason.STATE, house.volume, blocks=name, media=["a", "large-c"])
    assert "large-c has logical blocks of 4096 bytes" in found.message
    assert "--blocks 4kn" in found.hint
    assert set(house.states().values()) == {"free"}
    found = refused(Reason.NO_MEDIUM, house.volume, blocks=name, mirror=3)
    assert "large-c, large-d have logical blocks of more than 512 bytes" in found.hint
    house.volume(blocks=name)
    assert [leg["medium"] for leg in house.show()["legs"]] == ["a", "b"]


def test_saves_stores_and_undos_of_one_of_512_leave_larger_media_alone(house: House) -> None:
    house.volume(mirror=1)
    house.write(0, "x")
    ask = house.subsystem
    for verb in (
        lambda: ask.save("ledger", policy="copy", onto="large-c"),
        lambda: ask.save("ledger", policy="sparse", onto="large-c"),
        lambda: ask.leg_add("ledger", medium="large-c"),
        lambda: ask.restore("ledger", image=image(house.folder / "old.raw", "o"), onto="large-c"),
    ):
        assert "4096 bytes, and ledger of 512" in refused(Reason.STATE, verb).message
    saved = ask.save("ledger", policy="copy", label="night")["save"]
    assert saved["media"] == ["b"]
    house.finish()
    house.write(0, "y")
    assert "no free medium" in ask.recover("ledger@night")["undo_why"]
    house.finish()
    refused(Reason.NO_MEDIUM, ask.save, "ledger", policy="sparse")
    refused(Reason.NO_MEDIUM, ask.clone, "ledger@night", "copy")
    assert [house.states()[name] for name in ("large-c", "large-d")] == ["free", "free"]


def test_a_leg_that_was_copied_onto_a_disk_of_larger_blocks_is_missing(house: House) -> None:
    """It has all that the leg has, its trailer included; but not what the volume writes fits on it."""
    house.volume()
    house.write(0, "x")
    house.kill()
    row = house.folder / "b"
    shutil.copy(row, house.folder / "large-b")
    row.unlink()
    (house.folder / "b").symlink_to("large-b")
    house.boot()
    shown = house.show()
    assert shown["state"] == "degraded"
    assert [leg["state"] for leg in shown["legs"]] == ["in_sync", "missing"]
    assert house.read(0) == "x"


# --- what is adopted and restored ------------------------------------------------------------------


def disk(house: House, name: str) -> str:
    path = house.folder / name
    path.write_bytes(b"d" * 5 * MIB)
    return str(path)


def test_what_is_adopted_of_a_file_is_512e_or_what_is_said(house: House) -> None:
    assert house.subsystem.volume_adopt("one", disk(house, "one"))["blocks"] == "512e"
    two = house.subsystem.volume_adopt("two", disk(house, "two"), blocks="4kn")
    assert lengths(two) == (4096, 4096)
    assert house.engine.read(house.handle("two"), 0, 4096) == b"d" * 4096


def test_a_file_on_a_disk_of_larger_blocks_is_adopted_only_as_such(house: House) -> None:
    path = disk(house, "large-e")
    found = refused(Reason.USAGE, house.subsystem.volume_adopt, "e", path)
    assert "logical blocks of 4096 bytes" in found.message
    assert Path(path).read_bytes() == b"d" * 5 * MIB
    assert house.subsystem.volume_adopt("e", path, blocks="4kn")["blocks"] == "4kn"


def test_an_image_that_ends_within_a_large_block_is_restored_whole(house: House) -> None:
    house.volume(blocks="4kn", mirror=1, media=["large-c"])
    path = house.folder / "short.raw"
    path.write_bytes(b"i" * (65536 + 512))
    house.subsystem.media_list()
    done = house.wait(house.subsystem.restore("ledger", image=str(path), onto="large-d"))
    assert done["state"] == "done", done
    row = house.floor.medium_row("large-d")
    data = house.floor.media[row.uuid].read(0, 8 * MIB)
    assert data == path.read_bytes().ljust(8 * MIB, b"\0")
    assert letter_of(data[:65536]) == "i"
