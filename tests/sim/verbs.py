"""Verbs at random, as the subsystem asks the core for them, and what their ends mean to the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from targetplugin.engine.core import decode_record
from targetplugin.engine.record import Record
from tests.sim import looks
from tests.sim.disk import Disk
from tests.sim.oracle import Save, Wrong

if TYPE_CHECKING:
    from tests.sim.world import World

LEG_STALE, LEG_IN_SYNC, SAVE_WHOLE, SAVE_BROKEN, RECOVERED, RECOVER_FAILED = range(1, 7)
EVENTS = {
    LEG_STALE: "leg stale",
    LEG_IN_SYNC: "leg in sync",
    SAVE_WHOLE: "save whole",
    SAVE_BROKEN: "save broken",
    RECOVERED: "recovered",
    RECOVER_FAILED: "recover failed",
}
POINTS = ("split", "copy", "recover", "swap")
COMPARED = 1 << 18  # bytes at once
RESTORED = 1_000_000_000  # generations of restored images start here
OF_THE_CORE = ("medium", "mask", "generation", "base", "lacks", "waits", "offset", "length")
VERBS = (*POINTS, "recover", "resync", "fresh", "return", "release", "restore", "checkpoint")
VERBS += ("leave", "abort", "replace", "replace", "compare")


class Verbs:
    """One request at a time; `request` is what was asked and not answered."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.request: dict[str, Any] | None = None
        self.to_drop: list[int] = []
        self.op = 0
        self.choices = 0
        self.rotten: bytes | None = None  # a leg of which a block has changed by itself
        self.following = ""  # what is asked for next, soon
        self.on_close: Callable[[int], None] = lambda status: None

    # --- asking ---------------------------------------------------------------------------------

    def ask(self, verb: str, **arguments: Any) -> bool:
        self.op += 1
        if verb in POINTS and self.world.random.random() < 0.3:
            arguments["waits"] = True
        request = {"verb": verb, "op": self.op, "failures": self.world.failures, **arguments}
        core = {k: v for k, v in arguments.items() if k in OF_THE_CORE}
        if "undo" in arguments:
            core["save"] = arguments["undo"]
        error = self.world.core.request(verb, self.op, op=self.op, **core)
        self.world.say("ask", verb, core, error)
        self.world.interesting()
        if error:
            self.world.count(f"{verb} refused")
            return False
        self.request = request
        if arguments.get("waits"):
            self.world.held.asked(request)
        return True

    def attach(self, disk: Disk) -> int | None:
        media = self.world.media
        for index, other in media.items():
            if other is disk:
                return index
        if not self.answers(disk):
            return None
        try:
            index = self.world.core.attach(
                disk.uuid, disk.data_size, disk.record_offset, disk.maps_offset, disk.map_slots
            )
        except ValueError:
            return None
        media[index] = disk
        return int(index)

    def answers(self, disk: Disk) -> bool:
        """Whether all that it was asked for is over: else it is not attached."""
        return self.world.silence.over(disk) or not self.world.fence

    def base(self, generation: int) -> bytes:
        oracle = self.world.oracle
        return oracle.differential(generation).to_bytes(-(-oracle.extents // 8), "little")

    def choose(self) -> None:
        """Asks for one verb at random."""
        if self.request is not None:
            return
        if self.to_drop:
            self.ask("drop", medium=self.to_drop.pop())
            return
        if self.world.sparse.choose():
            return
        choice = self.following or self.world.random.choice(VERBS)
        self.following = ""
        saves = self.world.oracle.saves
        usable = [s for s in saves.values() if s.state != "broken" and not s.sparse]
        whole = [save for save in usable if save.state == "whole" and self.idle(save)]
        self.choices += 1
        shown = [s for s in usable if s.state == "whole" and not s.doubtful]
        if shown and self.choices % looks.EVERY == 0:
            looks.look(self.world, shown[self.choices // looks.EVERY % len(shown)])
        if choice == "split":
            self.split()
        elif choice == "copy":
            self.copy()
        elif choice == "recover" and usable:
            self.recover(self.world.random.choice(usable))
        elif choice == "undo":
            undo = [s for s in usable if s.generation == self.world.core.generation - 1]
            if undo and self.world.core.status()["recover"]:
                self.recover(undo[0])
        elif choice == "swap" and whole:
            self.swap(self.world.random.choice(whole))
        elif choice == "resync" and whole:
            self.resync(self.world.random.choice(whole))
        elif choice == "fresh":
            self.fresh()
        elif choice == "return":
            self.bring_back()
        elif choice == "release" and len(saves) > 2:
            save = self.world.random.choice(list(saves.values()))
            if self.idle(save) and not save.sparse:
                del saves[save.generation]
        elif choice == "replace" and whole:
            self.replace(self.world.random.choice(whole))
        elif choice == "restore":
            self.restore()
        elif choice == "checkpoint":
            self.ask("checkpoint")
        elif choice == "leave" and self.world.random.random() < 0.6:
            self.leave()
        elif choice == "abort":
            self.abort()
        elif choice == "compare":
            self.compare(self.world.random.random() < 0.7)

    def legs(self, *states: str) -> list[int]:
        status = self.world.core.status()["legs"]
        return [
            index
            for index, disk in self.world.media.items()
            if disk.uuid in status and status[disk.uuid]["state"] in states
        ]

    def legs_named(self, *states: str) -> list[str]:
        return [self.world.media[index].name for index in self.legs(*states)]

    def idle(self, save: Save) -> bool:
        """Whether no medium of the save is in use."""
        return not any(disk in self.world.media.values() for disk in save.disks)

    def free(self) -> list[Disk]:
        held = [disk for save in self.world.oracle.saves.values() for disk in save.disks]
        held += self.world.media.values()
        status = self.world.core.status()
        named = {*status["legs"], *status["saves"]}  # those that are away, too
        return [
            disk
            for disk in self.world.disks
            if disk not in held
            and disk is not self.world.sparse.disk
            and disk.uuid not in named
            and not disk.broken
            and self.answers(disk)
        ]

    def drop_later(self, *media: int | None) -> None:
        self.to_drop += [index for index in media if index is not None]

    def split(self) -> None:
        legs = self.legs("in_sync")
        if len(legs) > 1:
            index = self.world.random.choice(legs)
            self.ask("split", mask=1 << index, disks=[self.world.media[index]])

    def copy(self) -> None:
        free = self.free()
        index = self.attach(free[0]) if free else None
        if index is None:
            return
        free[0].wipe_maps()  # as who frees a medium does
        if not self.ask("copy", medium=index, disks=[free[0]]):
            self.drop_later(index)
            return
        if self.world.fault_rate and self.world.random.random() < 0.3:
            self.world.slip(free[0])  # its first copies, which hosts wait for
        if self.world.random.random() < 0.4:
            self.following = self.world.random.choice(FOLLOWING)  # while the save fills

    def recover(self, save: Save) -> None:
        known = save.disks[0].uuid in self.world.core.status()["saves"]
        index = self.attach(save.disks[0])
        if index is None:
            return
        base = self.base(save.generation)
        turned = self.turned(save)
        more: dict[str, Any] = {}
        free = self.free() if not turned and self.world.random.random() < 0.6 else []
        undo = self.attach(free[0]) if free else None
        if undo is not None:
            free[0].wipe_maps()
            more = {"undo": undo, "disks": [free[0]]}
            self.world.count("recover with undo")
        asked = self.ask(
            "recover",
            medium=index,
            generation=save.generation,
            base=base,
            save=save,
            turned=turned,
            **more,
        )
        if not asked:
            self.drop_later(*([] if known else [index]), undo)

    def turned(self, save: Save) -> int | None:
        """The medium that a recover reads which is taken back by this save, while it still copies."""
        running = self.world.core.status()["recover"]
        if not running or save.generation != self.world.core.generation - 1:
            return None
        self.world.count("undo while a recover copies")
        return next(i for i, disk in self.world.media.items() if disk.uuid == running["source"])

    def replace(self, save: Save) -> None:
        """A save onto an older save's medium: only what differs travels."""
        if len(save.disks) > 1 or save.disks[0].broken:
            return
        index = self.attach(save.disks[0])
        if index is None:
            return
        lacks = self.base(save.generation)
        if self.ask("copy", medium=index, lacks=lacks, disks=save.disks, replaces=save):
            self.world.count("replace")
            if self.world.random.random() < 0.3:
                self.following = self.world.random.choice(FOLLOWING)
        else:
            self.drop_later(index)

    def swap(self, save: Save) -> None:
        media = [self.attach(disk) for disk in save.disks]
        mask = sum(1 << index for index in media if index is not None)
        # One that is not in sync yet may be when the swap comes to it; what the media say counts then.
        legs = [d for d in self.world.disks if d.uuid in self.world.core.status()["legs"]]
        if not self.ask("swap", mask=mask, generation=save.generation, save=save, disks=legs):
            self.drop_later(*media)

    def resync(self, save: Save) -> None:
        if len(save.disks) > 1:
            return
        index = self.attach(save.disks[0])
        if index is None:
            return
        if self.ask("sync", medium=index, base=self.base(save.generation), given_up=save):
            del self.world.oracle.saves[save.generation]
        else:
            self.drop_later(index)

    def leave(self) -> None:
        """A leg in sync is taken out."""
        legs = self.legs("in_sync")
        if len(legs) < 2 or not self.ask("drop", medium=self.world.random.choice(legs)):
            return
        if self.world.random.random() < 0.5:  # what happens before its leaving is durable
            self.world.go_on_without_records(self.world.random.randrange(60))
            self.world.crash(self.world.random.random() < 0.5)

    def compare(self, hot: bool) -> None:
        """A run of extents is compared: where hosts write most, or anywhere."""
        world = self.world
        unit = 1 << world.shift
        most = min(COMPARED, world.size)
        first = 0 if hot else world.random.randrange(0, world.size, unit)
        length = min(world.random.choice([unit, most]), world.size - first)
        self.ask("compare", offset=first, length=length)

    def compared(self, request: dict[str, Any]) -> None:
        """No leg in sync differs, whatever hosts write, and none can't be read without a fault."""
        different, first_leg, unreadable = self.world.core.compared_now()
        if self.rotten is not None:
            told = [*different.get(0, []), first_leg]
            if self.rotten not in told or len(different) != 1:
                raise Wrong(f"a block that changed by itself is not told: {different}")
            self.world.count("difference told")
            self.rotten = None
        elif different:
            first = request["offset"] >> self.world.shift
            raise Wrong(f"legs are said to differ in extents {[first + at for at in different]}")
        if unreadable and self.world.failures == request["failures"] and not self.world.faults:
            raise Wrong("a leg is said to be unreadable with all disks at work")

    def abort(self) -> None:
        """A save that fills is given up."""
        saves = self.world.oracle.saves
        for save in [save for save in saves.values() if save.state == "filling"]:
            index = self.attach(save.disks[0])
            if index is not None and self.ask("drop", medium=index, given_up=save):
                del saves[save.generation]
            return

    def fresh(self) -> None:
        free = self.free()
        if free and len(self.world.core.status()["legs"]) < 3:
            index = self.attach(free[0])
            if index is not None and not self.ask("sync", medium=index):
                self.drop_later(index)

    def bring_back(self) -> None:
        status = self.world.core.status()["legs"]
        out = [d for d in self.world.disks if status.get(d.uuid, {}).get("state") in OUT]
        disk = self.world.random.choice(out) if out else None
        index = self.attach(disk) if disk and not disk.broken and self.answers(disk) else None
        if index is not None and self.ask("sync", medium=index):
            self.world.silence.refused.discard(index)

    def restore(self) -> None:
        """A backup's image was written to a spare, and flushed: its own content, of no generation of ours."""
        free = self.free()
        oracle = self.world.oracle
        if not free or len(oracle.saves) > 2 or self.world.random.random() < 0.7:
            return
        oracle.stamp += 1
        content = [oracle.stamp] * oracle.blocks
        free[0].write(0, list(content), durable=False)
        free[0].flush()
        self.op += 1
        oracle.restored(RESTORED + self.op, free[0], content)
        self.world.count("restore")
        self.world.say("restore", free[0].name)

    # --- being told -----------------------------------------------------------------------------

    def done(self, number: int, status: int) -> None:
        world = self.world
        if number == 0:
            world.daemon.cleaning = False
            return
        request, self.request = self.request, None
        if request is None or number != request["op"]:
            raise Wrong(f"request {number} is answered, which was not asked")
        world.count(request["verb"] + (" failed" if status else ""))
        world.held.done(status)
        if request["verb"] == "close":
            self.on_close(status)
        world.known_events = world.core.events
        world.sparse.done(request, status)
        if status:
            if request["verb"] == "sync" and "given_up" in request:
                save = request["given_up"]
                save.doubtful = True
                world.oracle.saves[save.generation] = save
                self.drop_later(request["medium"])
            if request["verb"] in ("copy", "recover"):
                for index in (request["medium"], request.get("undo")):
                    if index is None or index == world.sparse.index():
                        continue
                    if world.media[index].uuid not in world.core.status()["saves"]:
                        self.drop_later(index)
            elif request["verb"] == "swap":
                self.drop_later(*(i for i in range(16) if request["mask"] >> i & 1))
            return
        if request["verb"] == "compare":
            self.compared(request)
        elif request["verb"] in POINTS:
            frozen = world.core.frozen_generation
            left = world.core.left_uuids()
            left_disks = [disk for disk in world.disks if disk.uuid in left]
            marked = int.from_bytes(world.core.frozen_bytes(), "little")
            self.in_force(request, frozen, marked, left_disks)
            if "replaces" in request and not world.loud and world.random.random() < 0.4:
                # What is written down of it only now may be lost, while hosts write on.
                request["disks"][0].slow_until = world.now + 100
                world.interesting(0.8, 100)
            if request["verb"] == "split":
                self.drop_later(*(i for i in range(16) if request["mask"] >> i & 1))
            elif request["verb"] == "swap":
                legs = world.core.status()["legs"]
                left = [i for i, d in world.media.items() if d.uuid not in legs]
                self.drop_later(*(i for i in left if i != world.sparse.index()))
        elif request["verb"] == "drop":
            world.media.pop(request["medium"], None)
            world.silence.refused.discard(request["medium"])

    def settle_at_start(self, request: dict[str, Any] | None, record: Record) -> None:
        """What was being given up is a save still where the record does not say otherwise."""
        saves = self.world.oracle.saves
        legs = [leg.uuid for leg in record.legs]
        undone = request is not None and record.op != request["op"]
        if undone and request and "replaces" in request and self.world.random.random() < 0.4:
            self.following = "replace"  # what it left must not count in the next one
        if request is not None and "given_up" in request:
            save = request["given_up"]
            fills = save.disks[0].uuid in [kept.uuid for kept in record.saves]
            if fills if request["verb"] == "drop" else save.disks[0].uuid not in legs:
                saves[save.generation] = save
        for save in [save for save in saves.values() if save.doubtful]:
            save.doubtful = False
            if save.disks[0].uuid in legs:  # the record that failed is there all the same
                del saves[save.generation]

    def finish_at_start(self, request: dict[str, Any], frozen: int, marked: int) -> None:
        """The catalog says prepared, the record done. Which legs were in sync, their own records say."""
        self.world.count("finished at start")
        self.world.held.in_force(request)
        told = [
            disk
            for disk in request.get("disks", [])
            if any((r := decode_record(b)) and r.op == request["op"] for b in disk.records())
        ]
        if request["verb"] == "swap" and not told and self.world.failures == request["failures"]:
            raise Wrong("a swap is in force, and no old leg knows that it is the save")
        self.in_force(request, frozen, marked, told)

    def in_force(self, request: dict[str, Any], frozen: int, marked: int, left: list[Disk]) -> None:
        oracle = self.world.oracle
        oracle.froze(frozen, marked)
        verb = request["verb"]
        if "replaces" in request:
            del oracle.saves[request["replaces"].generation]
        sparse = request.get("sparse", False)
        if sparse:
            oracle.saved(frozen, [], "sparse")
            self.world.count("sparse save")
            oracle.saves[frozen].sparse = True
        elif "undo" in request:
            oracle.saved(frozen, request["disks"], "filling")
        if verb != "recover" and not sparse:
            disks = left if verb == "swap" else request["disks"]
            # None: all that could hold it failed in the moment of the swap.
            state = "broken" if not disks else "filling" if verb == "copy" else "whole"
            oracle.saved(frozen, disks, state)
        if verb == "recover" and "undo" in request and self.world.random.random() < 0.6:
            self.following = "undo"  # while it copies
        if verb in ("recover", "swap"):
            oracle.took(request["save"])
            self.let_source_go(request.get("turned"))
            if verb == "swap":
                del oracle.saves[request["save"].generation]
        else:
            oracle.parent = frozen

    def event(self, kind: int, medium: int) -> None:
        world = self.world
        world.held.event(kind)
        uuid = world.core.medium_uuid(medium)
        disk = next((disk for disk in world.disks if disk.uuid == uuid), None)
        if disk is None:
            return
        world.sparse.event(kind)
        if kind not in EVENTS:
            return
        world.count(EVENTS[kind])
        world.interesting(*((0.5, 4) if kind in (LEG_STALE, SAVE_BROKEN) else ()))
        if kind == LEG_STALE:
            world.known_events = world.core.events
        for save in world.oracle.saves.values():
            if disk in save.disks and kind in (SAVE_WHOLE, SAVE_BROKEN):
                save.state = "whole" if kind == SAVE_WHOLE else "broken"
                self.let_go(medium)
        in_use = disk is world.sparse.disk or disk.uuid in world.core.status()["saves"]
        if kind == RECOVERED and not in_use:
            self.let_go(medium)
        if kind == SAVE_BROKEN and not world.faults:
            raise Wrong("a save broke with all disks at work")

    def let_source_go(self, medium: int | None) -> None:
        """What a recover read that was taken back."""
        if medium is not None and medium in self.world.media:
            disk = self.world.media[medium]
            fills = disk.uuid in self.world.core.status()["saves"]
            if disk is not self.world.sparse.disk and not fills:
                self.let_go(medium)
            self.world.count("taken back while it copied")

    def let_go(self, medium: int) -> None:
        if medium not in self.to_drop:
            self.to_drop.append(medium)


OUT = ("stale", "missing")
FOLLOWING = ("recover", "recover", "split", "copy")
