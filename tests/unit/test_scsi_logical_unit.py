"""A logical unit on a real subsystem: standard commands, and vendor commands as a host sends them."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from targetplugin.scsi import commands, pitcopy, sense
from targetplugin.scsi.logical_unit import LogicalUnit
from targetplugin.scsi.pitcopy import (
    Capabilities,
    Designator,
    InAction,
    InRequest,
    OutAction,
    OutRequest,
    Parameters,
)
from targetplugin.subsystem.ground.clock import Clock
from tests.unit.house import House

ROOM = 4096
BUSY, LIST, LENGTH, STATE, RIGHTS = (2, 0x0407), (5, 0x2600), (5, 0x1A00), (5, 0x2C00), (5, 0x2002)
CDB = (5, 0x2400)


class Host:
    """What a host sees."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.unit = LogicalUnit(house.subsystem, "ledger")

    def send(self, cdb: bytes, data: bytes = b"") -> bytes:
        answer = self.unit.execute(cdb.ljust(16, b"\0"), data, ROOM)
        assert answer.status == 0, sense.decode(answer.sense)
        return answer.data

    def refused(self, cdb: bytes, data: bytes = b"") -> tuple[tuple[int, int], int | None]:
        answer = self.unit.execute(cdb.ljust(16, b"\0"), data, ROOM)
        assert answer.status == 2
        assert answer.data == b""
        value = sense.decode(answer.sense)
        assert value is not None
        return (value.key, value.asc << 8 | value.ascq), value.field_pointer

    def ask(self, action: OutAction, parameters: Parameters, **flags: bool) -> tuple[bytes, bytes]:
        data = parameters.encode()
        return OutRequest(action, len(data), **flags).encode(), data

    def saves(self) -> list[pitcopy.Save]:
        data = self.send(InRequest(InAction.SAVES, allocation_length=ROOM).encode())
        return [pitcopy.Save.decode(item) for item in pitcopy.decode_list(data)[0]]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    house = House(tmp_path)
    house.media("a", "b", "c")
    house.volume()
    yield Host(house)
    house.end()


# --- standard commands --------------------------------------------------------------------------


def test_inquiry_names_vendor_and_identity(host: Host) -> None:
    data = host.send(bytes([0x12, 0, 0, 0, 96]))
    assert data[8:16] == b"TGTPLUG "
    naa = bytes.fromhex(host.house.show()["naa"])
    assert naa in host.send(bytes([0x12, 1, 0x83, 0, 255]))
    pages = host.send(bytes([0x12, 1, 0, 0, 255]))[4:]
    for page in pages:
        body = host.send(bytes([0x12, 1, page, 0, 255]))
        assert body[1] == page
        assert int.from_bytes(body[2:4], "big") == len(body) - 4
    assert host.send(bytes([0x12, 1, 0xC0, 0, 255]))[4:12] == b"PITCOPY\0"


def test_capacity_is_the_volume_s(host: Host) -> None:
    last, block = struct.unpack(">II", host.send(bytes([0x25]))[:8])
    assert ((last + 1) * block, block) == (8 << 20, 512)
    data = host.send(bytes([0x9E, 0x10]) + bytes(8) + (32).to_bytes(4, "big"))
    assert struct.unpack(">QI", data[:12]) == (last, 512)


def test_one_table_says_what_is_supported(host: Host) -> None:
    data = host.send(bytes([0xA3, 0x0C, 0, 0, 0, 0]) + (4096).to_bytes(4, "big"))
    assert int.from_bytes(data[:4], "big") == 8 * len(commands.COMMANDS) == len(data) - 4
    cdb = bytes([0xA3, 0x0C, 2, 0xC1, 0, 1]) + (64).to_bytes(4, "big")
    usage = host.send(cdb)[4:]
    assert usage == bytes.fromhex("c101030000ffffffff00"), "codes are told as they are"
    timeouts = bytes([0, 10, *bytes(10)])
    data = host.send(bytes([0xA3, 0x0C, 0x80, 0, 0, 0]) + (4096).to_bytes(4, "big"))
    assert int.from_bytes(data[:4], "big") == 20 * len(commands.COMMANDS) == len(data) - 4
    assert data[12:24] == timeouts
    cdb = bytes([0xA3, 0x0C, 0x82, 0xC1, 0, 1]) + (64).to_bytes(4, "big")
    assert host.send(cdb)[1] == 0x83
    assert host.send(cdb)[14:] == timeouts
    cdb = bytes([0xA3, 0x0C, 2, 0xC1, 0, 8]) + (64).to_bytes(4, "big")
    assert host.send(cdb) == bytes([0, 1, 0, 0])


def test_what_the_kernel_answers_is_told_of_and_not_known_here(host: Host) -> None:
    for opcode, action in ((0x16, 0), (0x57, 0), (0x5E, 3), (0x5F, 7), (0xA0, 0)):
        cdb = bytes([0xA3, 0x0C, 3, opcode, 0, action]) + (64).to_bytes(4, "big")
        assert host.send(cdb)[:2] == bytes([0, 3])
        assert host.refused(bytes([opcode, action]))[0] == (5, 0x2000)


def test_it_says_which_task_management_there_is(host: Host) -> None:
    for flags, told in ((0, bytes([0x88, 0, 0, 0])), (0x80, bytes([0x88, 0, 0, 12, *bytes(12)]))):
        cdb = bytes([0xA3, 0x0D, flags, 0, 0, 0]) + (64).to_bytes(4, "big")
        assert host.send(cdb) == told


def test_request_sense_has_nothing_to_tell_in_either_format(host: Host) -> None:
    fixed, short = host.send(bytes([3, 0, 0, 0, 252])), host.send(bytes([3, 1, 0, 0, 252]))
    assert (len(fixed), sense.decode(fixed)) == (18, sense.NO_SENSE)
    assert (len(short), sense.decode(short)) == (8, sense.NO_SENSE)
    assert host.send(bytes([3, 0, 0, 0, 8])) == fixed[:8]


def test_it_can_be_started_but_not_stopped_or_ejected(host: Host) -> None:
    for what in (1, 5):  # START; with NO_FLUSH
        assert host.send(bytes([0x1B, 1, 0, 0, what])) == b""
    for what in (0, 2, 3, 0x11, 0x20, 0x30):  # stop, eject, load, power conditions
        assert host.refused(bytes([0x1B, 0, 0, 0, what])) == (CDB, 4)


CURRENT, CHANGEABLE, DEFAULT, SAVED = 0x00, 0x40, 0x80, 0xC0
CACHING, CONTROL, ALL_PAGES = 0x08, 0x0A, 0x3F
KEEP, SAVE = 0x10, 0x11  # in byte 1 of MODE SELECT: PF, and SP
DBD, LLBAA = 0x08, 0x10  # in byte 1 of MODE SENSE


def mode_sense(host: Host, page: int, control: int = CURRENT) -> bytes:
    """The pages, without the header of 4 bytes, and without a block descriptor."""
    data = host.send(bytes([0x1A, DBD, control | page, 0, 255]))
    assert data[:2] == bytes([len(data) - 1, 0])
    assert data[3] == 0
    ten = host.send(bytes([0x5A, DBD, control | page, 0, 0, 0, 0, 0, 255]))
    assert ten[:2] == (len(ten) - 2).to_bytes(2, "big")
    assert ten[4:] == bytes(4) + data[4:]
    return data[4:]


def mode_select(page: bytes, how: int = KEEP) -> tuple[bytes, bytes]:
    data = bytes(4) + page
    return bytes([0x15, how, 0, 0, len(data)]), data


def write_cache(host: Host, control: int = CURRENT) -> bool:
    return bool(mode_sense(host, CACHING, control)[2] & 4)


def cache_page(on: bool) -> bytes:
    return bytes([0x08, 0x12, 0x04 if on else 0]) + bytes(17)


def test_mode_sense_has_current_changeable_default_and_saved_values(host: Host) -> None:
    assert mode_sense(host, CACHING) == bytes([0x88, 0x12, 0x04]) + bytes(17)
    for control in (DEFAULT, SAVED):
        assert mode_sense(host, ALL_PAGES, control) == mode_sense(host, ALL_PAGES)
    changeable = mode_sense(host, ALL_PAGES, CHANGEABLE)
    assert changeable == (
        bytes([0x88, 0x12, 4])
        + bytes(17)
        + bytes([0x0A, 10])
        + bytes(10)
        + bytes([0x1C, 10])
        + bytes(10)
    )
    assert host.refused(bytes([0x1A, 0, 0x01, 0, 255])) == (CDB, 2)
    assert host.refused(bytes([0x1A, 0, 0x08, 1, 255])) == (CDB, 3)


def test_what_is_not_changeable_is_refused_and_nothing_is_changed(host: Host) -> None:
    pages = bytearray(mode_sense(host, ALL_PAGES))
    changeable = mode_sense(host, ALL_PAGES, CHANGEABLE)
    assert host.send(*mode_select(bytes(pages), SAVE)) == b""
    starts = (0, 20, 32)
    for at in range(len(pages)):
        other = pages.copy()
        other[2] = 0  # with a change that would be taken
        other[at] ^= 0xFB if at == 2 else 0x3C
        if at in starts or at - 1 in starts or changeable[at] != 0xFF:
            assert host.refused(*mode_select(bytes(other)))[0] == LIST
    assert write_cache(host)


def test_a_parameter_list_that_ends_within_a_page_is_refused(host: Host) -> None:
    for length in range(1, 20):
        cdb, data = mode_select(cache_page(False)[:length])
        assert host.refused(cdb, data)[0] == LENGTH
    cdb, data = mode_select(cache_page(False))
    assert host.refused(cdb, data[:-1])[0] == LENGTH
    for descriptors, why in ((8, LENGTH), (9, LIST)):
        assert host.refused(bytes([0x15, 0x10, 0, 0, 4]), bytes([0, 0, 0, descriptors]))[0] == why
    assert write_cache(host)
    one = bytes([0, 0, 0, 8]) + struct.pack(">II", 0, 512) + cache_page(False)
    assert host.send(bytes([0x15, 0x10, 0, 0, len(one)]), one) == b""
    assert not write_cache(host)
    four = bytes([0, 0, 0, 8]) + struct.pack(">II", 0, 4096) + cache_page(True)
    assert host.refused(bytes([0x15, 0x10, 0, 0, len(four)]), four) == (LIST, 9)


def test_a_list_that_is_of_no_pages_is_refused(host: Host) -> None:
    assert host.refused(*mode_select(cache_page(False), 0)) == (CDB, 1)
    assert write_cache(host)


def test_mode_sense_has_a_block_descriptor_and_mode_select_takes_it_as_it_is(host: Host) -> None:
    blocks, pages = (8 << 20) // 512, mode_sense(host, ALL_PAGES)
    six = host.send(bytes([0x1A, 0, ALL_PAGES, 0, 255]))
    assert six == bytes([11 + len(pages), 0, 0x10, 8]) + struct.pack(">II", blocks, 512) + pages
    short = struct.pack(">II", blocks, 512)
    long = struct.pack(">QII", blocks, 0, 512)
    for flags, descriptor in ((0, short), (LLBAA, long)):
        ten = host.send(bytes([0x5A, flags, ALL_PAGES, 0, 0, 0, 0, 0, 255]))
        header = struct.pack(">HBBBBH", len(ten) - 2, 0, 0x10, flags >> 4, 0, len(descriptor))
        assert ten == header + descriptor + pages
        data = bytes(2) + ten[2:3] + bytes(1) + ten[4:]
        select = bytes([0x55, KEEP, 0, 0, 0, 0, 0, 0, len(data)])
        assert host.send(select, data) == b""
        wrong = bytearray(data)
        wrong[8 + len(descriptor) - 2] ^= 0x10
        assert host.refused(select, bytes(wrong))[0] == LIST, "of blocks of another length"
        wrong = bytearray(data)
        wrong[4] ^= 1
        assert host.refused(select, bytes(wrong)) == (LIST, 6), "of the other kind"
    data = bytes([0, 0, 0, 8]) + six[4:]
    assert host.send(bytes([0x15, KEEP, 0, 0, len(data)]), data) == b""


def test_a_host_switches_the_write_cache_off_and_on(host: Host) -> None:
    volume = next(iter(host.house.engine.volumes.values()))
    host.send(*mode_select(cache_page(False)))
    assert (write_cache(host), write_cache(host, SAVED), volume.through) == (False, True, True)
    assert host.house.show()["write_cache"] is False
    host.send(*mode_select(cache_page(True)))
    assert (write_cache(host), volume.through) == (True, False)


def test_what_a_host_set_outlives_the_daemon_and_what_it_saved_the_machine(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.send(*mode_select(cache_page(False)))
    host.house.restart()
    host.unit = LogicalUnit(host.house.subsystem, "ledger")
    assert not write_cache(host)
    assert next(iter(host.house.engine.volumes.values())).through
    boots_again(host, monkeypatch)
    assert write_cache(host)
    host.send(*mode_select(cache_page(False), SAVE))
    host.send(*mode_select(cache_page(True)))
    assert (write_cache(host), write_cache(host, SAVED)) == (True, False)
    boots_again(host, monkeypatch)
    assert not write_cache(host)
    assert not write_cache(host, SAVED)


def boots_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    boot = host.house.floor.clock.boot()
    monkeypatch.setattr(Clock, "boot", lambda clock: boot + "+")
    host.house.restart()
    host.unit = LogicalUnit(host.house.subsystem, "ledger")


def test_the_write_cache_of_a_save_that_is_shown_can_not_be_changed(host: Host) -> None:
    host.house.subsystem.save("ledger")
    host.unit = LogicalUnit(host.house.subsystem, host.house.saves()[0])
    assert mode_sense(host, CACHING, CHANGEABLE) == bytes([0x08, 0x12]) + bytes(18)
    assert host.refused(bytes([0x1A, 0, SAVED | CACHING, 0, 255]))[0] == (5, 0x3900)
    assert host.refused(*mode_select(cache_page(False)))[0] == LIST
    assert host.refused(*mode_select(cache_page(True), SAVE)) == (CDB, 1)


def test_a_cache_that_can_not_be_flushed_stays(host: Host) -> None:
    volume = next(iter(host.house.engine.volumes.values()))
    host.house.engine.flush_error = True
    assert host.refused(*mode_select(cache_page(False)))[0] == (4, 0x4400)
    assert (write_cache(host), volume.through) == (True, False)


def test_lba_status_is_mapped_or_unknown_up_to_the_end(host: Host) -> None:
    def ask(lba: int) -> tuple[bytes, bytes]:
        return struct.pack(">BBQIBB", 0x9E, 0x12, lba, 24, 0, 0), b""

    data = host.send(*ask(100))
    assert struct.unpack(">I4xQIB3x", data) == (20, 100, (8 << 20) // 512 - 100, 0)
    assert host.refused(*ask((8 << 20) // 512))[0] == (5, 0x2100)


def test_there_are_no_defects(host: Host) -> None:
    ten = bytes([0x37, 0, 0x1D, 0, 0, 0, 0, 0, 255])
    assert host.send(ten) == bytes([0, 0x1D, 0, 0])
    twelve = bytes([0xB7, 0x1D, 0, 0, 0, 0, 0, 0, 0, 255])
    assert host.send(twelve) == bytes([0, 0x1D, 0, 0, 0, 0, 0, 0])


def test_log_pages_tell_what_was_counted(host: Host) -> None:
    counted = {
        "reads": 3,
        "writes": 2,
        "bytes_read": 1536,
        "bytes_written": 1024,
        "read_us": 1500,
        "write_us": 900,
        "read_errors": 7,
        "write_errors": 9,
        "flushes": 4,
    }
    volume = host.house.engine.volumes[host.house.handle()]
    volume.counters = counted

    def ask(code: int, subpage: int = 0, control: int = 1, first: int = 0) -> bytes:
        return struct.pack(">BBBBBHHB", 0x4D, 0, control << 6 | code, subpage, 0, first, 512, 0)

    pages = host.send(ask(0))[4:]
    both = [(0, 0), (0, 0xFF), *((page, 0) for page in pages[1:])]
    assert host.send(ask(0, 0xFF))[4:] == b"".join(bytes(pair) for pair in both)
    for page in pages[1:]:
        data = host.send(ask(page))
        assert (data[0] & 0x3F, int.from_bytes(data[2:4], "big")) == (page, len(data) - 4)
        at = 4
        while at < len(data):
            at += 4 + data[at + 3]
        assert at == len(data), "parameters fill the page"
    assert struct.unpack(">8xQ", host.send(ask(0x02))) == (9,)
    assert struct.unpack(">8xQ", host.send(ask(0x03))) == (7,)
    assert struct.unpack(">8x8Q16x2L", host.send(ask(0x19))) == (
        *(3, 2, 2, 3, 1500, 900, 0, 0),
        *(6, 1),
    ), "times are microseconds"
    assert struct.unpack(">8x4Q56x", host.send(ask(0x19, control=2))) == (0, 0, 0, 0)
    assert host.send(ask(0x02))[:8] == bytes([0x82, 0, 0, 12, 0, 6, 0, 8]), "a counter"
    assert host.send(ask(0x19, first=2))[4:] == host.send(ask(0x19))[72:], "from a parameter on"
    assert host.refused(ask(0x19, first=4)) == (CDB, 5)
    assert host.refused(ask(0, first=1)) == (CDB, 5)
    assert host.refused(ask(0x0D)) == (CDB, 2)
    assert host.refused(ask(0x02, 1)) == (CDB, 3)


def test_what_is_not_known_is_refused(host: Host) -> None:
    for opcode in (0x83, 0x84, 0x48):  # EXTENDED COPY, RECEIVE COPY RESULTS, SANITIZE
        assert host.refused(bytes([opcode]))[0] == (5, 0x2000)
    assert host.refused(bytes([0x12, 1, 0x99, 0, 255])) == (CDB, 2)
    assert host.refused(bytes([0x12, 0x10, 0, 0, 255])) == (CDB, 1)


def test_no_cdb_breaks_it(host: Host) -> None:
    draw = random.Random(5)
    before = host.house.show()["generation"]
    for _ in range(3000):
        cdb = bytes([draw.choice([0xC0, 0xC1, 0x12, 0x1A, 0x5A, 0xA3, 0x9E, draw.randrange(256)])])
        answer = host.unit.execute(
            cdb + draw.randbytes(15), draw.randbytes(draw.choice([0, 8, 72])), 64
        )
        assert answer.status in (0, 2)
        assert len(answer.data) <= 64
        assert bool(answer.sense) == (answer.status == 2)
    assert host.house.show()["generation"] == before


# --- vendor commands ----------------------------------------------------------------------------


def test_save_write_diff_and_recover_in_band(host: Host) -> None:
    host.house.write(3, "o")
    host.send(*host.ask(OutAction.SAVE, Parameters(label="night")))
    (save,) = host.saves()
    assert (save.label, save.fill, save.percent) == ("night", "whole", 100)
    host.house.write(3, "n")
    host.house.write(4, "n")
    data = host.send(InRequest(InAction.DIFFERENTIAL_EXTENTS, 0, save.slot, ROOM).encode())
    assert pitcopy.DifferentialExtents.decode(data).runs == ((3 * 128, 256),)
    host.send(*host.ask(OutAction.RECOVER, Parameters(generation=save.generation)))
    assert host.house.read(3) == "o"
    assert host.house.read(4) == ""
    kept, undo = host.saves()
    assert (kept.generation, kept.undo) == (save.generation, False), "the save stays"
    assert undo.undo


def operations(host: Host) -> list[pitcopy.Operation]:
    data = host.send(InRequest(InAction.OPERATIONS, allocation_length=ROOM).encode())
    return [pitcopy.Operation.decode(item) for item in pitcopy.decode_list(data)[0]]


def test_undo_in_band_names_the_operation_that_it_takes_back(host: Host) -> None:
    host.send(*host.ask(OutAction.SAVE, Parameters()))
    host.house.write(3, "n")
    host.send(*host.ask(OutAction.RECOVER, Parameters(generation=1)))
    host.house.finish()
    recover, save = operations(host)
    assert (recover.verb, recover.undo, save.undo) == ("recover", 2, 0)
    # The save's number names no recover.
    wrong = Parameters(generation=save.number)
    assert host.refused(*host.ask(OutAction.UNDO, wrong)) == (LIST, 8)
    undo = Parameters(generation=recover.number, request=bytes(range(16)))
    host.send(*host.ask(OutAction.UNDO, undo, preview=True))
    assert host.house.read(3) == ""
    attentions = host.house.engine.volumes[host.house.handle()].attentions
    before = len(attentions)
    host.send(*host.ask(OutAction.UNDO, undo))
    assert host.house.read(3) == "n"
    assert attentions[before:] == [(0x28, 0)]
    host.house.finish()
    host.send(*host.ask(OutAction.UNDO, undo))  # once more the same request, which is over
    assert [o.verb for o in operations(host)] == ["undo", "recover", "save"]
    # By now that is not what was done last: here no second spare was there, so it took no undo save.
    other = Parameters(generation=recover.number)
    assert host.refused(*host.ask(OutAction.UNDO, other))[0] == STATE
    assert operations(host)[0].undo == 0


def test_a_recover_takes_no_undo_save_where_the_host_says_so(host: Host) -> None:
    host.send(*host.ask(OutAction.SAVE, Parameters()))
    host.send(*host.ask(OutAction.RECOVER, Parameters(generation=1, no_undo=True)))
    assert [save.undo for save in host.saves()] == [False]
    number = operations(host)[0].number
    assert host.refused(*host.ask(OutAction.UNDO, Parameters(generation=number)))[0] == STATE


def test_undo_in_band_takes_a_recover_back_that_still_copies(host: Host) -> None:
    host.send(*host.ask(OutAction.SAVE, Parameters()))
    host.house.write(3, "n")
    host.house.engine.hold_copies = True
    host.send(*host.ask(OutAction.RECOVER, Parameters(generation=1)))
    assert host.house.read(3) == ""
    number = operations(host)[0].number
    host.send(*host.ask(OutAction.UNDO, Parameters(generation=number)))
    assert host.house.read(3) == "n"
    host.house.engine.hold_copies = False
    host.house.finish()
    assert host.house.read(3) == "n"
    assert [o.verb for o in operations(host)] == ["undo", "recover", "save"]


def test_a_save_in_band_onto_an_older_one_needs_the_right_to_end_it(host: Host) -> None:
    host.send(*host.ask(OutAction.SAVE, Parameters(label="night")))
    host.house.write(3, "n")
    uuid = host.house.floor.volume("ledger").uuid
    host.house.catalog.volume_set(uuid, rights="save")
    again = host.ask(OutAction.SAVE, Parameters(generation=1))
    assert host.refused(*again)[0] == RIGHTS
    host.house.catalog.volume_set(uuid, rights="all")
    host.send(*again)
    host.house.finish()
    assert [(save.generation, save.label) for save in host.saves()] == [(2, "night")]
    assert host.house.on_medium("b", 3) == "n"
    assert host.refused(*again) == (LIST, 8)


@pytest.mark.parametrize("action", [OutAction.SWAP, OutAction.RESYNC, OutAction.RELEASE])
def test_a_host_sees_a_hold_and_takes_nothing_away(host: Host, action: OutAction) -> None:
    host.send(*host.ask(OutAction.SAVE, Parameters(label="night")))
    assert host.saves()[0].held == 0
    host.house.subsystem.hold("ledger@night", seconds=3600)
    (save,) = host.saves()
    assert 3500 < save.held - time.time() <= 3600
    parameters = Parameters(generation=save.generation)
    for preview in (True, False):
        assert host.refused(*host.ask(action, parameters, preview=preview)) == (STATE, None)
    assert host.saves() == [save]
    host.house.subsystem.unhold("ledger@night", force=True)
    host.send(*host.ask(action, parameters))


def test_a_differential_goes_on_where_the_answer_ends(host: Host) -> None:
    host.send(*host.ask(OutAction.SAVE, Parameters()))
    for extent in (1, 5, 9, 13):
        host.house.write(extent, "x")
    slot, start, runs = host.saves()[0].slot, 0, []
    while start != pitcopy.END:
        cdb = InRequest(InAction.DIFFERENTIAL_EXTENTS, start, slot, 24 + 2 * 16).encode()
        part = pitcopy.DifferentialExtents.decode(host.send(cdb))
        runs += part.runs
        start = part.next_start
    assert [lba // 128 for lba, _ in runs] == [1, 5, 9, 13]


@pytest.mark.parametrize(
    "action", [OutAction.RECOVER, OutAction.SWAP, OutAction.RESYNC, OutAction.RELEASE]
)
def test_a_save_that_is_not_named_or_gone_is_refused_and_nothing_changes(
    host: Host, action: OutAction
) -> None:
    host.send(*host.ask(OutAction.SAVE, Parameters()))
    before = host.house.show()
    assert host.refused(*host.ask(action, Parameters())) == (LIST, 8)
    assert host.refused(*host.ask(action, Parameters(generation=77))) == (LIST, 8)
    assert host.refused(*host.ask(action, Parameters(generation=2**63))) == (LIST, 8)
    assert host.house.show() == before


def test_bad_fields_are_named(host: Host) -> None:
    cdb, data = host.ask(OutAction.SAVE, Parameters())
    assert host.refused(cdb[:3] + b"\1" + cdb[4:], data) == (CDB, 3)
    assert host.refused(cdb[:9] + b"\1", data) == (CDB, 9)
    assert host.refused(cdb, data[:71])[0] == LENGTH
    assert host.refused(cdb[:8] + bytes([71, 0]), data)[0] == LENGTH
    assert host.refused(cdb, b"\2" + data[1:]) == (LIST, 0)
    assert host.refused(cdb, data[:38] + b"\1" + data[39:]) == (LIST, 38)
    assert host.refused(cdb, data[:34] + b"\xff" + data[35:]) == (LIST, 34)
    assert host.refused(*host.ask(OutAction.RELEASE, Parameters(generation=1, hold=60)))[1] == 34
    assert host.refused(*host.ask(OutAction.SAVE, Parameters(generation=1))) == (LIST, 8)
    assert host.refused(*host.ask(OutAction.RESTORE, Parameters())) == (LIST, 32)
    assert host.refused(*host.ask(OutAction.RESTORE, Parameters(backup=9))) == (LIST, 32)
    assert host.refused(*host.ask(OutAction.SAVE, Parameters(label="12"))) == (LIST, 40)
    assert host.refused(*host.ask(OutAction.UNDO, Parameters(generation=1))) == (LIST, 8)
    assert host.refused(*host.ask(OutAction.UNDO, Parameters())) == (LIST, 8)
    assert host.refused(*host.ask(OutAction.SAVE, Parameters(no_undo=True))) == (LIST, 1)
    no_fill = Parameters(no_fill=True, generation=1)
    assert host.refused(*host.ask(OutAction.SAVE, no_fill)) == (LIST, 1)
    assert host.refused(*host.ask(OutAction.RELEASE, no_fill)) == (LIST, 1)
    assert host.saves() == []


def test_a_host_saves_without_fill(host: Host) -> None:
    host.send(*host.ask(OutAction.SAVE, Parameters(label="noon", no_fill=True)))
    (save,) = host.saves()
    assert (save.label, save.fill, save.activity) == ("noon", "unfilled", "idle")
    assert host.house.states()["c"] == "store of ledger"


def test_a_host_saves_and_holds_with_the_right_all_alone(host: Host) -> None:
    host.send(*host.ask(OutAction.SAVE, Parameters(label="kept", hold=3600)))
    (save,) = host.saves()
    assert 3500 < save.held - time.time() < 3601
    assert host.refused(*host.ask(OutAction.RELEASE, Parameters(generation=1)))[0] == STATE
    host.house.subsystem.volume_set("ledger", rights="save")
    cdb, data = host.ask(OutAction.SAVE, Parameters(label="more", hold=3600))
    assert host.refused(cdb, data)[0] == RIGHTS
    assert len(host.saves()) == 1


def test_the_same_request_is_done_once(host: Host) -> None:
    request = Parameters(request=bytes(range(16)), label="once")
    host.send(*host.ask(OutAction.SAVE, request))
    host.send(*host.ask(OutAction.SAVE, request))
    assert len(host.saves()) == 1
    other = Parameters(request=bytes(range(16)), label="other")
    assert host.refused(*host.ask(OutAction.SAVE, other)) == (LIST, 16)


def test_preview_does_nothing(host: Host) -> None:
    host.send(*host.ask(OutAction.SAVE, Parameters(), preview=True))
    assert host.saves() == []


def test_an_abort_reaches_no_other_volume(host: Host) -> None:
    host.house.media("d")
    host.house.volume("journal", mirror=1)
    made = host.house.subsystem.save("journal")["operation"]["id"]
    assert host.refused(*host.ask(OutAction.ABORT, Parameters(generation=made))) == (LIST, 8)


def test_rights_bind_hosts(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.media("a", "b")
    house.volume(rights="none")
    host = Host(house)
    assert host.refused(InRequest(InAction.SAVES).encode())[0] == RIGHTS
    assert host.refused(*host.ask(OutAction.SAVE, Parameters()))[0] == RIGHTS
    assert (
        pitcopy.Capabilities.decode(host.send(InRequest(InAction.CAPABILITIES).encode())).rights
        == "none"
    )
    house.end()


def test_no_medium_is_told_as_such(host: Host) -> None:
    host.send(*host.ask(OutAction.SAVE, Parameters()))
    host.send(*host.ask(OutAction.SAVE, Parameters()))
    host.house.finish()
    assert host.refused(*host.ask(OutAction.SAVE, Parameters()))[0] == (5, 0x5503)


def test_status_shows_legs_and_what_runs(host: Host) -> None:
    status = pitcopy.PairStatus.decode(host.send(InRequest(InAction.PAIR_STATUS).encode()))
    assert status.legs == (("in_sync", 0), ("in_sync", 0))
    assert (status.state, status.verb) == ("serving", None)
    host.send(*host.ask(OutAction.SAVE, Parameters(request=b"i" * 16)))
    data = host.send(InRequest(InAction.OPERATIONS, allocation_length=ROOM).encode())
    last = pitcopy.Operation.decode(pitcopy.decode_list(data)[0][0])
    assert (last.verb, last.state, last.request) == ("save", "done", b"i" * 16)


# --- several volumes ----------------------------------------------------------------------------


@pytest.fixture
def other(host: Host) -> Designator:
    """Another volume, `journal`, that an operator declared as belonging to the first."""
    host.house.media("e", "f")
    host.house.volume("journal", media=["e", "f"])
    host.house.subsystem.group_create("books", ["ledger", "journal"])
    return Designator(bytes.fromhex(host.house.show("journal")["naa"]), 0)


def test_a_host_saves_the_volumes_of_a_group_at_one_instant(host: Host, other: Designator) -> None:
    told = host.send(InRequest(InAction.CAPABILITIES, allocation_length=ROOM).encode())
    assert Capabilities.decode(told).group == 2
    request = bytes(range(16))
    asked = Parameters(0, request, "night", deadline_ms=700, designators=(other,))
    host.send(*host.ask(OutAction.SAVE, asked))
    host.send(*host.ask(OutAction.SAVE, asked))  # the same again
    for name in ("ledger", "journal"):
        assert [one["label"] for one in host.house.show(name)["saves"]] == ["night"]
    data = host.send(InRequest(InAction.OPERATIONS, allocation_length=ROOM).encode())
    (found,) = [pitcopy.Operation.decode(item) for item in pitcopy.decode_list(data)[0]]
    assert (found.request, found.state) == (request, "done")


def test_a_host_recovers_the_volumes_of_a_group_at_one_instant(
    host: Host, other: Designator
) -> None:
    host.send(*host.ask(OutAction.SAVE, Parameters(designators=(other,))))
    for name in ("ledger", "journal"):
        host.house.write(1, "n", name)
    missing = Parameters(1, designators=(Designator(other.naa, 7),))
    assert host.refused(*host.ask(OutAction.RECOVER, missing)) == (LIST, 8)
    assert [host.house.read(1, name) for name in ("ledger", "journal")] == ["n", "n"]
    asked = Parameters(1, designators=(Designator(other.naa, 1),))
    host.send(*host.ask(OutAction.RECOVER, asked))
    host.house.finish()
    assert [host.house.read(1, name) for name in ("ledger", "journal")] == ["", ""]


def test_a_host_undoes_the_recover_of_a_group_at_one_instant(host: Host, other: Designator) -> None:
    both = ("ledger", "journal")
    host.house.media("g", "h")
    host.send(*host.ask(OutAction.SAVE, Parameters(designators=(other,))))
    for name in both:
        host.house.write(1, "n", name)
    asked = Parameters(1, designators=(Designator(other.naa, 1),))
    host.send(*host.ask(OutAction.RECOVER, asked))
    host.house.finish()
    data = host.send(InRequest(InAction.OPERATIONS, allocation_length=ROOM).encode())
    last = pitcopy.Operation.decode(pitcopy.decode_list(data)[0][0])
    assert (last.verb, last.undo) == ("recover", 2)
    unknown = Parameters(99, designators=(other,))
    assert host.refused(*host.ask(OutAction.UNDO, unknown)) == (LIST, 8)
    host.send(*host.ask(OutAction.UNDO, Parameters(last.number, designators=(other,))))
    host.house.finish()
    assert [host.house.read(1, name) for name in both] == ["n", "n"]


def test_a_host_recovers_a_group_without_undo_saves_where_it_says_so(
    host: Host, other: Designator
) -> None:
    host.send(*host.ask(OutAction.SAVE, Parameters(designators=(other,))))
    asked = Parameters(1, no_undo=True, designators=(Designator(other.naa, 1),))
    host.send(*host.ask(OutAction.RECOVER, asked))
    host.house.finish()
    assert host.house.saves() == ["ledger@1"]


def test_a_host_swaps_the_volumes_of_a_group_at_one_instant(host: Host, other: Designator) -> None:
    both = ("ledger", "journal")
    host.send(*host.ask(OutAction.SAVE, Parameters(designators=(other,))))
    for name in both:
        host.house.write(1, "n", name)
    asked = Parameters(1, designators=(Designator(other.naa, 1),))
    host.send(*host.ask(OutAction.SWAP, asked))
    assert [host.house.read(1, name) for name in both] == ["", ""]
    for name in both:
        host.house.catalog.volume_set(host.house.floor.volume(name).uuid, rights="save")
    back = Parameters(2, designators=(Designator(other.naa, 2),))
    assert host.refused(*host.ask(OutAction.SWAP, back))[0] == RIGHTS
    assert [host.house.read(1, name) for name in both] == ["", ""]


def test_a_host_names_no_volumes_together_that_nobody_declared(
    host: Host, other: Designator
) -> None:
    host.house.subsystem.group_delete("books")
    told = host.send(InRequest(InAction.CAPABILITIES, allocation_length=ROOM).encode())
    assert Capabilities.decode(told).group == 1
    asked = Parameters(0, designators=(other,))
    assert host.refused(*host.ask(OutAction.SAVE, asked))[0] == RIGHTS
    unknown = Parameters(0, designators=(Designator(b"6" * 16, 0),))
    assert host.refused(*host.ask(OutAction.SAVE, unknown))[0] == RIGHTS
    assert host.house.saves("journal") == host.house.saves() == []


def test_fields_of_several_volumes_are_checked(host: Host, other: Designator) -> None:
    again = Parameters(0, designators=(other, Designator(other.naa, 3)))
    assert host.refused(*host.ask(OutAction.SAVE, again)) == (LIST, 72 + 24 + 16)
    recover = Parameters(1, designators=(other,))  # of which save?
    assert host.refused(*host.ask(OutAction.RECOVER, recover)) == (LIST, 72 + 16)
    assert host.refused(*host.ask(OutAction.SWAP, recover)) == (LIST, 72 + 16)
    resync = Parameters(1, designators=(Designator(other.naa, 1),))
    assert host.refused(*host.ask(OutAction.RESYNC, resync)) == (LIST, 2)
    assert host.refused(*host.ask(OutAction.UNDO, resync)) == (LIST, 72 + 16)
    assert host.refused(*host.ask(OutAction.SAVE, Parameters(0, deadline_ms=5))) == (LIST, 4)
    host.house.engine.late.add(host.house.handle("journal"))
    late = Parameters(0, designators=(other,), deadline_ms=5)
    assert host.refused(*host.ask(OutAction.SAVE, late))[0] == BUSY
    assert host.house.saves() == []
