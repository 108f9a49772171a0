"""`python3 -m benchmarks.restart --count N`: how long hosts wait when the process that serves them is
killed: this daemon with two legs, and beside it a plain C handler (plain_tcmu.c) on one disk, in turns.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.vm.kills import UNIT, Kills, kill_again_and_again, under_load
from tests.vm.lab import Lab
from tests.vm.ledger import Ledger

TARGET = "iqn.2026-11.org.targetplugin:plain"
PORTAL = "10.77.0.1:3261"
CORE = "/sys/kernel/config/target/core/user_99/plain"
MEDIUM = "/dev/disk/by-id/virtio-media-d"
TURNS = 2
SERVICE = f"""\
[Unit]
StartLimitIntervalSec=0
[Service]
ExecStart=/root/plain_tcmu {CORE} @UIO@ {MEDIUM}
ExecStopPost=/bin/sh -c 'echo 1 > {CORE}/action/block_dev; echo 1 > {CORE}/action/reset_ring'
Restart=always
RestartSec=0
"""
MAKE = f"""
mkdir -p {CORE}
echo dev_config=plain/1,dev_size=268435456,hw_block_size=512,nl_reply_supported=-1 > {CORE}/control
echo 1 > {CORE}/enable
udevadm settle
uio=$(grep -l /plain/ /sys/class/uio/uio*/name | cut -d/ -f5)
sed "s,@UIO@,/dev/$uio," > /run/systemd/system/plain.service
systemctl daemon-reload
systemctl start plain
cd /sys/kernel/config/target/iscsi
mkdir -p {TARGET}/tpgt_1/np/{PORTAL} {TARGET}/tpgt_1/lun/lun_0
cd {TARGET}/tpgt_1
ln -s {CORE} lun/lun_0/plain
for pair in generate_node_acls=1 demo_mode_write_protect=0 authentication=0; do
    echo ${{pair#*=}} > attrib/${{pair%=*}}
done
echo 1 > enable
"""
LOG_IN = f"""
node="iscsiadm -m node -T {TARGET} -p {PORTAL}"
$node -o new > /dev/null
$node --login > /dev/null
udevadm settle
readlink -f /dev/disk/by-path/ip-{PORTAL}-iscsi-{TARGET}-lun-0
"""


def start_plain(lab: Lab) -> str:
    """Serves a disk by the plain handler; returns what the initiator has it as."""
    source = Path(__file__).with_name("plain_tcmu.c")
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "plain_tcmu"
        subprocess.run(["gcc", "-O2", "-o", str(built), str(source)], check=True)
        lab.copy_to(built, "target", "/root/plain_tcmu")
    lab.shell("target", MAKE, input=SERVICE)
    return lab.shell("initiator", LOG_IN).stdout.strip()


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python3 -m benchmarks.restart", description=__doc__)
    arguments.add_argument("--count", type=int, default=20, help="kills of each")
    wish = arguments.parse_args()
    lab = Lab(owned=True)
    lab.up()
    try:
        ledger = Ledger(lab)
        plain = start_plain(lab)
        ours, theirs = Kills([], 0.0), Kills([], 0.0)
        for turn in range(TURNS):
            count, seed = wish.count // TURNS, int(time.time()) + turn
            ours += kill_again_and_again(ledger, count, seed)
            theirs += under_load(lab, plain, "plain", "plain", count, seed)
    finally:
        lab.down()
    print(f"{UNIT}, two legs: {ours}\nplain C handler, one disk: {theirs}")
    print(f"median of the first to that of the second: {ours.median / theirs.median:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
