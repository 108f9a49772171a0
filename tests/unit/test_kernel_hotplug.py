"""Rings are found in sysfs by the name that the kernel gives their uio devices."""

from __future__ import annotations

from pathlib import Path

import pytest

from targetplugin.errors import Reason, Refused
from targetplugin.kernel.hotplug import Hotplug, Ring
from targetplugin.kernel.tcmu import parse_name


def device(sysfs: Path, uio: str, name: str, size: str = "0x8800000\n") -> None:
    place = sysfs / "class" / "uio" / uio
    (place / "maps" / "map0").mkdir(parents=True)
    (place / "name").write_text(name + "\n")
    (place / "maps" / "map0" / "size").write_text(size)


def test_the_name_attribute_has_hba_storage_object_and_configuration() -> None:
    assert parse_name("tcm-user/3/ledger/targetplugin/6f1e/x\n") == (
        3,
        "ledger",
        "targetplugin/6f1e/x",
    )


@pytest.mark.parametrize("name", ["igb_uio", "tcm-user/x/ledger/targetplugin/1", "tcm-user/1/a"])
def test_other_names_are_not_of_storage_objects(name: str) -> None:
    assert parse_name(name) is None


def test_a_ring_is_found_by_its_storage_object(tmp_path: Path) -> None:
    device(tmp_path, "uio0", "tcm-user/0/other/targetplugin/1")
    device(tmp_path, "uio1", "tcm-user/2/ledger/targetplugin/2")
    found = Hotplug(tmp_path, Path("/dev")).find("ledger")
    assert found == Ring(Path("/dev/uio1"), 2, "ledger", "targetplugin/2", 0x8800000)


def test_rings_of_other_handlers_are_not_ours(tmp_path: Path) -> None:
    device(tmp_path, "uio0", "tcm-user/0/ledger/qcow/x")
    device(tmp_path, "uio1", "tcm-user/0/ledger/targetplugin2/x")
    device(tmp_path, "uio2", "igb_uio")
    assert Hotplug(tmp_path).rings() == []


def test_a_device_that_goes_while_it_is_read_is_passed_by(tmp_path: Path) -> None:
    device(tmp_path, "uio0", "tcm-user/0/ledger/targetplugin/1")
    (tmp_path / "class/uio/uio0/maps/map0/size").unlink()
    assert Hotplug(tmp_path).find("ledger") is None


def test_opening_gives_a_descriptor_and_the_maps_length(tmp_path: Path) -> None:
    device(tmp_path, "uio0", "tcm-user/0/ledger/targetplugin/1", "0x1000")
    (tmp_path / "uio0").write_bytes(b"ring")
    descriptor, length = Hotplug(tmp_path, tmp_path).open("ledger")
    with open(descriptor, "rb") as ring:
        assert (ring.read(4), length) == (b"ring", 0x1000)


def test_a_ring_that_can_not_be_opened_is_refused_by_name(tmp_path: Path) -> None:
    device(tmp_path, "uio0", "tcm-user/0/ledger/targetplugin/1")
    with pytest.raises(Refused, match="uio0, the ring of ledger") as refused:
        Hotplug(tmp_path, tmp_path).open("ledger")
    assert refused.value.reason is Reason.ENVIRONMENT
