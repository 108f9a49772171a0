"""One run: a volume's core, its disks, hosts, verbs, faults and crashes at random, from a seed.

Every step draws from a generator of its own, so that a history can be shortened by leaving steps out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from random import Random
from typing import Any, cast

from targetplugin.engine.core import Core, decode_map_slot, decode_record
from targetplugin.engine.record import LegState, Record, SaveState
from tests.sim.daemon import Daemon
from tests.sim.disk import Disk
from tests.sim.growth import Growth
from tests.sim.held import Held
from tests.sim.oracle import FLUSH, READ, WRITE, Oracle, Wrong
from tests.sim.silence import TIMED_OUT, Silence
from tests.sim.sparse import Sparse
from tests.sim.verbs import Verbs

OPS = {READ: 1, WRITE: 2, FLUSH: 3, "unmap": 4}
ACT_READ, ACT_WRITE, ACT_FLUSH, ACT_ZERO, ACT_ANSWER, ACT_DONE, ACT_EVENT = range(1, 8)
ACT_COMPARE, ACT_GIVE = 8, 9
KINDS = {ACT_READ: "read", ACT_WRITE: "write", ACT_FLUSH: "flush", ACT_ZERO: "write"}
HOST, COPY, JOINED = 1, 2, 4
COPY_BYTES = 1 << 20
VOLUME = b"simulated volume"
CHECK = 100000  # the tag of reads after a start
AT_ONCE = 256  # blocks, then
SLOT_BITS = 32512
# Bytes of a block, of an extent as a shift, of the volume: of every eighth seed. One ends in the
# midst of an extent.
SHAPES = {7: (512, 16, (5 << 20) + 1536), 6: (4096, 12, 20 << 20), 2: (4096, 12, 20 << 20)}


def newest_slots(
    blocks: Iterable[tuple[int, bytes]], generation: int
) -> dict[int, tuple[int, int, bytes]]:
    """The map of what was written in a generation: slot -> its newest sequence, where that is, its bits."""
    newest: dict[int, tuple[int, int, bytes]] = {}
    for at, block in blocks:
        decoded = decode_map_slot(block)
        if decoded is None or (decoded[0], decoded[2]) != (generation % 2, generation):
            continue
        slot, sequence, payload = decoded[1], decoded[3], decoded[4]
        if slot not in newest or sequence > newest[slot][0]:
            newest[slot] = (sequence, at, payload)
    return newest


class World:
    """Runs steps from `seed`. Raises Wrong with the promise that was broken.

    Args:
        fence: whether a dead process's requests are over before the next one reads the media.
        newest: whether a start goes by the newest record, or by any.
        trace: is given each line of the history.
    """

    def __init__(
        self,
        seed: int,
        *,
        fence: bool = True,
        newest: bool = True,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.seed = seed
        self.fence = fence
        self.by_newest = newest
        self.trace = trace
        self.random = Random(seed)
        # Every eighth run is of sectors, and two of so many extents that a map's slot can be torn.
        self.block, self.shift, most = SHAPES.get(seed % 8, (4096, 16, 12 << 20))
        self.growth = Growth(self, most)
        self.size = self.growth.first()
        self.depth = self.random.choice([1, 4, 16, 64])
        self.crash_rate = self.random.choice([0.003, 0.01, 0.03])
        self.fault_rate = self.random.choice([0.0, 0.004, 0.015])
        per_extent = (1 << self.shift) // self.block
        self.oracle = Oracle(self.size // self.block, per_extent)
        # Of some the activity log is smaller than the volume.
        self.log_room = self.random.choice([2, 3, 848])
        slots = -(-most // (1 << self.shift) // SLOT_BITS)
        self.disks = [Disk(name, most, slots, self.block) for name in "ABCDE"]
        self.verbs = Verbs(self)
        self.daemon = Daemon(self)
        self.silence = Silence(self)
        self.held = Held(self)
        self.covered: Counter[str] = Counter()
        self.crashes = 0
        self.faults = 0  # of disks
        self.failures = 0  # of requests
        self.performed = self.failed_at = 0  # requests in all, and at the last that failed
        self.doom = 0  # a step at which a crash comes, for it is an interesting moment
        self.trouble = 0  # up to this step a fault is fresh, and a crash likely
        self.known_events = 0  # what the catalog was told last
        self.loud = False  # no disk may fall silent now
        self.flipped = False  # a bit, since the process died last
        self.now = 0
        self.late: list[tuple[Disk, int, list[int | bytes], bool]] = []  # of a dead process
        self.media: dict[int, Disk] = {}
        self.under_way: list[dict[str, Any]] = []
        self.sparse = Sparse(self)
        legs = self.disks[:2]
        if self.sparse.disk:
            self.disks.append(self.sparse.disk)
        self.boot(legs, None, [])

    def count(self, what: str) -> None:
        self.covered[what] += 1

    def interesting(self, chance: float = 0.15, steps: int = 8) -> None:
        """Something has just changed: now and then a crash follows within a few steps."""
        if not self.doom and self.random.random() < chance:
            self.doom = self.now + 1 + self.random.randrange(steps)

    def say(self, *words: Any) -> None:
        if self.trace:
            self.trace(f"{self.now} " + " ".join(str(word) for word in words))

    # --- starting -------------------------------------------------------------------------------

    def boot(self, attached: Iterable[Disk], record: bytes | None, slots: list[bytes]) -> None:
        self.core = Core(VOLUME, self.size, self.shift)
        self.core.log_room = self.log_room
        self.core.store_page = self.sparse.page
        self.media = {}
        attached = list(attached)
        self.silence.boot(attached)
        for disk in attached:
            index = self.core.attach(
                disk.uuid, disk.data_size, disk.record_offset, disk.maps_offset, disk.map_slots
            )
            self.media[index] = disk
        self.core.start(record, slots, same_content=True)
        self.under_way = []
        self.oracle.commands.clear()
        self.copies: dict[int, list[int | bytes]] = {}
        self.verbs.request = None
        self.held.forget()
        self.verbs.to_drop = []
        self.daemon.cleaning = False

    def newest(self) -> tuple[bytes, Record]:
        best: tuple[tuple[int, int], bytes, Record] | None = None
        for disk in self.disks:
            for block in [] if self.away(disk) else disk.records():
                record = decode_record(block)
                if record and record.volume == VOLUME:
                    key = (record.events, record.sequence)
                    if best is None or (key > best[0] and self.by_newest):
                        best = (key, block, record)
        if best is None:
            if not any(map(self.away, self.disks)):
                raise Wrong("no record is left")
            for disk in self.disks:  # a start is refused until they are back
                self.come(disk)
            return self.newest()
        return best[1], best[2]

    def restart(self) -> None:
        """As the daemon does it: the newest record, its legs' maps, the prepared operation finished
        or dropped.
        """
        request = self.verbs.request
        for disk in self.disks:
            if self.random.random() < 0.5:
                self.silence.settle(disk)  # the start waited for it
        block, record = self.newest()
        present = {disk.uuid: disk for disk in self.disks if not self.away(disk)}
        in_sync = [leg.uuid for leg in record.legs if leg.state is LegState.IN_SYNC]
        behind = record.events < self.known_events and any(map(self.away, self.disks))
        if behind or not any(uuid in present for uuid in in_sync):
            # The last leg in sync is gone for now, or the catalog knows of later events than the
            # media that are there: a start is refused, and the disks come back.
            for disk in self.disks:
                self.come(disk)
            self.restart()
            return
        named = [leg.uuid for leg in record.legs] + [save.uuid for save in record.saves]
        named += self.sparse.named(record)
        if record.recover and record.recover[0] not in named:
            named.append(record.recover[0])
        if record.recover and record.recover[0] not in present:
            disk = next(disk for disk in self.disks if disk.uuid == record.recover[0])
            self.come(disk)
            present[disk.uuid] = disk
        readable = in_sync + [save.uuid for save in record.saves] + self.sparse.named(record)
        slots = [block for uuid in readable if uuid in present for block in present[uuid].slots()]
        self.verbs.settle_at_start(request, record)
        if request is not None and record.op == request["op"]:
            # The map that was frozen lies on the old legs: after a swap they are no legs any more.
            self.verbs.finish_at_start(request, record.generation - 1, self.frozen_map(record))
        broken = [save.uuid for save in record.saves if save.state is SaveState.BROKEN]
        for save in self.oracle.saves.values():
            if not save.sparse and (not save.disks or save.disks[0].uuid in broken):
                save.state = "broken"
        self.growth.at_start()
        self.boot([present[uuid] for uuid in named if uuid in present], block, slots)
        self.verbs.drop_later(*(i for i, disk in self.media.items() if disk.uuid in broken))
        self.known_events = self.core.events
        self.sparse.settle(request)

    def frozen_map(self, record: Record) -> int:
        """Of the generation before: the bits that are marked on any disk."""
        marked = 0
        for disk in self.disks:
            if self.away(disk):
                continue
            blocks = disk.blocks(disk.maps_offset, 8 * disk.map_slots)
            for slot, (_, _, bits) in newest_slots(blocks, record.generation - 1).items():
                marked |= int.from_bytes(bits, "little") << slot * SLOT_BITS
        return marked

    # --- performing actions ---------------------------------------------------------------------

    def pump(self) -> None:
        again = False
        for action in self.core.take():
            kind = action["kind"]
            if self.trace:
                shown = {k: v for k, v in action.items() if v and k not in ("data", "kind")}
                self.say("act", KINDS.get(kind, kind), shown)
            if kind in KINDS:
                self.under_way.append(action)
            elif kind == ACT_ANSWER:
                self.answered(action["number"], action["status"])
            elif kind == ACT_DONE:
                self.verbs.done(action["number"], action["status"])
            elif kind == ACT_COMPARE:
                self.core.completed(action["tag"], self.compare(action))
                again = True
            elif kind == ACT_GIVE:
                self.sparse.given = self.copies[action["number"]][: action["length"] // self.block]
                self.core.completed(action["tag"], 0)
                again = True
            elif kind == ACT_EVENT:
                self.verbs.event(action["number"], action["medium"])
        if again:  # what takes no time
            self.pump()

    def compare(self, action: dict[str, Any]) -> int:
        """As the executor does it: the place of a byte that differs, from 1, in its block."""
        first = action["buffer_offset"] // self.block
        last = first + action["length"] // self.block
        one, other = (self.copies[action[name]][first:last] for name in ("number", "copy"))
        found = (
            at * self.block + 1 for at, (a, b) in enumerate(zip(one, other, strict=True)) if a != b
        )
        return next(found, 0)

    def perform(self, action: dict[str, Any]) -> None:
        disk = self.media[action["medium"]]
        kind = KINDS[action["kind"]]
        if action["medium"] in self.silence.refused:
            self.core.completed(action["tag"], TIMED_OUT)
            return
        result = disk.fault(kind, action["offset"])
        self.performed += 1
        if result:
            self.failed_at = self.performed
            self.count(f"{kind} fails")
            if disk is not self.sparse.disk or self.core.status()["recover"]:
                self.failures += 1  # else hosts know nothing of it
            if kind == "flush" and self.replaceable(disk):
                disk.flush_fails(self.random)
            if kind == "write" and not disk.broken:
                values = self.values(action)
                disk.write_partly(action["offset"], values, self.random, power=False)
        elif kind == "flush":
            disk.flush()
        elif kind == "read":
            values = disk.read(action["offset"], action["length"])
            if action["buffer"] == HOST:
                command = self.oracle.commands[action["number"]]
                at = action["buffer_offset"] // self.block
                command.stamps[at : at + len(values)] = cast(list[int], values)
            else:
                at = action["buffer_offset"] // self.block
                buffer = self.copies.setdefault(action["number"], [0] * (COPY_BYTES // self.block))
                buffer[at : at + len(values)] = values
        else:
            disk.write(action["offset"], self.values(action), durable=action["durable"])
        self.core.completed(action["tag"], result)

    def replaceable(self, disk: Disk) -> bool:
        """Whether it is not the only leg that is in sync: of that one nobody could have what it loses."""
        legs = self.core.status()["legs"]
        others = [u for u, leg in legs.items() if leg["state"] == "in_sync" and u != disk.uuid]
        return bool(others)

    def values(self, action: dict[str, Any]) -> list[int | bytes]:
        if action["data"] is not None:
            return [action["data"]]
        count = action["length"] // self.block
        if action["kind"] == ACT_ZERO and action["buffer"] == COPY:
            return [0] * count
        if action["buffer"] == COPY:
            at = action["buffer_offset"] // self.block
            return self.copies[action["number"]][at : at + count]
        if action["buffer"] == JOINED:
            return self.joined(action)
        at = action["buffer_offset"] // self.block
        return list(self.oracle.commands[action["number"]].stamps[at : at + count])

    def joined(self, action: dict[str, Any]) -> list[int | bytes]:
        """A host's data between what was read of a save for it."""
        host: list[int | bytes] = [*self.oracle.commands[action["number"]].stamps]
        copied = self.copies.get(action["copy"], [])  # none where it writes whole extents
        tail = action["tail_at"] // self.block
        return (
            copied[: action["head"] // self.block]
            + host
            + copied[tail : tail + action["tail"] // self.block]
        )

    # --- hosts ----------------------------------------------------------------------------------

    def host(self, op: str = "") -> None:
        tag = next((t for t in range(self.depth) if t not in self.oracle.commands), None)
        if tag is None:
            return
        op = op or self.random.choices([READ, WRITE, "unmap", FLUSH], [6, 11, 1, 2])[0]
        if op == FLUSH:
            self.oracle.sent_flush(tag, self.failures)
            self.core.command(tag, OPS[op], 0, 0, 0)
            return
        count = self.random.choice([1, 1, 2, 8, 16, 17, 40])
        first = self.random.randrange(0, self.oracle.blocks - count)
        if self.random.random() < 0.5:
            first = self.random.randrange(0, 256)  # a hot place, so that commands overlap
        fua = op == WRITE and self.random.random() < 0.2
        if op == READ:
            self.oracle.sent_read(tag, first, count, self.failures)
        else:
            self.oracle.sent_write(tag, first, count, fua, self.failures)
        self.say("host", op, tag, first, count, fua)
        self.core.command(tag, OPS[op], first * self.block, count * self.block, 1 if fua else 0)

    def answered(self, tag: int, status: int) -> None:
        self.held.answered()
        command = self.oracle.answered(tag, status)
        self.count(command.op + (" error" if status else ""))
        stuck = (self.core.status()["recover"] or {}).get("failed") if status else False
        # What waits for a record, or for the log's cleaning, fails with it, though the request that
        # failed came before.
        stuck = stuck or self.log_room < 848 or self.performed - self.failed_at < 50
        if status and command.failures == self.failures and not stuck:
            raise Wrong(f"{command.op} failed with all disks at work")

    # --- faults ---------------------------------------------------------------------------------

    def away(self, disk: Disk) -> bool:
        """Whether it can't be opened: it is broken, or a dead process's requests are not over."""
        return disk.broken or (self.fence and not self.silence.over(disk))

    def come(self, disk: Disk) -> None:
        disk.broken = False
        self.silence.settle(disk)

    def is_write(self, action: dict[str, Any]) -> bool:
        return KINDS[action["kind"]] == "write"

    def any_broken(self) -> bool:
        return any(disk.broken for disk in self.disks)

    def fault(self) -> None:
        self.faults += 1
        sick = [disk for disk in self.disks if disk.broken or disk.full]
        if sick:
            sick[0].broken = sick[0].full = False
            self.count("disk back")
            self.say("disk back", sick[0].name)
            return
        legs = self.core.status()["legs"]
        in_sync = [u for u, leg in legs.items() if leg["state"] == "in_sync"]
        disk = self.random.choice(self.disks + [*self.media.values()] * 2)
        if disk is self.sparse.disk and self.random.random() < 0.7:
            return
        kind = self.random.choice(["broken", "slips", "full", "silent"])
        filling = [d for d in self.disks if d.uuid in self.core.status()["saves"]]
        if filling and self.random.random() < 0.5:
            disk, kind = filling[0], self.random.choice(["slips", "slips", "full"])
        self.trouble = self.now + 60
        self.sparse.hurt = self.sparse.hurt or disk is self.sparse.disk
        if kind == "silent":
            disk.silent_until = self.now + self.random.randrange(300)
        elif disk.uuid in in_sync and len(in_sync) == 1 and self.random.random() < 0.9:
            return
        elif kind == "slips":
            self.slip(disk)
        else:
            setattr(disk, kind, True)
        self.count(f"disk {kind}")
        self.say("disk", disk.name, kind)

    def slip(self, disk: Disk) -> None:
        """A few requests to a disk fail, and no more."""
        self.faults += 1
        self.trouble = self.now + 60
        self.sparse.hurt = self.sparse.hurt or disk is self.sparse.disk
        disk.slips = self.random.randrange(1, 4)

    def flip(self) -> bool:
        """Between two starts one bit of a disk turns over, in metadata that another leg has, too.
        Whether one could.
        """
        _, record = self.newest()
        legs = [d for d in self.disks for leg in record.legs if leg.uuid == d.uuid]
        good = [d for d in legs if not d.broken and record == self.newest_of(d)]
        if len(good) < 2 or any(leg.state is not LegState.IN_SYNC for leg in record.legs):
            return False
        disk = self.random.choice(good)
        slots = disk.blocks(disk.maps_offset, 8 * disk.map_slots)
        places = disk.blocks(disk.record_offset, 2) + slots
        # The differential since the last point as often as all else.
        live = [at for _, at, _ in newest_slots(slots, record.generation).values()]
        at = self.random.choice([at for at, _ in places] + live * (len(places) // 2))
        others = [block for d in good if d is not disk for block in d.slots()]
        if at >= disk.maps_offset and disk.view[at] not in others:
            return False  # theirs may have been damaged just before, with no start to mend it
        disk.flip(at, self.random)
        self.count("bit flipped")
        self.say("bit flipped", disk.name)
        return True

    def newest_of(self, disk: Disk) -> Record | None:
        records = [r for block in disk.records() if (r := decode_record(block))]
        return max(records, key=lambda r: (r.events, r.sequence), default=None)

    # --- crashes --------------------------------------------------------------------------------

    def crash(self, power: bool) -> None:
        """Power cut, or the process alone; and, now and then, again while it starts, three deep."""
        away = self.daemon.leg_away()
        self.die(power)
        self.restart()
        for _ in range(3):
            if self.random.random() > 0.3:
                break
            for _ in range(self.random.randrange(8)):
                self.step_io()
            self.die(power)
            self.restart()
        slips = self.random.random() < 0.3 or away is not None
        if slips:
            self.daemon.slips_at_start(away)
        self.check_content(durable=power and not slips)
        self.oracle.still_marked(int.from_bytes(self.core.live_bytes(), "little"))
        self.sparse.crashed()

    def die(self, power: bool) -> None:
        self.crashes += 1
        self.count("power cut" if power else "kill")
        self.say("power cut" if power else "kill")
        self.random.shuffle(self.under_way)
        for action in self.under_way:
            disk = self.media[action["medium"]]
            kind = KINDS[action["kind"]]
            if disk.broken or kind == "read":
                continue
            if kind == "flush":
                if not power or self.random.random() < 0.5:
                    disk.flush()
            elif power:
                disk.write_partly(action["offset"], self.values(action), self.random, power=True)
            elif self.fence or self.random.random() < 0.5:
                disk.write(action["offset"], self.values(action), durable=action["durable"])
            else:
                late = (disk, action["offset"], self.values(action), action["durable"])
                self.late.append(late)
        self.under_way = []
        if not power:
            for disk in self.disks:
                disk.forgives()
        if power:
            self.late.clear()
            self.silence.power_cut()
            for disk in self.disks:
                disk.power_cut(self.random)
                disk.slips = disk.silent_until = disk.slow_until = 0
            self.oracle.lost_power()
        self.flipped = self.random.random() < 0.2 and self.flip()

    def check_content(self, *, durable: bool = False) -> None:
        """Reads the whole volume."""
        for disk in self.disks:
            disk.slips = 0
        for first in range(0, self.oracle.blocks, AT_ONCE):
            count = min(AT_ONCE, self.oracle.blocks - first)
            command = self.oracle.sent_check(CHECK, first, count)
            self.core.command(CHECK, OPS[READ], first * self.block, count * self.block, 0)
            self.run_until(lambda: CHECK not in self.oracle.commands)
            if -1 in command.stamps:
                raise Wrong(f"block {first} can't be read after a start")
            self.oracle.found(first, command.stamps, durable=durable)

    def rot(self) -> None:
        """A block of a leg changes by itself: a compare of its extent must say so, and of which leg."""
        legs = sorted(self.verbs.legs("in_sync"))
        if len(legs) < 2:
            return
        index = self.random.choice(legs)
        disk = self.media[index]
        block = self.random.randrange(self.oracle.blocks)
        extent = block * self.block >> self.shift
        was = disk.view.get(block * self.block, 0)
        disk.view[block * self.block] = -1
        offset = extent << self.shift
        self.verbs.rotten = disk.uuid
        self.verbs.ask("compare", offset=offset, length=min(1 << self.shift, self.size - offset))
        self.run_until(lambda: self.verbs.request is None)
        disk.view[block * self.block] = was

    # --- the run --------------------------------------------------------------------------------

    def step_io(self) -> None:
        self.pump()
        if not self.under_way:
            return
        at = self.random.randrange(len(self.under_way))
        if self.media[self.under_way[at]["medium"]].waits(self.now):
            loud = [
                i
                for i, a in enumerate(self.under_way)
                if not self.media[a["medium"]].waits(self.now)
            ]
            if not loud:
                return
            at = self.random.choice(loud)
        self.perform(self.under_way.pop(at))
        self.pump()

    def go_on_without_records(self, steps: int) -> None:
        """Hosts and disks go on, but what writes a record takes its time."""
        for _ in range(steps):
            if self.random.random() < 0.4:
                self.host()
            self.pump()
            able = [a for a in self.under_way if not self.is_held_back(a)]
            if able:
                action = self.random.choice(able)
                self.under_way.remove(action)
                self.perform(action)
                self.pump()

    def is_held_back(self, action: dict[str, Any]) -> bool:
        disk = self.media[action["medium"]]
        at_record = disk.record_offset <= action["offset"] < disk.maps_offset
        return disk.waits(self.now) or (self.is_write(action) and at_record)

    def run_until(self, reached: Callable[[], bool], most: int = 200000) -> None:
        """Runs until something is so; disks are silent no longer."""
        self.loud = True
        for disk in self.disks:
            disk.silent_until = disk.slow_until = 0
        self.core.allowed(2)
        for _ in range(most):
            if reached():
                return
            self.pump()
            if self.under_way or reached() or self.held.push():
                self.step_io()
                continue
            self.core.request("checkpoint", 0)  # a start that a leg held up is tried again for it
            self.pump()
            if self.core.started() or not self.under_way:
                raise Wrong("the core stands still")
            self.step_io()
        raise Wrong("the core does not come to an end")

    def idle(self) -> bool:
        return bool(self.core.idle_now()) and not self.under_way

    def run(self, steps: Iterable[int]) -> None:
        # A volume exists, for its users, when its first record is durable.
        self.run_until(self.idle)
        for step in steps:
            self.now = step
            self.random = Random(self.seed << 24 | step)
            self.loud = False
            self.step()
        self.now += 1
        self.finish()

    def step(self) -> None:
        draw = self.random.random()
        if self.late and self.random.random() < 0.1:
            disk, offset, values, durable = self.late.pop()
            disk.write(offset, values, durable=durable)
        if self.silence.late and self.random.random() < 0.1:
            self.silence.step()
        if self.random.random() < 0.15 and self.silence.give_up():
            self.pump()
        if self.held.request and self.random.random() < 0.1 and self.held.step():
            self.pump()
        if self.random.random() < 0.02:
            self.core.allowed(self.random.randrange(5))
        if 0 < self.doom <= self.now:
            self.doom = 0
            self.crash(self.random.random() < 0.8)
        elif draw < 0.25:
            self.host()
        elif draw < 0.28 or (self.verbs.following and self.random.random() < 0.2):
            self.verbs.choose()
        elif draw < 0.28 + self.fault_rate:
            self.fault()
        elif draw < 0.28 + self.fault_rate + self.crash_rate * (
            5 if self.now < self.trouble else 1
        ):
            self.crash(self.random.random() < 0.6)
        elif not self.daemon.chores(self.random.random()):
            for _ in range(self.sparse.at_once):
                self.step_io()

    def finish(self) -> None:
        """All disks back, all work done; then legs and saves hold what they must."""
        self.faults += 1
        for disk in self.disks:
            disk.full = False
            disk.slips = 0
            self.come(disk)
        self.run_until(lambda: not self.oracle.commands and self.verbs.request is None)
        while (self.core.status()["recover"] or {}).get("failed"):
            self.crash(False)
        self.run_until(self.idle)
        self.check_content()
        self.run_until(self.idle)
        status = self.core.status()
        if status["recover"]:
            raise Wrong("a recover does not end")
        self.rot()
        self.sparse.finish()
        for disk in self.media.values():
            leg = status["legs"].get(disk.uuid)
            if leg and leg["state"] == "in_sync":
                self.oracle.compare(f"leg {disk.name}", disk, self.oracle.may)
            elif leg and leg["state"] == "syncing":
                raise Wrong(f"leg {disk.name} does not come in sync")
        for save in self.oracle.saves.values():
            if save.state == "filling":
                raise Wrong(f"save @{save.generation} is not filled")
            if save.state == "whole":
                for disk in save.disks:
                    self.oracle.compare(
                        f"save @{save.generation} on {disk.name}", disk, save.content
                    )
