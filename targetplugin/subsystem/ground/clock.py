"""The machine's clocks, and when a hold is over by them. Knows no save.

A date alone would let whoever sets the clock forward, a wrong time server included, end every hold.
So a hold ends when two clocks say so: the date has come, and the seconds that were to go have been
counted (CLOCK_BOOTTIME: nobody can set it, and it counts while the machine sleeps). A clock that is
set back makes a hold longer, never shorter. A count does not outlive a reboot: from then on what is
left by the date is counted anew, never more than was left before; so a clock that is wrong when the
machine boots, and ahead, is the one thing that ends a hold early.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from targetplugin.catalog import Hold
from targetplugin.catalog.rows import text_of

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
SAME = 60.0  # seconds that two clocks may differ in a month, and that nobody is told of


class Clock:
    """The real ones."""

    def __init__(self) -> None:
        with open(_BOOT_ID) as file:
            self._boot = file.read().strip()

    def date(self) -> datetime:
        """The date, which anyone may set."""
        return datetime.now(UTC)

    def boot(self) -> str:
        """Which run of the machine's kernel this is."""
        return self._boot

    def counted(self) -> float:
        """Seconds since it booted, asleep or not."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)


def held(clock: Clock, volume: bytes, generation: int, until: datetime) -> Hold:
    """A hold from now until a date that is to come."""
    remaining = (until - clock.date()).total_seconds()
    text = text_of(until)
    return Hold(volume, generation, text, remaining, clock.boot(), clock.counted())


def end(clock: Clock, hold: Hold) -> datetime | None:
    """When a hold is over, by the present date; None: it is."""
    now, until = clock.date(), datetime.fromisoformat(hold.until)
    left = 0.0
    if hold.boot == clock.boot():
        left = hold.remaining - (clock.counted() - hold.counted_from)
    if left <= 0 and now >= until:
        return None
    counted = now + timedelta(seconds=left)
    return counted if now >= until or counted > until + timedelta(seconds=SAME) else until


def counted_anew(clock: Clock, hold: Hold) -> Hold:
    """The hold after a reboot, which the count did not outlive; the same hold if there was none."""
    if hold.boot == clock.boot():
        return hold
    until = datetime.fromisoformat(hold.until)
    left = min(hold.remaining, (until - clock.date()).total_seconds())
    left = max(0.0, left)
    return replace(hold, remaining=left, boot=clock.boot(), counted_from=clock.counted())
