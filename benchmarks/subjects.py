"""What is compared in the throughput groups: LIO's own backstores, other handlers, and this project.

Owns how each is set up on the target, all on areas of one size of the same two disks, and where
it then shows: as a local disk by tcm_loop, and over iSCSI on the initiator.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.vm import packages
from tests.vm.lab import Lab

AREA_MIB, VOLUME_MIB = 112, 96
HOST = "iqn.2026-11.org.targetplugin:initiator"
PEERS = "iqn.2026-11.org.targetplugin:peers"
PORTAL = "10.77.0.1:3261"
SOURCE = Path(__file__).with_name("plain_tcmu.c")


@dataclass(frozen=True)
class Subject:
    """One that is measured.

    Attributes:
        area: the number of its areas of the disks.
        core: its storage object below core/ of LIO, if it is a peer; empty: a volume of ours.
    """

    name: str
    area: int
    core: str = ""

    @property
    def device(self) -> str:
        return self.name.replace(" ", "-")


FILEIO = Subject("fileio", 1, "fileio_0/fileio")
FILEIO_SYNC = Subject("fileio O_DSYNC", 2, "fileio_1/fileio-sync")
IBLOCK = Subject("iblock", 3, "iblock_2/iblock")
RUNNER = Subject("tcmu-runner", 4, "user_3/runner")
PLAIN = Subject("plain C handler", 5, "user_4/plain")
FILEIO_MD = Subject("fileio on md", 8, "fileio_5/fileio-md")
IBLOCK_MD = Subject("iblock on md", 9, "iblock_6/iblock-md")
ONE = Subject("one leg", 6)
TWO = Subject("two legs", 7)
ALL = (FILEIO, FILEIO_SYNC, IBLOCK, RUNNER, PLAIN, ONE, TWO, FILEIO_MD, IBLOCK_MD)

NOTES = [
    f"all on areas of {AREA_MIB} MiB of the same two virtio disks, {VOLUME_MIB} MiB used; fio with libaio"
    " and O_DIRECT; after each run SYNCHRONIZE CACHE, not counted",
    "fileio is what `targetcli` makes by default: write-back in the target's page cache, so that most of"
    " its I/O never meets a disk; O_DSYNC is `write_back=false` (reads are still cached). iblock, the plain C"
    " handler (plain_tcmu.c) and this project use the disk",
    "tcmu-runner's handler is `qcow` on a raw image in an ext4 file system (Debian's package has no other one"
    " for files or disks); it goes through the page cache too",
    "on md: Linux' md RAID1 (`mdadm --create --level=1 --assume-clean`) of the two disks that have the"
    " two legs",
]

# As rtslib does it, which targetcli uses.
MAKE = r"""
core=/sys/kernel/config/target/core
modprobe -a target_core_file target_core_iblock target_core_user tcm_loop iscsi_target_mod raid1
make() { # OBJECT CONTROL
    mkdir -p $core/$1
    echo "$2" > $core/$1/control
    echo 1 > $core/$1/enable
}
part() { echo /dev/disk/by-id/virtio-media-$1-part$2; }
for disk in a b; do
    dd if=/dev/zero of=/dev/disk/by-id/virtio-media-$disk bs=1M oflag=direct 2> /dev/null || true
    for area in 1 2 3 4 5 6 7 8 9; do
        first=$(((1 + (area - 1) * AREA) * 2048))
        addpart /dev/disk/by-id/virtio-media-$disk $area $first $((AREA * 2048))
    done
done
udevadm settle
for area in 8 9; do
    mdadm --quiet --create /dev/md$area --run --assume-clean --level=1 --raid-devices=2 \
        $(part a $area) $(part b $area) 2> /dev/null
done
buffered=,fd_buffered_io=1
make fileio_0/fileio fd_dev_name=$(part a 1),fd_dev_size=0$buffered
make fileio_1/fileio-sync fd_dev_name=$(part a 2),fd_dev_size=0
make iblock_2/iblock udev_path=$(part a 3)
size=dev_size=$((VOLUME << 20))
mke2fs -q -t ext4 -O ^has_journal -m 0 $(part a 4)
mkdir -p /srv/runner
mount $(part a 4) /srv/runner
dd if=/dev/zero of=/srv/runner/raw bs=1M count=$VOLUME conv=fsync 2> /dev/null
make user_3/runner dev_config=qcow//srv/runner/raw,$size
make user_4/plain dev_config=plain/1,hw_block_size=512,nl_reply_supported=-1,$size
make fileio_5/fileio-md fd_dev_name=/dev/md8,fd_dev_size=0$buffered
make iblock_6/iblock-md udev_path=/dev/md9
for object in fileio_0/fileio fileio_5/fileio-md; do
    echo 1 > $core/$object/attrib/emulate_write_cache
done
udevadm settle
uio=$(grep -l /plain/ /sys/class/uio/uio*/name | cut -d/ -f5)
systemd-run --quiet --unit=plain /root/plain_tcmu $core/user_4/plain /dev/$uio $(part a 5)
targetplugin media add $(part a 6)
targetplugin media add $(part a 7)
targetplugin media add $(part b 7)
targetplugin volume create one-leg --size ${VOLUME}M --mirror 1 --media virtio-media-a-part6
targetplugin volume create two-legs --size ${VOLUME}M --media virtio-media-a-part7 virtio-media-b-part7
"""

LOOP = r"""
base=/sys/kernel/config/target
place=$base/loopback/naa.6001405000000001
mkdir -p $place/tpgt_1
echo naa.6001405000000002 > $place/tpgt_1/nexus
number=0
for object in $OBJECTS; do
    mkdir -p $place/tpgt_1/lun/lun_$number
    ln -s $base/core/$object $place/tpgt_1/lun/lun_$number/
    number=$((number + 1))
done
udevadm settle
address=$(cat $place/tpgt_1/address)
number=0
for object in $OBJECTS; do
    ls -d /sys/class/scsi_device/$address:$number/device/block/* | sed 's,.*/,/dev/,'
    number=$((number + 1))
done
for volume in $VOLUMES; do targetplugind loop $volume; done
"""

EXPORT = rf"""
place=/sys/kernel/config/target/iscsi/{PEERS}
mkdir -p $place/tpgt_1/np/{PORTAL}
number=0
for object in $OBJECTS; do
    mkdir -p $place/tpgt_1/lun/lun_$number
    ln -s /sys/kernel/config/target/core/$object $place/tpgt_1/lun/lun_$number/
    number=$((number + 1))
done
for pair in generate_node_acls=1 demo_mode_write_protect=0 authentication=0; do
    echo ${{pair#*=}} > $place/tpgt_1/attrib/${{pair%=*}}
done
echo 1 > $place/tpgt_1/enable
"""

LOG_IN = r"""
node="iscsiadm -m node -T $IQN -p $PORTAL"
$node -o new > /dev/null
$node --login > /dev/null
udevadm settle
number=0
while [ $number -lt $COUNT ]; do
    readlink -f /dev/disk/by-path/ip-$PORTAL-iscsi-$IQN-lun-$number
    number=$((number + 1))
done
"""


def set_up(lab: Lab) -> None:
    """All subjects, not yet shown to anyone."""
    packages.install(lab, *packages.TCMU_RUNNER, *packages.MD)
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "plain_tcmu"
        subprocess.run(["gcc", "-O2", "-o", str(built), str(SOURCE)], check=True)
        lab.copy_to(built, "target", "/root/plain_tcmu")
    lab.shell("target", "systemctl start tcmu-runner")
    lab.shell("target", f"AREA={AREA_MIB} VOLUME={VOLUME_MIB}\n{MAKE}", timeout=180)
    for volume in ours():
        lab.exec("target", ["targetplugin", "export", volume.device, "--initiator", HOST])


def peers() -> list[Subject]:
    return [subject for subject in ALL if subject.core]


def ours() -> list[Subject]:
    return [subject for subject in ALL if not subject.core]


def local_disks(lab: Lab) -> dict[Subject, str]:
    """Shows them to the target itself by tcm_loop."""
    names = {
        "OBJECTS": " ".join(s.core for s in peers()),
        "VOLUMES": " ".join(s.device for s in ours()),
    }
    shown = lab.shell("target", LOOP, env=names).stdout.split()
    return dict(zip([*peers(), *ours()], shown, strict=True))


def remote_disks(lab: Lab) -> dict[Subject, str]:
    """Shows them to the initiator over iSCSI."""
    lab.shell("target", EXPORT, env={"OBJECTS": " ".join(s.core for s in peers())})
    shown = log_in(lab, PEERS, PORTAL, len(peers()))
    for volume in ours():
        status = json.loads(
            lab.exec("target", ["targetplugin", "status", volume.device, "--json"]).stdout
        )
        shown += log_in(lab, status["volumes"][0]["export"]["target"], "10.77.0.1:3260", 1)
    return dict(zip([*peers(), *ours()], shown, strict=True))


def log_in(lab: Lab, target: str, portal: str, count: int) -> list[str]:
    """The initiator's disks of a target's LUNs."""
    env = {"IQN": target, "PORTAL": portal, "COUNT": str(count)}
    return lab.shell("initiator", LOG_IN, env=env).stdout.split()
