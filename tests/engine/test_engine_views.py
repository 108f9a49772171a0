"""A view: what media hold, shown as it is. Hosts read it, and nothing writes to a medium."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from targetplugin.engine import ViewSpec
from targetplugin.engine.core import Core
from targetplugin.errors import Refused
from tests.engine.conftest import SIZE, Rig
from tests.engine.fake_ring import FakeRing

VIEW = b"v" * 16
EXTENT = 65536
WRITE_PROTECTED = (0x07, 0x27, 0x00)
READ, WRITE, FLUSH, ZERO = 1, 2, 3, 4
ACT_READ, ACT_ANSWER, ACT_DONE = 1, 5, 6


class Shown:
    """A view on a rig's engine, with a ring of its own."""

    def __init__(self, rig: Rig, *media: str) -> None:
        self.rig = rig
        self.ring = FakeRing()
        specs = [rig.media[name] for name in media]
        self.handle = rig.engine.add_view(ViewSpec(VIEW, SIZE, specs))
        rig.engine.attach_ring(
            self.handle, self.ring.engine_fd, self.ring.length, map_fd=self.ring.map_fd
        )

    def end(self) -> None:
        self.rig.engine.remove_volume(self.handle)
        self.ring.close()


def pattern(seed: int) -> bytes:
    return bytes([seed]) * 4096 + os.urandom(EXTENT - 4096)


@pytest.fixture
def saved(rig: Rig) -> tuple[Rig, bytes]:
    """A volume on `a`, and its save on `b`, of which the first extent is told too."""
    rig.create("a", "b")
    old = pattern(1)
    assert rig.ring.write(0, old).status == 0
    rig.engine.save_split(rig.handle, [rig.media["b"].uuid], 1)
    assert rig.ring.write(0, pattern(2)).status == 0
    return rig, old


def file_of(rig: Rig, name: str) -> bytes:
    return (rig.folder / name).read_bytes()


def sense_of(sense: bytes) -> tuple[int, int, int]:
    return sense[2], sense[12], sense[13]


def test_a_view_reads_what_the_save_holds_while_the_volume_goes_on(
    saved: tuple[Rig, bytes],
) -> None:
    rig, old = saved
    before = file_of(rig, "b")
    view = Shown(rig, "b")
    assert view.ring.read(0, 128).data == old
    assert rig.ring.read(0, 128).data != old
    assert rig.ring.write(0, pattern(3)).status == 0
    assert view.ring.read(0, 128, pieces=3).data == old
    view.end()
    assert file_of(rig, "b") == before
    assert rig.ring.read(0, 1).status == 0


@pytest.mark.parametrize(
    ("cdb", "data"),
    [
        (struct.pack(">BBIBHB", 0x2A, 0, 0, 0, 8, 0), bytes(4096)),
        (struct.pack(">BBQIBB", 0x8A, 0, 0, 8, 0, 0), bytes(4096)),
        (struct.pack(">BBIIBB", 0xAA, 0, 0, 8, 0, 0), bytes(4096)),
        (bytes([0x0A, 0, 0, 0, 8, 0]), bytes(4096)),
        (struct.pack(">BBIBHB", 0x41, 8, 0, 0, 8, 0), bytes(512)),
        (struct.pack(">BBQIBB", 0x93, 8, 0, 8, 0, 0), bytes(512)),
        (
            struct.pack(">BBIBHB", 0x42, 0, 0, 0, 24, 0),
            struct.pack(">HHIQII", 22, 16, 0, 0, 8, 0),
        ),
    ],
    ids=["write10", "write16", "write12", "write6", "same10", "same16", "unmap"],
)
def test_whatever_would_change_a_view_is_refused_as_write_protected(
    saved: tuple[Rig, bytes], cdb: bytes, data: bytes
) -> None:
    rig, old = saved
    before = file_of(rig, "b")
    view = Shown(rig, "b")
    answer = view.ring.run(cdb, data)
    assert (answer.status, sense_of(answer.sense)) == (2, WRITE_PROTECTED)
    assert view.ring.read(0, 128).data == old
    assert not rig.commands  # Python had none of them
    view.end()
    assert file_of(rig, "b") == before


def test_a_views_cache_is_always_synchronized_and_python_answers_the_rest(
    saved: tuple[Rig, bytes],
) -> None:
    rig, _ = saved
    view = Shown(rig, "b")
    assert view.ring.run(struct.pack(">BBIBHB", 0x35, 0, 0, 0, 0, 0)).status == 0
    assert view.ring.run(bytes([0x12, 0, 0, 0, 64, 0]), data_in=64).data.startswith(b"answer to 12")
    assert rig.commands[-1].volume == view.handle
    view.end()


def test_a_save_is_recovered_from_while_it_is_shown(saved: tuple[Rig, bytes]) -> None:
    rig, old = saved
    view = Shown(rig, "b")
    rig.engine.recover(rig.handle, rig.media["b"], 1, bytes(SIZE // EXTENT // 8), 2)
    assert rig.ring.read(0, 128).data == old
    rig.wait_event("recovered", "b")
    rig.engine.detach_save(rig.handle, rig.media["b"].uuid)
    assert rig.ring.write(0, pattern(4)).status == 0
    assert view.ring.read(0, 128).data == old
    view.end()


def test_what_one_medium_cant_read_another_that_holds_the_same_gives(
    saved: tuple[Rig, bytes],
) -> None:
    rig, old = saved
    rig.medium("c")
    with (rig.folder / "c").open("r+b") as file:
        file.write(old)
    view = Shown(rig, "b", "c")
    os.truncate(rig.folder / "b", 0)
    try:
        for _ in range(4):
            assert view.ring.read(0, 128).data == old
    finally:
        os.truncate(rig.folder / "b", SIZE + (2 << 20))
    view.end()


def test_a_view_that_has_no_other_medium_tells_hosts_of_a_read_error(
    saved: tuple[Rig, bytes],
) -> None:
    rig, _ = saved
    view = Shown(rig, "b")
    os.truncate(rig.folder / "b", 0)
    answer = view.ring.read(0, 128)
    os.truncate(rig.folder / "b", SIZE + (2 << 20))
    assert (answer.status, sense_of(answer.sense)) == (2, (0x03, 0x11, 0x00))
    view.end()


def test_a_view_needs_a_medium_that_is_large_enough(rig: Rig, tmp_path: Path) -> None:
    rig.medium("a")
    with pytest.raises(Refused):
        rig.engine.add_view(ViewSpec(VIEW, 2 * SIZE, [rig.media["a"]]))
    with pytest.raises(Refused):
        rig.engine.add_view(ViewSpec(VIEW, SIZE, []))


# --- the core alone: what it asks for -----------------------------------------------------------


def core() -> Core:
    made = Core(VIEW, SIZE, 20)
    for name in (b"a", b"b"):
        made.attach(name * 16, SIZE, SIZE + 4096, SIZE + 65536, 1)
    made.show()
    return made


def test_a_views_core_asks_for_reads_and_for_nothing_else() -> None:
    one = core()
    assert one.started()
    assert one.take() == []  # no record, as a volume's start writes
    for op in (WRITE, ZERO, FLUSH):
        one.command(7, op, 0, 4096)
        (answer,) = one.take()
        assert answer["kind"] == ACT_ANSWER
        assert answer["status"] == (0 if op == FLUSH else 4)
    one.command(8, READ, 4096, 8192)
    (read,) = one.take()
    assert (read["kind"], read["offset"], read["length"]) == (ACT_READ, 4096, 8192)
    one.completed(read["tag"], -5)  # the other has it
    taken = {action["kind"]: action for action in one.take()}
    assert set(taken) == {ACT_READ, 7}  # an event says that a medium failed
    assert taken[ACT_READ]["medium"] != read["medium"]
    one.completed(taken[ACT_READ]["tag"], 8192)
    assert [a["kind"] for a in one.take()] == [ACT_ANSWER]
    assert one.request("close", 1) == 0
    assert [(a["kind"], a["status"]) for a in one.take()] == [(ACT_DONE, 0)]


@pytest.mark.parametrize("verb", ["split", "copy", "recover", "swap", "sync", "drop"])
def test_no_verb_of_a_volume_is_a_views(verb: str) -> None:
    one = core()
    assert one.request(verb, 1, medium=1, mask=1) < 0
    assert one.take() == []
