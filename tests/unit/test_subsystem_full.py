"""A state directory that takes nothing: hosts are served all the same, and it is noted later."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from targetplugin.catalog.database import Database
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.points import transfers
from tests.unit.house import House


class Disk:
    """The one under the catalog."""

    full = False


@pytest.fixture
def disk(monkeypatch: Any) -> Disk:
    made = Disk()
    whole = Database.transaction

    @contextmanager
    def transaction(database: Database) -> Iterator[None]:
        if made.full:
            raise Refused(Reason.ENVIRONMENT, "the disk is full")
        with whole(database):
            yield

    monkeypatch.setattr(Database, "transaction", transaction)
    monkeypatch.setattr(transfers, "AGAIN", 0.05)
    return made


def test_a_leg_lost_meanwhile_is_looked_for_and_noted_when_there_is_room(
    house: House, disk: Disk, monkeypatch: Any
) -> None:
    looked_for = []
    monkeypatch.setattr(house.subsystem._comeback, "lost", lambda: looked_for.append(1))
    uuid = house.floor.medium_row("b").uuid
    house.engine.broken.add(uuid)
    disk.full = True
    house.write(3, "x")
    house.subsystem.settled()
    assert looked_for == [1]
    assert [leg["state"] for leg in house.show()["legs"]] == ["in_sync", "stale"]
    assert house.floor.catalog.medium_get(uuid).state != "stale"  # type: ignore[union-attr]
    with pytest.raises(Refused) as refused:
        house.subsystem.save("ledger", policy="copy")
    assert refused.value.message == "the disk is full"
    disk.full = False
    end = time.monotonic() + 10
    while house.floor.catalog.medium_get(uuid).state != "stale":  # type: ignore[union-attr]
        assert time.monotonic() < end
        time.sleep(0.01)
    house.engine.broken.clear()
    house.subsystem._comeback.look()
    house.finish()
    assert house.floor.catalog.medium_get(uuid).state == "in use"  # type: ignore[union-attr]
    assert house.on_medium("b", 3) == "x"


def test_a_leg_comes_back_meanwhile(house: House, disk: Disk) -> None:
    house.engine.broken.add(house.floor.medium_row("b").uuid)
    disk.full = True
    house.write(3, "x")
    house.subsystem.settled()
    house.engine.broken.clear()
    house.subsystem._comeback.look()
    house.finish()
    assert house.show()["state"] == "serving"
    assert house.on_medium("b", 3) == "x"
    disk.full = False


def test_a_daemon_that_starts_meanwhile_serves(house: House, disk: Disk) -> None:
    house.engine.broken.add(house.floor.medium_row("b").uuid)
    house.write(3, "x")
    house.subsystem.settled()
    disk.full = True
    house.kill()
    house.boot()
    assert house.show()["state"] != "down"
    assert house.read(3) == "x"
    disk.full = False
    house.restart()
    house.finish()
    house.subsystem._comeback.look()
    house.finish()
    assert house.show()["state"] == "serving"
    house.subsystem.save("ledger")
