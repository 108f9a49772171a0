"""What a newcomer's mistakes are answered with: what, which object, why, and what to do next."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rtslib_fb import RTSLibError

from targetplugin import daemon
from targetplugin.catalog import Catalog
from targetplugin.catalog.database import trouble
from targetplugin.control.methods import METHODS, BadParams, read_params
from targetplugin.engine import engine
from targetplugin.errors import Reason, Refused
from targetplugin.kernel import lio
from targetplugin.kernel.lio import Lio
from tests.unit.house import MIB, House

NOBODY = 65534


def refused(what: Any, *arguments: Any, **named: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        what(*arguments, **named)
    assert caught.value.hint, "what to do next"
    return caught.value


@pytest.fixture
def house(tmp_path: Path) -> Any:
    house = House(tmp_path)
    yield house
    house.end()


def test_a_daemon_that_may_not_keep_what_it_knows_says_how_it_is_started(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-m", "targetplugin.daemon", "--state-dir", str(tmp_path / "state")],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        capture_output=True,
        text=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": ":".join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    if "No module named" in done.stderr:
        pytest.skip("this checkout can be read by root alone")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(tmp_path / "state") in done.stderr
    assert "systemctl start targetplugind" in done.stderr


def test_a_kernel_without_io_uring_stops_the_daemon_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSYS, "the kernel gives no io_uring")

    monkeypatch.setattr(engine, "Reactor", refuse)
    places = ["--state-dir", str(tmp_path / "state"), "--run-dir", str(tmp_path / "run")]
    assert daemon.main(places) == 1
    (record,) = [one for one in caplog.records if one.levelname == "CRITICAL"]
    assert "io_uring: Function not implemented" in record.getMessage()
    assert "targetplugin doctor" in record.getMessage()


def test_without_configfs_the_export_names_its_place(tmp_path: Path) -> None:
    found = refused(Lio(tmp_path / "config/target", lambda: False).ensure_storage_object, *OBJECT)
    assert str(tmp_path / "config") in found.message
    assert "sys-kernel-config.mount" in found.hint


OBJECT = ("ledger", "ledger", MIB, "0" * 32)


def test_without_the_module_the_export_says_which_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(module: str) -> None:
        raise RTSLibError(f"modprobe: FATAL: Module {module} not found in directory /lib/modules/x")

    (tmp_path / "target").mkdir()
    monkeypatch.setattr(lio.rtslib_fb.utils, "modprobe", missing)
    monkeypatch.setattr(Lio, "_keep_dbroot", lambda self: None)
    monkeypatch.setattr(Lio, "_keep_reservations", lambda self: None)
    found = refused(Lio(tmp_path / "target", lambda: False).ensure_storage_object, *OBJECT)
    assert "storage object ledger" in found.message
    assert "target_core_user not found" in found.message
    assert "targetplugin doctor" in found.hint


def test_a_name_that_is_no_initiator_s_says_where_a_host_has_its_own() -> None:
    with pytest.raises(BadParams, match=r"'Host'.*initiatorname\.iscsi"):
        read_params(METHODS["export"], {"volume": "ledger", "initiators": ["Host"]})


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_state_directory_is_to_be_made_room_in(code: int) -> None:
    found = trouble("/var/lib/targetplugin", OSError(code, ""))
    assert "/var/lib/targetplugin" in found.message
    assert "make room" in found.hint


def test_a_state_directory_under_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = refused(Catalog, tmp_path / "file/state")
    assert found.reason is Reason.ENVIRONMENT
    assert str(tmp_path / "file/state") in found.message


def test_a_disk_that_is_busy_holds_data_or_is_too_small_is_named(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = house.subsystem.media_add
    data, small = tmp_path / "data", tmp_path / "small"
    data.write_bytes(b"precious" + bytes(12 * MIB))
    small.write_bytes(bytes(MIB))
    held = refused(add, str(data))
    assert (held.reason, str(data) in held.message) == (Reason.DATA, True)
    assert "--force" in held.hint
    tight = refused(add, str(small))
    assert str(small) in tight.message
    assert "2 MiB" in tight.hint
    monkeypatch.setattr("targetplugin.media.uses._swaps", lambda: [str(data)])
    busy = refused(add, str(data), force=True)
    assert (busy.reason, "swapoff" in busy.hint) == (Reason.DATA, True)
    assert "/dev/none" in refused(add, "/dev/none").message


def test_too_few_or_too_small_media_are_counted(house: House) -> None:
    found = refused(house.subsystem.volume_create, "ledger", 8 * MIB)
    assert found.reason is Reason.NO_MEDIUM
    assert "2 free media" in found.message
    house.media("a", "b", size=4 * MIB)
    found = refused(house.subsystem.volume_create, "ledger", 8 * MIB)
    assert "there are 0" in found.message
    assert "media add" in found.hint
