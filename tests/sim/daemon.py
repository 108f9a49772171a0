"""What a daemon does by itself, at random: it empties the log when hosts are idle, ends cleanly, and
starts on disks that fail just then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sim.oracle import Wrong

if TYPE_CHECKING:
    from tests.sim.world import World


class Daemon:
    """`cleaning`: a cleaning of its own is under way, beside any request."""

    def __init__(self, world: World) -> None:
        self.world = world
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

    def slips_at_start(self) -> None:
        """Requests of a start fail, and hosts are there already."""
        world = self.world
        if world.media:
            world.slip(world.random.choice([*world.media.values()]))
        for _ in range(world.random.randrange(30)):
            if world.random.random() < 0.3:
                world.host()
            world.step_io()
        for disk in world.disks:
            disk.slips = 0
        world.run_until(lambda: not world.oracle.commands)
