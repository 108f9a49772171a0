"""Gives the tests of this folder one lab for the whole session, and marks them `vm`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .errors import LabError
from .lab import Lab

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.vm)


@pytest.fixture(scope="session")
def booted_lab() -> Iterator[Lab]:
    """The lab, booted once a session with fresh disks, and down when the session ends."""
    lab = Lab(owned=True)
    lab.up()
    yield lab
    lab.down()


@pytest.fixture
def lab(booted_lab: Lab) -> Lab:
    """The session's lab with both machines running, whatever the last test did to them."""
    for where in ("target", "initiator"):
        if not booted_lab.is_up(where):
            booted_lab.start(where)
    return booted_lab


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Adds the daemon's log to the report of a test that failed in the lab."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    lab = getattr(item, "funcargs", {}).get("lab")
    if report.when == "call" and report.failed and isinstance(lab, Lab) and lab.is_up("target"):
        journal = ["journalctl", "--no-pager", "--lines=60", "--unit=targetplugin*"]
        try:
            said = lab.exec("target", journal, timeout=20, check=False).stdout
        except (LabError, TimeoutError) as error:
            said = str(error)
        report.sections.append(("the services on the target", said))
