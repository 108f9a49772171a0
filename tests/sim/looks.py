"""A host that looks at a whole save through a view: it reads what the save must hold, and whatever
it asks for, nothing is written.

Draws nothing at random, so that histories stay what they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from targetplugin.engine.core import Core
from tests.sim.disk import Disk
from tests.sim.oracle import Save, Wrong

if TYPE_CHECKING:
    from tests.sim.world import World

VIEW = b"a view of a save"
READ, WRITE, FLUSH, ZERO = 1, 2, 3, 4
ACT_READ, ACT_ANSWER = 1, 5
GOOD, PROTECTED = 0, 4
EVERY = 5  # choices of a verb
STRIDE = 7919  # so that many places are looked at
BLOCKS = 24


def look(world: World, save: Save) -> None:
    """Raises Wrong where the view shows anything else, or asks for a write."""
    disks = [disk for disk in save.disks if not world.away(disk) and not disk.slips]
    if not disks:
        return
    core = Core(VIEW, world.size, 20)
    media: dict[int, Disk] = {}
    for disk in disks:
        at = core.attach(
            disk.uuid, disk.data_size, disk.record_offset, disk.maps_offset, disk.map_slots
        )
        media[at] = disk
    core.show()
    first = world.now * STRIDE % (world.oracle.blocks - BLOCKS)
    asked = {0: (READ, BLOCKS), 1: (WRITE, 1), 2: (ZERO, 1), 3: (FLUSH, 0)}
    for tag, (op, count) in asked.items():
        core.command(tag, op, first * world.block, count * world.block)
    answers: dict[int, int] = {}
    stamps: list[int | bytes] = []
    while actions := core.take():
        for action in actions:
            if action["kind"] == ACT_READ:
                stamps = media[action["medium"]].read(action["offset"], action["length"])
                core.completed(action["tag"], action["length"])
            elif action["kind"] == ACT_ANSWER:
                answers[action["number"]] = action["status"]
            else:
                raise Wrong(f"a view of save {save.generation} asks for more than a read")
    if answers != {0: GOOD, 1: PROTECTED, 2: PROTECTED, 3: GOOD}:
        raise Wrong(f"a view of save {save.generation} answers {answers}")
    for number, stamp in enumerate(stamps, first):
        if stamp not in save.content[number]:
            may = sorted(save.content[number])
            raise Wrong(f"save {save.generation} shows {stamp} in block {number}, may be {may}")
    world.count("look")
