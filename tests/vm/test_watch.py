"""What goes on is seen under load: `status --watch` on a small terminal, and metrics as the dashboard asks
for them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from .lab import Lab
from .ledger import Ledger
from .state import CHECKOUT

SCREEN = "/opt/targetplugin/checkout/tests/vm/guest/screen.py"
ENTER, LEAVE, HOME = "\x1b[?1049h", "\x1b[?1049l", "\x1b[H"
OPTIONS = "/etc/default/targetplugind"
PLACE = "/run/targetplugin/metrics.sock"
AT = "127.0.0.1:9950"
GET = f"import urllib.request as r; print(r.urlopen('http://{AT}/metrics').read().decode(), end='')"
DASHBOARD = CHECKOUT / "packaging/grafana/targetplugin.json"
WRITTEN = 'targetplugin_host_written_bytes_total{volume="ledger"}'


@pytest.fixture
def ledger(lab: Lab) -> Iterator[Ledger]:
    """A volume with a store, whose next save fills for a while."""
    made = Ledger(lab, "abcd", "128M")
    made.target("save", "ledger", "--no-fill", "--label", "noon")
    lab.disk(made.spare(), iops=8)
    yield made
    for letter in "abcd":
        lab.disk(f"media-{letter}", iops=0)
    made.wait(lambda: made.status()["operation"] is None)
    made.close()


def frames(said: str) -> list[list[str]]:
    """Each picture as its lines, without what steers the terminal."""
    shown = said.partition(ENTER)[2].partition(LEAVE)[0]
    plain = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", one) for one in shown.split(HOME)]
    return [one.replace("\r", "").split("\n") for one in plain if one.strip()]


def test_status_is_watched_at_80_by_24_under_load(lab: Lab, ledger: Ledger) -> None:
    load = lab.spawn("initiator", ledger.fio(40, first_mib=64, mib=32, verify=False))
    ledger.target("save", "ledger", "--label", "night", "--policy", "copy")
    command = ["python3", SCREEN, "8", "targetplugin", "status", "--watch"]
    seen: dict[str, Any] = json.loads(lab.exec("target", command).stdout)
    load.kill()
    assert (seen["status"], seen["same"]) == (0, True), seen
    pictures = frames(seen["said"])
    assert len(pictures) >= 3, "anew each second"
    for lines in pictures:
        assert len(lines) <= 24
        assert max(map(len, lines)) <= 80
    last = "\n".join(pictures[-1])
    for what in ("ledger", "virtio-media-a", "noon", "night", "save ledger@2", "━"):
        assert what in last, f"{what} is not in\n{last}"
    volume = [line for one in pictures for line in one if re.match(r"ledger +\w+", line)]
    # Not each second there is a write: each waits for a copy to the slow disk.
    assert any(re.search(r"\d [KM]iB/s", line) for line in volume), volume
    assert len({"\n".join(one) for one in pictures}) > 1, "what is done goes on"


def scraped(lab: Lab) -> dict[str, float]:
    """Series -> value."""
    text = lab.exec("target", ["python3", "-c", GET]).stdout
    pairs = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {series: float(value) for series, _, value in pairs}


def test_prometheus_finds_all_that_the_dashboard_asks_for(lab: Lab, ledger: Ledger) -> None:
    lab.shell(
        "target",
        f"echo 'OPTIONS=\"--metrics {PLACE}\"' > {OPTIONS}; systemctl restart targetplugind;"
        " systemctl start targetplugin-metrics.socket",
    )
    try:
        load = lab.spawn("initiator", ledger.fio(20, first_mib=64, mib=32, verify=False))
        ledger.target("save", "ledger", "--label", "night", "--policy", "copy")
        before = after = scraped(lab)
        ends = time.monotonic() + 30
        while after[WRITTEN] == before[WRITTEN] and time.monotonic() < ends:
            after = scraped(lab)
        load.kill()
    finally:
        stop = "systemctl stop targetplugin-metrics.socket targetplugin-metrics"
        lab.shell("target", f"{stop}; rm {OPTIONS}; systemctl restart targetplugind")
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [one["expr"] for panel in panels for one in panel["targets"]]
    asked = {name for query in queries for name in re.findall(r"targetplugin_\w+", query)}
    told = {series.partition("{")[0] for series in after}
    assert asked - told == set()
    assert after[WRITTEN] > before[WRITTEN]
    assert after['targetplugin_volume_hosts_logged_in{volume="ledger"}'] == 1
    listening = lab.shell("target", "ss -Hltn sport = :9950").stdout
    assert listening == "", "off again"
