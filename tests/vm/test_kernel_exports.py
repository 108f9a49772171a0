"""What hosts see of an export on a real kernel, while the daemon, LIO's own service or the whole
machine goes away and comes back: a pause, never an error.
"""

import json
import time
from collections.abc import Iterator

import pytest

from .lab import Lab, Running
from .ledger import clean, fio
from .long import long

TARGET = "iqn.2026-11.org.targetplugin:kernel-test"
HOST = "iqn.2026-11.org.targetplugin:initiator"
OTHER = "iqn.2026-11.org.targetplugin:other"
PORTAL = "10.77.0.1:3260"
MEDIA = ("media-a", "media-b")
VOLUME = "kernel-test"
NODE = ["iscsiadm", "--mode", "node", "--targetname", TARGET, "--portal", PORTAL]
DISK = f"/dev/disk/by-path/ip-{PORTAL}-iscsi-{TARGET}-lun-0"
TPG = f"/sys/kernel/config/target/iscsi/{TARGET}/tpgt_1"


def tool(lab: Lab, *arguments: str) -> object:
    """The control terminal's answer."""
    return json.loads(lab.exec("target", ["targetplugin", *arguments, "--json"], warm=True).stdout)


@pytest.fixture
def export(lab: Lab) -> Iterator[Lab]:
    """A volume on two legs, exported to the initiator alone; taken down again afterwards."""
    for name in MEDIA:
        tool(lab, "media", "add", f"/dev/disk/by-id/virtio-{name}", "--force")
    tool(lab, "volume", "create", VOLUME, "--size", "128M", "--mirror", "2")
    where = ["--portal", PORTAL, "--target", TARGET]
    tool(lab, "export", VOLUME, "--initiator", HOST, *where)
    yield lab
    lab.shell(
        "target",
        f"targetplugin unexport {VOLUME} --force || true;"
        f"targetplugin volume delete {VOLUME} --force;"
        + "".join(f"targetplugin media remove virtio-{name};" for name in MEDIA),
    )
    assert not lab.exec("target", ["ls", "/sys/class/uio"], check=False).stdout


@pytest.fixture
def disk(export: Lab) -> Iterator[str]:
    """The initiator's disk, logged in: /dev/sdX, for a colon in a path is special to fio."""
    log_in(export)
    yield export.exec("initiator", ["readlink", "-f", DISK]).stdout.strip()
    export.exec("initiator", [*NODE, "--logout"], check=False)
    export.exec("initiator", [*NODE, "--op", "delete"], check=False)


def log_in(lab: Lab) -> None:
    lab.exec("initiator", ["dmesg", "--clear"])
    lab.exec("initiator", [*NODE, "--op", "new"])
    lab.exec("initiator", [*NODE, "--login"])
    lab.shell("initiator", f"udevadm settle; test -b $(readlink -f {DISK})")


def write_and_verify(lab: Lab, disk: str, seconds: int = 10) -> Running:
    """A load that writes for so long, however fast, and reads back what it wrote as it goes."""
    return lab.spawn("initiator", fio(disk, seconds, first_mib=0, mib=64))


def wait_for_served(lab: Lab, since: float, seconds: float = 30) -> None:
    while time.monotonic() < since + seconds:
        if lab.exec("target", ["test", "-e", f"{TPG}/lun/lun_0"], check=False).returncode == 0:
            return
        time.sleep(0.2)
    raise AssertionError("the export did not come back")


def kernel_errors(lab: Lab) -> str:
    script = "dmesg | grep -E 'I/O error|rejecting I/O|offlined|capacity change' || true"
    return lab.shell("initiator", script).stdout


def doctor(lab: Lab) -> list[dict[str, str]]:
    """What the doctor says of logins that were refused; it finds no other fault with the target."""
    told = tool(lab, "doctor", "--portal", PORTAL)
    assert isinstance(told, dict)
    bad = [one for one in told["checks"] if one["level"] != "ok" and one["check"] != "disks"]
    assert [one for one in bad if one["check"] != "logins"] == []
    return bad


def test_no_host_gets_in_but_the_named_ones(export: Lab) -> None:
    def rule(name: str) -> str:
        return export.exec("target", ["cat", f"{TPG}/{name}"]).stdout.strip()

    assert rule("attrib/generate_node_acls") == "0"
    assert export.exec("target", ["ls", f"{TPG}/acls"]).stdout.split() == [HOST]
    tool(export, "export", VOLUME, "--initiator", OTHER)
    tool(export, "unexport", VOLUME, "--initiator", HOST)
    export.exec("initiator", [*NODE, "--op", "new"])
    login = export.exec("initiator", [*NODE, "--login"], check=False)
    export.exec("initiator", [*NODE, "--op", "delete"])
    assert login.returncode == 24  # ISCSI_ERR_LOGIN_AUTH_FAILED
    (told,) = doctor(export)
    assert f"it called itself {HOST}" in told["what"]
    assert f"Its initiators are: {OTHER}." in told["what"]
    assert f"targetplugin export {VOLUME} --initiator {HOST}" in told["next"]


def test_a_host_with_chap_needs_its_secret(export: Lab) -> None:
    secret = "not-the-wrong-one"
    credentials = ["--chap-user", "night", "--chap-password-file", "-"]
    command = ["targetplugin", "export", VOLUME, "--initiator", HOST, *credentials]
    export.exec("target", command, input=secret + "\n")
    export.exec("initiator", [*NODE, "--op", "new"])
    outcomes = []
    for password in ("the-wrong-secret", secret):
        for name, value in (("authmethod", "CHAP"), ("username", "night"), ("password", password)):
            setting = ["--name", f"node.session.auth.{name}", "--value", value]
            export.exec("initiator", [*NODE, "--op", "update", *setting])
        outcomes.append(export.exec("initiator", [*NODE, "--login"], check=False).returncode)
        outcomes.append(["CHAP" in one["what"] for one in doctor(export)])
    export.exec("initiator", [*NODE, "--logout"], check=False)
    export.exec("initiator", [*NODE, "--op", "delete"])
    assert outcomes == [24, [True], 0, []]


@long
def test_hosts_see_no_error_when_the_daemon_is_killed_again_and_again(
    export: Lab, disk: str
) -> None:
    load = write_and_verify(export, disk, 15)
    kill = ["systemctl", "kill", "--signal=KILL", "--kill-who=main", "targetplugind"]
    for _ in range(3):
        time.sleep(3)
        export.exec("target", kill)
    clean(load.wait(180))
    assert kernel_errors(export) == ""


@long
def test_hosts_wait_for_a_killed_daemon_that_stays_away_for_100_seconds(
    export: Lab, disk: str
) -> None:
    place = "/run/systemd/system/targetplugind.service.d"
    away = f"mkdir -p {place}; printf '[Service]\\nRestartSec=105\\n' > {place}/away.conf"
    export.shell("target", f"{away}; systemctl daemon-reload")
    load = write_and_verify(export, disk)
    time.sleep(1)
    export.exec("target", ["systemctl", "kill", "--signal=KILL", "targetplugind"])
    export.shell("target", f"rm -r {place}")
    time.sleep(95)
    assert load.is_running
    assert export.shell("target", "systemctl show -P MainPID targetplugind").stdout == "0\n"
    clean(load.wait(180))
    export.shell("target", "systemctl daemon-reload")
    assert kernel_errors(export) == ""


def test_a_daemon_that_hangs_is_replaced_before_a_command_s_time_is_up(
    export: Lab, disk: str
) -> None:
    load = write_and_verify(export, disk)
    time.sleep(1)
    before = export.shell("target", "systemctl show -P MainPID targetplugind").stdout
    export.exec("target", ["systemctl", "kill", "--signal=STOP", "targetplugind"])
    clean(load.wait(180))
    assert export.shell("target", "systemctl show -P MainPID targetplugind").stdout != before
    assert kernel_errors(export) == ""


def test_the_export_is_back_after_lio_was_restarted_and_hosts_see_no_error(
    export: Lab, disk: str
) -> None:
    load = write_and_verify(export, disk)
    time.sleep(2)
    export.exec("target", ["systemctl", "restart", "rtslib-fb-targetctl"])
    wait_for_served(export, time.monotonic())
    clean(load.wait(180))
    assert kernel_errors(export) == ""


def test_what_lio_restores_of_ours_is_adopted(export: Lab, disk: str) -> None:
    """As after `targetcli saveconfig`: LIO makes the storage object and the target itself."""
    saved = "/etc/rtslib-fb-target/saveconfig.json"
    export.exec("target", ["targetcli", "saveconfig"])
    try:
        load = write_and_verify(export, disk)
        time.sleep(2)
        export.exec("target", ["systemctl", "restart", "rtslib-fb-targetctl"])
        clean(load.wait(180))
    finally:
        export.exec("target", ["rm", "-f", saved])
    objects = export.shell("target", "ls -d /sys/kernel/config/target/core/user_*/*/").stdout
    assert len(objects.split()) == 1
    assert kernel_errors(export) == ""


def test_all_is_served_again_after_a_power_cut_and_a_login_goes_on(export: Lab, disk: str) -> None:
    load = write_and_verify(export, disk)
    time.sleep(2)
    export.power_cut("target")
    export.start("target")
    wait_for_served(export, time.monotonic())
    clean(load.wait(240))
    assert kernel_errors(export) == ""


def test_another_targets_luns_are_not_ours_to_change(export: Lab) -> None:
    foreign = "iqn.2026-11.org.example:foreign"
    script = f"""
        targetcli /backstores/ramdisk create size=8M name=foreign
        targetcli /iscsi create {foreign}
        targetcli /iscsi/{foreign}/tpg1/luns create /backstores/ramdisk/foreign
    """
    export.shell("target", script)
    tool(export, "unexport", VOLUME)
    command = ["targetplugin", "export", VOLUME, "--initiator", HOST, "--portal", PORTAL]
    refused = export.exec("target", [*command, "--target", foreign], check=False)
    acls = f"/sys/kernel/config/target/iscsi/{foreign}/tpgt_1/acls"
    left = export.exec("target", ["ls", acls]).stdout
    export.shell("target", "targetcli clearconfig confirm=True")
    assert refused.returncode == 1
    assert "is not targetplugin's" in refused.stderr
    assert left == ""


def test_an_exported_volume_is_a_disk_of_the_target_itself_too(export: Lab) -> None:
    script = f"""
        disk=$(targetplugind loop {VOLUME})
        test "$disk" = "$(targetplugind loop {VOLUME})"
        head -c 1048576 /dev/urandom > /tmp/written
        dd if=/tmp/written of=$disk bs=64k oflag=direct status=none
        dd if=$disk bs=64k count=16 iflag=direct status=none | cmp - /tmp/written
        targetplugind unloop {VOLUME}
        test ! -e $disk
    """
    export.shell("target", script)
