"""Holds: a save that no verb and no host takes away before a time. See clock.py for when that is.

What a hold keeps from being done stands in the table of states; nothing else is decided here.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from msgspec import Struct

from targetplugin.catalog import Save, Volume
from targetplugin.catalog.rows import text_of
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.ground import clock
from targetplugin.subsystem.ground.floor import Floor, save_name
from targetplugin.subsystem.ground.operations import Operations
from targetplugin.subsystem.ground.states import Verb
from targetplugin.subsystem.ground.views import Shape, Views
from targetplugin.subsystem.mirror.settle import left_to_the_next_start
from targetplugin.subsystem.saves.stores import Stores

LONGEST = timedelta(days=36525)


class Hold(Struct, frozen=True):
    """For how many seconds from now, or until when: one of them."""

    seconds: int | None = None
    until: datetime | None = None

    def text(self) -> str:
        """As it was asked for: the same whenever it is asked again."""
        return f"{self.seconds} s" if self.until is None else text_of(self.until)


class Holds:
    """See the module."""

    def __init__(self, floor: Floor, views: Views, operations: Operations, stores: Stores) -> None:
        self._floor = floor
        self._views = views
        self._operations = operations
        self._stores = stores

    def count_anew(self) -> None:
        """At a start: what a reboot ended is counted on from now."""
        with left_to_the_next_start("how long saves are held"):
            for hold in self._floor.catalog.holds():
                again = clock.counted_anew(self._floor.clock, hold)
                if again != hold:
                    self._floor.catalog.hold_put(again)

    def hold(self, name: str, seconds: int | None, until: datetime | None, force: bool) -> Shape:
        """See Subsystem.hold."""
        with self._floor.runtime(self._floor.owner(name).uuid).lock:
            volume, save = self._floor.save(name)
            called = save_name(volume, save)
            ends = self.ends(called, seconds, until)
            self._views.require(Verb.HOLD, volume, save)
            self._operations.check_recorded(volume)
            now_ends = self._views.held_until(save)
            if now_ends and ends < datetime.fromisoformat(now_ends) and not force:
                raise _shorter(called, now_ends)
            row = clock.held(self._floor.clock, volume.uuid, save.generation, ends)
            with self._floor.catalog.transaction():
                self._floor.catalog.hold_put(row)
                self._note(volume, f"{called} is held until {row.until}{_instead(now_ends)}")
            self._stores.hold(volume, save)
            return {"save": self._views.save(volume, save)}

    def asked(self, called: str, hold: Hold | None) -> dict[str, str]:
        """What a save's operation is prepared with, that the save is held. Raises Refused (USAGE).

        Args:
            called: what is to be held, for who reads the refusal.
        """
        return {"hold": text_of(self.ends(called, hold.seconds, hold.until))} if hold else {}

    def ends(self, called: str, seconds: int | None, until: datetime | None) -> datetime:
        """When a hold from now is over. Raises Refused (USAGE)."""
        if (seconds is None) == (until is None):
            raise Refused(
                Reason.USAGE,
                f"how long {called} is to be held was not said once",
                object=called,
                hint="say for how long, or until when",
            )
        now = self._floor.clock.date()
        try:
            ends = until.astimezone(UTC) if until else now + timedelta(seconds=seconds or 0)
        except OverflowError:
            ends = now + 2 * LONGEST
        if not now < ends <= now + LONGEST:
            why = "is over already" if ends <= now else "is more than a hundred years away"
            raise Refused(
                Reason.USAGE,
                f"{called} can't be held until then: that {why}",
                object=called,
                hint=f"it is {text_of(now)} now",
            )
        return ends

    def unhold(self, name: str, force: bool) -> Shape:
        """See Subsystem.unhold."""
        with self._floor.runtime(self._floor.owner(name).uuid).lock:
            volume, save = self._floor.save(name)
            called = save_name(volume, save)
            now_ends = self._views.held_until(save)
            if now_ends and not force:
                raise _shorter(called, now_ends)
            with self._floor.catalog.transaction():
                self._floor.catalog.hold_remove(volume.uuid, save.generation)
                if now_ends:
                    self._note(volume, f"{called} is not held any more{_instead(now_ends)}")
            self._stores.hold(volume, save)
            return {"save": self._views.save(volume, save)}

    def all(self, name: str | None) -> list[Shape]:
        """See Subsystem.holds."""
        volumes = [self._floor.volume(name)] if name else self._floor.catalog.volumes()
        return [
            self._views.save(volume, save)
            for volume in volumes
            for save in self._floor.catalog.saves(volume.uuid)
            if self._views.held_until(save)
        ]

    def check_none(self, volume: Volume) -> None:
        """Raises Refused (STATE) where a save of the volume is held: not even --force loses it."""
        held = [s for s in self._floor.catalog.saves(volume.uuid) if self._views.held_until(s)]
        if held:
            told = ", ".join(self._told(volume, save) for save in held)
            raise Refused(
                Reason.STATE,
                f"{volume.name} can't be deleted: {told}",
                object=volume.name,
                hint=f"end the hold first: unhold {save_name(volume, held[0])} --force",
            )

    def _told(self, volume: Volume, save: Save) -> str:
        return f"{save_name(volume, save)} is held until {self._views.held_until(save)}"

    def _note(self, volume: Volume, what: str) -> None:
        self._floor.catalog.event_add("terminal", "", f"{volume.name}: {what}")


def _instead(before: str | None) -> str:
    return f" (it was held until {before})" if before else ""


def _shorter(called: str, until: str) -> Refused:
    return Refused(
        Reason.STATE,
        f"{called} is held until {until}, and that would end sooner",
        object=called,
        hint="a longer hold is always taken; to end it sooner, use --force",
    )
