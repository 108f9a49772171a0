"""A volume that grows between two runs of the daemon: its new part is zeros on all disks, and in none of its
maps, whatever it was doing when the daemon ended.

Of every ninth seed only, so that the histories of others stay what they are.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sim.world import World

CHANCE = 0.15  # that it has grown at a start


class Growth:
    """Disks have room for `most` bytes."""

    def __init__(self, world: World, most: int) -> None:
        self.world = world
        self.most = most
        self.random = Random(world.seed)
        self.grows = world.seed % 9 == 5

    def first(self) -> int:
        """Bytes of the volume at the beginning of the run; it may end in the midst of an extent."""
        if not self.grows:
            return self.most
        blocks = self.most // self.world.block
        return self.random.randrange(blocks // 4, blocks) * self.world.block

    def at_start(self) -> None:
        """The catalog says that it is larger, or not. A record says so when this start has written one."""
        world = self.world
        left = (self.most - world.size) // world.block
        if not self.grows or not left or self.random.random() > CHANCE:
            return
        more = left if self.random.random() < 0.1 else self.random.randrange(1, left // 3 + 2)
        world.size += more * world.block
        world.oracle.grow(more)
        world.count("grown")
        world.say("grown to", world.size)
