"""What tests of all tiers share: `told`, for what a run must leave in its output though it passes.

(Seeds that are new each time, and what they covered.)
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

TOLD = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TOLD] = []


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
