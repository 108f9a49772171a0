"""Saves without fill: their store's disk, the verbs that are about them at random, and what may become
of them.

Of every fourth eight seeds only, so that the histories of others stay what they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from targetplugin.engine.record import Record
from tests.sim.disk import META, Disk
from tests.sim.oracle import Save, Wrong

if TYPE_CHECKING:
    from tests.sim.world import World

SPARSE_LOST, STORE_LOW, STORE_BROKEN = 12, 13, 14
EVENTS = {SPARSE_LOST: "sparse lost", STORE_LOW: "store low", STORE_BROKEN: "store broken"}
PAGES = 2 * META  # both copies of a group's page
MOST = 7  # saves at once
LOOKED = 1 << 18  # bytes at once
CHANCE = 0.6  # that a choice of a verb is one of these
VERBS = ("save", "save", "save", "recover", "recover", "forget", "hold", "unhold", "swap")
VERBS += ("look", "look", "look", "look")
SOON = "sparse"  # as the verb that follows


class StoreDisk(Disk):
    """Groups of both copies of a page and then `page` slots of an extent each; the head lies where records
    do.
    """

    def __init__(self, name: str, groups: int, page: int, extent: int, block: int) -> None:
        self.group = PAGES + page * extent
        super().__init__(name, groups * self.group, 0, block)

    def is_meta(self, offset: int) -> bool:
        return offset >= self.data_size or offset % self.group < PAGES

    def slots(self) -> list[bytes]:
        pages = (
            block
            for first in range(0, self.data_size, self.group)
            for block in (self.view.get(first), self.view.get(first + META))
        )
        return self.records() + [page for page in pages if isinstance(page, bytes)]


class Sparse:
    """`disk` is None in worlds that have none."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.disk: StoreDisk | None = None
        self.page = 508
        self.roomy = False
        self.at_once = (
            1  # requests to disks in a step: more, so that points come sooner one after another
        )
        self.given: list[Any] = []
        self.held: dict[int, bool] = {}  # by generation, as it was told last
        self.released: set[int] = set()
        self.hurt = False  # the disk has failed, or fallen silent
        if world.seed // 8 % 4 != 3:
            return
        self.at_once = 4
        world.crash_rate = min(world.crash_rate, 0.01)
        random = world.random
        self.page = random.choice([2, 3, 8, 508])
        extents = world.oracle.extents
        slots = random.choice([4, 30, extents // 2, extents * (MOST + 1), extents * (MOST + 1)])
        self.roomy = slots == extents * (MOST + 1)
        groups = max(1, -(-slots // self.page))
        self.disk = StoreDisk("S", groups, self.page, 1 << world.shift, world.block)

    # --- asking ---------------------------------------------------------------------------------

    def index(self) -> int | None:
        return next((i for i, disk in self.world.media.items() if disk is self.disk), None)

    def store(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.world.core.status()["store"]
        return found

    def saves(self, *states: str) -> list[Save]:
        saves = self.world.oracle.saves.values()
        return [save for save in saves if save.sparse and save.state in states]

    def choose(self) -> bool:
        """Asks for one of these verbs, or not: then False."""
        world = self.world
        eager = world.verbs.following == SOON
        if eager:
            world.verbs.following = ""
        if self.disk is None or (not eager and world.random.random() > CHANCE):
            return False
        if world.random.random() < 0.6:
            world.verbs.following = SOON
        saves = world.oracle.saves.values()
        fills = [s for s in saves if s.state == "filling" and not s.doubtful]
        if fills and world.random.random() < 0.5:
            return self.look_somewhere(world.random.choice(fills))
        store = self.store()
        if store is None:
            return self.make()
        if store["state"] == "broken":
            return self.drop()
        whole = self.saves("sparse")
        save = world.random.choice(whole) if whole else None
        verb = world.random.choice(VERBS)
        if verb == "save" and len(self.saves("sparse", "broken")) < MOST:
            return world.verbs.ask("copy", medium=self.index(), disks=[], sparse=True)
        if verb == "save":
            return self.forget(world.random.choice(self.saves("sparse", "broken")))
        if verb == "swap":
            return self.swap()
        if save is None:
            return False
        if verb == "recover":
            undo = [s for s in whole if s.generation == world.core.generation - 1]
            return self.recover(undo[0] if undo and world.core.status()["recover"] else save)
        if verb == "forget":
            return self.forget(save)
        if verb == "look":
            return self.look_somewhere(save)
        return world.verbs.ask(verb, generation=save.generation, save=save)

    def make(self) -> bool:
        assert self.disk is not None
        if self.disk.broken or self.disk.uuid in self.world.core.status()["legs"]:
            return False
        index = self.world.verbs.attach(self.disk)
        if index is None:
            return False
        if not self.world.verbs.ask("store", medium=index):
            self.world.verbs.drop_later(index)
            return False
        return True

    def drop(self) -> bool:
        """A broken one goes, with what is left of its saves."""
        index = self.world.verbs.attach(self.disk) if self.disk else None
        return index is not None and self.world.verbs.ask("drop", medium=index)

    def recover(self, save: Save) -> bool:
        """With an undo without fill, with one on a spare, or with none."""
        world = self.world
        more: dict[str, Any] = {}
        turned = world.verbs.turned(save)
        if turned is not None:
            pass  # it takes no undo save
        elif world.random.random() < 0.5 and len(self.saves("sparse", "broken")) < MOST:
            more = {"undo": self.index(), "disks": []}
        base = world.verbs.base(save.generation)
        return world.verbs.ask(
            "recover",
            medium=self.index(),
            generation=save.generation,
            base=base,
            save=save,
            sparse="undo" in more,
            turned=turned,
            **more,
        )

    def swap(self) -> bool:
        """Which is refused while one of these saves is there."""
        saves = self.world.oracle.saves.values()
        whole = [save for save in saves if save.state == "whole" and self.world.verbs.idle(save)]
        if whole:
            self.world.verbs.swap(self.world.random.choice(whole))
        return bool(whole)

    def forget(self, save: Save) -> bool:
        return self.world.verbs.ask("forget", generation=save.generation, save=save)

    def look_somewhere(self, save: Save) -> bool:
        world = self.world
        first = world.random.randrange(0, world.oracle.blocks)
        first = world.random.choice([first, first % 256])
        count = min(world.random.randrange(1, 40), world.oracle.blocks - first)
        return self.look(save, first, count)

    def look(self, save: Save, first: int, count: int) -> bool:
        world = self.world
        offset, length = first * world.block, count * world.block
        return world.verbs.ask(
            "look", generation=save.generation, offset=offset, length=length, save=save, first=first
        )

    # --- being told -----------------------------------------------------------------------------

    def done(self, request: dict[str, Any], status: int) -> None:
        verb, save = request["verb"], request.get("save")
        if verb == "store" and status:
            self.world.verbs.drop_later(request["medium"])
        if verb == "drop" and not status and request["medium"] == self.index():
            self.dropped()
        if verb == "look":
            self.looked(request, request["save"], status)
        if save is None or not save.sparse or status:
            return
        if verb == "forget":
            self.gone(save)
        elif verb in ("hold", "unhold"):
            self.held[save.generation] = verb == "hold"

    def gone(self, save: Save) -> None:
        self.released.add(save.generation)
        self.world.oracle.saves.pop(save.generation, None)
        self.held.pop(save.generation, None)

    def dropped(self) -> None:
        """The store is gone: of its saves nothing is known any more."""
        for save in self.saves("broken"):
            self.gone(save)

    def looked(self, request: dict[str, Any], save: Save, status: int) -> None:
        if status:
            failed = self.hurt or self.world.failures != request["failures"]
            failed = failed or any(disk.slips or self.world.away(disk) for disk in save.disks)
            if save.state in ("sparse", "filling") and not failed:
                raise Wrong(f"save {save.generation} can't be looked at with all disks at work")
            return
        if save.state == "broken":
            raise Wrong(f"save {save.generation}, which is broken, is shown")
        self.world.count("look at one that fills" if save.disks else "look at one without fill")
        for at, stamp in enumerate(self.given, request["first"]):
            if stamp not in save.content[at]:
                may = sorted(save.content[at])
                raise Wrong(f"save {save.generation} shows {stamp} in block {at}, may be {may}")

    def event(self, kind: int) -> None:
        if kind not in EVENTS:
            return
        self.world.count(EVENTS[kind])
        self.world.interesting(0.5, 3)
        if kind != STORE_LOW:
            self.compare_states(f"an event ({EVENTS[kind]})")

    def compare_states(self, after: str) -> None:
        """Saves break only where the store is too small or a disk has failed; the oldest that nobody
        holds first.
        """
        status = self.store()
        told = status["saves"] if status else {}
        if status and status["state"] == "broken" and not self.hurt:
            raise Wrong(f"after {after} the store is broken, and its disk has never failed")
        whole = self.saves("sparse")
        lost = [save for save in whole if told.get(save.generation, LOST)["state"] == "broken"]
        left = [save for save in whole if save not in lost]
        for save in lost:
            if self.roomy and not self.world.faults:
                raise Wrong(f"save {save.generation} is lost with all disks at work, after {after}")
            save.state = "broken"
        for save in self.saves("sparse", "broken"):
            if (status is None or status["state"] == "ready") and save.generation not in told:
                raise Wrong(f"after {after} save {save.generation} is not known any more")
        # What is released while the store breaks, or after, is in its head for ever: it can't be written.
        left_in_head = self.released if status and status["state"] == "broken" else set()
        for generation in told:
            if generation not in {*self.world.oracle.saves, *left_in_head}:
                raise Wrong(f"after {after} there is a save {generation}, which is none")
        source = self.world.core.status()["recover"] or {"generation": 0}
        for save in lost:
            older = [s for s in left if s.generation < save.generation]
            older = [s for s in older if not self.held.get(s.generation)]
            older = [s for s in older if s.generation != source["generation"]]
            if older and not self.world.faults:
                raise Wrong(f"save {save.generation} is lost, and an older one is not")

    # --- starts -----------------------------------------------------------------------------------

    def settle(self, request: dict[str, Any] | None) -> None:
        """After a start: a save that was being released may be gone, and a hold be either."""
        if self.disk is None:
            return
        status = self.store()
        told = status["saves"] if status else {}
        verb = request["verb"] if request else ""
        if request and verb == "forget" and request["save"].generation not in told:
            self.gone(request["save"])
        if verb == "drop" and status is None:
            self.dropped()
        for save in self.saves("broken"):
            if told.get(save.generation, LOST)["state"] == "sparse":
                save.state = (
                    "sparse"  # that it is lost is not known any more: then it must be there
                )
        self.compare_states("a start")
        for save in self.saves("sparse"):
            held = told[save.generation]["held"]
            asked = request is not None and request.get("save") is save
            if held != self.held.get(save.generation, False) and not asked:
                raise Wrong(f"save {save.generation} is {'' if held else 'not '}held after a start")
            self.held[save.generation] = held

    def named(self, record: Record) -> list[bytes]:
        return [record.store.uuid] if record.store else []

    def crashed(self) -> None:
        """Now and then at once, for a store that is full loses them again."""
        if self.disk is not None and self.world.random.random() < 0.3:
            self.world.run_until(lambda: self.world.verbs.request is None)
            self.show()

    # --- the end of a run ---------------------------------------------------------------------------

    def finish(self) -> None:
        self.world.count("sparse shown" if self.saves("sparse") else "no sparse left")
        self.show()

    def show(self) -> None:
        """Each of them shows what it must, in whole."""
        world = self.world
        for save in self.saves("sparse"):
            count = LOOKED // world.block
            for first in range(0, world.oracle.blocks, count):
                if save.state != "sparse":
                    break
                if not self.look(save, first, min(count, world.oracle.blocks - first)):
                    raise Wrong(f"save {save.generation} can't be looked at")
                world.run_until(lambda: world.verbs.request is None)


LOST = {"state": "broken"}
