"""What a daemon does by itself, at random: it empties the log when hosts are idle, ends cleanly, and
starts on disks that fail just then.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from tests.sim.disk import Disk
from tests.sim.oracle import FLUSH, Wrong

if TYPE_CHECKING:
    from tests.sim.world import World


class Daemon:
    """`cleaning`: a cleaning of its own is under way, beside any request."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.other = Random(~world.seed)
        self.cleaning = False

    def chores(self, draw: float) -> bool:
        """Does one, or none: then False."""
        if draw < 0.02 and not self.cleaning:
            self.cleaning = self.world.core.request("checkpoint", 0) == 0
            return True
        if draw > 0.995:
            return self.end()
        return False

    def end(self) -> bool:
        """A clean end, after which nothing is lost, not even by a power cut; and the next start."""
        world = self.world
        failures = world.failures
        if world.oracle.commands or world.verbs.request or not world.verbs.ask("close"):
            return False
        world.doom = 0
        closed = []
        world.verbs.on_close = closed.append
        world.run_until(lambda: world.verbs.request is None)
        power = world.random.random() < 0.5
        durable = closed == [0]
        if durable:
            world.oracle.unflushed.clear()
        before = set(world.verbs.legs_named("in_sync"))
        world.die(power)
        world.restart()
        if failures == world.failures and not world.any_broken():
            lost = before - set(world.verbs.legs_named("in_sync"))
            if lost:
                raise Wrong(f"after a clean end {lost} are not in sync")
        world.check_content(durable=power and durable)
        return True

    def leg_away(self) -> Disk | None:
        """A leg in sync that now and then is not there at one start, and is at the next. Of every fifth
        seed only, so that the histories of others stay what they are.

        Not within a request: its record may be on that leg alone, and the catalog, which takes up at
        the second start what it dropped at the first, is not modelled here.
        """
        world = self.world
        legs = [world.media[index] for index in world.verbs.legs("in_sync")]
        if world.seed % 5 != 3 or len(legs) < 2 or world.any_broken() or world.verbs.request:
            return None
        if self.other.random() > 0.2:
            return None
        away = self.other.choice(legs)
        away.broken = True
        world.say("away", away.name)
        world.count("leg away at one start")
        return away

    def slips_at_start(self, away: Disk | None) -> None:
        """Requests of a start fail, and hosts are there already. Some starts do not live to see the end.

        Where a leg's metadata has just been damaged, the other's may fail as well: no leg takes at
        once what one alone has. So it is where a leg is away: what hosts read then they read again,
        though the leg is there at the next start, and no record says that it was not.
        """
        world = self.world
        legs = [world.media[index] for index in world.verbs.legs("in_sync")]
        both = (world.flipped and world.random.random() < 0.7) or away is not None
        if both:
            for disk in legs:
                world.slip(disk)
        elif world.media:
            world.slip(world.random.choice([*world.media.values()]))
        for _ in range(world.random.randrange(10 if both else 30)):
            if world.random.random() < 0.3:
                world.host()
            if away and self.other.random() < 0.2:
                world.host(FLUSH)
            world.step_io()
        for disk in world.disks:
            disk.slips = 0
        if world.random.random() < (0.7 if both else 0.2):
            world.die(world.random.random() < 0.5)
            if away:
                world.come(away)  # as it was before: no start without it has told it so
            world.restart()
        world.run_until(lambda: not world.oracle.commands)
