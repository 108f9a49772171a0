"""A recover beside LVM's merge of a snapshot: until it can be read, until all is copied, what is written."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from tests.vm.lab import Lab
from tests.vm.state import progress

from . import lvm
from .lvm import GROUP, Lvm
from .machines import described, fresh_lab
from .table import Goal, Options, Spread, Table, ratio
from .volume import Volume, add_media

SIZES_MIB = (256, 768)
PERCENT = (0.1, 1, 10, 50)
EXTENT_KIB = 64
GOAL = Goal(0.5, is_most=True)

OURS = "python3 -IB /opt/targetplugin/checkout/benchmarks/guest/recover_once.py $VOLUME $DISK"
THEIRS = rf"""
now() {{ date +%s.%N; }}
began=$(now)
lvconvert -qq --merge --background {GROUP}/kept
dd if=$DISK of=/dev/null bs=4k count=1 iflag=direct status=none
readable=$(now)
# Merged when as much is left in the snapshot as its own tables take, or when LVM has dropped it.
while dmsetup status {GROUP}-origin | awk '$3 == "snapshot-merge" {{ split($4, in_use, "/");
    if (in_use[1] > $5) busy = 1 }} END {{ exit !busy }}'
do sleep 0.02; done
ended=$(now)
echo "$began $readable $ended" | awk '{{ print $2 - $1, $3 - $1 }}'
"""
# Around either: what the disks were written.
WRITTEN = r"""
written() { awk '{ sum += $7 } END { printf "%.0f\n", sum * 512 }' /sys/block/vd*/stat; }
sync
was=$(written)
"""
TAIL = r"""
echo $(($(written) - was))
"""


@dataclass(frozen=True)
class Took:
    """Of one recover or merge, in seconds since the request."""

    readable: float
    copied: float
    written_mib: float


Found = dict[tuple[str, int, float], list[Took]]  # who, size, percent -> turns


def run(options: Options) -> list[Table]:
    sizes = SIZES_MIB[:1] if options.quick else SIZES_MIB
    found: Found = defaultdict(list)
    with fresh_lab() as lab:
        lvm.prepare(lab)
        a, b = add_media(lab, "ab")
        for turn in range(options.turns):
            progress(f"turn {turn + 1} of {options.turns}")
            for size in sizes:
                ours(lab, size, a, b, found)
                peer(lab, size, found)
        machine = described(lab)
    return [table(found, sizes, machine)]


def ours(lab: Lab, size: int, medium: str, spare: str, found: Found) -> None:
    volume = Volume(lab, "recovered", size, [medium])
    volume.save("copy", onto=spare)
    for percent in PERCENT:
        change(lab, volume.disk, size, percent)
        found["ours", size, percent].append(timed(lab, OURS, volume.disk, volume.name))
    volume.release()
    volume.delete()


def peer(lab: Lab, size: int, found: Found) -> None:
    origin = Lvm(lab, "thick", size, "cd", room_mib=size * 3 // 4)
    for percent in PERCENT:
        origin.snapshot()
        change(lab, origin.disk, size, percent)
        found["lvm", size, percent].append(timed(lab, THEIRS, origin.disk))
        lab.shell("target", f"while lvs {GROUP}/kept > /dev/null 2>&1; do sleep 0.2; done")
    origin.delete()


def change(lab: Lab, disk: str, size_mib: int, percent: float) -> None:
    """So many of all extents, spread evenly."""
    extents = size_mib * 1024 // EXTENT_KIB
    count = max(1, round(extents * percent / 100))
    apart = extents // count
    pattern = f"--rw=write:{(apart - 1) * EXTENT_KIB}k --bs={EXTENT_KIB}k --size={size_mib}M"
    amount = (
        f"--io_size={count * EXTENT_KIB}k --ioengine=libaio --iodepth=8 --direct=1 --end_fsync=1"
    )
    lab.shell(
        "target", f"fio --name=change --filename={disk} {pattern} {amount} > /dev/null", timeout=300
    )


def timed(lab: Lab, script: str, disk: str, volume: str = "") -> Took:
    said = lab.shell(
        "target", WRITTEN + script + TAIL, env={"DISK": disk, "VOLUME": volume}, timeout=400
    )
    readable, copied, written = (float(word) for word in said.stdout.split())
    return Took(readable, max(copied, readable), written / (1 << 20))


def table(found: Found, sizes: tuple[int, ...], machine: str) -> Table:
    made = Table(
        "Seconds from the request, and MiB written to all disks",
        ("volume, changed", "readable", "LVM", "all copied", "LVM", "times LVM", "goal",
         "written", "LVM"),
    )  # fmt: skip
    for size in sizes:
        for percent in PERCENT:
            mine, theirs = found["ours", size, percent], found["lvm", size, percent]
            figures = {
                name: (
                    Spread.of([getattr(took, name) for took in mine]),
                    Spread.of([getattr(took, name) for took in theirs]),
                )
                for name in ("readable", "copied", "written_mib")
            }
            times = ratio(*figures["copied"])
            made.rows.append(
                [
                    f"{size} MiB, {percent}%",
                    *figures["readable"],
                    *figures["copied"],
                    times,
                    GOAL.judge(times),
                    *figures["written_mib"],
                ]
            )
    made.notes = [
        f"changed are whole extents of {EXTENT_KIB} KiB, spread evenly; one leg, and the save or the LVM"
        " snapshot (thick, `lvconvert --merge`) on another disk; this project is asked by its control socket",
        "LVM's volume must be closed when the merge begins, this project's must not; a block that is changed"
        " alone costs this project its extent, and LVM a chunk of 4 KiB",
        machine,
    ]
    return made
