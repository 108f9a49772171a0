"""What sg_raw 0.4.34 tells of an answer is read as the answer."""

from __future__ import annotations

import pytest

from tests.fuzz.cases import Case
from tests.fuzz.judge import Wrong
from tests.vm.guest.hostile import answer_of

READ = Case(bytes.fromhex("28000000000000000100").ljust(16, b"\0"), room=512)
GOOD = """
open /dev/sg0 with flags=0x802
    cdb to send: Read(10) [28 00 00 00 00 00 00 00 01 00]
SCSI Status: Good 

Writing 512 bytes of data to /tmp/came
"""  # noqa: W291 sg_raw has that space
CHECKED = """
    cdb to send: Read(10) [28 00 ff ff ff ff 00 00 01 00]
SCSI Status: Check Condition 

Sense Information:
Fixed format, current; Sense key: Illegal Request
Additional sense: Logical block address out of range
 Raw sense data (in hex), sb_len=18, embedded_len=18
        70 00 05 00 00 00 00 0a  00 00 00 00 21 00 00 00
        00 00

Error 22 occurred, no data received
LBA out of range
"""  # noqa: W291


def test_good_with_the_data_that_came() -> None:
    assert answer_of(GOOD, READ, b"x" * 512) == (0, b"", b"x" * 512, 512)
    assert answer_of(GOOD, READ, b"x" * 8) == (0, b"", b"x" * 8 + bytes(504), 8)


def test_a_check_condition_with_its_sense() -> None:
    sense = bytes.fromhex("70 00 05 00 00 00 00 0a 00 00 00 00 21 00 00 00 00 00")
    assert answer_of(CHECKED, READ, b"") == (2, sense, bytes(512), 0)


@pytest.mark.parametrize("said", ["", "SCSI Status: Unknown \n", "sg_raw: transport error"])
def test_no_answer_is_wrong(said: str) -> None:
    with pytest.raises(Wrong):
        answer_of(said, READ, b"")
