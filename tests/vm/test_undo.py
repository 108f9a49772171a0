"""A recover is taken back, under a host's load and by `pitcopy` with a file system on the disk."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .lab import Lab
from .ledger import Ledger, clean

MOUNT = "/mnt/undo"


@pytest.fixture(scope="module")
def ledger(booted_lab: Lab) -> Iterator[Ledger]:
    ledger = Ledger(booted_lab)
    yield ledger
    ledger.close()


def test_an_undo_under_load_gives_back_what_the_recover_replaced(ledger: Ledger) -> None:
    ledger.fill(0, 16)
    saved = ledger.checksum(0, 16)
    ledger.target("save", "ledger", "--label", "good")
    ledger.fill(4, 8)
    replaced = ledger.checksum(0, 16)
    load = ledger.lab.spawn("initiator", ledger.fio(6, verify=False))
    said = ledger.target("recover", "ledger@good")
    assert "back to it: targetplugin undo ledger" in said
    assert ledger.checksum(0, 16) == saved
    ledger.wait(lambda: ledger.operation("recover")["state"] == "done")
    ledger.target("undo", "ledger")
    assert ledger.checksum(0, 16) == replaced
    assert ledger.operation("undo")["seconds_in_force"] < 1
    clean(load.wait(60))
    ledger.wait(lambda: ledger.operation("undo")["state"] == "done")
    assert ledger.checksum(0, 16) == replaced
    ledger.tidy()


def test_pitcopy_undoes_a_recover_of_a_mounted_file_system(ledger: Ledger) -> None:
    ledger.initiator(
        f"mkfs.ext4 -q -F {ledger.disk} && mkdir -p {MOUNT} && mount {ledger.disk} {MOUNT}"
        f" && echo before > {MOUNT}/file && pitcopy save {ledger.disk} --label night"
        f" && echo after > {MOUNT}/file"
    )
    said = ledger.initiator(f"pitcopy recover {ledger.disk}")
    assert f"pitcopy undo {ledger.disk}" in said
    assert ledger.initiator(f"cat {MOUNT}/file").strip() == "before"
    ledger.initiator(f"pitcopy undo {ledger.disk}")
    assert ledger.initiator(f"cat {MOUNT}/file").strip() == "after"
    again = ledger.run(f"pitcopy undo {ledger.disk}")
    assert again.returncode == 1, "the one spare had the undo save that was taken back"
    assert "took no undo save" in again.stderr
    assert ledger.initiator(f"cat {MOUNT}/file").strip() == "after"
