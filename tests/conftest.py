"""What tests of all tiers share: `told`, for what a run must leave in its output though it passes.

(Seeds that are new each time, and what they covered.)
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sim.slice import Slice

TOLD = pytest.StashKey[list[str]]()
SLICE = pytest.StashKey[Slice]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TOLD] = []
    config.stash[SLICE] = Slice()


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[SLICE].stop()


def _asks_for_slice(item: pytest.Item) -> bool:
    return "simulated" in getattr(item, "fixturenames", ())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_asks_for_slice)  # last, so that the lab's tests come before it


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The simulator's slice runs while the lab's machines wait, if a test asks for what comes of it."""
    if item.get_closest_marker("vm") and _asks_for_slice(item.session.items[-1]):
        item.config.stash[SLICE].begin()


@pytest.fixture
def simulated(request: pytest.FixtureRequest) -> Slice:
    """A slice of the simulator, begun or not."""
    return request.config.stash[SLICE]


@pytest.fixture
def told(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Puts lines into pytest's own summary."""
    return request.config.stash[TOLD].append


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if lines := config.stash[TOLD]:
        terminalreporter.section("what was tried")
        for line in lines:
            terminalreporter.write_line(line.rstrip())
