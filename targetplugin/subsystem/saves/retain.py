"""Retain: saves that a volume's rules do not keep are released after a save, as by an operator.

Which those are is retention.py's; how a save is released is release.py's. A save that is whole makes its
volume due, in the same transaction (settle.py, transfers.py), so that a crash in between is made up
for. What could not go because it was in use goes when that is over; a hold that ends is no reason to
let a save go by itself, so what was held is looked at after the next save.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import datetime

from targetplugin import logs
from targetplugin.catalog import Retention, Save, Volume
from targetplugin.catalog.rows import text_of
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.ground.floor import Floor, save_name
from targetplugin.subsystem.ground.operations import Ask
from targetplugin.subsystem.ground.states import Activity, Fill, Verb
from targetplugin.subsystem.ground.states import Volume as VolumeState
from targetplugin.subsystem.ground.views import Shape, Views
from targetplugin.subsystem.saves.release import Saves
from targetplugin.subsystem.saves.retention import Candidate, Rules, Verdict, judge

log = logging.getLogger(__name__)
DOOR = "policy"
LOOK = 600.0  # seconds without anything changing until volumes that are due are looked at again
AGAIN = 60.0  # seconds after a release that failed


class Retain:
    """See the module."""

    def __init__(self, floor: Floor, views: Views, saves: Saves) -> None:
        self._floor = floor
        self._views = views
        self._saves = saves
        self._ended = False
        self._not_before: dict[bytes, float] = {}  # by time.monotonic()
        self._said = logs.Said()
        self._turn = threading.Lock()  # held while what is due is done
        self._thread = threading.Thread(target=self._run, name="retain", daemon=True)

    # --- the verb ----------------------------------------------------------------------------

    def retain(self, name: str, rules: Rules | None, off: bool, now: bool, preview: bool) -> Shape:
        """See Subsystem.retain; `rules`: None where none are given."""
        with self._floor.locked(self._floor.volume(name)) as volume:
            _check(volume, rules, off, now or preview)
            if preview:
                return self._shown(volume, rules or self._stored(volume))
            if now:
                self._check_up(volume)
            if off:
                self._off(volume)
            elif rules is not None:
                self._store(volume, rules)
            if now:
                return self._applied(volume, self._stored(volume))
            row = self._floor.catalog.retention_get(volume.uuid)
            return self._shown(volume, Rules(**row.rules) if row else None)

    def _stored(self, volume: Volume) -> Rules:
        """Raises Refused (STATE) where the volume has none."""
        row = self._floor.catalog.retention_get(volume.uuid)
        if row is None:
            raise Refused(
                Reason.STATE,
                f"{volume.name} has no rules: its saves are kept until someone releases them",
                object=volume.name,
                hint=f"set some, as in retain {volume.name} --last 3 --daily 7",
            )
        return Rules(**row.rules)

    def _off(self, volume: Volume) -> None:
        with self._floor.catalog.transaction():
            if self._floor.catalog.retention_get(volume.uuid) is not None:
                self._floor.catalog.retention_remove(volume.uuid)
                self._note("terminal", volume, "saves are kept until someone releases them")

    def _store(self, volume: Volume, rules: Rules) -> None:
        with self._floor.catalog.transaction():
            self._floor.catalog.retention_put(Retention(volume.uuid, rules.stored()))
            self._note("terminal", volume, f"of its saves are kept: {rules}")

    def _applied(self, volume: Volume, rules: Rules) -> Shape:
        shape = self._shown(volume, rules)
        refused = self._apply(volume, rules)
        failed = {one["name"] for one in refused}
        released = [one for one in shape["released"] if one["name"] not in failed]
        return {**shape, "released": released, "refused": refused, "done": True}

    def _shown(self, volume: Volume, rules: Rules | None) -> Shape:
        """{volume, rules, kept: [{name, label, created, why}], released: the same, refused, done},
        oldest first. Not `done`: released is what would be.
        """
        kept: list[Shape] = []
        released: list[Shape] = []
        for one in self._judge(volume, rules or Rules(last=1 << 30)):
            why = one.why if rules else one.candidate.fixed
            save = {
                "name": one.candidate.name,
                "label": one.candidate.label,
                "created": text_of(one.candidate.created),
                "why": list(why),
            }
            (kept if one.why or not rules else released).append(save)
        return {
            "volume": volume.name,
            "rules": rules.stored() if rules else None,
            "kept": kept,
            "released": released,
            "refused": [],
            "done": False,
        }

    # --- which may go ------------------------------------------------------------------------

    def _judge(self, volume: Volume, rules: Rules) -> list[Verdict]:
        # An undo save goes when a newer recover takes its own.
        saves = [save for save in self._floor.catalog.saves(volume.uuid) if not save.undo]
        return judge(rules, [self._candidate(volume, save) for save in saves])

    def _candidate(self, volume: Volume, save: Save) -> Candidate:
        fixed: list[str] = []
        activity = self._views.activity(volume, save)
        later = activity is not Activity.IDLE
        if save.origin != "host":
            fixed.append("it is a restored image")
        if until := self._views.held_until(save):
            fixed.append(f"it is held until {until}")
        if later:
            fixed.append(f"it is in use: {activity.value}")
        if self._views.fill(save) is Fill.FILLING:
            fixed.append("it still fills")
        fixed += [
            f"{self._floor.medium_name(uuid)}, which it is on, is missing"
            for uuid in save.media
            if uuid not in self._floor.media
        ]
        if not fixed:
            try:
                self._views.require(Verb.RELEASE, volume, save)
            except Refused as refused:
                fixed, later = [refused.message], refused.reason is Reason.BUSY
        whole = save.origin == "host" and self._views.fill(save) in (Fill.WHOLE, Fill.UNFILLED)
        created = datetime.fromisoformat(save.created)
        name = save_name(volume, save)
        return Candidate(name, created, save.label, whole, tuple(fixed), later)

    # --- letting them go ---------------------------------------------------------------------

    def _apply(self, volume: Volume, rules: Rules) -> list[Shape]:
        """Releases what nothing keeps, the oldest first; hold the volume's lock.

        Returns those of which the release was refused: {name, why}.
        """
        refused: list[Shape] = []
        for one in self._judge(volume, rules):
            if one.why:
                continue
            name = one.candidate.name
            try:
                self._saves.release(Ask("release", {"save": name}, DOOR), name, force=False)
            except Refused as error:
                refused.append({"name": name, "why": error.message})
                self._note(DOOR, volume, f"{name} could not be released: {error.message}")
                continue
            self._note(DOOR, volume, f"{name} was released: kept are {rules}")
        return refused

    def _check_up(self, volume: Volume) -> None:
        """Raises Refused (STATE) while a save may be all that is left of the volume."""
        if self._views.volume_state(volume) is VolumeState.DOWN or volume.uuid in self._floor.older:
            raise Refused(
                Reason.STATE,
                f"{volume.name} is down, or its media know more than the catalog: nothing is released",
                object=volume.name,
                hint="status shows what is missing; or release the saves one by one",
            )

    def _note(self, door: str, volume: Volume, what: str) -> None:
        self._floor.catalog.event_add(door, "", f"{volume.name}: {what}")

    # --- by itself ---------------------------------------------------------------------------

    def start(self) -> None:
        """Begins to look; volumes are up."""
        self._thread.start()

    def stop(self) -> None:
        self._ended = True
        self._floor.tell()
        if self._thread.is_alive():
            self._thread.join()

    def settled(self) -> None:
        """Waits until what is due now was looked at."""
        self._look()

    def _run(self) -> None:
        while True:
            seen = self._floor.told  # before the look, so that no change and no end is missed
            if self._ended:
                return
            try:
                self._look()
            except Exception:
                log.exception("what is due could not be looked at")
            self._floor.wait_told(seen, LOOK)

    def _look(self) -> None:
        with self._turn:
            for uuid in [] if self._ended else self._floor.catalog.retentions_due():
                if time.monotonic() < self._not_before.get(uuid, 0.0):
                    continue
                try:
                    done = self._apply_due(uuid)
                except Refused as error:
                    if self._said.new(uuid, error.message):
                        text = "saves could not be released: %s"
                        log.error(text, error.message, extra=logs.came_from(error))
                    done = False
                if done:
                    self._said.forget(uuid)
                else:
                    self._not_before[uuid] = time.monotonic() + AGAIN

    def _apply_due(self, uuid: bytes) -> bool:
        """False: something failed, and is to be tried again later."""
        with self._floor.runtime(uuid).lock:
            volume = self._floor.catalog.volume_get(uuid)
            row = self._floor.catalog.retention_get(uuid)
            if volume is None or volume.details.get("creating") or row is None or not row.due:
                return True
            with logs.about(volume=volume.name, door=DOOR):
                self._check_up(volume)
                rules = Rules(**row.rules)
                if self._apply(volume, rules):
                    return False
                if not any(map(_waits, self._judge(volume, rules))):
                    self._floor.catalog.retention_due(uuid, False)
                return True


def _waits(one: Verdict) -> bool:
    """Whether a save would go if it were not in use just now."""
    return one.candidate.later and one.why == one.candidate.fixed and len(one.why) == 1


def _check(volume: Volume, rules: Rules | None, off: bool, other: bool) -> None:
    """Raises Refused (USAGE)."""
    why = ""
    if off and (rules is not None or other):
        why = "rules are either set or taken away"
    elif rules is not None and not rules:
        why = "a rule that keeps the newest saves is needed"
    if why:
        raise Refused(
            Reason.USAGE,
            f"what {volume.name} keeps its saves for can't be set so: {why}",
            object=volume.name,
            hint=f"say for example retain {volume.name} --last 3, or retain {volume.name} --off",
        )
