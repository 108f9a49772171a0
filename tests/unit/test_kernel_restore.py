"""LIO's restore is waited for, and exports are made again after it."""

from __future__ import annotations

import threading

from targetplugin.kernel.restore import Keeper, parse_pending


def test_a_restore_that_runs_or_is_queued_is_pending() -> None:
    assert parse_pending("ActiveState=activating\n\nActiveState=inactive\n")
    assert parse_pending("ActiveState=inactive\nJob=57\n\nActiveState=inactive\n")
    assert parse_pending("ActiveState=inactive\n\nActiveState=deactivating\n")


def test_a_restore_that_is_done_or_not_installed_is_not_pending() -> None:
    assert not parse_pending("ActiveState=active\nJob=0\n\nActiveState=inactive\n")
    assert not parse_pending("")


class Exports:
    """Something to look after: counts the looks, and lets a test wait for them."""

    def __init__(self) -> None:
        self.restoring = False
        self.fails = 0
        self.looks = 0
        self.looked = threading.Semaphore(0)

    def pending(self) -> bool:
        return self.restoring

    def ensure(self) -> bool:
        self.looks += 1
        self.looked.release()
        if self.fails:
            self.fails -= 1
            raise OSError("the address is not there yet")
        return True


def test_exports_are_made_once_the_restore_is_over() -> None:
    exports = Exports()
    exports.restoring = True
    keeper = Keeper(exports.ensure, exports.pending, period=60, retry=0.01)
    keeper.start()
    assert not exports.looked.acquire(timeout=0.2)
    exports.restoring = False
    assert exports.looked.acquire(timeout=5)
    keeper.stop()
    assert exports.looks == 1


def test_a_failure_is_tried_again_and_a_success_is_left_alone() -> None:
    exports = Exports()
    exports.fails = 2
    keeper = Keeper(exports.ensure, exports.pending, period=60, retry=0.01)
    keeper.start()
    for _ in range(3):
        assert exports.looked.acquire(timeout=5)
    assert not exports.looked.acquire(timeout=0.2)
    keeper.stop()


def test_a_poke_has_a_look_at_once_but_not_in_the_midst_of_a_restore() -> None:
    exports = Exports()
    keeper = Keeper(exports.ensure, exports.pending, period=60, retry=0.01)
    keeper.start()
    assert exports.looked.acquire(timeout=5)
    exports.restoring = True
    keeper.poke()
    assert not exports.looked.acquire(timeout=0.2)
    exports.restoring = False
    assert exports.looked.acquire(timeout=5)
    keeper.stop()


def test_without_a_poke_exports_are_looked_at_now_and_then() -> None:
    exports = Exports()
    keeper = Keeper(exports.ensure, exports.pending, period=0.01, retry=60)
    keeper.start()
    for _ in range(3):
        assert exports.looked.acquire(timeout=5)
    keeper.stop()
