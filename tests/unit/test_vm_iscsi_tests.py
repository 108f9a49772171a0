"""The output of iscsi-test-cu as outcomes, and the document that they make."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm import verdicts
from tests.vm.iscsi_tests import Outcome, Verdict, parse, parse_list

OUTPUT = """
     CUnit - A unit testing framework for C - Version 2.1-3

Suite: Reserve6
  Test: Simple ...passed
  Test: LUNReset ...
    [SKIPPED] RESERVE6 is not implemented.
passed
  Test: 2Initiators ...    [FAILED] it is held
FAILED
    1. test_reserve6.c:60  - CU_ASSERT_EQUAL(ret,0)
    2. test_reserve6.c:61  - CU_ASSERT_EQUAL(ret,0)
  Test: Logout ...FAILED
    1. test_reserve6_logout.c:9  - CU_FAIL("no")
Suite: iSCSIcmdsn
  Test: iSCSICmdSnTooHigh ...
"""
LIST = (
    "ALL\nALL.Reserve6\nALL.Reserve6.LUNReset\nSCSI.Reserve6.Simple\nALL.iSCSIcmdsn.CmdSnTooHigh\n"
)


def test_outcomes_are_read() -> None:
    assert parse(OUTPUT) == {
        "Reserve6.Simple": Outcome(Verdict.PASSED),
        "Reserve6.LUNReset": Outcome(Verdict.SKIPPED, "RESERVE6 is not implemented."),
        "Reserve6.2Initiators": Outcome(Verdict.FAILED, "it is held"),
        "Reserve6.Logout": Outcome(Verdict.FAILED, 'test_reserve6_logout.c:9  - CU_FAIL("no")'),
        "iSCSIcmdsn.iSCSICmdSnTooHigh": Outcome(Verdict.DIED),
    }
    assert parse_list(LIST) == {"Reserve6": ["LUNReset"], "iSCSIcmdsn": ["CmdSnTooHigh"]}


def test_single_suites_are_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "DOCUMENT", tmp_path / "conformance.md")
    good, bad = Outcome(Verdict.PASSED), Outcome(Verdict.FAILED, "a | b")
    first = {"A.One": (good, bad), "B.One": (good, good), "B.Gone": (good, bad)}
    verdicts.write(first)
    assert verdicts.worse(first) == ["A.One", "B.Gone"]
    now = verdicts.write({"B.One": (bad, good)})
    assert now == verdicts.read(verdicts.DOCUMENT.read_text()) | {"B.One": (bad, good)}
    assert sorted(now) == ["A.One", "B.One"]
    assert "| targetplugin | 1 | 1 | 0 | 0 |" in verdicts.DOCUMENT.read_text()


def test_every_outcome_of_the_document_that_does_not_pass_has_a_cause() -> None:
    document = verdicts.DOCUMENT.read_text()
    assert "not known yet" not in document
    found = verdicts.read(document)
    assert verdicts.text(found) == document
    assert sum(ours.verdict is Verdict.PASSED for _, ours in found.values()) >= 160
    assert not verdicts.worse(found)
