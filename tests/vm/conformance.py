"""`python3 -m tests.vm.conformance [--write]`: what iscsi-test-cu says of this project's volume and of LIO's
own fileio, in one run, in the same machines. Owns how both are set up: as like as they can be.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

from . import iscsi_tests, verdicts
from .iscsi_tests import HOSTS
from .lab import Lab
from .state import progress
from .verdicts import Found

PORTAL = "10.77.0.1"
OURS = "iqn.2026-11.org.targetplugin:ours"
FILEIO = "iqn.2026-11.org.targetplugin:fileio"
SIZE_MIB = 128
VOLUME = "conformance"

# As rtslib does it; thin provisioning on, which fileio has off by itself.
FILEIO_UP = f"""
modprobe -a target_core_file iscsi_target_mod
core=/sys/kernel/config/target/core/fileio_9/conformance
place=/sys/kernel/config/target/iscsi/{FILEIO}/tpgt_1
truncate -s {SIZE_MIB}M /root/conformance
mkdir -p $core
echo fd_dev_name=/root/conformance,fd_dev_size=$(({SIZE_MIB} << 20)),fd_buffered_io=1 > $core/control
echo fileio-conformance > $core/wwn/vpd_unit_serial
echo 1 > $core/enable
for attribute in emulate_write_cache emulate_tpu emulate_tpws; do echo 1 > $core/attrib/$attribute; done
mkdir -p $place/np/{PORTAL}:3261 $place/lun/lun_0
ln -s $core $place/lun/lun_0/
for pair in generate_node_acls=0 demo_mode_write_protect=0 authentication=0; do
    echo ${{pair#*=}} > $place/attrib/${{pair%=*}}
done
for host in {" ".join(HOSTS)}; do
    mkdir -p $place/acls/$host/lun_0
    ln -s $place/lun/lun_0 $place/acls/$host/lun_0/
done
echo 1 > $place/enable
"""
FILEIO_DOWN = "targetcli clearconfig confirm=True; rm -f /root/conformance"


def ours_up(lab: Lab) -> str:
    """A volume on two legs, for both hosts. Returns its URL."""
    for name in ("media-a", "media-b"):
        lab.exec(
            "target", ["targetplugin", "media", "add", f"/dev/disk/by-id/virtio-{name}", "--force"]
        )
    lab.exec("target", ["targetplugin", "volume", "create", VOLUME, "--size", f"{SIZE_MIB}M"])
    for host in HOSTS:
        where = ["--portal", f"{PORTAL}:3260", "--target", OURS]
        lab.exec("target", ["targetplugin", "export", VOLUME, "--initiator", host, *where])
    return f"iscsi://{PORTAL}:3260/{OURS}/0"


def ours_down(lab: Lab) -> None:
    lab.shell(
        "target",
        f"targetplugin unexport {VOLUME} --force || true; targetplugin volume delete {VOLUME} --force;"
        "for name in media-a media-b; do targetplugin media remove virtio-$name; done",
    )


def fileio_up(lab: Lab) -> str:
    lab.shell("target", FILEIO_UP)
    return f"iscsi://{PORTAL}:3261/{FILEIO}/0"


def measure(lab: Lab, urls: tuple[str, str], suites: dict[str, list[str]]) -> Iterator[Found]:
    """Of each test of a suite fileio's outcome and ours; a suite at a time."""
    for suite, tests in suites.items():
        began = time.monotonic()
        theirs, ours = (iscsi_tests.run_suite(lab, url, suite, tests) for url in urls)
        told = " ".join(one.verdict.value for one in ours.values())
        progress(f"{suite}: {told} ({time.monotonic() - began:.0f} s)")
        yield {name: (theirs[name], ours[name]) for name in theirs}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.vm.conformance", description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/conformance.md too")
    parser.add_argument("--suite", action="append", help="only this one; may be repeated")
    options = parser.parse_args()
    lab = Lab(owned=True)
    lab.up()
    try:
        suites = iscsi_tests.names(lab)
        if options.suite:
            suites = {name: tests for name, tests in suites.items() if name in options.suite}
        found: Found = {}
        for part in measure(lab, (fileio_up(lab), ours_up(lab)), suites):
            found |= part
            if options.write:
                verdicts.write(part)
    finally:
        lab.down()
    print(verdicts.text(found))
    return 1 if verdicts.worse(found) else 0


if __name__ == "__main__":
    sys.exit(main())
