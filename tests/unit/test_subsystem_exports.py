"""Exports: what the catalog keeps, and what the kernel is told, in which order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.hosts import exports
from tests.unit.fake_kernel import HOST, OTHER, FakeKernel
from tests.unit.house import House


@pytest.fixture
def house(tmp_path: Path, kernel: FakeKernel) -> Iterator[House]:
    made = House(tmp_path, kernel, kernel)
    made.media("a", "b", "c", "d")
    made.volume()
    yield made
    made.end()


def test_an_export_serves_the_ring_before_hosts_may_log_in(
    house: House, kernel: FakeKernel
) -> None:
    chap = {"user": "u", "password": "secret-secret"}
    shape = house.subsystem.export("ledger", [HOST], chap=chap)
    assert kernel.done == ["make", "open", "reset", "unblock", "export"]
    assert kernel.targets[shape["target"]] == ("ledger", ["192.0.2.1:3260"], {HOST: "u"})
    assert shape["initiators"] == [{"iqn": HOST, "chap_user": "u", "logged_in": False}]
    assert "secret" not in str(house.show())


def test_exporting_again_adds_hosts_and_keeps_the_target(house: House, kernel: FakeKernel) -> None:
    target = house.subsystem.export("ledger", [HOST])["target"]
    shape = house.subsystem.export("ledger", [OTHER], portals=["192.0.2.1:3260"])
    assert shape["target"] == target
    assert [i["iqn"] for i in shape["initiators"]] == [HOST, OTHER]
    assert kernel.done.count("open") == 1


def test_an_export_says_whether_it_changed_anything_and_a_preview_changes_nothing(
    house: House, kernel: FakeKernel
) -> None:
    chap = {"user": "u", "password": "secret-secret"}
    export = house.subsystem.export
    assert export("ledger", [HOST], chap=chap, preview=True)["changed"]
    assert kernel.done == []
    assert house.show()["export"] is None
    assert export("ledger", [HOST], chap=chap)["changed"]
    assert not export("ledger", [HOST], chap=chap)["changed"]
    for asked in (
        {"initiators": [HOST], "chap": {"user": "u", "password": "another-secret"}},
        {"initiators": [HOST], "chap": None},
        {"initiators": [OTHER], "chap": chap},
        {"initiators": [HOST], "chap": chap, "portals": ["192.0.2.7:3260"]},
    ):
        assert export("ledger", **asked, preview=True)["changed"], asked
    assert not export("ledger", [HOST], chap=chap)["changed"]


def test_a_save_s_export_is_previewed_too(house: House, kernel: FakeKernel) -> None:
    house.subsystem.save("ledger", label="night")
    assert house.subsystem.export("ledger@night", [HOST], preview=True)["changed"]
    assert house.show()["saves"][0]["export"] is None
    assert house.subsystem.export("ledger@night", [HOST])["changed"]
    assert not house.subsystem.export("ledger@night", [HOST], preview=True)["changed"]
    house.subsystem.unexport("ledger@night", preview=True)
    assert house.show()["saves"][0]["export"] is not None


def test_what_takes_away_refuses_in_a_preview_as_it_would_and_else_takes_nothing(
    house: House, kernel: FakeKernel
) -> None:
    house.subsystem.export("ledger", [HOST])
    kernel.hosts = {HOST}
    with pytest.raises(Refused):
        house.subsystem.unexport("ledger", preview=True)
    with pytest.raises(Refused):
        house.subsystem.volume_delete("ledger", preview=True)
    kernel.hosts = set()
    assert house.subsystem.unexport("ledger", preview=True)["initiators"] == []
    assert house.show()["export"] is not None
    house.subsystem.unexport("ledger")
    house.subsystem.volume_delete("ledger", preview=True)
    assert house.show()["state"] == "serving"
    leg = house.show()["legs"][0]["medium"]
    with pytest.raises(Refused):
        house.subsystem.media_remove(leg, preview=True)
    before = house.subsystem.media_list()
    free = next(one["name"] for one in before if one["state"] == "free")
    house.subsystem.media_remove(free, preview=True)
    assert house.subsystem.media_list() == before


def test_an_export_that_the_kernel_refuses_has_no_trace(house: House, kernel: FakeKernel) -> None:
    kernel.fails = True
    with pytest.raises(Refused):
        house.subsystem.export("ledger", [HOST])
    kernel.fails = False
    assert house.show()["export"] is None
    assert house.catalog.exports() == []


def test_unexport_asks_for_force_while_a_host_is_logged_in(
    house: House, kernel: FakeKernel
) -> None:
    house.subsystem.export("ledger", [HOST, OTHER])
    kernel.hosts = {HOST}
    with pytest.raises(Refused) as refused:
        house.subsystem.unexport("ledger")
    assert refused.value.reason is Reason.HOSTS
    left = house.subsystem.unexport("ledger", [OTHER])
    assert [i["iqn"] for i in left["initiators"]] == [HOST]
    kernel.done.clear()
    house.subsystem.unexport("ledger", force=True)
    assert kernel.done == ["unexport", "remove"]
    assert house.show()["export"] is None


def test_a_volume_that_is_exported_is_not_deleted(house: House) -> None:
    house.subsystem.export("ledger", [HOST])
    with pytest.raises(Refused) as refused:
        house.subsystem.volume_delete("ledger", force=True)
    assert refused.value.reason is Reason.STATE


def test_after_a_kill_the_ring_that_is_there_is_reset_and_served(
    house: House, kernel: FakeKernel
) -> None:
    house.subsystem.export("ledger", [HOST])
    kernel.done.clear()
    house.restart()
    assert kernel.done == ["open", "reset", "unblock"]
    assert house.subsystem.restore_exports()
    assert kernel.done == ["open", "reset", "unblock", "export"]


def test_an_export_that_stands_is_looked_at_as_a_whole_now_and_then_alone(
    house: House, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.subsystem.export("ledger", [HOST])
    assert house.subsystem.restore_exports()
    kernel.done.clear()
    assert house.subsystem.restore_exports()
    assert kernel.done == []
    (target,) = kernel.targets
    kernel.numbers[target] += 1  # someone made it anew
    assert house.subsystem.restore_exports()
    assert kernel.done == ["export"]
    house.subsystem.export("ledger", [OTHER])
    kernel.done.clear()
    assert house.subsystem.restore_exports()
    assert kernel.done == ["export"], "it is another since the last look"
    monkeypatch.setattr(exports, "WHOLE_LOOK", 0.0)
    assert house.subsystem.restore_exports()
    assert kernel.done == ["export", "export"]


def test_after_a_reboot_exports_are_made_again(house: House, kernel: FakeKernel) -> None:
    house.subsystem.export("ledger", [HOST])
    kernel.objects.clear()
    kernel.targets.clear()
    kernel.done.clear()
    house.restart()
    assert kernel.done == []
    kernel.fails = True
    assert not house.subsystem.restore_exports()
    kernel.fails = False
    assert house.subsystem.restore_exports()
    assert kernel.done == ["make", "open", "reset", "unblock", "export"]


def test_a_ring_that_could_not_be_unblocked_is_served_the_next_time(
    house: House, kernel: FakeKernel
) -> None:
    house.subsystem.export("ledger", [HOST])
    kernel.stays_blocked = True
    house.restart()
    assert not house.subsystem.restore_exports()
    kernel.stays_blocked = False
    kernel.done.clear()
    assert house.subsystem.restore_exports()
    assert kernel.done == ["open", "reset", "unblock", "export"]


def test_a_ring_that_someone_else_removed_and_made_again_is_served(
    house: House, kernel: FakeKernel
) -> None:
    house.subsystem.export("ledger", [HOST])
    kernel.done.clear()
    kernel.objects.clear()
    house.subsystem.ring_changed("ledger", False)
    kernel.objects["ledger"] = "targetplugin/x"
    house.subsystem.ring_changed("ledger", True)
    assert kernel.done == ["open", "reset", "unblock"]


def test_recover_and_swap_wait_until_one_host_is_left_or_the_operator_forces(
    house: House, kernel: FakeKernel
) -> None:
    house.subsystem.export("ledger", [HOST, OTHER])
    house.subsystem.save("ledger")
    kernel.hosts = {HOST, OTHER}
    for verb in (house.subsystem.recover, house.subsystem.swap):
        with pytest.raises(Refused) as refused:
            verb("ledger")
        assert refused.value.reason is Reason.HOSTS
    house.subsystem.recover("ledger", force=True)
    house.finish()
    with pytest.raises(Refused) as refused:
        house.subsystem.undo("ledger")
    assert refused.value.reason is Reason.HOSTS
    house.subsystem.undo("ledger", force=True)
    house.finish()
    kernel.hosts = {HOST}
    house.subsystem.swap("ledger")


# --- made with targetcli --------------------------------------------------------------------------


def test_a_storage_object_of_a_volume_s_name_is_served_as_long_as_it_is_there(
    house: House, kernel: FakeKernel
) -> None:
    kernel.objects["ledger"] = "targetplugin/ledger"
    house.subsystem.ring_changed("ledger", True)
    assert kernel.done == ["open", "reset", "unblock"]
    for verb in (
        lambda: house.subsystem.export("ledger", [HOST]),
        lambda: house.subsystem.volume_delete("ledger", force=True),
    ):
        with pytest.raises(Refused, match="made with targetcli"):
            verb()
    assert kernel.done == ["open", "reset", "unblock"], "it is not taken away, nor is its ring"
    assert kernel.objects == {"ledger": "targetplugin/ledger"}
    assert house.show()["export"] is None
    del kernel.objects["ledger"]
    house.subsystem.ring_changed("ledger", False)
    house.subsystem.volume_delete("ledger", force=True)


def test_one_that_does_not_fit_the_volume_is_not_served_and_the_log_says_why(
    house: House, kernel: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    kernel.objects["ledger"], kernel.sizes["ledger"] = "targetplugin/ledger", 1
    house.subsystem.ring_changed("ledger", True)
    assert kernel.done == []
    assert "another size. It is not served." in caplog.text


@pytest.mark.parametrize(
    ("name", "named", "words"),
    [
        ("other", "ledger", "it must be called as its volume is, ledger."),
        ("other", "other", "there is no volume other."),
    ],
)
def test_one_of_no_volume_s_name_is_not_served_and_the_log_says_why(
    house: House,
    kernel: FakeKernel,
    caplog: pytest.LogCaptureFixture,
    name: str,
    named: str,
    words: str,
) -> None:
    kernel.objects[name] = f"targetplugin/{named}"
    house.subsystem.ring_changed(name, True)
    assert kernel.done == []
    assert f"The storage object {name} is not served: {words}" in caplog.text


def test_one_that_is_gone_at_once_and_a_size_that_is_not_the_volume_s_are_told_in_the_log(
    house: House, kernel: FakeKernel, caplog: pytest.LogCaptureFixture
) -> None:
    """As tcmu-runner's library makes it go, and as somebody may set it by targetcli."""
    house.subsystem.size_told("ledger", house.show()["size"])
    house.subsystem.size_told("other", 1)
    kernel.objects["ledger"] = "targetplugin/ledger"
    house.subsystem.object_made("ledger")
    assert caplog.text == ""
    house.subsystem.size_told("ledger", 1 << 20)
    assert f"has {1 << 20} bytes; it has {house.show()['size']}" in caplog.text
    kernel.objects.clear()
    house.subsystem.object_made("ledger")
    assert "was gone as soon as it was made" in caplog.text
