"""The Debian packages on Debian 12: installed they serve, and an upgrade under load is a pause, no error."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from targetplugin import __version__
from tools import deb

from .kills import LONGER_THAN_ANY_RUN, ended_unharmed
from .lab import Lab
from .ledger import Ledger
from .long import long

pytestmark = long

PLACE = "/var/cache"
NEXT = __version__ + "+next"
# The machines run the checkout; these take that away, until they boot again.
BARE = {
    "target": """
        systemctl stop targetplugind 'targetplugin-*'
        rm -f /etc/systemd/system/targetplugin* /usr/local/bin/targetplugin*
        rm -f /etc/dbus-1/system.d/targetplugin.conf
        rm -f /etc/systemd/system/multi-user.target.wants/targetplugin*
        systemctl daemon-reload
    """,
    "initiator": "rm -f /usr/local/bin/pitcopy",
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """This version's, and the target's once more as a next version of the same content."""
    folder = tmp_path_factory.mktemp("packages")
    target, host = deb.build(folder)
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "-R", target, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace(__version__, NEXT))
    upgrade = folder / "next.deb"
    build = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, upgrade]
    subprocess.run(build, check=True, capture_output=True)
    return {"targetplugin": target, "pitcopy": host, "next": upgrade}


@pytest.fixture
def bare(lab: Lab) -> Iterator[Lab]:
    """Machines without the checkout's programs."""
    for where, script in BARE.items():
        lab.shell(where, script)
    yield lab
    for where in BARE:
        lab.shell(where, "apt-get purge -qq -y targetplugin pitcopy > /dev/null 2>&1 || true; sync")
        lab.power_cut(where)
        lab.start(where)


def install(lab: Lab, where: str, package: Path) -> str:
    lab.copy_to(package, where, PLACE)
    apt = f"apt-get install -y --no-install-recommends {PLACE}/{package.name}"
    done = lab.shell(where, f"DEBIAN_FRONTEND=noninteractive {apt} 2>&1", timeout=300)
    return done.stdout


def test_packages_serve_and_are_upgraded_under_load(bare: Lab, packages: dict[str, Path]) -> None:
    def target(script: str) -> str:
        return bare.shell("target", script).stdout.strip()

    said = install(bare, "target", packages["targetplugin"])
    assert "Setting up targetplugin" in said
    assert target("systemctl is-enabled targetplugind; systemctl is-active targetplugind") == (
        "enabled\nactive"
    ), said
    assert target("systemctl show -P FragmentPath targetplugind").startswith(
        ("/lib/systemd/", "/usr/lib/systemd/")
    )
    assert target("command -v targetplugin") == "/usr/bin/targetplugin"
    assert target("systemctl is-active targetplugin-dbus") == "active"
    assert "user:targetplugin" in target("targetcli ls /backstores")
    assert target("ls /usr/share/man/man8") == "\n".join(
        sorted(f"{program}.8.gz" for program in deb.PROGRAMS)
    )
    install(bare, "initiator", packages["pitcopy"])

    ledger = Ledger(bare)
    try:
        assert bare.shell("initiator", "command -v pitcopy").stdout == "/usr/bin/pitcopy\n"
        assert "serving" in ledger.initiator(f"pitcopy status {ledger.disk}")
        ledger.fill(0, 8)
        before = ledger.checksum(0, 8)
        ledger.target("save", "ledger", "--label", "older")
        process = target("systemctl show -P MainPID targetplugind")
        load = bare.spawn("initiator", ledger.fio(LONGER_THAN_ANY_RUN))
        said = install(bare, "target", packages["next"])
        assert target("systemctl show -P MainPID targetplugind") != process, said
        assert target("dpkg-query -W -f '${Version}' targetplugin") == NEXT
        assert load.is_running, load.wait(check=False)
        ended_unharmed(bare, load, 180)
        assert ledger.checksum(0, 8) == before
        assert [save["label"] for save in ledger.status()["saves"]] == ["older"]
        ledger.target("release", "ledger@older")
    finally:
        ledger.close()

    target("apt-get purge -qq -y targetplugin 2>&1")
    assert target("systemctl is-active targetplugind || true") == "inactive"
    assert target("command -v targetplugin || true") == ""
    assert target("ls -A /usr/lib/targetplugin 2>/dev/null || true") == ""
    assert "catalog" in target("ls /var/lib/targetplugin"), "what it knew of volumes stays"
