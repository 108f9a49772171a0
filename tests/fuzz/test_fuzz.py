"""A slice of the fuzzer's cases, new ones each time; and that it finds what is wrong."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.fuzz import model
from tests.fuzz.driver import Driver
from tests.fuzz.judge import NAMES, Wrong
from tests.fuzz.model import BLOCKS, Disk, Expected

SECONDS = float(os.environ.get("FUZZ_SECONDS", "10"))


@pytest.mark.parametrize("block", BLOCKS)
def test_no_command_breaks_the_engine(tmp_path: Path, block: int) -> None:
    seed = time.time_ns()
    driver = Driver(tmp_path, seed, block)
    try:
        done = driver.run(10_000_000, SECONDS)
    except Wrong as wrong:
        again = f"python3 -m tests.fuzz --seed {seed} --block-size {block}"
        raise AssertionError(f"{again}: {wrong}") from None
    finally:
        driver.close()
    assert done >= 64 * SECONDS
    good = {name for name, code in driver.counts if not code}
    missing = {NAMES[op, None] for op in model.NATIVE} - good
    assert not missing or done < 10_000, f"cases have no right {missing}"


@pytest.mark.parametrize("lie", ["answer", "content", "beyond"])
def test_it_finds_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str) -> None:
    if lie == "answer":
        monkeypatch.setattr(Disk, "expect", lambda *_: Expected(model.RANGE))
    driver = Driver(tmp_path, 7)
    try:
        if lie == "content":
            driver.disk.content[9 * driver.disk.block] ^= 1
        elif lie == "beyond":
            with (tmp_path / "b").open("r+b") as file:
                file.seek(len(driver.disk.content) + 17)
                file.write(b"x")
        with pytest.raises(Wrong):
            driver.run(2000 if lie == "answer" else 0)
    finally:
        driver.close()
