"""The codec of the vendor commands: what goes in comes out, and what is not so is refused by the byte."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from targetplugin.scsi import pitcopy
from targetplugin.scsi.pitcopy import (
    VERBS,
    Backup,
    Capabilities,
    Designator,
    DifferentialExtents,
    InAction,
    InRequest,
    Malformed,
    Operation,
    OutAction,
    OutRequest,
    PairStatus,
    Parameters,
    Save,
)
from targetplugin.subsystem.ground.states import Verb
from targetplugin.subsystem.saves.holds import LONGEST

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
labels = st.text(st.characters(min_codepoint=32, exclude_categories=("Cs",)), max_size=8)
identifiers = st.binary(min_size=16, max_size=16)


@given(st.builds(OutRequest, st.sampled_from(OutAction), u32, st.booleans(), st.booleans()))
def test_an_out_cdb_comes_back(request: OutRequest) -> None:
    assert len(request.encode()) == 10
    assert OutRequest.decode(request.encode()) == request


@given(
    st.builds(
        Parameters,
        generation=u64,
        request=identifiers,
        label=labels,
        backup=st.integers(0, 65535),
        no_undo=st.booleans(),
        no_fill=st.booleans(),
        hold=st.integers(0, pitcopy.MAX_HOLD),
        deadline_ms=st.integers(0, 5000),
        designators=st.lists(st.builds(Designator, identifiers, u64), max_size=3).map(tuple),
    )
)
def test_a_parameter_list_comes_back(parameters: Parameters) -> None:
    assert Parameters.decode(parameters.encode()) == parameters


@given(st.binary(max_size=160))
def test_any_bytes_are_a_list_or_malformed(data: bytes) -> None:
    with suppress(Malformed):
        assert Parameters.decode(data).encode() == data


@given(st.binary(min_size=8, max_size=8))
def test_any_bytes_are_a_cdb_or_malformed(rest: bytes) -> None:
    for opcode, kind in ((0xC0, InRequest), (0xC1, OutRequest)):
        cdb = bytes([opcode]) + rest + b"\0"
        with suppress(Malformed):
            assert kind.decode(cdb).encode() == cdb


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, 2),
        (0, 0),
        (1, 4),
        (1, 0x80),
        (4, 0x80),
        (34, 0xFF),
        (38, 1),
        (39, 255),
        (40, 0xFF),
        (41, 65),
    ],
)
def test_a_wrong_byte_of_the_list_is_named(at: int, value: int) -> None:
    data = bytearray(Parameters(generation=3).encode())
    data[at] = value
    with pytest.raises(Malformed) as caught:
        Parameters.decode(bytes(data))
    assert caught.value.position == at
    assert not caught.value.in_cdb


@pytest.mark.parametrize("length", [0, 1, 71, 73, 95])
def test_a_wrong_length_of_the_list_is_told_as_such(length: int) -> None:
    with pytest.raises(Malformed) as caught:
        Parameters.decode(Parameters().encode().ljust(96, b"\0")[:length])
    assert caught.value.length


def test_a_slot_goes_with_differential_extents_alone() -> None:
    assert InRequest.decode(InRequest(InAction.DIFFERENTIAL_EXTENTS, 5, 3).encode()).slot == 3
    for request in (InRequest(InAction.SAVES, 0, 3), InRequest(InAction.DIFFERENTIAL_EXTENTS)):
        with pytest.raises(Malformed) as caught:
            InRequest.decode(request.encode())
        assert (caught.value.position, caught.value.in_cdb) == (6, True)


@pytest.mark.parametrize(
    "answer",
    [
        Capabilities("save", 65536, (0, 1, 5), (0, 1)),
        PairStatus(7, 65536, 12, "degraded", (("in_sync", 0), ("stale", 9)), "recover", 5, 0.0),
        PairStatus(7, 65536, 12, "serving", ()),
        DifferentialExtents(65536, 3, 7, ((0, 128), (2**40, 256)), 99),
        Save(1, 1000000005, "whole", "idle", 100, 1795000000, 12, "night"),
        Save(1, 5, "whole", "idle", 100, 1795000000, 12, "night", True, 1796000000),
        Operation(12, bytes(range(16)), "save", "done", 1.0, 3),
        Backup(3, "sunday", 1795000000, 2**40, True),
    ],
)
def test_answers_come_back(answer: object) -> None:
    assert type(answer).decode(answer.encode()) == answer  # type: ignore[attr-defined]


def test_a_list_is_cut_between_descriptors_and_says_where_to_go_on() -> None:
    items = [Save(i, i, "whole", "idle", 100, 0, 0, "").encode() for i in range(1, 6)]
    data = pitcopy.encode_list(items, 8 + 2 * 56 + 55, [1, 2, 3, 4, 5])
    assert pitcopy.decode_list(data) == (items[:2], 3)
    data = pitcopy.encode_list(items[2:], 4096, [3, 4, 5])
    assert pitcopy.decode_list(data) == (items[2:], pitcopy.END)


def test_the_longest_hold_is_the_subsystem_s() -> None:
    assert timedelta(seconds=pitcopy.MAX_HOLD) == LONGEST


def test_every_verb_that_makes_an_operation_has_a_number() -> None:
    none = {
        Verb.DIFF,
        Verb.EXPORT,
        Verb.HOLD,
        Verb.REPLACE,
    }  # of a save's own: no operation of its own
    assert {verb.value for verb in set(Verb) - none} | {"replace leg"} <= set(VERBS)
