"""A core on modelled disks whose actions a test performs by hand, in the order that it wants.

Decides nothing: what is not asked for stays under way. The simulator does the same at random.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from targetplugin.engine import LegState, Record, decode_record
from targetplugin.engine.core import Core
from tests.sim.disk import Disk
from tests.sim.sparse import StoreDisk

VOLUME = b"volume in steps."
EXTENT = 65536
READ, WRITE, FLUSH, ZERO = 1, 2, 3, 4
ACT_READ, ACT_WRITE, ACT_FLUSH, ACT_ZERO, ACT_ANSWER, ACT_DONE, ACT_EVENT = range(1, 8)
ACT_GIVE = 9
HOST, COPY, META = 1, 2, 3
LEG_STALE, LEG_IN_SYNC, SAVE_WHOLE, SAVE_BROKEN, RECOVERED, RECOVER_FAILED = range(1, 7)
SPARSE_LOST, STORE_LOW, STORE_BROKEN = 12, 13, 14
PAGE = 2  # entries of a page of the store
EIO = -5

Action = dict[str, Any]
Where = Callable[[Action], bool]


class Steps:
    """One volume. `under_way` are the actions that were not performed yet, oldest first.

    Attributes:
        answers: status by host tag. done: status by request. events: (kind, medium) in order.
        given: what the last look was given.

    Args:
        groups: of slots on disk S, which is there for a store.
    """

    def __init__(
        self, legs: str, *, size: int = 8 << 20, disks: str = "ABCD", groups: int = 1
    ) -> None:
        self.size = size
        self.disks = {name: Disk(name, size, 1, 4096) for name in disks}
        self.disks["S"] = StoreDisk("S", groups, PAGE, EXTENT, 4096)
        self.boot(legs)
        self.finish()

    def boot(self, attached: str, record: bytes | None = None, slots: list[bytes] = []) -> None:  # noqa: B006
        self.core = Core(VOLUME, self.size, 16)
        self.core.store_page = PAGE
        self.media: dict[int, Disk] = {}
        for name in attached:
            self.attach(name)
        self.core.start(record, slots, same_content=True)
        self.under_way: list[Action] = []
        self.written: dict[int, int] = {}  # what each host tag writes
        self.read: dict[int, int] = {}  # what the first block of each host tag read
        self.copies: dict[int, list[int | bytes]] = {}
        self.answers: dict[int, int] = {}
        self.done: dict[int, int] = {}
        self.events: list[tuple[int, str]] = []
        self.given: list[int | bytes] = []
        self.take()

    def attach(self, name: str) -> int:
        disk = self.disks[name]
        index = self.core.attach(
            disk.uuid, disk.data_size, disk.record_offset, disk.maps_offset, disk.map_slots
        )
        self.media[index] = disk
        return int(index)

    def kill(self, attached: str) -> None:
        """The daemon dies, what was under way is lost, and the next one finds these disks."""
        block, record = self.newest(attached)
        named = [leg.uuid for leg in record.legs] + [save.uuid for save in record.saves]
        if record.recover and record.recover[0] not in named:
            named.append(record.recover[0])
        if record.store:
            named.append(record.store.uuid)
        out = [leg.uuid for leg in record.legs if leg.state is not LegState.IN_SYNC]
        there = {self.disks[name].uuid: name for name in attached}
        slots = [
            slot
            for uuid in named
            if uuid in there and uuid not in out
            for slot in self.disks[there[uuid]].slots()
        ]
        self.boot("".join(there[uuid] for uuid in named if uuid in there), block, slots)

    def newest(self, names: str) -> tuple[bytes, Record]:
        found = [
            ((record.events, record.sequence), block, record)
            for name in names
            for block in self.disks[name].records()
            if (record := decode_record(block))
        ]
        _, block, record = max(found, key=lambda entry: entry[0])
        return block, record

    # --- asking ---------------------------------------------------------------------------------

    def write(self, tag: int, extent: int, stamp: int, *, extents: int = 0) -> None:
        """A host writes a block at the start of an extent, or some whole extents."""
        self.written[tag] = stamp
        self.core.command(tag, WRITE, extent * EXTENT, extents * EXTENT or 4096)
        self.take()

    def ask(self, verb: str, number: int, **arguments: Any) -> int:
        self.asked = arguments  # a map must live until the request is done
        error = self.core.request(verb, number, op=number, **arguments)
        self.take()
        return int(error)

    # --- performing -------------------------------------------------------------------------------

    def take(self) -> None:
        for action in self.core.take():
            if action["kind"] <= ACT_ZERO:
                self.under_way.append(action)
            elif action["kind"] == ACT_GIVE:
                self.given = self.copies[action["number"]][: action["length"] // 4096]
                self.core.completed(action["tag"], 0)
                self.take()
            elif action["kind"] == ACT_ANSWER:
                self.answers[action["number"]] = action["status"]
            elif action["kind"] == ACT_DONE:
                self.done[action["number"]] = action["status"]
            else:
                disk = self.media.get(action["medium"])
                self.events.append((action["number"], disk.name if disk else ""))

    def perform(self, action: Action, result: int = 0) -> None:
        """Ends one action, well or with an error."""
        self.under_way.remove(action)
        disk = self.media[action["medium"]]
        if result == 0:
            if action["kind"] == ACT_FLUSH:
                disk.flush()
            elif action["kind"] == ACT_READ:
                values = disk.read(action["offset"], action["length"])
                if action["buffer"] == COPY:
                    at = action["buffer_offset"] // 4096
                    copy = self.copies.setdefault(action["number"], [0] * 256)
                    copy[at : at + len(values)] = values
                else:
                    assert isinstance(values[0], int)
                    self.read.setdefault(action["number"], values[0])
            else:
                disk.write(action["offset"], self.values(action), durable=action["durable"])
        self.core.completed(action["tag"], result)
        self.take()

    def values(self, action: Action) -> list[int | bytes]:
        if action["data"] is not None:
            return [action["data"]]
        count = action["length"] // 4096
        if action["buffer"] == COPY:
            at = action["buffer_offset"] // 4096
            return self.copies[action["number"]][at : at + count]
        return [self.written[action["number"]]] * count

    def find(self, where: Where) -> list[Action]:
        return [action for action in self.under_way if where(action)]

    def finish(self, where: Where = lambda action: True, result: int = 0) -> None:
        """Ends all actions that are so, and those that follow from them, until there are none."""
        while found := self.find(where):
            self.perform(found[0], result)

    # --- what an action is ----------------------------------------------------------------------

    def on(self, name: str) -> Where:
        return lambda action: self.media[action["medium"]].name == name

    def record(self, name: str) -> Where:
        at = self.disks[name].record_offset
        return lambda a: (
            self.on(name)(a) and a["kind"] == ACT_WRITE and at <= a["offset"] < at + 8192
        )

    def slot(self, name: str) -> Where:
        at = self.disks[name].maps_offset
        return lambda a: self.on(name)(a) and a["kind"] == ACT_WRITE and a["offset"] >= at

    def data(self, name: str, kind: int = ACT_WRITE) -> Where:
        size = self.disks[name].data_size
        return lambda a: self.on(name)(a) and a["kind"] == kind and a["offset"] < size

    def head(self) -> Where:
        """The store's."""
        return self.record("S")

    def page(self, action: Action) -> bool:
        """Of the store's entries."""
        disk = self.disks["S"]
        return self.data("S")(action) and disk.is_meta(action["offset"])

    def flush(self, name: str) -> Where:
        return lambda a: self.on(name)(a) and a["kind"] == ACT_FLUSH

    def block(self, name: str, extent: int) -> int | bytes:
        """What a disk has at the start of an extent."""
        return self.disks[name].view.get(extent * EXTENT, 0)


def either(*wheres: Where) -> Where:
    return lambda action: any(where(action) for where in wheres)


def neither(*wheres: Where) -> Where:
    return lambda action: not any(where(action) for where in wheres)
