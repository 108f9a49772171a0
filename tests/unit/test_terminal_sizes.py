"""Sizes as they are typed and read."""

from __future__ import annotations

import argparse

import pytest

from targetplugin.terminal.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512M", 512 << 20),
        ("512MiB", 512 << 20),
        ("512mb", 512 << 20),
        ("1G", 1 << 30),
        ("1.5G", 3 << 29),
        ("65536", 65536),
        ("65536B", 65536),
        ("64 K", 65536),
        ("2P", 2 << 50),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "0", "-1", "1.5", "0.3K", "1e9", "5X", "0x10", "٣M"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"size|number"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (65536, "64 KiB"),
        (3 << 29, "1.5 GiB"),
        (1 << 40, "1 TiB"),
    ],
)
def test_a_size_is_written(size: int | None, text: str) -> None:
    assert format_size(size) == text
