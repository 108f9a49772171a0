"""One run: hosts, verbs and crashes at random on one volume, and an oracle that knows only what
hosts were told.

Each 4 KiB block of the volume has a set of stamps that it may hold: one when all is settled, more
while writes are under
way or after a power cut took what was not flushed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from random import Random
from typing import Any

from targetplugin.engine.core import Core, decode_map_slot, decode_record
from targetplugin.engine.record import LegState, SaveState
from tests.sim.disk import BLOCK, Disk

READ, WRITE, FLUSH = 1, 2, 3
ACT_READ, ACT_WRITE, ACT_FLUSH, ACT_ANSWER, ACT_DONE, ACT_EVENT = range(1, 7)
HOST, COPY = 1, 2
STALE, IN_SYNC, WHOLE, BROKEN, RECOVERED = 1, 2, 3, 4, 5
VOLUME = b"simulated volume"


class Wrong(Exception):
    """The core broke a promise."""


@dataclass
class Save:
    """A point that was acknowledged: where it lies and what it must hold."""

    generation: int
    disks: list[Disk]
    content: list[set[int]]
    state: str = "whole"


@dataclass
class Command:
    op: int
    first: int
    count: int
    fua: bool
    stamps: list[int] = field(default_factory=list)
    expect: list[set[int]] = field(default_factory=list)  # reads: what each block may be
    overwrites: list[set[int]] = field(default_factory=list)  # writes: what was settled before
    flushes: dict[int, set[int]] = field(default_factory=dict)
    faults: int = 0  # of disks, before it came


class World:
    """Runs `steps` random steps from `seed`; check() raises Wrong with what was broken."""

    def __init__(self, seed: int, *, blocks: int = 3072, shift: int = 16) -> None:
        self.random = Random(seed)
        self.seed = seed
        self.blocks = blocks
        self.size = blocks * BLOCK
        self.shift = shift
        self.per_extent = (1 << shift) // BLOCK
        self.extents = -(-self.size // (1 << shift))
        slots = -(-self.extents // 32512)
        self.disks = [Disk(name, self.size, slots) for name in "ABCDE"]
        self.may: list[set[int]] = [{0} for _ in range(blocks)]
        self.unflushed: dict[int, set[int]] = {}  # what a power cut may bring back
        self.changed: set[int] = set()  # extents written since the last point
        self.edges: dict[int, tuple[int, bytes]] = {}  # generation -> parent, map
        self.saves: dict[int, Save] = {}
        self.history = hashlib.sha256()
        self.stamp = 0
        self.op = 0
        self.crashes = 0
        self.faults = 0
        self.known_events = 0  # what the catalog was told last
        self.steps = 0
        self.covered: dict[str, int] = {}
        self.request: dict[str, Any] | None = None
        self.request_at_start = False
        self.parent = 0  # of the live generation
        self.boot([self.disks[0], self.disks[1]], None, [])

    # --- starting -------------------------------------------------------------------------------

    def boot(self, attached: list[Disk], record: bytes | None, slots: list[bytes]) -> None:
        self.core = Core(VOLUME, self.size, self.shift)
        self.media: dict[int, Disk] = {}
        for disk in attached:
            index = self.core.attach(
                disk.uuid, disk.data_size, disk.record_offset, disk.maps_offset, disk.map_slots
            )
            self.media[index] = disk
        self.core.start(record, slots, same_content=True)
        self.under_way: list[dict[str, Any]] = []
        self.commands: dict[int, Command] = {}
        self.copies: dict[int, list[int | bytes]] = {}
        self.request = None
        self.to_drop: list[int] = []

    def restart(self) -> None:
        """As the daemon does it: the newest record, its legs' maps, the prepared operation finished
        or dropped.
        """
        request = self.request
        best = None
        for disk in self.disks:
            for block in [] if disk.broken else disk.records():
                record = decode_record(block)
                if record and record.volume == VOLUME:
                    key = (record.events, record.sequence)
                    if best is None or key > best[0]:
                        best = (key, record, block)
        if best is None:
            raise Wrong("no record is left")
        _, record, block = best
        present = {disk.uuid: disk for disk in self.disks if not disk.broken}
        in_sync_there = any(
            leg.state is LegState.IN_SYNC and leg.uuid in present for leg in record.legs
        )
        if not in_sync_there or (record.events < self.known_events and self.any_broken()):
            # The last leg in sync is gone for now, or the catalog knows of later events than the
            # media that are
            # there: a start is refused, and the disks come back.
            for disk in self.disks:
                disk.broken = False
            self.restart()
            return
        named = [leg.uuid for leg in record.legs] + [save.uuid for save in record.saves]
        if record.recover and record.recover[0] not in named:
            named.append(record.recover[0])
        if record.recover and record.recover[0] not in present:
            disk = next(disk for disk in self.disks if disk.uuid == record.recover[0])
            disk.broken = False
            present[disk.uuid] = disk
        in_sync = [leg.uuid for leg in record.legs if leg.state is LegState.IN_SYNC]
        slots: list[bytes] = []
        for uuid in in_sync + [save.uuid for save in record.saves]:
            if uuid in present:
                slots += present[uuid].slots()
        if request is not None:
            # The map that was frozen lies on the old legs: after a swap they are no legs any more.
            everywhere = [block for disk in self.disks if not disk.broken for block in disk.slots()]
            self.settle_prepared(request, record, everywhere)
        broken = [save.uuid for save in record.saves if save.state is SaveState.BROKEN]
        for save in list(self.saves.values()):
            if not save.disks or save.disks[0].uuid in broken:
                save.state = "broken"
        self.boot([present[uuid] for uuid in named if uuid in present], block, slots)
        self.to_drop = [index for index, disk in self.media.items() if disk.uuid in broken]
        self.known_events = self.core.events

    def settle_prepared(self, request: dict[str, Any], record: Any, slots: list[bytes]) -> None:
        if request.get("op") is None or record.op != request["op"]:
            return
        frozen = record.generation - 1
        area = frozen % 2  # the areas of even and odd generations
        bits = bytearray(-(-self.extents // 8))
        newest: dict[int, tuple[int, bytes]] = {}
        for block in slots:
            decoded = decode_map_slot(block)
            if decoded is None or decoded[0] != area or decoded[2] != frozen:
                continue
            if decoded[3] > newest.get(decoded[1], (0, b""))[0]:
                newest[decoded[1]] = (decoded[3], decoded[4])
        for slot, (_, payload) in newest.items():
            at = slot * 4064
            bits[at : at + 4064] = payload[: len(bits) - at]
        self.covered["finished at start"] = self.covered.get("finished at start", 0) + 1
        self.request_at_start = True
        self.in_force(request, frozen, bytes(bits))
        self.request_at_start = False

    # --- performing actions ---------------------------------------------------------------------

    def pump(self) -> None:
        for action in self.core.take():
            kind = action["kind"]
            if kind in (ACT_READ, ACT_WRITE, ACT_FLUSH):
                self.under_way.append(action)
            elif kind == ACT_ANSWER:
                self.answered(action["number"], action["status"])
            elif kind == ACT_DONE:
                self.done(action["number"], action["status"])
            elif kind == ACT_EVENT:
                self.event(action["number"], action["medium"])

    def perform(self, action: dict[str, Any]) -> None:
        disk = self.media[action["medium"]]
        result = 0
        if disk.broken:
            result = -5
        elif action["kind"] == ACT_FLUSH:
            disk.flush()
        elif action["kind"] == ACT_READ:
            values = disk.read(action["offset"], action["length"])
            if action["buffer"] == HOST:
                command = self.commands[action["number"]]
                at = action["buffer_offset"] // BLOCK
                command.stamps[at : at + len(values)] = [v for v in values if isinstance(v, int)]
            else:
                self.copies[action["number"]] = values
        else:
            disk.write(action["offset"], self.values(action), durable=action["durable"])
        self.core.completed(action["tag"], result)

    def values(self, action: dict[str, Any]) -> list[int | bytes]:
        count = action["length"] // BLOCK
        if action["data"] is not None:
            return [action["data"]]
        if action["buffer"] == COPY:
            return self.copies[action["number"]][:count]
        at = action["buffer_offset"] // BLOCK
        return list(self.commands[action["number"]].stamps[at : at + count])

    # --- hosts ----------------------------------------------------------------------------------

    def writing(self) -> set[int]:
        return {command.stamps[0] for command in self.commands.values() if command.op == WRITE}

    def host(self) -> None:
        tag = next((tag for tag in range(16) if tag not in self.commands), None)
        if tag is None:
            return
        op = self.random.choices([READ, WRITE, FLUSH], [3, 6, 1])[0]
        if op == FLUSH:
            command = Command(op, 0, 0, False)
            command.flushes = {at: set(old) for at, old in self.unflushed.items()}
            command.faults = self.faults
            self.commands[tag] = command
            self.core.command(tag, op, 0, 0, 0)
            return
        count = self.random.choice([1, 1, 2, 8, 16, 17, 40])
        first = self.random.randrange(0, self.blocks - count)
        if self.random.random() < 0.5:
            first = self.random.randrange(0, 256)  # a hot place, so that commands overlap
        command = Command(op, first, count, op == WRITE and self.random.random() < 0.2)
        here = range(first, first + count)
        if op == WRITE:
            self.stamp += 1
            command.stamps = [self.stamp] * count
            writing = self.writing()
            command.overwrites = [self.may[at] - writing for at in here]
            for at in here:
                self.may[at].add(self.stamp)
            for other in self.commands.values():
                if other.op == READ:
                    for at in set(here) & set(range(other.first, other.first + other.count)):
                        other.expect[at - other.first].add(self.stamp)
        else:
            command.stamps = [-1] * count
            command.expect = [set(self.may[at]) for at in here]
        command.faults = self.faults
        self.commands[tag] = command
        self.core.command(tag, op, first * BLOCK, count * BLOCK, 1 if command.fua else 0)

    def answered(self, tag: int, status: int) -> None:
        command = self.commands.pop(tag)
        names = {READ: "read", WRITE: "write", FLUSH: "flush"}
        self.count(names[command.op] + (" error" if status else ""))
        if status:
            stuck = (self.core.status()["recover"] or {}).get("failed")
            if command.faults == self.faults and not stuck and not self.any_broken():
                raise Wrong(f"{names[command.op]} failed with all disks at work")
            return
        if command.op == READ:
            for at, stamp in enumerate(command.stamps, command.first):
                if stamp not in command.expect[at - command.first]:
                    may = sorted(command.expect[at - command.first])
                    raise Wrong(f"block {at} reads {stamp}, may be {may}")
        elif command.op == WRITE:
            for at, old in enumerate(command.overwrites, command.first):
                self.changed.add(at // self.per_extent)
                self.may[at] -= old
                if command.fua:
                    self.unflushed.pop(at, None)
                else:
                    self.unflushed.setdefault(at, set()).update(old)
        else:
            for at, old in command.flushes.items():
                left = self.unflushed.get(at, set()) - old
                if left:
                    self.unflushed[at] = left
                else:
                    self.unflushed.pop(at, None)

    def count(self, what: str) -> None:
        self.covered[what] = self.covered.get(what, 0) + 1

    # --- verbs ----------------------------------------------------------------------------------

    def differential(self, generation: int) -> bytes:
        """The OR of the maps between a save and the start of the live generation."""

        def up(node: int) -> list[int]:
            path = [node]
            while path[-1] in self.edges:
                path.append(self.edges[path[-1]][0])
            return path

        one, other = up(generation), up(self.parent)
        both = set(one) & set(other)
        total = 0
        for node in [n for n in one + other if n not in both]:
            total |= int.from_bytes(self.edges[node][1], "little")
        return total.to_bytes(-(-self.extents // 8), "little")

    def ask(self, verb: str, **arguments: Any) -> bool:
        self.op += 1
        request = {"verb": verb, "op": self.op, **arguments}
        core = {k: v for k, v in arguments.items() if k in ("medium", "mask", "generation", "base")}
        error = self.core.request(verb, self.op, op=self.op, **core)
        if error:
            self.count(f"{verb} refused")
            return False
        self.request = request
        return True

    def attach(self, disk: Disk) -> int | None:
        for index, other in self.media.items():
            if other is disk:
                return index
        try:
            index = self.core.attach(
                disk.uuid, disk.data_size, disk.record_offset, disk.maps_offset, disk.map_slots
            )
        except ValueError:
            return None
        self.media[index] = disk
        return index

    def verb(self) -> None:
        """Asks for one verb at random, as the subsystem might; one request at a time."""
        if self.request is not None:
            return
        if self.to_drop:
            index = self.to_drop.pop()
            self.ask("drop", medium=index)
            return
        status = self.core.status()
        in_use = {id(disk) for disk in self.media.values()}
        held = {id(disk) for save in self.saves.values() for disk in save.disks}
        free = [d for d in self.disks if id(d) not in in_use | held and not d.broken]
        index_of = {disk.uuid: index for index, disk in self.media.items()}
        in_sync = [u for u, leg in status["legs"].items() if leg["state"] == "in_sync"]
        stale = [u for u, leg in status["legs"].items() if leg["state"] in ("stale", "missing")]
        whole = [s for s in self.saves.values() if s.state == "whole"]
        usable = [s for s in self.saves.values() if s.state != "broken"]
        choice = self.random.choice(
            [
                "split",
                "copy",
                "recover",
                "swap",
                "resync",
                "fresh",
                "return",
                "release",
                "checkpoint",
            ]
        )
        if choice == "split" and len(in_sync) > 1:
            uuid = self.random.choice(in_sync)
            self.ask("split", mask=1 << index_of[uuid], disks=[self.media[index_of[uuid]]])
        elif choice == "copy" and free:
            index = self.attach(free[0])
            if index is not None and not self.ask("copy", medium=index, disks=[free[0]]):
                self.to_drop.append(index)
        elif choice == "recover" and usable:
            save = self.random.choice(usable)
            index = self.attach(save.disks[0])
            if index is None:
                return
            attached = save.disks[0].uuid in status["saves"]
            base = self.differential(save.generation)
            if (
                not self.ask(
                    "recover", medium=index, generation=save.generation, base=base, save=save
                )
                and not attached
            ):
                self.to_drop.append(index)
        elif choice == "swap" and whole:
            save = self.random.choice(whole)
            if any(id(disk) in in_use for disk in save.disks):
                return
            indices = [self.attach(disk) for disk in save.disks]
            mask = sum(1 << index for index in indices if index is not None)
            legs = [self.media[index_of[uuid]] for uuid in in_sync]
            if not self.ask("swap", mask=mask, generation=save.generation, save=save, disks=legs):
                self.to_drop += [index for index in indices if index is not None]
        elif choice == "resync" and whole:
            save = self.random.choice(whole)
            if any(id(disk) in in_use for disk in save.disks) or len(save.disks) > 1:
                return
            index = self.attach(save.disks[0])
            if index is None:
                return
            base = self.differential(save.generation)
            if self.ask("sync", medium=index, base=base):
                del self.saves[save.generation]
            else:
                self.to_drop.append(index)
        elif choice == "fresh" and free and len(status["legs"]) < 3:
            index = self.attach(free[0])
            if index is not None and not self.ask("sync", medium=index):
                self.to_drop.append(index)
        elif choice == "return" and stale:
            uuid = self.random.choice(stale)
            disk = next(disk for disk in self.disks if disk.uuid == uuid)
            index = None if disk.broken else self.attach(disk)
            if index is not None:
                self.ask("sync", medium=index)
        elif choice == "release" and len(self.saves) > 2:
            save = self.random.choice(list(self.saves.values()))
            if not any(id(disk) in in_use for disk in save.disks):
                del self.saves[save.generation]
        elif choice == "checkpoint":
            self.ask("checkpoint")

    def done(self, number: int, status: int) -> None:
        request, self.request = self.request, None
        if request is None or number != request["op"]:
            raise Wrong(f"request {number} is answered, which was not asked")
        self.count(request["verb"] + (" failed" if status else ""))
        self.known_events = self.core.events
        if status:
            if request["verb"] in ("copy", "recover"):
                index = request["medium"]
                uuid = self.media[index].uuid
                if uuid not in self.core.status()["saves"]:
                    self.to_drop.append(index)
            elif request["verb"] == "swap":
                self.to_drop += [i for i in range(16) if request["mask"] >> i & 1]
            return
        if request["verb"] in ("split", "copy", "recover", "swap"):
            self.in_force(request, self.core.frozen_generation, self.core.frozen_bytes())
            if request["verb"] == "split":
                self.to_drop += [i for i in range(16) if request["mask"] >> i & 1]
            elif request["verb"] == "swap":
                legs = self.core.status()["legs"]
                self.to_drop += [i for i, d in self.media.items() if d.uuid not in legs]
        elif request["verb"] == "drop":
            self.media.pop(request["medium"], None)

    def in_force(self, request: dict[str, Any], frozen: int, bits: bytes) -> None:
        """A point: what was frozen, and what the volume and the save must hold from here on."""
        marked = int.from_bytes(bits, "little")
        for extent in self.changed:
            if not marked >> extent & 1:
                raise Wrong(f"extent {extent} was written in generation {frozen} and is not marked")
        self.changed.clear()
        self.unflushed.clear()
        self.edges[frozen] = (self.parent, bits)
        writing = self.writing()
        if request["verb"] in ("split", "copy", "swap"):
            if request["verb"] == "swap":
                request["disks"] = self.left(request)
            content = [values - writing for values in self.may]
            state = "filling" if request["verb"] == "copy" else "whole"
            if not request["disks"]:
                state = "broken"  # all that could hold it failed in the moment of the swap
            self.saves[frozen] = Save(frozen, request["disks"], content, state)
        if request["verb"] in ("recover", "swap"):
            save = request["save"]
            self.parent = save.generation
            self.may = [set(values) for values in save.content]
            for command in self.commands.values():
                for at in range(command.first, command.first + command.count):
                    if command.op == WRITE:
                        command.overwrites[at - command.first] = set(self.may[at])
                    elif command.op == READ:
                        command.expect[at - command.first] |= self.may[at]
            for command in self.commands.values():
                if command.op == WRITE:
                    for at in range(command.first, command.first + command.count):
                        self.may[at].add(command.stamps[0])
            if request["verb"] == "swap":
                del self.saves[save.generation]
        else:
            self.parent = frozen

    def left(self, request: dict[str, Any]) -> list[Disk]:
        """Which of the old legs were in sync at the switch: the core says, or, at start, their own
        records.
        """
        if self.request_at_start:
            return [
                disk
                for disk in request["disks"]
                if any((r := decode_record(b)) and r.op == request["op"] for b in disk.records())
            ]
        left = self.core.left_uuids()
        return [disk for disk in self.disks if disk.uuid in left]

    def event(self, kind: int, medium: int) -> None:
        uuid = self.core.medium_uuid(medium)
        disk = next((disk for disk in self.disks if disk.uuid == uuid), None)
        if disk is None:
            return
        names = {
            1: "leg stale",
            2: "leg in sync",
            3: "save whole",
            4: "save broken",
            5: "recovered",
        }
        names |= {6: "recover failed"}
        if kind not in names:
            return
        self.count(names[kind])
        if kind == STALE:
            self.known_events = self.core.events
        for save in self.saves.values():
            if disk in save.disks and kind in (WHOLE, BROKEN):
                save.state = "whole" if kind == WHOLE else "broken"
                self.drop_later(medium)
        if kind == RECOVERED and disk.uuid not in self.core.status()["saves"]:
            self.drop_later(medium)
        if kind == BROKEN and not self.faults:
            raise Wrong("a save broke with all disks at work")

    def drop_later(self, medium: int) -> None:
        if medium not in self.to_drop:
            self.to_drop.append(medium)

    def any_broken(self) -> bool:
        return any(disk.broken for disk in self.disks)

    # --- crashes --------------------------------------------------------------------------------

    def crash(self, power: bool) -> None:
        self.crashes += 1
        self.count("power cut" if power else "kill")
        self.random.shuffle(self.under_way)
        for action in self.under_way:
            disk = self.media[action["medium"]]
            if disk.broken or action["kind"] == ACT_READ:
                continue
            if action["kind"] == ACT_FLUSH:
                if not power or self.random.random() < 0.5:
                    disk.flush()
                continue
            values = self.values(action)
            if not power:
                disk.write(action["offset"], values, durable=action["durable"])  # it lands, late
                continue
            for at, value in enumerate(values):
                if self.random.random() < 0.5:
                    offset = action["offset"] + at * BLOCK
                    if isinstance(value, bytes):
                        disk.tear(offset, value, self.random)
                    else:
                        disk.write(offset, [value], durable=self.random.random() < 0.5)
        if power:
            for disk in self.disks:
                disk.power_cut(self.random)
            for at, old in self.unflushed.items():
                self.may[at] |= old
            self.unflushed.clear()
        self.restart()
        while self.random.random() < 0.3:  # a crash while starting after a crash
            for _ in range(self.random.randrange(4)):
                self.step_io()
            self.crashes += 1
            self.restart_again(power)
        self.settle_content(durable=power)

    def restart_again(self, power: bool) -> None:
        self.random.shuffle(self.under_way)
        for action in self.under_way:
            disk = self.media[action["medium"]]
            if action["kind"] != ACT_WRITE or disk.broken:
                continue
            for at, value in enumerate(self.values(action)):
                if not power or self.random.random() < 0.5:
                    offset = action["offset"] + at * BLOCK
                    if isinstance(value, bytes) and power:
                        disk.tear(offset, value, self.random)
                    else:
                        disk.write(offset, [value], durable=action["durable"])
        if power:
            for disk in self.disks:
                disk.power_cut(self.random)
        self.restart()

    def settle_content(self, *, durable: bool = False) -> None:
        """Reads the whole volume: what it holds now it goes on holding, unless a power cut takes
        what was not flushed.
        """
        for first in range(0, self.blocks, 64):
            command = Command(READ, first, 64, False, [-1] * 64)
            command.expect = [set(self.may[at]) for at in range(first, first + 64)]
            self.commands[100] = command
            self.core.command(100, READ, first * BLOCK, 64 * BLOCK, 0)
            self.run_until(lambda: 100 not in self.commands)
            for at, stamp in enumerate(command.stamps, first):
                if stamp < 0:
                    raise Wrong(f"block {at} can't be read after a start")
                if not durable and self.may[at] - {stamp}:
                    self.unflushed.setdefault(at, set()).update(self.may[at] - {stamp})
                self.may[at] = {stamp}

    # --- the run --------------------------------------------------------------------------------

    def step_io(self) -> None:
        self.pump()
        if self.under_way:
            self.perform(self.under_way.pop(self.random.randrange(len(self.under_way))))
            self.pump()

    def run_until(self, reached: Any, most: int = 200000) -> None:
        for _ in range(most):
            if reached():
                return
            self.pump()
            if not self.under_way and not reached():
                raise Wrong("the core stands still")
            self.step_io()
        raise Wrong("the core does not come to an end")

    def run(self, steps: int, crash_rate: float = 0.004) -> None:
        # A volume exists, for its users, when its first record is durable.
        self.run_until(lambda: self.core.idle_now() and not self.under_way)
        for _ in range(steps):
            self.steps += 1
            draw = self.random.random()
            if draw < 0.25:
                self.host()
            elif draw < 0.28:
                self.verb()
            elif draw < 0.283 and self.disks:
                self.fault()
            elif draw < 0.283 + crash_rate:
                self.crash(self.random.random() < 0.6)
            else:
                self.step_io()
        self.finish()

    def fault(self) -> None:
        self.faults += 1
        broken = [disk for disk in self.disks if disk.broken]
        if broken:
            broken[0].broken = False
            self.count("disk back")
            return
        legs = self.core.status()["legs"]
        in_sync = [u for u, leg in legs.items() if leg["state"] == "in_sync"]
        disk = self.random.choice(self.disks)
        if disk.uuid in in_sync and len(in_sync) == 1 and self.random.random() < 0.9:
            return
        disk.broken = True
        self.count("disk fails")

    def finish(self) -> None:
        """All disks back, all work done; then legs and saves hold what they must."""
        self.faults += 1
        for disk in self.disks:
            disk.broken = False
        self.run_until(lambda: not self.commands and self.request is None)
        if (self.core.status()["recover"] or {}).get("failed"):
            self.crash(False)
        self.run_until(lambda: self.core.idle_now() and not self.under_way)
        self.settle_content()
        self.run_until(lambda: self.core.idle_now() and not self.under_way)
        status = self.core.status()
        if status["recover"]:
            raise Wrong("a recover does not end")
        for disk in self.media.values():
            leg = status["legs"].get(disk.uuid)
            if leg and leg["state"] == "in_sync":
                self.compare(f"leg {disk.name}", disk, self.may)
            elif leg and leg["state"] == "syncing":
                raise Wrong(f"leg {disk.name} does not come in sync")
        for save in self.saves.values():
            if save.state == "filling":
                raise Wrong(f"save @{save.generation} is not filled")
            if save.state == "whole":
                for disk in save.disks:
                    self.compare(f"save @{save.generation} on {disk.name}", disk, save.content)

    def compare(self, what: str, disk: Disk, content: list[set[int]]) -> None:
        for at in range(self.blocks):
            if disk.view.get(at, 0) not in content[at]:
                raise Wrong(f"{what}: block {at} is {disk.view.get(at, 0)}, may be {content[at]}")
