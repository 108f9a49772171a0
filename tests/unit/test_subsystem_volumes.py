"""Media and volumes: what is taken, what is refused, and what would be lost."""

from __future__ import annotations

import os

import pytest

from targetplugin.errors import Reason, Refused
from targetplugin.media.medium import Medium
from targetplugin.subsystem.ground.sizes import told
from tests.unit.house import EXTENT, MIB, House


def test_a_medium_is_made_or_taken_and_listed(house: House) -> None:
    shape = house.subsystem.media_add(str(house.folder / "new"), size=4 * MIB)
    assert shape["name"] == "new"
    assert shape["state"] == "free"
    assert shape["kind"] == "file"
    assert shape["size"] == 4 * MIB
    assert shape["data_size"] == 3 * MIB
    with pytest.raises(Refused) as refused:
        house.subsystem.media_add(str(house.folder / "new"))
    assert refused.value.reason is Reason.EXISTS
    house.subsystem.media_remove("new")
    assert house.subsystem.media_add(str(house.folder / "new"))["name"] == "new"


def test_a_file_with_data_is_refused_unless_forced(house: House) -> None:
    path = house.folder / "photos"
    path.write_bytes(b"holiday" * MIB)
    with pytest.raises(Refused) as refused:
        house.subsystem.media_add(str(path))
    assert refused.value.reason is Reason.DATA
    assert path.read_bytes().startswith(b"holiday")
    house.subsystem.media_add(str(path), force=True)


def test_a_medium_that_cannot_be_written_is_forgotten_by_force_alone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(medium: Medium) -> None:
        raise Refused(Reason.ENVIRONMENT, "it can't be written: No space left on device")

    monkeypatch.setattr(Medium, "clear_trailer", gone)
    with pytest.raises(Refused) as refused:
        house.subsystem.media_remove("c")
    assert "--force" in refused.value.hint
    assert "c" in house.states()
    house.subsystem.media_remove("c", force=True)
    assert "c" not in house.states()


def test_a_medium_in_use_is_not_removed(house: House) -> None:
    house.subsystem.save("ledger")
    for name, use in (("a", "leg of ledger"), ("b", "save ledger@1")):
        with pytest.raises(Refused) as refused:
            house.subsystem.media_remove(name)
        assert use in refused.value.message


def test_a_missing_medium_is_forgotten_only_by_force(house: House) -> None:
    house.kill()
    os.unlink(house.folder / "d")
    house.boot()
    with pytest.raises(Refused):
        house.subsystem.media_remove("d")
    house.subsystem.media_remove("d", force=True)
    assert "d" not in house.states()


def test_a_lost_leg_is_replaced_by_a_save_that_is_resynced(house: House) -> None:
    house.write(3, "x")
    os.unlink(house.folder / "b")
    house.engine.broken.add(house.floor.medium_row("b").uuid)
    house.write(3, "y")
    house.subsystem.settled()
    with pytest.raises(Refused):
        house.subsystem.media_remove("b")
    house.subsystem.media_remove("b", force=True)
    house.subsystem.save("ledger", policy="copy")
    house.finish()
    house.subsystem.resync("ledger")
    house.finish()
    assert [leg["medium"] for leg in house.show()["legs"]] == ["a", "c"]
    assert house.show()["state"] == "serving"
    assert house.on_medium("c", 3) == "y"


def test_the_last_leg_is_not_given_up_by_force(house: House) -> None:
    house.subsystem.save("ledger")
    os.unlink(house.folder / "a")
    with pytest.raises(Refused):
        house.subsystem.media_remove("a", force=True)
    assert [leg["medium"] for leg in house.show()["legs"]] == ["a"]


def test_a_volume_is_made_of_zeros_on_the_smallest_media_that_fit(house: House) -> None:
    house.media("tiny", size=3 * MIB)
    house.media("small", size=6 * MIB)
    shape = house.volume("two", size=4 * MIB)
    assert [leg["medium"] for leg in shape["legs"]] == ["small", "c"]
    assert [leg["state"] for leg in shape["legs"]] == ["in_sync", "in_sync"]
    assert shape["state"] == "serving"
    assert shape["generation"] == 1
    assert house.read(5, "two") == ""
    assert len(shape["naa"]) == 32
    assert shape["naa"].startswith("6001405")


def test_a_medium_used_before_shows_none_of_what_it_held(house: House) -> None:
    house.write(3, "x")
    house.subsystem.volume_delete("ledger", force=True)
    house.volume("next")
    assert house.read(3, "next") == ""


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"name": "a b"}, Reason.USAGE),
        ({"name": "ledger"}, Reason.EXISTS),
        ({"size": 1000}, Reason.USAGE),
        ({"size": 1 << 40}, Reason.NO_MEDIUM),
        ({"mirror": 3}, Reason.NO_MEDIUM),
        ({"mirror": 0}, Reason.USAGE),
        ({"extent_size": 5000}, Reason.USAGE),
        ({"media": ["a", "c"]}, Reason.STATE),
        ({"media": ["c", "c"]}, Reason.USAGE),
        ({"media": ["nowhere"]}, Reason.NOT_FOUND),
        ({"rights": "some"}, Reason.USAGE),
    ],
)
def test_a_volume_that_can_not_be_is_refused(
    house: House, wrong: dict[str, object], reason: Reason
) -> None:
    before = house.states()
    arguments = {"name": "other", "size": 4 * MIB, **wrong}
    with pytest.raises(Refused) as refused:
        house.volume(**arguments)  # type: ignore[arg-type]
    assert refused.value.reason is reason
    assert house.states() == before


def test_deleting_names_what_would_be_lost_and_asks_for_force(house: House) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger")
    with pytest.raises(Refused) as refused:
        house.subsystem.volume_delete("ledger")
    assert refused.value.reason is Reason.DATA
    assert "ledger@1" in refused.value.message
    house.subsystem.volume_delete("ledger", force=True)
    assert house.subsystem.volume_list() == []
    assert set(house.states().values()) == {"free"}
    assert not list((house.folder / "state" / "maps").iterdir())


def test_a_volume_that_was_never_written_is_deleted_without_force(house: House) -> None:
    house.subsystem.volume_delete("ledger")
    assert house.subsystem.volume_list() == []


def test_other_extent_sizes_and_sizes_that_end_within_an_extent(house: House) -> None:
    house.volume("fine", size=4 * MIB + 4096, extent_size=4096, mirror=1)
    house.subsystem.save("fine")
    house.finish()
    house.engine.write(house.handle("fine"), 4 * MIB, b"z" * 4096)
    told = house.subsystem.diff("fine")
    assert told["list"] == [{"offset": 4 * MIB, "length": 4096}]
    house.subsystem.volume_delete("ledger")
    house.volume("coarse", size=4 * MIB + 4096, extent_size=MIB, mirror=1)
    house.subsystem.save("coarse")
    house.finish()
    house.engine.write(house.handle("coarse"), 4 * MIB, b"z" * 4096)
    assert house.subsystem.diff("coarse")["bytes"] == 4096


def test_status_shows_volumes_media_and_what_runs(house: House) -> None:
    house.engine.hold_copies = True
    house.subsystem.save("ledger", policy="copy", label="night")
    house.write(3, "x")
    told = house.subsystem.status()
    assert [volume["name"] for volume in told["volumes"]] == ["ledger"]
    assert told["operations"][0]["verb"] == "save"
    assert told["operations"][0]["progress"] < 0.5
    assert told["volumes"][0]["changed_extents"] == 1
    assert told["volumes"][0]["saves"][0]["changed_bytes"] == EXTENT
    assert told["volumes"][0]["saves"][0]["changed_percent"] == 0.78  # 64 KiB of 8 MiB
    assert told["volumes"][0]["operation"] == told["operations"][0]
    assert len(told["media"]) == 4
    of_one = house.subsystem.status("ledger")
    assert [volume["name"] for volume in of_one["volumes"]] == ["ledger"]
    assert of_one["volumes"][0]["saves"] == told["volumes"][0]["saves"]


def test_sizes_are_told_as_people_say_them() -> None:
    assert told(512 * MIB) == "512 MiB"
    assert told(3 * 1024 * MIB) == "3 GiB"
    assert told(MIB + 1) == "1048577 bytes"


def test_the_status_of_all_outlives_one_that_goes_meanwhile(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(handle: int) -> None:
        raise Refused(Reason.NOT_FOUND, f"the engine serves no volume {handle}")

    monkeypatch.setattr(house.engine, "status", gone)
    (shown,) = house.subsystem.status()["volumes"]
    assert (shown["name"], shown["state"]) == ("ledger", "down")
