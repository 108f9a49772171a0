"""What is told: which families there are, and their samples of a status. Asks nothing.

Names follow Prometheus' conventions: a prefix, base units, `_total` for what is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from targetplugin import __version__
from targetplugin.metrics.exposition import Family, Kind, Sample

Fields = dict[str, Any]
STATES = ("serving", "degraded", "recovering", "cloning", "down")  # of a volume
_P = "targetplugin_"


def _gauge(name: str, help: str, *labels: str) -> Family:
    return Family(_P + name, Kind.GAUGE, help, labels)


def _counter(name: str, help: str) -> Family:
    return Family(_P + name, Kind.COUNTER, help, ("volume",))


BUILD = _gauge("build_info", "The version that runs; the value is 1.", "version")
STATE = _gauge("volume_state", "1 for the state that a volume is in, else 0.", "volume", "state")
SIZE = _gauge("volume_size_bytes", "Size of a volume.", "volume")
CHANGED = _gauge("volume_changed_bytes", "What changed since the newest save.", "volume")
WANTED = _gauge("volume_legs_wanted", "How many legs a volume is to have.", "volume")
LEG = _gauge("leg_in_sync", "1 for a leg that is in sync, else 0.", "volume", "medium")
MISSED = _gauge("leg_missed_bytes", "What a leg has still to be brought.", "volume", "medium")
HOSTS = _gauge("volume_hosts_logged_in", "Hosts that are logged in to a volume.", "volume")
SAVES = _gauge("volume_saves", "How many saves a volume has.", "volume", "fill")
NEWEST = _gauge("newest_save_timestamp_seconds", "When the newest save was taken.", "volume")
STORE_SIZE = _gauge("store_size_bytes", "Room of the store of saves without fill.", "volume")
STORE_USED = _gauge("store_used_bytes", "What is used of that room.", "volume")
MEDIA = _gauge("media", "How many media there are.", "state")
PROGRESS = _gauge(
    "operation_progress_ratio",
    "How far an operation is that runs, 0 to 1.",
    "operation",
    "verb",
    "volume",
)
COUNTERS = {
    "reads": _counter("host_reads_total", "Reads by hosts since the volume is served."),
    "writes": _counter("host_writes_total", "Writes by hosts since the volume is served."),
    "flushes": _counter("host_flushes_total", "Cache flushes by hosts since the volume is served."),
    "bytes_read": _counter("host_read_bytes_total", "Bytes that hosts have read."),
    "bytes_written": _counter("host_written_bytes_total", "Bytes that hosts have written."),
    "read_us": _counter("host_read_seconds_total", "Time that all reads by hosts took together."),
    "write_us": _counter("host_write_seconds_total", "Time that all writes took together."),
    "read_errors": _counter("host_read_errors_total", "Reads that hosts were told have failed."),
    "write_errors": _counter("host_write_errors_total", "Writes that have failed the same way."),
}
UNITS = {"read_us": 1e-6, "write_us": 1e-6}  # of what is not counted in base units
FAMILIES = (
    BUILD,
    STATE,
    SIZE,
    CHANGED,
    WANTED,
    LEG,
    MISSED,
    HOSTS,
    SAVES,
    NEWEST,
    STORE_SIZE,
    STORE_USED,
    MEDIA,
    PROGRESS,
    *COUNTERS.values(),
)


def samples(status: Fields) -> Iterator[Sample]:
    """All numbers of a status."""
    yield Sample(BUILD, 1, (__version__,))
    for one in status["volumes"]:
        yield from _volume(one)
    states = Counter(str(one["state"]) for one in status["media"])
    for state, count in sorted(states.items()):
        yield Sample(MEDIA, count, (state,))
    for one in status["operations"]:
        labels = (str(one["id"]), str(one["verb"]), str(one.get("volume") or ""))
        yield Sample(PROGRESS, one["progress"], labels)


def _volume(one: Fields) -> Iterator[Sample]:
    name, unit = (str(one["name"]),), one["extent_size"]
    for state in STATES:
        yield Sample(STATE, one["state"] == state, (*name, state))
    yield Sample(SIZE, one["size"], name)
    yield Sample(CHANGED, one["changed_extents"] * unit, name)
    yield Sample(WANTED, one.get("mirror") or len(one["legs"]), name)
    for leg in one["legs"]:
        labels = (*name, str(leg["medium"]))
        yield Sample(LEG, leg["state"] == "in_sync", labels)
        yield Sample(MISSED, leg["missed_extents"] * unit, labels)
    hosts = one["export"]["initiators"] if one.get("export") else []
    yield Sample(HOSTS, sum(bool(host["logged_in"]) for host in hosts), name)
    for fill, count in sorted(Counter(str(save["fill"]) for save in one["saves"]).items()):
        yield Sample(SAVES, count, (*name, fill))
    if taken := [save["created"] for save in one["saves"] if save.get("created")]:
        yield Sample(NEWEST, datetime.fromisoformat(max(taken)).timestamp(), name)
    if store := one.get("store"):
        yield Sample(STORE_SIZE, store["size"], name)
        yield Sample(STORE_USED, store["used"], name)
    for key, value in (one.get("counters") or {}).items():
        yield Sample(COUNTERS[key], value * UNITS.get(key, 1), name)
