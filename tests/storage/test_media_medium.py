"""A medium on real files and loop devices: exclusive, durable, and its trailer outlives a kill."""

import os
import signal
import subprocess
import sys
import threading
import time
import zlib

import pytest
from msgspec.structs import asdict

from targetplugin.errors import Reason, Refused
from targetplugin.media import device
from targetplugin.media.layout import BLOCK, Area, layout
from targetplugin.media.medium import Medium
from targetplugin.media.trailer import Role, decode, encode
from tests.storage.conftest import run

SIZE = 64 << 20


@pytest.fixture(params=["file", "loop"])
def path(request, tmp_path):
    """An empty file or loop device of 64 MiB."""
    if request.param == "loop":
        return request.getfixturevalue("loop")(SIZE)
    return request.getfixturevalue("image")(size=SIZE)


def refused(reason, function, *args, **kwargs):
    with pytest.raises(Refused) as caught:
        function(*args, **kwargs)
    assert caught.value.reason is reason
    return caught.value


def on_disk(path, offset, length):
    """What is on disk, past the page cache."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return os.pread(file.fileno(), length, offset)


def slot(area, number, tag, sequence, payload=b"\1"):
    """A map slot as the engine writes it (its bitmap and rounds parts)."""
    head = bytes([area, 1, 0, 0]) + number.to_bytes(4, "little") + tag.to_bytes(4, "little")
    rest = (head + sequence.to_bytes(4, "little") + b"V" * 8).ljust(24, b"\0")
    rest += payload.ljust(4064, b"\0")
    crc = zlib.crc32(b"TPM1" + bytes(4) + rest)
    return b"TPM1" + crc.to_bytes(4, "little") + rest


# --- opening --------------------------------------------------------------------------------------


def test_a_disk_that_was_never_ours_opens_without_a_trailer(path):
    with Medium.open(path) as medium:
        assert medium.trailer is None
        assert medium.kind == ("block" if path.startswith("/dev/") else "file")
        assert medium.layout == layout(SIZE)
        assert (medium.capacity, medium.data_size) == (SIZE, 63 << 20)
        assert "media add" in refused(Reason.STATE, lambda: medium.uuid).hint


def test_nobody_else_opens_it_until_it_is_closed(path):
    medium = Medium.open(path)
    assert "fuser" in refused(Reason.BUSY, Medium.open, path).hint
    medium.close()
    medium.close()
    Medium.open(path).close()


def test_whoever_waits_gets_it_when_it_is_free(path):
    medium = Medium.open(path)
    threading.Timer(0.3, medium.close).start()
    start = time.monotonic()
    Medium.open(path, wait=10).close()
    assert 0.2 < time.monotonic() - start < 5


def test_it_is_opened_without_a_page_cache(path):
    with Medium.open(path) as medium, open(f"/proc/self/fdinfo/{medium.fd}") as info:
        flags = next(int(line.split()[1], 8) for line in info if line.startswith("flags"))
    assert flags & os.O_DIRECT
    assert flags & os.O_CLOEXEC


def test_a_file_system_without_o_direct_will_do(mounted):
    with mounted("-t", "ramfs", "none") as place:
        with Medium.create(str(place / "a"), 4 << 20) as medium:
            medium.write_trailer(medium.fresh_trailer())
        with Medium.open(str(place / "a")) as medium:
            assert medium.trailer.role is Role.FREE


def test_a_file_that_is_made_is_sparse_and_private(tmp_path):
    path = str(tmp_path / "new.img")
    with Medium.create(path, 1 << 30) as medium:
        assert medium.trailer is None
        medium.zero_trailer_room()
        medium.write_zeros(0, medium.data_size)
        medium.write_trailer(medium.fresh_trailer())
    status = os.stat(path)
    assert status.st_mode & 0o777 == 0o600
    assert status.st_size == 1 << 30
    assert status.st_blocks * 512 < 1 << 20
    refused(Reason.EXISTS, Medium.create, path, 1 << 30)
    refused(Reason.USAGE, Medium.create, str(tmp_path / "tiny"), 1000)
    assert not os.path.exists(tmp_path / "tiny")


def test_what_can_not_be_a_medium_is_refused(tmp_path, image):
    refused(Reason.NOT_FOUND, Medium.open, str(tmp_path / "none"))
    refused(Reason.USAGE, Medium.open, str(tmp_path))
    refused(Reason.USAGE, Medium.open, "/dev/null")
    refused(Reason.USAGE, Medium.open, image(size=100_000))
    refused(Reason.ENVIRONMENT, Medium.create, str(tmp_path / "no" / "folder"), SIZE)


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_device_s_logical_blocks_are_told(loop, sector):
    with Medium.open(loop(sector=sector)) as medium:
        assert medium.block_size == sector
        medium.zero_trailer_room()
        medium.write_trailer(medium.fresh_trailer())
        assert medium.spec().block_size == sector
        assert medium.read_records() == [bytes(4096)] * 2
        medium.write_zeros(0, 3 * sector)
        medium.write(sector, b"x" * sector)
        assert medium.read(0, 3 * sector) == bytes(sector) + b"x" * sector + bytes(sector)


def test_blocks_of_more_than_4096_bytes_are_refused(loop, monkeypatch):
    monkeypatch.setattr(device, "block_size", lambda fd: 16384)
    found = refused(Reason.USAGE, Medium.open, loop())
    assert "16384" in found.message
    assert "4096 bytes or fewer" in found.hint


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_file_has_the_blocks_of_the_disk_below_its_file_system(loop, mounted, sector):
    disk = loop(sector=sector)
    run("mkfs.ext4", "-q", "-b", "4096", disk)
    with mounted(disk) as place, Medium.create(str(place / "medium"), 8 << 20) as medium:
        assert medium.block_size == sector
        medium.write(sector, b"x" * sector)
        assert medium.read(0, 2 * sector) == bytes(sector) + b"x" * sector
        if sector == 4096:
            refused(Reason.ENVIRONMENT, medium.write, 0, b"x" * 512)


def test_a_read_only_device_is_refused(loop):
    path = loop()
    subprocess.run(["blockdev", "--setro", path], check=True)
    try:
        assert "setrw" in refused(Reason.ENVIRONMENT, Medium.open, path).hint
    finally:  # the flag outlives the loop device
        subprocess.run(["blockdev", "--setrw", path], check=True)


def test_a_mounted_disk_is_refused(loop, mounted):
    path = loop()
    subprocess.run(["mkfs.ext4", "-q", path], check=True)
    with mounted(path):
        refused(Reason.BUSY, Medium.open, path)


# --- trailer --------------------------------------------------------------------------------------


def test_an_identity_outlives_closing(path):
    with Medium.open(path) as medium:
        written = medium.write_trailer(medium.fresh_trailer())
        again = medium.write_trailer(
            type(written)(**{**asdict(written), "role": Role.LEG, "volume_name": "ledger"})
        )
        assert (written.sequence, again.sequence) == (1, 2)
    with Medium.open(path, uuid=written.uuid) as medium:
        assert medium.trailer == again
        assert medium.uuid == written.uuid


def test_both_copies_are_on_the_disk(path):
    with Medium.open(path) as medium:
        written = medium.write_trailer(medium.fresh_trailer())
    for offset in (SIZE - BLOCK, 63 << 20):
        assert decode(on_disk(path, offset, BLOCK)) == written


def test_another_medium_at_a_path_is_refused(path):
    with Medium.open(path) as medium:
        mine = medium.write_trailer(medium.fresh_trailer()).uuid
    error = refused(Reason.STATE, Medium.open, path, uuid=bytes(16))
    assert mine.hex() in error.message
    with Medium.open(path) as medium:
        medium.clear_trailer()
        assert medium.trailer is None
    assert "no medium" in refused(Reason.STATE, Medium.open, path, uuid=mine).message
    Medium.open(path).close()  # and it was given free each time


@pytest.mark.parametrize("copy", [0, 1])
def test_a_damaged_copy_is_repaired_from_the_other(path, copy):
    with Medium.open(path) as medium:
        written = medium.write_trailer(medium.fresh_trailer())
        medium.write(medium.layout.superblocks[copy], os.urandom(BLOCK))
    with Medium.open(path) as medium:
        assert medium.trailer == written
        place = medium.layout.superblocks[copy]
    assert decode(on_disk(path, place, BLOCK)) == written


@pytest.mark.parametrize("step", [0, 1])
def test_a_crash_between_the_copies_leaves_the_old_or_the_new(path, step, monkeypatch):
    with Medium.open(path) as medium:
        old = medium.write_trailer(medium.fresh_trailer())
        writes = []
        real = medium.write

        def write(offset, data):
            if len(writes) == step:
                raise KeyboardInterrupt
            writes.append(offset)
            real(offset, data)

        monkeypatch.setattr(medium, "write", write)
        with pytest.raises(KeyboardInterrupt):
            medium.write_trailer(old)
    with Medium.open(path) as medium:
        assert medium.trailer.sequence == old.sequence + step


def test_a_later_versions_trailer_is_left_alone(path):
    with Medium.open(path) as medium:
        newer = bytearray(encode(medium.fresh_trailer()))
        newer[12] = 2
        newer[8:12] = bytes(4)
        newer[8:12] = zlib.crc32(newer).to_bytes(4, "little")
        medium.write(medium.layout.superblocks[0], bytes(newer))
    refused(Reason.ENVIRONMENT, Medium.open, path)
    assert on_disk(path, SIZE - BLOCK, BLOCK) == newer
    assert on_disk(path, 63 << 20, BLOCK) == bytes(BLOCK)


def test_a_trailer_of_another_size_is_refused(image):
    path = image(size=SIZE)
    with Medium.open(path) as medium:
        trailer = medium.write_trailer(medium.fresh_trailer())
        wrong = encode(type(trailer)(**{**asdict(trailer), "capacity": 1, "sequence": 9}))
        medium.write(medium.layout.superblocks[0], wrong)
    assert "size" in refused(Reason.ENVIRONMENT, Medium.open, path).hint


WRITER = """
import sys
from targetplugin.media.medium import Medium
medium = Medium.open(sys.argv[1], wait=10)
trailer = medium.trailer or medium.fresh_trailer()
while True:
    trailer = medium.write_trailer(trailer)
    print(trailer.sequence, flush=True)
"""


def test_a_trailer_outlives_a_kill_at_any_time(path):
    for round_ in range(6):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True
        )
        for _ in range(5 + 7 * round_):
            assert child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        told = max(int(line) for line in child.stdout.read().split("\n")[:-1] or ["0"])
        child.wait()
        with Medium.open(path, wait=10) as medium:
            assert medium.trailer.sequence in (told, told + 1) if told else medium.trailer
            assert medium.read_trailer() == medium.trailer


# --- records and maps -----------------------------------------------------------------------------


def test_the_two_records_are_read_raw(path):
    with Medium.open(path) as medium:
        assert medium.read_records() == [bytes(BLOCK)] * 2
        medium.write(medium.layout.record_offset + BLOCK, b"\7" * BLOCK)
        assert medium.read_records() == [bytes(BLOCK), b"\7" * BLOCK]


def test_only_whole_map_slots_are_read_from_the_area_asked_for(path):
    pytest.importorskip("targetplugin.engine")
    with Medium.open(path) as medium:
        medium.zero_trailer_room()
        live, has = slot(0, 0, 4, 1), slot(4, 0, 3, 9)
        torn = slot(0, 0, 4, 2)[:2048] + bytes(2048)
        torn = torn[:100] + b"\5" + torn[101:]
        where = medium.layout.slot_offset
        medium.write(where(Area.LIVE_EVEN, 0, 0), live)
        medium.write(where(Area.LIVE_EVEN, 0, 1), torn)
        medium.write(where(Area.HAS, 0, 1), has)
        assert medium.read_map_slots() == [live, has]
        assert medium.read_map_slots(Area.LIVE_EVEN) == [live]
        assert medium.read_map_slots(Area.HAS) == [has]
        assert medium.read_map_slots(Area.MISSED) == []


def test_slots_beyond_a_small_volume_are_not_read(image):
    pytest.importorskip("targetplugin.engine")
    with Medium.open(image(size=1 << 30)) as medium:
        blocks = [slot(0, number, 4, 1) for number in range(medium.layout.slots)]
        for number, block in enumerate(blocks):
            medium.write(medium.layout.slot_offset(Area.LIVE_EVEN, number, 0), block)
        assert medium.read_map_slots(Area.LIVE_EVEN) == blocks
        assert medium.read_map_slots(slots=2) == blocks[:2]
        assert medium.read_map_slots(slots=10**6) == blocks


def test_the_engine_is_told_where_everything_lies(path):
    engine = pytest.importorskip("targetplugin.engine")
    with Medium.open(path) as medium:
        uuid = medium.write_trailer(medium.fresh_trailer()).uuid
        it = medium.layout
        assert medium.spec() == engine.MediumSpec(
            uuid, medium.fd, 63 << 20, it.record_offset, it.maps_offset, it.slots
        )


# --- zeros ----------------------------------------------------------------------------------------


def test_the_trailers_room_is_zeroed_and_nothing_else(path):
    with Medium.open(path) as medium:
        for at in range(60 << 20, SIZE, 1 << 20):
            medium.write(at, b"\xee" * (1 << 20))
        written = medium.write_trailer(medium.fresh_trailer())
        medium.zero_trailer_room()
        assert medium.read_trailer() == written
        start, end = medium.layout.record_offset, SIZE - BLOCK
    assert on_disk(path, start, end - start) == bytes(end - start)
    assert on_disk(path, 60 << 20, 3 << 20) == b"\xee" * (3 << 20)


def test_a_range_is_zeroed_to_the_byte(path):
    with Medium.open(path) as medium:
        medium.write(1 << 20, b"\xee" * (4 << 20))
        told = []
        medium.write_zeros((1 << 20) + 512, (3 << 20) - 1024, told.append)
        assert told == [(3 << 20) - 1024]
    assert on_disk(path, 1 << 20, 512) == b"\xee" * 512
    assert not any(on_disk(path, (1 << 20) + 512, (3 << 20) - 1024))
    assert on_disk(path, (4 << 20) - 512, 512) == b"\xee" * 512


def test_room_that_was_set_aside_stays_so(tmp_path):
    path = tmp_path / "full.img"
    with open(path, "wb") as file:
        file.write(b"\xee" * (16 << 20))
    before = os.stat(path).st_blocks
    with Medium.open(str(path)) as medium:
        medium.write_zeros(0, 16 << 20)
    assert not any(on_disk(path, 0, 16 << 20))
    assert os.stat(path).st_blocks >= before


def test_zeros_are_written_where_the_file_system_knows_no_other_way(mounted):
    with mounted("-t", "ramfs", "none") as place, Medium.create(str(place / "a"), 4 << 20) as one:
        one.write(0, b"\xee" * (3 << 20))
        one.write_zeros(BLOCK, (2 << 20) + 512)
        assert one.read(0, BLOCK) == b"\xee" * BLOCK
        assert not any(one.read(BLOCK, (2 << 20) + 512))
        assert any(one.read(BLOCK + (2 << 20) + 512, 512))


def test_a_full_disk_is_told_with_the_mediums_name(mounted):
    with mounted("-t", "tmpfs", "-o", "size=2m", "none") as place:
        path = str(place / "a")
        with Medium.create(path, 8 << 20) as medium:
            error = refused(Reason.ENVIRONMENT, medium.write, 0, bytes(3 << 20))
            assert "No space left" in error.message
            assert error.object == path
            assert error.hint


def test_reading_beyond_the_end_is_told(path):
    with Medium.open(path) as medium:
        refused(Reason.ENVIRONMENT, medium.read, SIZE - 512, 1024)
