"""What tests of all tiers share: which of them run side by side, and `told`, for what a run must leave
in its output though it passes (seeds that are new each time, and what they covered).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hypothesis
import pytest

from tests import priority
from tests.sim.slice import Slice

# No test may fail because the machine is busy.
hypothesis.settings.register_profile("busy", deadline=None)
hypothesis.settings.load_profile("busy")

TOLD = pytest.StashKey[list[str]]()
SLICE = pytest.StashKey[Slice]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests that take minutes, too")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TOLD] = []
    config.stash[SLICE] = Slice()
    if hasattr(config, "workerinput"):
        priority.of_its_own()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[SLICE].stop()


def _asks_for_slice(item: pytest.Item) -> bool:
    return "simulated" in getattr(item, "fixturenames", ())


def _in_lab(item: pytest.Item) -> bool:
    return item.get_closest_marker("vm") is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The lab's come first, for they take longest; then who asks what the simulator's slice found."""
    items.sort(key=lambda item: 0 if _in_lab(item) else 1 if _asks_for_slice(item) else 2)
    late = pytest.mark.skip(reason="takes long: --long runs it")
    for item in items:
        if item.get_closest_marker("long") and not config.getoption("--long"):
            item.add_marker(late)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.scheduling import OneLab

    return OneLab(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if hasattr(item.config, "workerinput"):
        priority.of_session(priority.MACHINES if _in_lab(item) else priority.TESTS)
    if _in_lab(item) and any(map(_asks_for_slice, item.session.items)):
        item.config.stash[SLICE].begin()


@pytest.fixture
def simulated(request: pytest.FixtureRequest) -> Slice:
    """A slice of the simulator, begun or not."""
    return request.config.stash[SLICE]


@pytest.fixture
def told(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Puts lines into pytest's own summary."""
    return request.config.stash[TOLD].append


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["told"] = session.config.stash[TOLD]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist is through."""
    node.config.stash[TOLD] += getattr(node, "workeroutput", {}).get("told", [])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if lines := config.stash[TOLD]:
        terminalreporter.section("what was tried")
        for line in lines:
            terminalreporter.write_line(line.rstrip())
