"""The superblock: what is written is read, what is damaged is not, what is newer is left alone."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from targetplugin.errors import Reason, Refused
from targetplugin.media.trailer import Role, Trailer, choose, decode, encode

UUID = bytes(range(16))
SAVE = Trailer(
    uuid=UUID,
    capacity=64 << 20,
    data_size=63 << 20,
    role=Role.SAVE,
    volume=b"V" * 16,
    volume_name="ledger",
    volume_size=32 << 20,
    extent_shift=16,
    generation=1_000_000_003,
    label="vor dem Läufer",
    op=41,
    sequence=7,
)
U64 = st.integers(0, 2**64 - 1)


def resealed(block: bytes, at: int, value: bytes) -> bytes:
    """A block with other bytes in one place, and the checksum that fits."""
    changed = bytearray(block)
    changed[at : at + len(value)] = value
    changed[8:12] = bytes(4)
    changed[8:12] = zlib.crc32(changed).to_bytes(4, "little")
    return bytes(changed)


@given(
    st.builds(
        Trailer,
        uuid=st.binary(min_size=16, max_size=16),
        capacity=U64,
        data_size=U64,
        role=st.sampled_from(Role),
        volume=st.binary(min_size=16, max_size=16),
        volume_name=st.text("abcdefgä-.0123456789", max_size=32),
        volume_size=U64,
        extent_shift=st.integers(0, 255),
        generation=U64,
        label=st.text("abcdefgé ", max_size=16),
        op=U64,
        sequence=U64,
    )
)
def test_what_is_written_is_read(trailer):
    block = encode(trailer)
    assert len(block) == 4096
    assert decode(block) == trailer


@given(st.integers(0, 4096 * 8 - 1))
def test_a_flipped_bit_is_noticed(bit):
    block = bytearray(encode(SAVE))
    block[bit // 8] ^= 1 << bit % 8
    assert decode(bytes(block)) is None


@pytest.mark.parametrize("block", [b"", bytes(4096), b"TPLGMED1" + bytes(4088), b"\xff" * 4096])
def test_what_is_no_superblock_is_none(block):
    assert decode(block) is None


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [(12, b"\2\0", "format 2"), (16, b"\1" + bytes(7), "features 0x1"), (14, b"\x63", "role 99")],
)
def test_what_a_later_version_wrote_is_refused(at, value, says):
    with pytest.raises(Refused, match=says) as refused:
        decode(resealed(encode(SAVE), at, value))
    assert refused.value.reason is Reason.ENVIRONMENT
    assert "later" in refused.value.hint


def test_the_higher_sequence_counts_and_the_other_copy_is_to_be_repaired():
    older, newer = encode(SAVE), encode(replace(SAVE, sequence=8, role=Role.FREE))
    assert choose([older, newer]) == (decode(newer), [0])
    assert choose([newer, older]) == (decode(newer), [1])
    assert choose([newer, newer]) == (decode(newer), [])


def test_a_torn_copy_is_repaired_from_the_other():
    block = encode(SAVE)
    assert choose([block, block[:100] + bytes(3996)]) == (SAVE, [1])
    assert choose([bytes(4096), block]) == (SAVE, [0])
    assert choose([bytes(4096), bytes(4096)]) == (None, [])


def test_a_name_or_label_that_does_not_fit_is_refused():
    with pytest.raises(Refused, match="label"):
        encode(replace(SAVE, label="x" * 33))
    with pytest.raises(Refused, match="volume name"):
        encode(replace(SAVE, volume_name="ä" * 33))
