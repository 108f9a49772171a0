"""Sense data: fixed format out, fixed and descriptor format in, and sentences."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from targetplugin.scsi import sense
from targetplugin.scsi.sense import Sense, decode


def test_a_field_pointer_says_where() -> None:
    value = sense.replace(sense.INVALID_FIELD_IN_PARAMETER_LIST, field_pointer=8)
    data = value.encode()
    assert data[:3] == bytes([0x70, 0, 5])
    assert data[12:18] == bytes([0x26, 0, 0, 0x80, 0, 8])
    assert decode(data) == value
    assert "byte 8 of the list" in value.sentence()


def test_progress_goes_with_not_ready() -> None:
    data = sense.replace(sense.OPERATION_IN_PROGRESS, progress=0.5).encode()
    assert data[15:18] == bytes([0x80, 0x80, 0x00])
    back = decode(data)
    assert back is not None
    assert back.progress is not None
    assert abs(back.progress - 0.5) < 0.001
    assert "50% done" in back.sentence()


def test_descriptor_format_is_understood() -> None:
    data = bytes([0x72, 0x05, 0x24, 0x00, 0, 0, 0, 8, 0x02, 6, 0, 0, 0xC0, 0, 2, 0])
    assert decode(data) == sense.replace(sense.INVALID_FIELD_IN_CDB, field_pointer=2)


@given(st.binary(max_size=300))
def test_any_bytes_are_sense_data_or_none(data: bytes) -> None:
    value = decode(data)
    assert value is None or value.sentence()


def test_a_code_that_is_not_known_is_told_in_hexadecimal() -> None:
    assert "3Fh/0Eh" in Sense(0x6, 0x3F, 0x0E).sentence()
