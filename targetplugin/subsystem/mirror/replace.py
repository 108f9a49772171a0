"""When a leg is replaced by a spare by itself: where the volume's policy says so, and after a grace
time in which the leg could have come back.

Decides when; legs.py does it. Since when a leg is lost stands in the catalog, and so survives a
restart.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from targetplugin import logs
from targetplugin.catalog import Volume
from targetplugin.errors import Refused
from targetplugin.subsystem.ground.floor import Floor
from targetplugin.subsystem.ground.views import REPLACE_AFTER, now
from targetplugin.subsystem.mirror.legs import Legs

log = logging.getLogger(__name__)
SEEN = (
    30.0  # seconds at most that this daemon itself must have missed it: disks come late at a boot
)
LOOK = 5.0  # seconds between two looks while a leg is out
OUT = ("stale", "missing")

Tell = Callable[[Volume, str, str], None]  # volume, what happened, in a word and in full


class Replace:
    """See the module.

    Args:
        tell: is told what users should know: a leg was replaced, or there is no spare.
        clock: seconds, never set back.
    """

    def __init__(
        self, floor: Floor, legs: Legs, tell: Tell, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._floor = floor
        self._legs = legs
        self._tell = tell
        self._clock = clock
        self._seen: dict[tuple[bytes, bytes], float] = {}  # (volume, leg): missed here since
        self._said = logs.Said()
        self._told: set[tuple[bytes, bytes]] = (
            set()
        )  # those of which it was told that no spare is there
        self._wake = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="replace", daemon=True)

    def start(self) -> None:
        self._wake.set()
        self._thread.start()

    def stop(self) -> None:
        self._ended = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()

    def wake(self) -> None:
        """A leg was lost, or a policy has changed."""
        self._wake.set()

    def _run(self) -> None:
        waits = False
        while True:
            self._wake.wait(LOOK if waits else None)
            if self._ended:
                return
            self._wake.clear()
            try:
                waits = self.look()
                self._said.forget("look")
            except Refused as refused:  # the catalog takes nothing
                waits = True
                if self._said.new("look", refused.message):
                    text = "legs that failed can't be looked after now: %s"
                    log.error(text, refused.message, extra=logs.came_from(refused))
            except Exception:
                log.exception("legs that failed could not be looked after")
                waits = True

    def look(self) -> bool:
        """Replaces what is due. True while a leg is out that may be replaced later."""
        waits = False
        for volume in self._floor.catalog.volumes():
            if not volume.details.get("creating"):
                with self._floor.runtime(volume.uuid).lock, logs.about(volume=volume.name):
                    waits = self._look_after(volume.uuid) or waits
        return waits

    def _look_after(self, uuid: bytes) -> bool:
        volume = self._floor.catalog.volume_get(uuid)
        status = self._floor.status(volume) if volume else None
        if volume is None or status is None or status["failed"]:
            return False
        states = {
            leg.medium: status["legs"].get(leg.medium, {}).get("state", "missing")
            for leg in self._floor.catalog.legs(uuid)
        }
        out = [leg for leg, state in states.items() if state in OUT]
        self._note(volume, out, [leg for leg, state in states.items() if state == "in_sync"])
        if not out or not volume.details.get("replace_failed"):
            return False
        volume = self._floor.catalog.volume_get(uuid) or volume
        self._legs.let_go_replaced(volume)  # where that could not be written down before
        there = [leg.medium for leg in self._floor.catalog.legs(uuid)]
        for leg in out:
            if leg in there and self._is_due(volume, leg):
                self._replace(volume, leg)
        return True

    def _note(self, volume: Volume, out: list[bytes], in_sync: list[bytes]) -> None:
        """Since when legs are out. One that comes back and fails again before it is in sync is out
        all the time.
        """
        lost: dict[str, Any] = dict(volume.details.get("lost", {}))
        legs = [leg.medium.hex() for leg in self._floor.catalog.legs(volume.uuid)]
        before = dict(lost)
        lost = {k: v for k, v in lost.items() if k in legs and bytes.fromhex(k) not in in_sync}
        for leg in out:
            lost.setdefault(leg.hex(), now())
            self._seen.setdefault((volume.uuid, leg), self._clock())
        for key in [k for k in self._seen if k[0] == volume.uuid and k[1].hex() not in lost]:
            del self._seen[key]
            self._told.discard(key)
            self._said.forget(key)
        if lost != before:
            details = {**volume.details, "lost": lost}
            self._floor.catalog.volume_set(volume.uuid, details=details)

    def _is_due(self, volume: Volume, leg: bytes) -> bool:
        after = int(volume.details.get("replace_after", REPLACE_AFTER))
        since = volume.details.get("lost", {}).get(leg.hex())
        if since is None:
            return False
        seen = self._clock() - self._seen[volume.uuid, leg]
        passed = datetime.fromisoformat(now()) - datetime.fromisoformat(since)
        return bool(seen >= min(after, SEEN) and max(seen, passed.total_seconds()) >= after)

    def _replace(self, volume: Volume, leg: bytes) -> None:
        name = self._floor.medium_name(leg)
        key = (volume.uuid, leg)
        try:
            done = self._legs.replace(volume, leg)
        except Refused as error:
            new = self._said.new(key, error.message)
            if key in self._told and new:
                log.warning("%s of %s is not replaced: %s", name, volume.name, error.message)
            if key not in self._told:
                self._told.add(key)
                text = f"{name} failed and is not replaced: {error.message}"
                self._tell(volume, "leg_not_replaced", text)
            return
        self._tell(volume, "leg_replaced", f"{name} failed and is replaced by {done['medium']}")
