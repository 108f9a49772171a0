"""The manual pages say what the parsers say, and are what man(1) can show."""

from __future__ import annotations

import gzip
import re
import subprocess
from pathlib import Path

import pytest

from tools.manual import Page, pages, quoted, text_of, write
from tools.reference import leaves

every_page = pytest.mark.parametrize("page", pages(), ids=lambda page: page.file)


def shown(text: str) -> str:
    """As man(1) shows it, on a wide screen, without the marks of a terminal."""
    command = ["mandoc", "-T", "utf8", "-O", "width=400"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return re.sub(".\b", "", done.stdout)


@every_page
def test_the_formatter_finds_nothing_wrong(page: Page) -> None:
    command = ["mandoc", "-T", "lint", "-W", "warning"]
    done = subprocess.run(command, input=text_of(page), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@every_page
def test_every_verb_and_every_option_is_there(page: Page) -> None:
    text = shown(text_of(page))
    for leaf in leaves(page.parser):
        if leaf is not page.parser:
            assert f"   {leaf.prog.removeprefix(page.parser.prog).strip()}\n" in text
        for option in leaf._option_string_actions:
            assert option in text or option == "--help", (leaf.prog, option)
    assert "EXIT STATUS" in text
    assert "/run/targetplugin/control.sock" in text


def test_text_is_never_taken_for_a_request() -> None:
    for text in (".TH is one", "'so is this", r"a \fBbackslash", "-- and ~ and ^"):
        assert text in shown(f".TH A 8 2026-01-01\n.SH NAME\na \\- b\n.SH B\n{quoted(text)}\n")


def test_a_page_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    first = write(tmp_path, pages()[0]).read_bytes()
    assert write(tmp_path, pages()[0]).read_bytes() == first
    assert gzip.decompress(first).decode() == text_of(pages()[0])
