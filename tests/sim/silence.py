"""Requests of a disk that was given up because it did not answer: for the core they have failed, but they end
late, at any later step, as long as the power is on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.sim.disk import Disk

if TYPE_CHECKING:
    from tests.sim.world import World

HOST, JOINED = 1, 4
TIMED_OUT = -110


class Silence:
    """`late`: (disk, what ends its request), in no order."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.late: list[tuple[Disk, dict[str, Any]]] = []
        self.refused: set[int] = set()  # media that get no requests any more

    def over(self, disk: Disk) -> bool:
        """Whether no request of the disk is left."""
        return all(other is not disk for other, _ in self.late)

    def give_up(self) -> bool:
        """Gives up a disk that is silent and has something to do. False where there is none, or nothing
        can stand in for it.
        """
        world = self.world
        waited = {
            action["medium"]
            for action in world.under_way
            if world.media[action["medium"]].silent_until > world.now
        }
        for medium in sorted(waited):
            if world.core.gave_up(medium):
                self.end(medium)
                return True
        return False

    def end(self, medium: int) -> None:
        """All its requests fail for the core."""
        world = self.world
        disk = world.media[medium]
        world.count("given up")
        world.say("given up", disk.name)
        self.refused.add(medium)
        mine = [action for action in world.under_way if action["medium"] == medium]
        world.under_way = [action for action in world.under_way if action["medium"] != medium]
        for action in mine:
            self.late.append((disk, self.what(action)))
            world.core.completed(action["tag"], TIMED_OUT)

    def what(self, action: dict[str, Any]) -> dict[str, Any]:
        """What the request does when it ends, and whether it uses a host's command's buffers."""
        world = self.world
        what = {"kind": action["kind"], "offset": action["offset"], "durable": action["durable"]}
        if world.is_write(action):
            what["values"] = world.values(action)
        if action["buffer"] in (HOST, JOINED):
            what["hosts"] = True
        return what

    def values(self, what: dict[str, Any]) -> list[int | bytes]:
        """What it writes. A process keeps the buffers of a host's command for it; the next one serves
        the ring anew, so that they may be another command's.
        """
        oracle = self.world.oracle
        if "anew" not in what or self.world.random.random() < 0.5:
            return list(what["values"])
        self.world.count("late and another's")
        oracle.stamp += 1
        return [oracle.stamp] * len(what["values"])

    def step(self) -> None:
        """One of them ends."""
        if self.late:
            self.land(self.world.random.randrange(len(self.late)))

    def settle(self, disk: Disk) -> None:
        """The disk answers again: all of its end."""
        while not self.over(disk):
            mine = [at for at, (other, _) in enumerate(self.late) if other is disk]
            self.land(self.world.random.choice(mine))

    def land(self, at: int) -> None:
        world = self.world
        disk, what = self.late.pop(at)
        world.count("late end")
        if disk.broken:
            return
        if "values" not in what:
            disk.flush()  # or a read
        elif world.random.random() < 0.2:
            disk.write_partly(what["offset"], self.values(what), world.random, power=False)
        else:
            disk.write(what["offset"], self.values(what), durable=what["durable"])

    def boot(self, attached: list[Disk]) -> None:
        """A process starts, with these disks: that it could open them says that all is over."""
        self.refused.clear()
        if self.world.fence:
            for disk in attached:
                self.settle(disk)
        for _, what in self.late:
            if "hosts" in what:
                what["anew"] = True

    def power_cut(self) -> None:
        self.late.clear()
