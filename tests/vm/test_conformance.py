"""A slice of `python3 -m tests.vm.conformance` on a volume, and sg3_utils on a disk, on a real kernel: what
the document says passes, and every tool sees what it should.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from . import conformance, iscsi_tests, verdicts
from .iscsi_tests import Verdict
from .lab import Lab
from .ledger import Ledger

# Those that move few blocks: the whole takes long.
SUITES = (
    "GetLBAStatus", "Inquiry", "Mandatory", "ModeSense6", "PrinReadKeys", "PrinReportCapabilities",
    "ProutRegister", "ProutReserve", "ProutPreempt", "ReadCapacity10", "ReadCapacity16",
    "ReadDefectData10", "ReadDefectData12", "ReportSupportedOpcodes", "TestUnitReady",
)  # fmt: skip

TOOLS = r"""
cd "$(mktemp -d)"
sg_inq $DISK | grep -q 'PIT DISK'
sg_vpd --all $DISK > pages
sg_vpd --page=bl $DISK | grep -q 'Maximum compare and write length: 128 blocks'
sg_vpd --page=lbpv $DISK | grep -q 'Unmap command supported (LBPU): 1'
sg_inq $DISK | grep -q 'TPGS=0'
status=0; sg_rtpg $DISK || status=$?
test $status != 0
sg_vpd --page=ei $DISK | grep -q 'HEADSUP=0 ORDSUP=0 SIMPSUP=1'
sg_modes --all $DISK > modes
grep -q 'Informational exceptions' modes
grep -q '00 08 00 00 00 00 02 00' modes
sg_modes --all --llbaa $DISK | grep -q 'longlba=1'
sg_modes --all --dbd $DISK | grep -q 'Block descriptor length=0'
sg_wr_mode --page=8 --contents=08,12,04,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00,00 $DISK
sg_requests --desc $DISK 2>&1 | grep -q 'No additional sense'
sg_start --start $DISK
status=0; sg_start --stop $DISK || status=$?
test $status != 0
sg_readcap --long $DISK | grep -q 'lbpme=1, lbprz=1'
sg_opcodes $DISK > opcodes
grep -q 'Compare and write' opcodes
grep -q 'Persistent reserve in, read keys' opcodes
sg_opcodes --tmf $DISK | grep -q 'Logical unit reset'
sg_logs --all $DISK > logs
if grep 'Unable to decode' logs; then exit 1; fi
sg_logs --page=0x19 --paramp=2 --raw $DISK > later
test "$(head -c 6 later | od -An -tx1)" = ' 99 00 00 18 00 02'
sg_get_lba_status --lba=4096 $DISK | grep -q 'LBA: 0x0000000000001000'
head -c 512 /dev/urandom > one
head -c 512 /dev/urandom > two
cat one two > both
sg_write_same --16 --lba=4096 --num=64 --in=one $DISK
sg_verify --16 --lba=4096 --count=64 $DISK
sg_verify --lba=4096 --count=1 --ndo=512 --in=one $DISK
status=0; sg_verify --16 --lba=4096 --count=1 --ndo=512 --in=two $DISK || status=$?
test $status = 14
sg_compare_and_write --in=both --lba=4096 --num=1 $DISK
status=0; sg_compare_and_write --in=both --lba=4096 --num=1 $DISK || status=$?
test $status = 14
dd if=$DISK bs=512 skip=4096 count=1 iflag=direct status=none | cmp - two
sg_unmap --lba=4096 --num=8 --force $DISK
dd if=$DISK bs=512 skip=4096 count=8 iflag=direct status=none | cmp -n 4096 - /dev/zero
sg_write_same --16 --lba=4104 --num=8 --ndob $DISK
dd if=$DISK bs=512 skip=4104 count=8 iflag=direct status=none | cmp -n 4096 - /dev/zero
"""


@pytest.fixture
def url(lab: Lab) -> Iterator[str]:
    yield conformance.ours_up(lab)
    conformance.ours_down(lab)


def test_what_the_document_says_passes_passes(lab: Lab, url: str) -> None:
    documented = verdicts.read(verdicts.DOCUMENT.read_text())
    listed = iscsi_tests.names(lab)
    passed = 0
    for suite in SUITES:
        for name, outcome in iscsi_tests.run_suite(lab, url, suite, listed[suite], 60).items():
            if documented[name][1].verdict is Verdict.PASSED:
                assert outcome.verdict is Verdict.PASSED, f"{name}: {outcome}"
                passed += 1
    assert passed >= 35


def test_every_tool_of_sg3_utils_sees_what_it_should(lab: Lab) -> None:
    ledger = Ledger(lab)
    try:
        lab.shell("initiator", TOOLS, env={"DISK": ledger.disk})
    finally:
        ledger.close()
