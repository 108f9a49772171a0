"""How long a host's writes wait when a save or a recover takes force: by the core, and as a host sees it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.vm.lab import Lab
from tests.vm.ledger import END_FIO
from tests.vm.state import progress

from .machines import described, fresh_lab
from .table import Goal, Options, Spread, Table
from .volume import Volume, targetplugin

LOOP = "/opt/targetplugin/checkout/benchmarks/guest/points_loop.py"
TIMES = 20  # a save and a recover
SIZES_MIB = {"64 MiB": 64, "1 GiB": 1024, "64 GiB": 65536}
AREA_MIB = 32
LOADS = {  # what fio is told of it
    "light, 100 writes a second": ["--iodepth=1", "--rate_iops=100"],
    "depth 8, as fast as it goes": ["--iodepth=8"],
}
# Waits until the host writes.
WRITES = r"""
count() { awk '{ print $5 }' /sys/block/$DISK/stat; }
was=$(count)
while [ $(count) -lt $((was + 50)) ]; do sleep 0.1; done
"""
QUIET = 0.2  # seconds before each request, to compare with
GOAL = Goal(10, is_most=True)  # milliseconds


@dataclass(frozen=True)
class Event:
    """A request that was made while the host wrote. Times in seconds, the machine's clock."""

    verb: str
    begin: float
    end: float
    pause_ms: float | None


def run(options: Options) -> list[Table]:
    times = TIMES // 2 if options.quick else TIMES
    table = Table(
        f"Milliseconds, {times} times each",
        (
            "volume",
            "load",
            "verb",
            "writes paused",
            "host's longest write",
            "longest just before",
            "goal",
        ),
    )
    with fresh_lab() as lab:
        for size, mib in SIZES_MIB.items():
            progress(f"pauses of {size}")
            for file in ("one", "two"):
                room = f"{mib + mib // 64 + 8}M"
                path = f"/root/{file}.img"
                targetplugin(lab, "media", "add", path, "--size", room, "--name", file)
            volume = Volume(lab, "paused", mib, ["one", "two"])
            for load in LOADS:
                measure(lab, volume, size, load, times, table)
            volume.delete()
            for file in ("one", "two"):
                targetplugin(lab, "media", "remove", file, "--force")
            lab.shell("target", "rm -f /root/*.img")
        table.notes = [
            "writes paused: the core's own figure, from the first write that has to wait until they go on:"
            " it counts the drain of those under way, the media's flush and the record that commits",
            "the host writes 4 KiB at random by tcm_loop; two legs, sparse files, so a flush is the file"
            f" system's; its longest write is of the request's time, beside that of the {QUIET} s before",
            described(lab),
        ]
    return [table]


def measure(lab: Lab, volume: Volume, size: str, load: str, times: int, table: Table) -> None:
    log = "/root/pause"
    writing = [
        "fio", "--name=host", f"--filename={volume.disk}", "--rw=randwrite", "--bs=4k", *LOADS[load],
        f"--size={AREA_MIB}M", "--ioengine=libaio", "--direct=1", "--time_based", "--runtime=900",
        f"--write_lat_log={log}", "--log_unix_epoch=1", "--norandommap=1",
    ]  # fmt: skip
    lab.shell("target", f"rm -f {log}*")
    host = lab.spawn("target", writing)
    lab.shell("target", WRITES, env={"DISK": volume.disk.removeprefix("/dev/")})
    said = lab.exec("target", ["python3", "-IB", LOOP, volume.name, str(times)], timeout=300)
    lab.exec("target", END_FIO)
    host.wait(60, check=False)
    # A sample: when it ended, in ms; how long it took, in ns.
    lines = lab.exec("target", ["cut", "-d,", "-f1,2", f"{log}_clat.1.log"]).stdout.splitlines()
    samples = [
        (int(when) / 1e3, int(took) / 1e6) for when, took in (line.split(",") for line in lines)
    ]
    events = [Event(**one) for one in json.loads(said.stdout)]
    for verb in ("save", "recover"):
        those = [event for event in events if event.verb == verb]
        paused = Spread.of([event.pause_ms for event in those if event.pause_ms is not None])
        during = Spread.of([longest(samples, event.begin, event.end) for event in those])
        quiet = Spread.of([longest(samples, event.begin - QUIET, event.begin) for event in those])
        table.rows.append([size, load, verb, paused, during, quiet, GOAL.judge(paused)])


def longest(samples: list[tuple[float, float]], begin: float, end: float) -> float:
    """Of the writes that were under way between these times, those that ended before it not counted."""
    return max(
        (took for when, took in samples if when >= begin and when - took / 1000 <= end), default=0.0
    )
