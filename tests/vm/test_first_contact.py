"""A newcomer's first hour, on a real machine: each thing that is in the way is provoked, says what it is and
what to do next, and the doctor finds it beforehand. (Who is refused by name or CHAP: test_kernel_exports.py;
a full state directory: test_faults.py.)
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from .lab import Lab, Result
from .ledger import IQN

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
MEDIUM = "/dev/disk/by-id/virtio-media-"


def tool(lab: Lab, *words: str) -> Result:
    return lab.exec("target", ["targetplugin", *words], check=False, warm=True)


def refused(lab: Lab, *words: str) -> str:
    """What a verb says that is not done: a sentence and what to do, and never a traceback."""
    done = tool(lab, *words)
    assert done.returncode in (1, 2), done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def doctor(lab: Lab, *words: str) -> str:
    """What the doctor says is in the way."""
    found = json.loads(tool(lab, "doctor", "--json", *words).stdout)["checks"]
    return "\n".join(f"{one['what']} {one['next']}" for one in found if one["level"] == "problem")


@pytest.fixture
def newcomer(lab: Lab) -> Iterator[Lab]:
    """A target on which one volume was made."""
    lab.shell(
        "target",
        f"targetplugin media add {MEDIUM}a --force;"
        "targetplugin volume create ledger --size 64M --mirror 1",
    )
    yield lab
    lab.shell(
        "target",
        f"""
        set +e; rm -f /run/modprobe.d/none.conf; modprobe target_core_user; systemctl start targetplugind
        umount /mnt/busy; wipefs -qa {MEDIUM}b; rm -f /var/tmp/small
        targetplugin unexport ledger --force; targetplugin volume delete ledger --force
        targetplugin media remove virtio-media-a --force; true
        """,
    )


def test_who_is_not_root_is_told_so(newcomer: Lab) -> None:
    said = newcomer.exec("target", [*NOBODY, "targetplugin", "status"], check=False)
    assert (said.returncode, "run it as root, or with sudo" in said.stderr) == (1, True)
    said = newcomer.exec("target", [*NOBODY, "targetplugin", "doctor"], check=False)
    assert (said.returncode, "Run it with sudo" in said.stdout) == (1, True)


def test_a_daemon_that_does_not_run_is_to_be_started(newcomer: Lab) -> None:
    newcomer.shell("target", "systemctl stop targetplugind")
    words = "systemctl start targetplugind"
    assert words in refused(newcomer, "status")
    assert words in doctor(newcomer)
    newcomer.shell("target", words)
    assert tool(newcomer, "status").returncode == 0


def test_a_disk_that_is_busy_holds_data_or_is_too_small_is_named(newcomer: Lab) -> None:
    disk = f"{MEDIUM}b"
    newcomer.shell("target", f"mkfs.ext4 -q {disk}; mkdir -p /mnt/busy; mount {disk} /mnt/busy")
    assert "/mnt/busy" in refused(newcomer, "media", "add", disk, "--force")
    assert "/mnt/busy" in doctor(newcomer, "--disk", disk)
    newcomer.shell("target", "umount /mnt/busy")
    said = refused(newcomer, "media", "add", disk)
    assert ("ext4" in said, "--force" in said) == (True, True)
    assert "ext4" in doctor(newcomer, "--disk", disk)
    newcomer.shell("target", "truncate -s 1M /var/tmp/small")
    assert "/var/tmp/small" in refused(newcomer, "media", "add", "/var/tmp/small")
    said = refused(newcomer, "volume", "create", "large", "--size", "9G", "--mirror", "1")
    assert "media add" in said
    newcomer.shell("target", "truncate -s 8M /var/tmp/small")
    assert "is too small" in doctor(newcomer, "--disk", "/var/tmp/small", "--size", "9G")


def test_a_name_that_is_no_host_s_and_a_port_that_is_taken_are_refused(newcomer: Lab) -> None:
    lab = newcomer
    assert "/etc/iscsi/initiatorname.iscsi" in refused(
        lab, "export", "ledger", "--initiator", "host"
    )
    assert "/etc/iscsi/initiatorname.iscsi" in doctor(lab, "--initiator", "host")
    where = "10.77.0.1:3299"
    server = "import socket, time; s = socket.create_server(('10.77.0.1', 3299)); time.sleep(300)"
    other = lab.spawn("target", ["python3", "-c", server])
    lab.shell("target", 'while [ -z "$(ss -Hltn sport = :3299)" ]; do sleep 0.2; done')
    said = refused(lab, "export", "ledger", "--initiator", IQN, "--portal", where)
    assert f"The portal {where} can't be opened" in said
    assert "ss -ltn" in said
    assert "python3 (process " in doctor(lab, "--portal", where), "and who has it"
    other.kill()
    lab.shell("target", 'while [ -n "$(ss -Hltn sport = :3299)" ]; do sleep 0.2; done')
    assert json.loads(tool(lab, "status", "--json").stdout)["volumes"][0]["export"] is None
    assert tool(lab, "export", "ledger", "--initiator", IQN, "--portal", where).returncode == 0


def test_a_module_that_can_t_be_loaded_is_named(newcomer: Lab) -> None:
    newcomer.shell(
        "target",
        """
        mkdir -p /run/modprobe.d; echo 'install target_core_user /bin/false' > /run/modprobe.d/none.conf
        systemctl stop targetplugind; rmmod target_core_user; systemctl start targetplugind
        """,
    )
    said = refused(newcomer, "export", "ledger", "--initiator", IQN)
    assert "target_core_user" in said
    assert "targetplugin doctor" in said
