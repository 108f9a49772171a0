"""How long a copy may take: from what was measured, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from targetplugin.catalog import Operation
from targetplugin.subsystem.ground import rates
from tests.unit.house import EXTENT, MIB, House


def a_copy(verb: str, size: int, seconds: float, **changed: Any) -> Operation:
    values = {
        "state": "done",
        "bytes_copied": size,
        "in_force": "2026-11-23T17:00:00.000Z",
        "ended": f"2026-11-23T17:00:{seconds:06.3f}Z",
        **changed,
    }
    return Operation(1, verb, **values)


def test_an_estimate_is_the_size_by_the_middle_rate_of_the_last_copies() -> None:
    rows = [a_copy("recover", 10 * MIB, seconds) for seconds in (1, 2, 50)]
    assert rates.estimate(rows, "recover", 20 * MIB) == {
        "seconds": 4.0,
        "rate": 5 * MIB,
        "copies": 3,
        "verb": "recover",
    }


def test_only_the_newest_count() -> None:
    rows = [a_copy("recover", MIB, 1)] * 5 + [a_copy("recover", 100 * MIB, 1)] * 50
    found = rates.estimate(rows, "recover", MIB)
    assert found is not None
    assert (found["seconds"], found["copies"]) == (1.0, 5)


def test_what_is_most_alike_is_asked_first() -> None:
    rows = [a_copy("save", 80 * MIB, 1), a_copy("resync", 40 * MIB, 1)]
    for verb in ("recover", "resync"):
        found = rates.estimate(rows, verb, 80 * MIB)
        assert found is not None
        assert (found["verb"], found["seconds"]) == ("resync", 2.0)


@pytest.mark.parametrize(
    "row",
    [
        a_copy("recover", 0, 1),
        a_copy("recover", MIB, 0.001),
        a_copy("recover", MIB, 1, state="running", ended=None),
        a_copy("recover", MIB, 1, state="aborted"),
        a_copy("recover", MIB, 1, in_force=None),
        a_copy("recover", MIB, 1, prepared={rates.INTERRUPTED: True}),
        a_copy("recover", MIB, 1, in_force="2026-11-23T18:00:00.000Z"),  # the clock was set back
        a_copy("restore", MIB, 1),
        a_copy("swap", MIB, 1),
    ],
)
def test_what_measures_nothing_gives_no_estimate(row: Operation) -> None:
    assert rates.estimate([row], "recover", MIB) is None


def measured(house: House, seconds: int) -> None:
    """The last operation's row as if its copy had taken so long."""
    row = house.catalog.operations(limit=1)[0]
    house.catalog.operation_set(
        row.id,
        in_force="2026-11-23T17:00:00.000Z",
        ended=f"2026-11-23T17:00:{seconds:02d}.000Z",
    )


def test_a_preview_tells_how_much_is_copied_and_how_long_if_that_was_measured(
    house: House,
) -> None:
    house.subsystem.save("ledger")
    house.write(3, "y")
    made = house.subsystem.recover("ledger", preview=True)
    assert (made["bytes"], made["operation"]["bytes_total"]) == (EXTENT, EXTENT)
    assert made["estimate"] is None
    house.subsystem.recover("ledger", no_undo=True)
    house.finish()
    measured(house, 2)
    for extent in (3, 4, 5):
        house.write(extent, "z")
    for verb in (house.subsystem.recover, house.subsystem.resync):
        made = verb("ledger", preview=True)
        assert made["operation"]["extents_changed"] == 3
        assert made["estimate"] == {
            "seconds": 6.0,
            "rate": EXTENT // 2,
            "copies": 1,
            "verb": "recover",
        }


def test_another_volume_s_copies_say_nothing(house: House) -> None:
    house.volume("notes", size=2 * MIB, mirror=1)
    house.subsystem.save("ledger")
    house.write(3, "y")
    house.subsystem.recover("ledger", no_undo=True)
    house.finish()
    measured(house, 2)
    house.subsystem.save("notes")
    house.finish()
    measured(house, 0)
    house.write(3, "y", "notes")
    assert house.subsystem.recover("notes", preview=True)["estimate"] is None


def test_a_recover_during_which_the_daemon_was_away_is_no_measure(house: House) -> None:
    house.subsystem.save("ledger")
    house.write(3, "y")
    house.engine.hold_copies = True
    house.subsystem.recover("ledger", no_undo=True)
    house.restart()
    house.finish()
    measured(house, 2)
    house.write(3, "z")
    assert house.subsystem.operations()[0]["state"] == "done"
    assert house.subsystem.recover("ledger", preview=True)["estimate"] is None
