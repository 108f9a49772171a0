"""Metrics: what Prometheus is told, how, to whom, and that the dashboard asks for what there is."""

from __future__ import annotations

import http.client
import json
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from targetplugin import __version__
from targetplugin.errors import Reason, Refused
from targetplugin.metrics import exposition, families
from targetplugin.metrics.exposition import Family, Kind, Sample
from targetplugin.metrics.server import Metrics, parse
from tests.unit.fake_subsystem import a_medium, a_volume, an_operation
from tests.unit.house import EXTENT, MIB, House

DASHBOARD = Path(__file__).parents[2] / "packaging/grafana/targetplugin.json"
BY_NAME = {family.name: family for family in families.FAMILIES}
LINE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)')


def read(text: str) -> dict[str, float]:
    """Series -> value. Every line is one that the format has."""
    assert text.endswith("\n")
    found = {}
    for line in text.splitlines():
        if line.startswith("# "):
            assert re.fullmatch(r"# (HELP [a-z_]+ .+|TYPE [a-z_]+ (counter|gauge))", line)
            continue
        seen = LINE.fullmatch(line)
        assert seen, line
        name, labels = seen[1], seen[2] or ""
        series = f"{name}{{{labels}}}" if labels else name
        assert series not in found, "a series is told once"
        found[series] = float(seen[3])
    return found


def told(status: dict[str, Any]) -> dict[str, float]:
    return read(exposition.text(families.FAMILIES, families.samples(status)))


# --- the format -----------------------------------------------------------------------------------


def test_a_family_is_told_once_and_its_samples_stand_together() -> None:
    one, two = Family("a", Kind.GAUGE, "A.", ("x",)), Family("b_total", Kind.COUNTER, "B.")
    mixed = [Sample(one, 1, ("p",)), Sample(two, 2.5), Sample(one, 3, ("q",))]
    assert exposition.text([one, two, Family("c", Kind.GAUGE, "C.")], mixed) == (
        '# HELP a A.\n# TYPE a gauge\na{x="p"} 1\na{x="q"} 3\n'
        "# HELP b_total B.\n# TYPE b_total counter\nb_total 2.5\n"
    )


def test_what_stands_in_a_label_can_t_leave_it() -> None:
    one = Family("a", Kind.GAUGE, "A.", ("x",))
    text = exposition.text([one], [Sample(one, 1, ('\\"\n{}',))])
    assert text.splitlines()[-1] == 'a{x="\\\\\\"\\n{}"} 1'


def test_names_follow_the_conventions() -> None:
    for family in families.FAMILIES:
        assert re.fullmatch(r"targetplugin_[a-z_]+", family.name)
        assert (family.kind is Kind.COUNTER) == family.name.endswith("_total")
        assert not re.search(r"_(ms|kib|mib|percent|count)(_|$)", family.name), "base units"
        assert family.help.endswith(".")
    assert len(BY_NAME) == len(families.FAMILIES)


# --- what is told ---------------------------------------------------------------------------------


def test_a_subsystem_s_own_status_is_told(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.media("a", "b", "c", size=12 * MIB)
    house.volume()
    house.write(0, "x")
    house.subsystem.save("ledger", policy="copy")
    house.finish()
    house.write(1, "y")
    found = told(house.subsystem.status())
    house.end()
    assert found[f'targetplugin_build_info{{version="{__version__}"}}'] == 1
    assert found['targetplugin_volume_state{volume="ledger",state="serving"}'] == 1
    assert found['targetplugin_volume_state{volume="ledger",state="down"}'] == 0
    assert found['targetplugin_host_writes_total{volume="ledger"}'] == 2
    assert found['targetplugin_host_written_bytes_total{volume="ledger"}'] == 2 * EXTENT
    assert found['targetplugin_volume_changed_bytes{volume="ledger"}'] == EXTENT
    assert found['targetplugin_leg_in_sync{volume="ledger",medium="a"}'] == 1
    assert found['targetplugin_volume_saves{volume="ledger",fill="whole"}'] == 1
    assert found['targetplugin_newest_save_timestamp_seconds{volume="ledger"}'] > 1.7e9


def test_all_that_there_may_be_is_told() -> None:
    """Every family has a sample somewhere: none is there for nothing."""
    store = {"medium": "s", "state": "in_sync", "size": 1 << 30, "used": 1 << 20}
    status = {
        "volumes": [a_volume(store=store)],
        "media": [a_medium(), a_medium(state="free")],
        "operations": [an_operation(state="running", progress=0.25)],
    }
    found = told(status)
    assert {series.partition("{")[0] for series in found} == set(BY_NAME)
    assert found['targetplugin_volume_hosts_logged_in{volume="ledger"}'] == 1
    progress = 'targetplugin_operation_progress_ratio{operation="12",verb="save",volume="ledger"}'
    assert found[progress] == 0.25


def test_a_volume_that_is_down_counts_nothing_and_says_so() -> None:
    down = a_volume(state="down", counters=None, saves=[], export=None, changed_extents=0)
    found = told({"volumes": [down], "media": [], "operations": []})
    assert found['targetplugin_volume_state{volume="ledger",state="down"}'] == 1
    assert not any("_total" in series or "newest_save" in series for series in found)


def test_states_are_those_that_there_are() -> None:
    views = (Path(families.__file__).parents[1] / "subsystem/ground/views.py").read_text()
    body = views[views.index("def volume(") : views.index("def running_shape")]
    lines = [line for line in body.splitlines() if line.strip().startswith("state = ")]
    made = re.findall(r'(?:state = |else )"(\w+)"', "\n".join(lines))
    assert set(made) == set(families.STATES)


# --- how it is asked ------------------------------------------------------------------------------


class Unix(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def status() -> dict[str, Any]:
    return {"volumes": [a_volume()], "media": [a_medium()], "operations": []}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture(params=["port", "socket"])
def asked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    place = str(tmp_path / "metrics.sock")
    connection: http.client.HTTPConnection = Unix(place)
    if request.param == "port":
        number = free_port()
        place = f"127.0.0.1:{number}"
        connection = http.client.HTTPConnection("127.0.0.1", number, timeout=10)
    metrics = Metrics(place, status)
    metrics.start()

    def ask(path: str, method: str = "GET") -> tuple[int, str, str]:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, answer.headers["Content-Type"], body

    yield ask
    metrics.stop()


def test_get_metrics_is_answered_and_nothing_else(asked: Any) -> None:
    code, kind, body = asked("/metrics")
    assert (code, kind) == (200, exposition.CONTENT_TYPE)
    assert read(body) == told(status())
    assert asked("/")[0] == asked("/metrics/x")[0] == 404
    assert asked("/metrics", "POST")[0] == 501


def test_a_socket_is_every_user_s_and_goes_with_the_daemon(tmp_path: Path) -> None:
    place = tmp_path / "metrics.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(place))  # by a daemon that was killed
    left.close()
    metrics = Metrics(str(place), status)
    metrics.start()
    assert stat.S_IMODE(place.stat().st_mode) == 0o666
    metrics.stop()
    assert not place.exists()


def test_a_file_in_the_socket_s_place_stays(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(Refused) as caught:
        Metrics(str(tmp_path / "precious"), status).start()
    assert caught.value.reason is Reason.ENVIRONMENT
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("where", ["0.0.0.0:9950", "192.0.2.1:9950", "9950", "here:1", "[::1]"])
def test_other_machines_are_not_listened_to(where: str) -> None:
    with pytest.raises(Refused) as caught:
        parse(where)
    assert "127.0.0.1:9950" in caught.value.hint
    assert parse("[::1]:9950") == ("::1", 9950)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Refused) as caught:
            Metrics(where, status).start()
    assert where in caught.value.message
    assert "ss -ltnp" in caught.value.hint


# --- the dashboard --------------------------------------------------------------------------------

PANELS = json.loads(DASHBOARD.read_text())["panels"]
QUERIES = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]


@pytest.mark.parametrize(("title", "target"), QUERIES)
def test_the_dashboard_asks_for_what_there_is(title: str, target: dict[str, str]) -> None:
    query = target["expr"]
    names = re.findall(r"targetplugin_\w+", query)
    assert names, title
    labels: set[str] = set()
    for name in names:
        family = BY_NAME[name]
        labels |= set(family.labels)
        rated = re.search(rf"\b(rate|increase)\({name}(\{{[^}}]*\}})?\[", query)
        assert bool(rated) == (family.kind is Kind.COUNTER), "counters are rated, gauges are not"
        matchers = re.search(rf"{name}\{{([^}}]*)\}}", query)
        if matchers:
            assert set(re.findall(r"(\w+)=", matchers[1])) <= set(family.labels)
        elif "volume" in family.labels:
            pytest.fail(f"{title} does not keep to the volumes that are chosen")
    assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= labels
    assert query.count("(") == query.count(")")
    states = re.findall(r'volume_state\{[^}]*state="(\w+)"', query)
    assert set(states) <= set(families.STATES)


def test_the_dashboard_s_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not taken & cells
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_every_family_that_needs_a_look_is_on_the_dashboard() -> None:
    asked_for = {
        name for _, one in QUERIES for name in re.findall(r"targetplugin_\w+", one["expr"])
    }
    unseen = set(BY_NAME) - asked_for
    assert unseen == {
        "targetplugin_build_info",
        "targetplugin_volume_size_bytes",
        "targetplugin_volume_legs_wanted",
        "targetplugin_volume_saves",
        "targetplugin_host_flushes_total",
    }
