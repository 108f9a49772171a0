"""Commands as no host sends them, to a disk of a real kernel, and what comes of each: runs on the initiator.

`hostile.py --seed S [options] DISK` draws the cases of tests/fuzz and weighs the answers by its model, which
begins with what the disk holds; at the end the disk is compared with it. With `--verbs` anything that is
valid is right, for what vendor commands take back is in no model, and they name what is there. With
`--sg-raw` sg3_utils' own tool sends them, one after the other. Prints JSON: how many there were of each
command and answer.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from glob import glob

sys.path.insert(0, "/opt/targetplugin/site-packages")
sys.path.insert(0, "/opt/targetplugin/checkout")

from targetplugin.host import sgio
from targetplugin.scsi import pitcopy
from targetplugin.scsi.commands import COMMANDS, KERNEL
from targetplugin.scsi.pitcopy import InAction, InRequest
from tests.fuzz.cases import Case, Cases, Named
from tests.fuzz.judge import Answer, Judge, Wrong
from tests.fuzz.model import Disk, Expected

BLKFLSBUF = 0x1261  # <linux/fs.h>
BLKGETSIZE64 = 0x80081272
UNDER_WAY = 8
# Linux' own word beside a status that LIO sends with an overflow, as it does for its own commands alone.
BAD_TARGET = 0x04
STATUS = {"Good": 0x00, "Check Condition": 0x02, "Busy": 0x08, "Reservation Conflict": 0x18}
# Where the CDBs of LIO's own commands have their lengths.
SIZED = {0x56: (7, 9), 0x57: (7, 9), 0x5E: (7, 9), 0x5F: (5, 9)}
CAME = "/tmp/came"
LENGTHS = (6, 10, 10, 10, 16, 12, 10, 10)  # of CDBs, by their operation codes' groups
LOOK = 20  # batches between two looks at what there is to be named


class OnDisk(Judge):
    """Sends them to a disk's sg device."""

    together = 2 * UNDER_WAY
    reservations = frozenset(one.opcode for one in COMMANDS if one.handler == KERNEL)

    def __init__(self, seed: int, device: str, disk: Disk) -> None:
        super().__init__(Cases(seed, disk, entries=False), disk)
        name = os.path.basename(device)
        (sg,) = glob(f"/sys/class/block/{name}/device/scsi_generic/*")
        self.sg = f"/dev/{os.path.basename(sg)}"
        self.fd = os.open(self.sg, os.O_RDWR)
        self.pool = ThreadPoolExecutor(UNDER_WAY)

    def sends(self, case: Case) -> bool:
        """Not what LIO's iSCSI target itself drops a session for: a transfer to the host that the CDB of
        a reservation command says is of no bytes (iscsit_get_datain_values).
        """
        first, end = SIZED.get(case.cdb[0], (0, 0))
        return not end or not case.room or any(case.cdb[first:end])

    def send(self, cases: list[Case]) -> list[Answer]:
        return list(self.pool.map(self.one, cases))

    def one(self, case: Case) -> Answer:
        came = sgio.exchange(self.fd, case.cdb, case.sent, case.room)
        if came.host and not (came.host == BAD_TARGET and case.cdb[0] in self.reservations):
            raise Wrong(f"{case} is not answered: {came}")
        return Answer(came.status, came.sense, came.data.ljust(case.room, b"\0"), len(came.data))


class Verbs(OnDisk):
    """Takes any answer that is one, and names saves and operations that there are."""

    batches = 0

    def expect(self, case: Case) -> Expected | None:
        return None

    def send(self, cases: list[Case]) -> list[Answer]:
        if self.batches % LOOK == 0:
            self.cases.named = self._named()
        self.batches += 1
        return super().send(cases)

    def _named(self) -> Named:
        saves = [pitcopy.Save.decode(item).generation for item in self._listed(InAction.SAVES)]
        operations = [
            pitcopy.Operation.decode(item).number for item in self._listed(InAction.OPERATIONS)
        ]
        return Named(saves or Named().saves, operations or Named().operations)

    def _listed(self, action: InAction) -> list[bytes]:
        return pitcopy.decode_list(
            sgio.execute(self.sg, InRequest(action, allocation_length=4096).encode(), data_in=4096)
        )[0]


class ByTool(OnDisk):
    """Sends them by sg_raw, which takes no more data than that (MAX_SCSI_DXLEN)."""

    together = 1
    most = 1 << 20  # bytes

    def sends(self, case: Case) -> bool:
        return super().sends(case) and max(len(case.sent), case.room) <= self.most

    def one(self, case: Case) -> Answer:
        words = ["sg_raw", "-vv", "--cmdset=1"]  # a SCSI command, whatever it looks like
        if case.sent:
            words.append(f"--send={len(case.sent)}")
        elif case.room:
            words += [f"--request={case.room}", f"--outfile={CAME}", "--binary"]
        with open(CAME, "wb"):
            pass  # it writes none where nothing comes
        asked = subprocess.run(
            [*words, self.sg, *(f"{byte:02x}" for byte in case.cdb[: LENGTHS[case.cdb[0] >> 5]])],
            input=case.sent,
            capture_output=True,
        )
        with open(CAME, "rb") as file:
            data = file.read()
        return answer_of(asked.stderr.decode() + asked.stdout.decode(), case, data)


def answer_of(said: str, case: Case, data: bytes) -> Answer:
    """What sg_raw tells of an answer."""
    status = re.search(r"^SCSI Status: (.+?) *$", said, re.MULTILINE)
    if status is None or status[1] not in STATUS:
        raise Wrong(f"{case} is not answered: sg_raw says {said}")
    raw = re.search(r"Raw sense data.*\n((?:\s+(?:[0-9a-f]{2}\s+)+)+)", said)
    told = bytes.fromhex(raw[1]) if raw else b""
    return Answer(STATUS[status[1]], told, data.ljust(case.room, b"\0"), len(data))


def size_of(device: str) -> int:
    fd = os.open(device, os.O_RDONLY)
    try:
        room = bytearray(8)
        fcntl.ioctl(fd, BLKGETSIZE64, room)
        return int.from_bytes(room, sys.byteorder)
    finally:
        os.close(fd)


def content(device: str) -> bytes:
    """All that it holds, and not what this machine remembers of it."""
    with open(device, "rb", buffering=0) as file:
        fcntl.ioctl(file, BLKFLSBUF)
        parts = []
        while part := file.read(1 << 20):
            parts.append(part)
    return b"".join(parts)


def compare(judge: Judge, found: bytes) -> None:
    block = judge.disk.block
    for at in range(judge.disk.blocks):
        if judge.kept_off[0] <= at < judge.kept_off[1]:
            continue
        if found[at * block : (at + 1) * block] != judge.disk.held(at, 1):
            raise Wrong(f"block {at} holds other data than was written")


def main() -> int:
    parser = argparse.ArgumentParser(prog="hostile.py", description=__doc__)
    parser.add_argument("disk")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--cases", type=int, default=1_000_000_000)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--block", type=int, default=512)
    parser.add_argument("--kept-off", type=int, nargs=2, default=(0, 0), metavar="BLOCK")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--verbs", dest="kind", action="store_const", const=Verbs, default=OnDisk)
    kind.add_argument("--sg-raw", dest="kind", action="store_const", const=ByTool)
    options = parser.parse_args()
    disk = Disk(size_of(options.disk), options.block)
    judge: OnDisk = options.kind(options.seed, options.disk, disk)
    judge.kept_off = tuple(options.kept_off)
    modelled = not isinstance(judge, Verbs)
    if modelled:
        disk.content[:] = content(options.disk)
    end = None if options.seconds is None else time.monotonic() + options.seconds
    try:
        done = judge.run_for(options.cases, end)
        if modelled:
            compare(judge, content(options.disk))
    except Wrong as wrong:
        print(wrong, file=sys.stderr)
        return 1
    counts = [[name, code, count] for (name, code), count in judge.counts.items()]
    print(json.dumps({"cases": done, "counts": counts, "opcodes": sorted(judge.opcodes)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
