"""docs/conformance.md: the outcomes of iscsi-test-cu on fileio and on this project's volume as a table,
and why what does not pass does not. Owns its form; it can be read back, so that single suites are
measured anew.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from . import limits
from .causes import cause, is_of_lio
from .iscsi_tests import Outcome, Verdict

DOCUMENT = Path(__file__).parents[2] / "docs" / "conformance.md"
Found = dict[str, tuple[Outcome, Outcome]]  # of each test: fileio's, and ours

HEAD = """# Conformance

Made by `python3 -m tests.vm.conformance --write`. It runs all tests of libiscsi's `iscsi-test-cu`
(Debian's `libiscsi-bin`) in the lab, against LIO's own fileio backstore and against a volume of this
project on two legs, side by side on one target: the same size, the same two hosts allowed by name,
fileio with `emulate_tpu`, `emulate_tpws` and `emulate_write_cache`. With `--suite NAME` it measures that
suite anew, on both, and leaves the other rows.

A test that finds its command not supported counts as skipped, not as passed; `died` is one in which the
tool ended.
"""


def write(found: Found) -> Found:
    """Puts them into the document; the rows of other suites stay. Returns all that it has then."""
    if DOCUMENT.exists():
        suites = {name.split(".")[0] for name in found}
        old = read(DOCUMENT.read_text())
        found = {n: both for n, both in old.items() if n.split(".")[0] not in suites} | found
    DOCUMENT.write_text(text(found))
    return found


def text(found: Found) -> str:
    """The whole document."""
    lines = [HEAD, "| | pass | fail | skip | died |", "| --- | --- | --- | --- | --- |"]
    for number, who in enumerate(("fileio", "targetplugin")):
        counted = Counter(both[number].verdict for both in found.values())
        lines.append(
            f"| {who} | " + " | ".join(str(counted[verdict]) for verdict in Verdict) + " |"
        )
    both_kinds = [", ".join(worse(found, of_lio=one)) or "none" for one in (False, True)]
    lines += [
        "",
        "Tests that fileio passes and that fail here: {}; because of LIO itself: {}.".format(
            *both_kinds
        ),
    ]
    lines += [
        "",
        "## What does not pass here, and why",
        "",
        "| test | outcome | why |",
        "| --- | --- | --- |",
    ]
    for name, (_, ours) in sorted(found.items()):
        if ours.verdict is not Verdict.PASSED:
            lines.append(f"| {name} | {ours.verdict.value} | {cause(name, ours)} |")
    lines += ["", *limits.text()]
    lines += ["", "## All tests", "", "| test | fileio | targetplugin |", "| --- | --- | --- |"]
    for name, (theirs, ours) in sorted(found.items()):
        lines.append(f"| {name} | {_cell(theirs)} | {_cell(ours)} |")
    return "\n".join(lines) + "\n"


def _cell(outcome: Outcome) -> str:
    said = re.sub(r"\s+", " ", outcome.said.replace("|", "/").replace('"', "")).strip()
    return f"{outcome.verdict.value}: {said}" if said else outcome.verdict.value


def read(document: str) -> Found:
    """The outcomes that a document has."""
    found: Found = {}
    for name, theirs, ours in re.findall(
        r"^\| ([\w-]+\.[\w-]+) \| (.*) \| (.*) \|$",
        document.partition("## All tests")[2],
        re.MULTILINE,
    ):
        found[name] = (_outcome(theirs), _outcome(ours))
    return found


def _outcome(cell: str) -> Outcome:
    verdict, _, said = cell.partition(": ")
    return Outcome(Verdict(verdict), said)


def worse(found: Found, *, of_lio: bool = False) -> list[str]:
    """Tests that fileio passes and that fail, or die, here: those that any store fails, or the others."""
    bad = (Verdict.FAILED, Verdict.DIED)
    return sorted(
        name
        for name, (theirs, ours) in found.items()
        if theirs.verdict is Verdict.PASSED and ours.verdict in bad and is_of_lio(name) is of_lio
    )
