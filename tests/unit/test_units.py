"""The units: how little each may do, by what systemd says of them without running them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGING = Path(__file__).parents[2] / "packaging"
# The most that systemd-analyze security says; tests/vm/test_services.py asks it of those that run.
MOST = {
    "targetplugind": 1.0,
    "targetplugin-lio": 1.9,
    "targetplugin-files": 1.7,
    "targetplugin-images": 0.9,
    "targetplugin-hooks": 2.6,
    "targetplugin-dbus": 0.9,
    "targetplugin-metrics": 0.2,
}
ASKED = ("lio", "files", "images", "hooks")


def settings(unit: str) -> dict[str, list[str]]:
    """Of a unit, in their order; a line that goes on is one."""
    text = (PACKAGING / unit).read_text().replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def test_every_service_is_judged() -> None:
    assert {path.stem for path in PACKAGING.glob("*.service")} == set(MOST)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not there")
@pytest.mark.parametrize("unit", MOST)
def test_a_unit_allows_no_more_than_it_must(unit: str) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager"]
    done = subprocess.run(
        [*command, str(PACKAGING / f"{unit}.service")], capture_output=True, text=True
    )
    found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= MOST[unit], done.stdout


def test_the_daemon_is_nobody_and_has_nothing() -> None:
    unit = settings("targetplugind.service")
    assert unit["User"] == ["targetplugin"]
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == [""]
    assert unit["PrivateDevices"] == unit["ProtectHome"] == ["yes"]
    assert re.search(r"^u targetplugin ", (PACKAGING / "sysusers.conf").read_text(), re.MULTILINE)


def test_the_daemon_asks_where_services_listen_to_it_alone() -> None:
    (start,) = settings("targetplugind.service")["ExecStart"]
    wanted = " ".join(settings("targetplugind.service")["Wants"]).split()
    for name in ASKED:
        socket = settings(f"targetplugin-{name}.socket")
        assert f"--{name} {socket['ListenStream'][0]} " in start
        assert (socket["SocketUser"], socket["SocketMode"]) == (["targetplugin"], ["0600"])
        assert settings(f"targetplugin-{name}.service")["ExecStart"] == [
            f"/usr/bin/env targetplugin-{name} --user targetplugin"
        ]
        assert f"targetplugin-{name}.socket" in wanted


def test_metrics_are_passed_on_for_this_machine_alone() -> None:
    socket = settings("targetplugin-metrics.socket")
    assert socket["ListenStream"] == ["127.0.0.1:9950"]
    assert (socket["IPAddressDeny"], socket["IPAddressAllow"]) == (["any"], ["localhost"])


@pytest.mark.parametrize("unit", sorted(set(MOST) - {"targetplugin-metrics"}))
def test_what_a_service_prints_is_logged_in_its_name(unit: str) -> None:
    """Else the journal has it as env's, which starts it."""
    found = settings(f"{unit}.service")
    assert found["SyslogIdentifier"] == [unit]
    assert found["ExecStart"][0].startswith(f"/usr/bin/env {unit}")


def test_an_upgrade_stops_a_daemon_that_made_portals_before_its_unit_bans_addresses() -> None:
    assert settings("targetplugind.service")["IPAddressDeny"] == ["any"]
    assert "IPAddressDeny" not in settings("targetplugin-lio.service"), "who makes portals now"
    script = (PACKAGING / "debian/targetplugin.preinst").read_text()
    assert "stop targetplugind.service" in script
