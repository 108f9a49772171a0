"""What saves and copies cost a host on slow disks: random 4 KiB writes, times those before; beside LVM.

The disks take a limited number of requests a second, so the ratios hardly depend on the machine.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from tests.vm.disks import MEDIA
from tests.vm.lab import Lab
from tests.vm.state import progress

from . import lvm
from .load import Load, Run, run_all
from .lvm import Lvm
from .machines import described, fresh_lab
from .table import Goal, Options, Spread, Table, ratio
from .volume import Volume, add_media

IOPS = 200  # of each disk
SIZE_MIB = 896
CHANGED_MIB = 512  # of which one extent of 64 KiB in two is changed: copies that can't be merged
STRIDE_KIB = 128
FILLED_MIB = 8  # what a save that fills has first
LVM_MIB = 256
SNAPSHOT_MIB = 96  # room for what a run touches
SETTLE = "400ms"  # not counted: the first writes in a region wait for its note in the log
LONGEST = 2  # seconds of a load beside a copy, which must outlast it
BUSY, ALONE = Load("randwrite", "4k", 8), Load("randwrite", "4k", 1)

SPLIT, COPIED, SECOND = "after a split save", "after a copied save, first touch", "second touch"
RESYNC, FILL = "a leg is brought in", "a save fills"
RECOVER, MEETS = "a recover, elsewhere", "a recover, each write meets a pending extent"
WITHOUT = ", save without fill"
GOALS = {SPLIT: Goal(0.95), COPIED: Goal(0.45), SECOND: Goal(0.95)}

Figures = dict[tuple[str, str, int], list[float]]  # subject, phase and depth -> IOPS of each turn


@dataclass(frozen=True)
class Area:
    """Where a load writes: in so many MiB from there, at multiples of so many KiB."""

    first_mib: int
    mib: int
    align_kib: int = 4

    def option(self) -> str:
        return f"blockalign={self.align_kib}k"


HOST = Area(SIZE_MIB - 128, 128)
FILLED = Area(0, FILLED_MIB)
CHANGED = Area(0, CHANGED_MIB, STRIDE_KIB)


class Bench:
    """Runs loads and keeps what they came to."""

    def __init__(self, lab: Lab, seconds: int) -> None:
        self.lab = lab
        self._seconds = seconds
        self.found: Figures = defaultdict(list)

    def slow(self, are_slow: bool) -> None:
        for name in MEDIA:
            self.lab.disk(name, iops=IOPS if are_slow else 0)

    def load(self, who: str, disk: str, *parts: tuple[str, Load, Area]) -> None:
        """Random writes, one part after the other without a pause."""
        runs = [
            Run(
                disk,
                load,
                self._seconds,
                area.mib,
                area.first_mib,
                (f"ramp_time={SETTLE}", area.option()),
            )
            for _, load, area in parts
        ]
        for (phase, load, _), done in zip(parts, run_all(self.lab, "target", runs), strict=True):
            self.found[who, phase, load.depth].append(done.iops)

    def change(self, disk: str) -> None:
        """A block in one extent of two of the changed area, as fast as the disks can."""
        self.slow(False)
        pattern = f"--rw=write:{STRIDE_KIB - 4}k --bs=4k --size={CHANGED_MIB}M"
        amount = CHANGED_MIB * 4 // STRIDE_KIB
        script = f"fio --name=once --filename={disk} {pattern} --io_size={amount}M"
        more = "--ioengine=libaio --iodepth=16 --direct=1 --end_fsync=1"
        self.lab.shell("target", f"{script} {more} > /dev/null", timeout=300)
        self.slow(True)

    def while_copied(
        self, who: str, volume: Volume, verb: str, *parts: tuple[str, Load, Area]
    ) -> None:
        """The load while that operation runs; then lets it end."""
        self.load(who, volume.disk, *parts)
        if volume.operation(verb)["state"] != "running":
            raise RuntimeError(f"{verb} ended before the load did: shorter runs are needed")
        self.slow(False)
        volume.wait(verb)
        self.slow(True)


def two_legs(bench: Bench, volume: Volume, spare: str) -> None:
    who = "two legs"
    before(bench, who, volume)
    volume.save("split")
    bench.load(who, volume.disk, (SPLIT, BUSY, HOST))
    bench.change(volume.disk)
    volume.resync(wait=False)
    bench.while_copied(who, volume, "resync", (RESYNC, BUSY, HOST), (RESYNC, ALONE, HOST))
    copied(bench, who, volume, spare)
    sparse(bench, who, volume, spare)


def one_leg(bench: Bench, volume: Volume, spare: str) -> None:
    before(bench, "one leg", volume)
    copied(bench, "one leg", volume, spare)
    sparse(bench, "one leg", volume, spare)


def sparse(bench: Bench, who: str, volume: Volume, store: str) -> None:
    """A save without fill: a touch copies an extent, nothing else does."""
    bench.found[who + WITHOUT, "before", 8] += bench.found[who, "before", 8][-1:]
    volume.save("sparse", onto=store)
    bench.load(who + WITHOUT, volume.disk, (COPIED, BUSY, HOST))
    bench.slow(False)
    fill(bench.lab, volume.disk, FILLED_MIB)
    bench.slow(True)
    bench.load(who + WITHOUT, volume.disk, (SECOND, BUSY, FILLED))
    volume.release()


def before(bench: Bench, who: str, volume: Volume) -> None:
    bench.load(who, volume.disk, ("before", BUSY, HOST), ("before", ALONE, HOST))


def copied(bench: Bench, who: str, volume: Volume, spare: str) -> None:
    """A save onto a spare medium, and a recover from it."""
    volume.save("copy", onto=spare, wait=False)
    loads = ((COPIED, BUSY, HOST), (FILL, BUSY, FILLED), (FILL, ALONE, FILLED))
    bench.while_copied(who, volume, "save", *loads)
    bench.load(who, volume.disk, (SECOND, BUSY, HOST))
    bench.change(volume.disk)
    volume.recover(wait=False)
    loads = ((MEETS, BUSY, CHANGED), (RECOVER, BUSY, HOST), (RECOVER, ALONE, HOST))
    bench.while_copied(who, volume, "recover", *loads)
    volume.release()


def snapshot(bench: Bench, who: str, kind: str, letters: str) -> None:
    bench.slow(False)
    peer = Lvm(bench.lab, kind, LVM_MIB, letters, room_mib=SNAPSHOT_MIB)
    every, small = Area(0, LVM_MIB), Area(0, FILLED_MIB)
    if kind == "thin":
        fill(bench.lab, peer.disk, LVM_MIB)
    bench.slow(True)
    bench.load(who, peer.disk, ("before", BUSY, every))
    bench.slow(False)
    peer.snapshot()
    bench.slow(True)
    bench.load(who, peer.disk, (COPIED, BUSY, every))
    bench.slow(False)
    fill(bench.lab, peer.disk, FILLED_MIB)
    bench.slow(True)
    bench.load(who, peer.disk, (SECOND, BUSY, small))
    bench.slow(False)
    peer.drop()
    peer.delete()


def fill(lab: Lab, disk: str, mib: int) -> None:
    lab.shell("target", f"dd if=/dev/zero of={disk} bs=1M count={mib} oflag=direct status=none")


PEERS = {  # kind and disks
    "LVM thick, snapshot on another disk": ("thick", "fe"),
    "LVM thick, on the same disk": ("thick", "f"),
    "LVM thin": ("thin", "f"),
}


def run(options: Options) -> list[Table]:
    with fresh_lab() as lab:
        lvm.prepare(lab)
        a, b, c, d = add_media(lab, "abcd")
        bench = Bench(lab, min(2 * options.seconds, LONGEST))
        two, one = Volume(lab, "two", SIZE_MIB, [a, b]), Volume(lab, "one", SIZE_MIB, [d])
        for turn in range(options.turns):
            progress(f"turn {turn + 1} of {options.turns}")
            bench.slow(True)
            two_legs(bench, two, c)
            one_leg(bench, one, c)
            for who, (kind, letters) in PEERS.items():
                snapshot(bench, who, kind, letters)
        return tables(bench.found, described(lab))


def tables(found: Figures, machine: str) -> list[Table]:
    return [saves(found, machine), copies(found)]


def relative(found: Figures, who: str, phase: str, depth: int) -> Spread:
    """To what the same load came to before."""
    before, after = found[who, "before", depth], found[who, phase, depth]
    return ratio(Spread.of(after), Spread.of(before)) if after else Spread(())


def saves(found: Figures, machine: str) -> Table:
    phases = (SPLIT, COPIED, SECOND)
    table = Table(
        f"Random 4 KiB writes at depth 8, disks of {IOPS} requests a second, times those before",
        ("subject", "before, IOPS", *phases, "goals"),
    )
    own = [who + more for more in ("", WITHOUT) for who in ("two legs", "one leg")]
    for who in (*own, *PEERS):
        ratios = {phase: relative(found, who, phase, 8) for phase in phases}
        judged = [
            f"{phase} {GOALS[phase].judge(spread)}"
            for phase, spread in ratios.items()
            if who not in PEERS and spread.values
        ]
        before = Spread.of(found[who, "before", 8])
        table.rows.append([who, before, *ratios.values(), ", ".join(judged) or "-"])
    table.notes = [
        "of LVM a touch is the copy of a chunk (4 KiB thick, 64 KiB thin) and the notes of it;"
        " this project's copies an extent of 64 KiB, and fills in the background unless it is without fill",
        f"volumes of {SIZE_MIB} MiB (LVM: {LVM_MIB} MiB); a second touch is of what is copied already. This"
        " project's by tcm_loop, LVM's without LIO: compare the ratios",
        machine,
    ]
    return table


def copies(found: Figures) -> Table:
    table = Table(
        "Random 4 KiB writes while a copy runs in the background, at default settings, times those before",
        ("subject", "while", "depth 8", "depth 1", "goals"),
    )
    for phase in (RESYNC, FILL, RECOVER, MEETS):
        for who in ("two legs", "one leg"):
            ratios = {depth: relative(found, who, phase, depth) for depth in (8, 1)}
            goal = Goal(0.45 if phase == MEETS else 0.8)
            judged = [
                f"depth {n} {goal.judge(ratio)}" for n, ratio in ratios.items() if ratio.values
            ]
            if judged:
                table.rows.append([who, f"while {phase}", *ratios.values(), ", ".join(judged)])
    table.notes = [
        f"a leg brought in and a recover copy {CHANGED_MIB * 1024 // STRIDE_KIB} extents of 64 KiB that are"
        f" not neighbours, a fill all {SIZE_MIB} MiB; all that can be are two copies at once, of at most"
        " 1 MiB each. The disks count requests, not bytes",
        "the host writes where there is nothing to copy, but for the last rows",
    ]
    return table
