"""LIO's attributes are read as the kernel writes them (copied from a machine with kernel 6.1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from targetplugin.errors import Reason, Refused
from targetplugin.kernel import configfs, lio, tcmu
from targetplugin.kernel.lio import Initiator, Lio

INFO = """\
Status: DEACTIVATED  Max Queue Depth: 0  SectorSize: 512  HwMaxSectors: 2048
        Config: targetplugin/6f1e Size: 67108864 MaxDataAreaMB: 128 DataPagesPerBlk: 1
"""
SESSION = """\
InitiatorName: iqn.2026-11.org.targetplugin:initiator
InitiatorAlias: initiator
LIO Session ID: 1   ISID: 0x00 02 3d 00 00 00  TSIH: 1  SessionType: Normal
Session State: TARG_SESS_STATE_LOGGED_IN
"""
NO_SESSION = "No active iSCSI Session for Initiator Endpoint: iqn.2026-11.org.targetplugin:x\n"
TARGET = "iqn.2026-11.org.targetplugin:ledger"
HOST = "iqn.2026-11.org.targetplugin:initiator"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A configfs with the storage object `ledger`, exported to one host with CHAP."""
    storage_object = tmp_path / "core/user_0/ledger"
    write(storage_object / "info", INFO)
    write(storage_object / "action/block_dev", "0")
    write(storage_object / "action/reset_ring", "0")
    write(tmp_path / "core/user_1/other/info", INFO.replace("targetplugin", "qcow"))
    group = tmp_path / "iscsi" / TARGET / "tpgt_1"
    write(group / "enable", "1\n")
    (group / "np" / "10.0.0.1:3260").mkdir(parents=True)
    for rule, value in lio._rules({HOST: Initiator(HOST, "user")}).items():
        write(group / "attrib" / rule, value + "\n")
    (group / "lun/lun_0").mkdir(parents=True)
    (group / "lun/lun_0/5c1d").symlink_to(storage_object)
    acl = group / "acls" / HOST
    write(acl / "auth/userid", "user\n")
    write(acl / "auth/password", "secretsecret\n")
    write(acl / "info", SESSION)
    (acl / "lun_0").mkdir()
    (acl / "lun_0/77ab").symlink_to(group / "lun/lun_0")
    return tmp_path


def test_info_is_read_by_its_keys() -> None:
    assert configfs.parse_info(INFO, "Config") == "targetplugin/6f1e"
    assert configfs.parse_info(INFO, "Size") == "67108864"
    assert configfs.parse_info(INFO, "Missing") == ""


def test_a_session_is_told_from_none() -> None:
    assert configfs.has_session(SESSION)
    assert not configfs.has_session(NO_SESSION)
    assert not configfs.has_session(SESSION.replace("LOGGED_IN", "IN_CONTINUE"))


def test_unset_secrets_are_empty_whether_the_kernel_says_null_or_nothing(tmp_path: Path) -> None:
    assert configfs.secrets(tmp_path) == ("", "")
    write(tmp_path / "userid", "NULL\n")
    write(tmp_path / "password", "NULL\n")
    assert configfs.secrets(tmp_path) == ("", "")


def test_who_is_logged_in(tree: Path) -> None:
    assert Lio(tree).logged_in(TARGET) == {HOST}
    write(tree / "iscsi" / TARGET / "tpgt_1/acls" / HOST / "info", NO_SESSION)
    assert Lio(tree).logged_in(TARGET) == set()
    assert Lio(tree).logged_in("iqn.2026-11.org.targetplugin:none") == set()


def test_only_our_storage_objects_are_known(tree: Path) -> None:
    names = [place.name for place in tree.glob("core/user_*/*")]
    assert sorted(names) == ["ledger", "other"]
    found = {name: Lio(tree).storage_object(name) for name in (*names, "none", "l*", "")}
    assert {name: config for name, config in found.items() if config is not None} == {
        "ledger": "targetplugin/6f1e"
    }


def test_a_ring_is_blocked_and_reset_and_opened_again(tree: Path) -> None:
    action = tree / "core/user_0/ledger/action"
    Lio(tree).reset_ring("ledger")
    assert [(action / name).read_text() for name in ("block_dev", "reset_ring")] == ["1", "1"]
    Lio(tree).unblock("ledger")
    assert (action / "block_dev").read_text() == "0"


def test_the_kernel_is_told_of_a_larger_size_and_of_no_other(tree: Path) -> None:
    control = tree / "core/user_0/ledger/control"
    control.write_text("")
    Lio(tree).grow("ledger", 67108864)
    Lio(tree).grow("ledger", 33554432)
    assert control.read_text() == ""
    Lio(tree).grow("ledger", 134217728)
    assert control.read_text() == "dev_size=134217728"
    with pytest.raises(Refused):
        Lio(tree).grow("other", 134217728)


def test_the_ring_of_another_handler_is_not_touched(tree: Path) -> None:
    with pytest.raises(Refused) as refused:
        Lio(tree).reset_ring("other")
    assert refused.value.reason is Reason.EXISTS


def so(tree: Path, *hosts: Initiator, portal: tuple[str, int] = ("10.0.0.1", 3260)) -> bool:
    return Lio(tree)._is_so("ledger", TARGET, [portal], {host.iqn: host for host in hosts})


def test_an_export_that_is_as_it_should_be_is_recognised(tree: Path) -> None:
    assert so(tree, Initiator(HOST, "user", "secretsecret"))


def test_an_export_with_another_secret_host_or_portal_is_not_as_it_should_be(tree: Path) -> None:
    right = Initiator(HOST, "user", "secretsecret")
    assert not so(tree, Initiator(HOST, "user", "other-secret"))
    assert not so(tree, right, Initiator("iqn.2026-11.org.targetplugin:second"))
    assert not so(tree)
    assert not so(tree, right, portal=("10.0.0.1", 860))


def test_an_export_that_lets_unnamed_hosts_in_is_not_as_it_should_be(tree: Path) -> None:
    write(tree / "iscsi" / TARGET / "tpgt_1/attrib/generate_node_acls", "1\n")
    assert not so(tree, Initiator(HOST, "user", "secretsecret"))


def test_an_export_without_its_lun_or_not_enabled_is_not_there(tree: Path) -> None:
    assert Lio(tree).exported("ledger", TARGET)
    write(tree / "iscsi" / TARGET / "tpgt_1/enable", "0\n")
    assert not Lio(tree).exported("ledger", TARGET)
    write(tree / "iscsi" / TARGET / "tpgt_1/enable", "1\n")
    (tree / "iscsi" / TARGET / "tpgt_1/lun/lun_0/5c1d").unlink()
    assert not Lio(tree).exported("ledger", TARGET)


def test_an_export_that_is_changed_stands_otherwise(tree: Path) -> None:
    group = tree / "iscsi" / TARGET / "tpgt_1"
    stood = Lio(tree).standing(TARGET)
    assert stood == Lio(tree).standing(TARGET)
    (group / "acls/iqn.2026-11.org.targetplugin:third").mkdir()
    more = Lio(tree).standing(TARGET)
    assert set(stood) < set(more)
    (group / "lun/lun_0/5c1d").unlink()
    (group / "lun/lun_0/5c1d").symlink_to(next(tree.glob("core/*/other")))
    assert Lio(tree).standing(TARGET) not in ((), stood, more)
    write(group / "enable", "0\n")
    assert Lio(tree).standing(TARGET) == ()
    assert Lio(tree).standing("iqn.2026-11.org.targetplugin:none") == ()


@pytest.mark.parametrize("volume", ["", "a:b", "a,b", "a b", "a\nb", "x" * 243])
def test_configuration_strings_that_configfs_would_garble_are_refused(volume: str) -> None:
    with pytest.raises(Refused) as refused:
        tcmu.configuration(volume)
    assert refused.value.reason is Reason.USAGE


def test_the_longest_configuration_string() -> None:
    assert len(tcmu.configuration("x" * 242)) == 255


def test_a_local_disk_is_named_by_its_volume_and_counts_as_a_host(tree: Path) -> None:
    wwn = tcmu.loop_wwn("targetplugin/6f1e")
    assert len(wwn) == 20
    assert wwn.startswith("naa.5")
    assert wwn != tcmu.loop_wwn("targetplugin/6f1f")
    lun = tree / "loopback" / wwn / "tpgt_1/lun/lun_0"
    lun.mkdir(parents=True)
    (lun / "0a1b").symlink_to(tree / "core/user_0/ledger")
    assert Lio(tree).logged_in(TARGET) == {HOST, wwn}


def test_nothing_is_made_while_lio_restores_its_own(tree: Path) -> None:
    storage_object = tree / "core/user_0/ledger"
    write(storage_object / "enable", "1")
    kernel = Lio(tree, restoring=lambda: True)
    right = Initiator(HOST, "user", "secretsecret")
    assert not kernel.ensure_storage_object("ledger", "6f1e", 67108864, "serial")
    assert not kernel.ensure_export("ledger", TARGET, ["10.0.0.1"], [right])
    with pytest.raises(Refused, match="restores"):
        kernel.ensure_export("ledger", TARGET, ["10.0.0.2"], [right])
    with pytest.raises(Refused, match="restores"):
        kernel.ensure_storage_object("second", "6f1f", 67108864, "serial")


def test_a_storage_object_that_targetcli_made_is_told_from_ours(tree: Path) -> None:
    place = tree / "core/user_0/ledger"
    write(place / "enable", "1")
    write(place / "attrib/hw_block_size", "512")
    size, kernel = 67108864, Lio(tree)
    with pytest.raises(Refused, match="another volume's"):
        kernel.check_made_by_name("ledger", size, 512)
    write(place / "info", INFO.replace("targetplugin/6f1e", "targetplugin/ledger"))
    kernel.check_made_by_name("ledger", size, 512)
    kernel.check_made_by_name("none", size, 512)
    with pytest.raises(Refused, match="blocks of 512") as caught:
        kernel.check_made_by_name("ledger", size, 4096)
    assert "targetcli /backstores/user:targetplugin delete ledger" in caught.value.hint
    with pytest.raises(Refused, match="has 67108864 bytes, the volume 1024") as caught:
        kernel.check_made_by_name("ledger", 1024, 512)
    assert "size=1024" in caught.value.hint
    with pytest.raises(Refused, match="made with targetcli"):
        kernel.ensure_storage_object("ledger", "6f1e", size, "6f1e")
