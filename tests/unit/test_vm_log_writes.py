"""The log of Linux' log-writes target, as bytes made here: read and replayed up to any entry."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.vm.crash_points import Checker
from tests.vm.guest.stamper import block
from tests.vm.log_writes import MAGIC, SECTOR, Flag, Image, Log, replay


def entry(sector: int, count: int, flags: int, text: bytes = b"", data: bytes = b"") -> bytes:
    head = struct.pack("<QQQQ", sector, count, flags, len(text)) + text
    return head.ljust(SECTOR, b"\0") + data


def log(path: Path, *entries: bytes, magic: int = MAGIC, sector: int = SECTOR) -> Path:
    head = struct.pack("<QQQI", magic, 1, len(entries), sector).ljust(SECTOR, b"\0")
    path.write_bytes(head + b"".join(entries) + b"what an earlier log left".ljust(SECTOR))
    return path


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return log(
        tmp_path / "log",
        entry(0, 2, 0, data=b"a" * 1024),
        entry(0, 0, Flag.FLUSH),
        entry(1, 1, Flag.FUA, data=b"b" * 512),
        entry(0, 0, Flag.MARK, b"half-way\0"),
        entry(0, 1, Flag.DISCARD),
        entry(2, 1, 0, data=b"c" * 512),
    )


def test_entries_are_read_in_their_order(made: Path) -> None:
    with Log(made) as read:
        found = list(read.entries())
    assert [(e.offset, e.length) for e in found] == [
        (0, 1024), (0, 0), (512, 512), (0, 0), (0, 512), (1024, 512),
    ]  # fmt: skip
    assert [e.is_point for e in found] == [False, True, True, False, False, False]
    assert found[3].mark == "half-way"


@pytest.mark.parametrize(
    ("count", "content"),
    [(0, "..."), (1, "aa."), (2, "aa."), (3, "ab."), (4, "ab."), (5, ".b."), (6, ".bc")],
)
def test_a_replay_stops_anywhere(made: Path, tmp_path: Path, count: int, content: str) -> None:
    with Log(made) as read:
        replay(read, tmp_path / "image", 3 * SECTOR, count)
    image = (tmp_path / "image").read_bytes()
    assert image == b"".join(letter.encode() * SECTOR for letter in content).replace(b".", b"\0")


@pytest.mark.parametrize("other", [{"magic": 1}, {"sector": 4096}])
def test_what_is_no_such_log_is_refused(tmp_path: Path, other: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="no log"):
        Log(log(tmp_path / "log", **other))


@pytest.mark.parametrize(
    ("writes", "stands"),
    [
        ([9, "fua", 8], 9),
        ([9, "fua", "flush", 8], 9),
        ([9, "fua", "flush", "flush", 8], 8),
        ([9, "fua", 10], 10),
        ([9, 8], 8),
    ],
)
def test_of_two_writes_of_a_block_the_log_may_have_the_later_first(
    tmp_path: Path, writes: list[int | str], stands: int
) -> None:
    """Linux logs a write with FUA when it ends, and one without at the next flush."""
    size, data = 72 << 20, 64 << 20
    entries = []
    for what, after in zip(writes, [*writes[1:], ""], strict=True):
        if isinstance(what, int):
            flags = Flag.FUA if after == "fua" else 0
            entries.append(entry(40, 8, flags, data=block(5, what)))
        elif what == "flush":
            entries.append(entry(0, 0, Flag.FLUSH))
    checker = Checker(Image(tmp_path / "image", size), size, data, {})
    with Log(log(tmp_path / "log", *entries)) as read:
        checker.run(read)
    assert checker.stamps[5] == stands
