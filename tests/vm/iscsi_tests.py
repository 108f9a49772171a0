"""libiscsi's `iscsi-test-cu` on the initiator: which tests there are, how one suite is run, and what its
output says.

A test that finds its command not supported says so and counts as skipped, though the tool itself counts
it as passed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from .lab import Lab

HOSTS = ("iqn.2026-11.org.targetplugin:one", "iqn.2026-11.org.targetplugin:two")
SECONDS = 240.0  # for one suite; one that takes longer is cut off, and what is missing has died


class Verdict(Enum):
    PASSED = "pass"
    FAILED = "fail"
    SKIPPED = "skip"
    DIED = "died"  # it has no verdict: the tool ended, or was ended, in it


@dataclass(frozen=True)
class Outcome:
    """What became of a test, and what it said about it: of a failure or a skip the first sentence."""

    verdict: Verdict
    said: str = ""


def names(lab: Lab) -> dict[str, list[str]]:
    """All suites and their tests, as the tool lists them."""
    listed = lab.exec("initiator", ["iscsi-test-cu", "--list"], check=False)
    return parse_list(listed.stdout + listed.stderr)


def parse_list(text: str) -> dict[str, list[str]]:
    """Of the family ALL: lines `ALL.SUITE.TEST`."""
    suites: dict[str, list[str]] = {}
    for suite, test in re.findall(r"^\s*ALL\.([\w-]+)\.([\w-]+)\s*$", text, re.MULTILINE):
        suites.setdefault(suite, []).append(test)
    return suites


def run_suite(
    lab: Lab, url: str, suite: str, tests: list[str], seconds: float = SECONDS
) -> dict[str, Outcome]:
    """Each test of a suite and what became of it. After one that dies the rest are run one by one."""
    found = _run(lab, url, f"ALL.{suite}", seconds)
    for test in tests:
        name = f"{suite}.{test}"
        if name not in found:
            found[name] = _run(lab, url, f"ALL.{name}", seconds).get(name, Outcome(Verdict.DIED))
    return {f"{suite}.{test}": found[f"{suite}.{test}"] for test in tests}


def _run(lab: Lab, url: str, pattern: str, seconds: float) -> dict[str, Outcome]:
    one, two = HOSTS
    argv = ["timeout", "-k", "5", str(seconds), "iscsi-test-cu", "--dataloss"]
    argv += ["--initiator-name", one, "--initiator-name-2", two, "--test", pattern, url]
    result = lab.exec("initiator", argv, timeout=seconds + 30, check=False)
    return parse(result.stdout)


def parse(text: str) -> dict[str, Outcome]:
    """The outcomes that an output has, by `SUITE.TEST`."""
    return {name: _outcome(said) for name, said in _parts(text)}


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """What each test printed, the verdict included."""
    suite, name, said = "", "", ""
    for line in text.splitlines():
        begins_suite = re.match(r"\s*Suite: (\S+)", line)
        begins_test = re.match(r"\s*Test: (\S+) \.\.\.\s*(.*)", line)
        if begins_suite or begins_test or line.startswith("Run Summary:"):
            if name:
                yield f"{suite}.{name}", said
            name, said = "", ""
        if begins_suite:
            suite = begins_suite[1]
        elif begins_test:
            name, said = begins_test[1], begins_test[2] + "\n"
        elif name:
            said += line + "\n"
    if name:
        yield f"{suite}.{name}", said


def _outcome(said: str) -> Outcome:
    skipped = re.search(r"\[SKIPPED\]\s*(.*)", said)
    failed = re.search(r"\[(?:FAILED|FAILURE)\]\s*(.*)", said)
    if re.search(r"(?:^|\s)FAILED\s*$", said, re.MULTILINE):
        why = failed or re.search(r"^\s*1\.\s*(.*)", said, re.MULTILINE)
        return Outcome(Verdict.FAILED, why[1].strip() if why else "")
    if not re.search(r"passed\s*$", said, re.MULTILINE):
        return Outcome(Verdict.DIED)
    if skipped:
        return Outcome(Verdict.SKIPPED, skipped[1].strip())
    return Outcome(Verdict.PASSED)
