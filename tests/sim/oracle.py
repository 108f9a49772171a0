"""What a volume, its saves and its differentials may hold, by what hosts and requesters were told.

It shares no code with the core and sees nothing of it. Each block of the volume has a set of stamps
that it may hold: one when all is settled, more while writes are under way or after a power cut took
what was not flushed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

READ, WRITE, FLUSH = "read", "write", "flush"


class Wrong(Exception):
    """A promise was broken."""


@dataclass
class Save:
    """A point that was acknowledged: where it lies and what it must hold."""

    generation: int
    disks: list[Any]
    content: list[set[int]]
    state: str = "whole"
    sparse: bool = False  # without fill: it lies on no disk of its own
    doubtful: bool = False  # what would have made its medium a leg failed


@dataclass
class Command:
    """A host's command from its start to its answer; `stamps` is its data."""

    op: str
    first: int = 0
    count: int = 0
    fua: bool = False
    stamps: list[int] = field(default_factory=list)
    expect: list[set[int]] = field(default_factory=list)  # reads: what each block may be
    beside: set[int] = field(default_factory=set)  # reads: what was being written meanwhile
    overwrites: list[set[int]] = field(default_factory=list)  # writes: what was settled before
    flushes: dict[int, set[int]] = field(default_factory=dict)
    failures: int = 0  # of requests to disks, before it came

    @property
    def range(self) -> range:
        return range(self.first, self.first + self.count)


class Oracle:
    """Told of everything that hosts see; raises Wrong when what it is told can't be right."""

    def __init__(self, blocks: int, per_extent: int) -> None:
        self.blocks = blocks
        self.per_extent = per_extent
        self.extents = -(-blocks // per_extent)
        self.may: list[set[int]] = [{0} for _ in range(blocks)]
        self.unflushed: dict[int, set[int]] = {}  # what a power cut may bring back
        self.changed: set[int] = set()  # extents written since the last point
        self.edges: dict[int, tuple[int, int]] = {}  # generation -> parent, map
        self.saves: dict[int, Save] = {}
        self.commands: dict[int, Command] = {}
        self.parent = 0  # of the live generation
        self.stamp = 0

    def grow(self, blocks: int) -> None:
        """So many come to the volume, and to all saves from before: zeros."""
        self.blocks += blocks
        self.extents = -(-self.blocks // self.per_extent)
        for content in [self.may, *(save.content for save in self.saves.values())]:
            content += [{0} for _ in range(blocks)]

    # --- hosts ----------------------------------------------------------------------------------

    def writing(self) -> set[int]:
        return {command.stamps[0] for command in self.commands.values() if command.op == WRITE}

    def sent_write(self, tag: int, first: int, count: int, fua: bool, failures: int) -> None:
        self.stamp += 1
        command = Command(WRITE, first, count, fua, [self.stamp] * count, failures=failures)
        writing = self.writing()
        command.overwrites = [self.may[at] - writing for at in command.range]
        for at in command.range:
            self.may[at].add(self.stamp)
        for other in self.commands.values():
            if other.op == READ:
                for at in range(
                    max(first, other.first), min(first + count, other.first + other.count)
                ):
                    other.expect[at - other.first].add(self.stamp)
                    other.beside.add(self.stamp)
        self.commands[tag] = command

    def sent_read(self, tag: int, first: int, count: int, failures: int) -> Command:
        command = Command(READ, first, count, False, [-1] * count, failures=failures)
        command.beside = self.writing()
        command.expect = [set(self.may[at]) for at in command.range]
        self.commands[tag] = command
        return command

    def sent_check(self, tag: int, first: int, count: int) -> Command:
        """A read after a start, of which `found` says whether it is right."""
        self.commands[tag] = command = Command("check", first, count, stamps=[-1] * count)
        return command

    def sent_flush(self, tag: int, failures: int) -> None:
        command = Command(FLUSH, failures=failures)
        command.flushes = {at: set(old) for at, old in self.unflushed.items()}
        self.commands[tag] = command

    def answered(self, tag: int, status: int) -> Command:
        command = self.commands.pop(tag)
        if status:
            return command
        if command.op == READ:
            for at, stamp, expect in zip(
                command.range, command.stamps, command.expect, strict=True
            ):
                if stamp not in expect:
                    raise Wrong(f"block {at} reads {stamp}, may be {sorted(expect)}")
            self.has_read(command)
        elif command.op == WRITE:
            for at, old in zip(command.range, command.overwrites, strict=True):
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
        return command

    def has_read(self, command: Command) -> None:
        """What a host has read it reads again, where nobody wrote meanwhile, a write that failed included:
        after a crash one of several values was chosen.
        """
        for at, stamp, expect in zip(command.range, command.stamps, command.expect, strict=True):
            may = self.may[at]
            if len(may) > 1 and may == expect and not may & command.beside:
                self.unflushed.setdefault(at, set()).update(may - {stamp})
                self.may[at] = {stamp}

    # --- points ---------------------------------------------------------------------------------

    def differential(self, generation: int) -> int:
        """The OR of the maps on the path between a save and the start of the live generation."""

        def up(node: int) -> list[int]:
            path = [node]
            while path[-1] in self.edges:
                path.append(self.edges[path[-1]][0])
            return path

        one, other = up(generation), up(self.parent)
        both = set(one) & set(other)
        total = 0
        for node in one + other:
            if node not in both:
                # Trees that grew from different roots have everything between them.
                total |= self.edges.get(node, (0, (1 << self.extents) - 1))[1]
        return total

    def still_marked(self, marked: int) -> None:
        """This is said to be what was written since the last point."""
        for extent in self.changed:
            if not marked >> extent & 1:
                raise Wrong(f"extent {extent} was written since the last point and is not marked")

    def froze(self, generation: int, marked: int) -> None:
        """A generation has ended, and this is said to be what was written in it."""
        self.still_marked(marked)
        if generation in self.edges or generation == self.parent:
            raise Wrong(f"generation {generation} has ended a second time")
        self.changed.clear()
        self.unflushed.clear()
        self.edges[generation] = (self.parent, marked)

    def saved(self, generation: int, disks: list[Any], state: str) -> None:
        """What the volume held in the moment of the point is what the save must hold."""
        writing = self.writing()
        content = [values - writing for values in self.may]
        self.saves[generation] = Save(generation, disks, content, state)

    def restored(self, generation: int, disk: Any, content: list[int]) -> None:
        """A backup's image lies on a medium: a save of its own tree, which all extents part from it."""
        self.edges[generation] = (-generation, (1 << self.extents) - 1)
        self.saves[generation] = Save(generation, [disk], [{stamp} for stamp in content])

    def took(self, save: Save) -> None:
        """The volume's content is the save's from here on, and what hosts are writing just now."""
        self.parent = save.generation
        self.may = [set(values) for values in save.content]
        for command in self.commands.values():
            for number, at in enumerate(command.range):
                if command.op == WRITE:
                    command.overwrites[number] = set(self.may[at])
                elif command.op == READ:
                    command.expect[number] |= self.may[at]
        for command in self.commands.values():
            if command.op == WRITE:
                for at in command.range:
                    self.may[at].add(command.stamps[0])

    # --- crashes --------------------------------------------------------------------------------

    def lost_power(self) -> None:
        for at, old in self.unflushed.items():
            self.may[at] |= old
        self.unflushed.clear()

    def found(self, first: int, stamps: list[int], *, durable: bool) -> None:
        """Read after a start: what it is now it stays, until a power cut takes what was not flushed."""
        settled = self.may[first : first + len(stamps)]
        if max(map(len, settled)) == 1 and all(map(set.__contains__, settled, stamps)):
            return  # by far the most
        for at, stamp in enumerate(stamps, first):
            may = self.may[at]
            if stamp not in may:
                raise Wrong(f"block {at} reads {stamp} after a start, may be {sorted(may)}")
            if len(may) > 1:
                if not durable:
                    self.unflushed.setdefault(at, set()).update(may - {stamp})
                self.may[at] = {stamp}

    def compare(self, what: str, disk: Any, content: list[set[int]]) -> None:
        for at in range(self.blocks):
            stamp = disk.view.get(at * disk.block, 0)
            if stamp not in content[at]:
                raise Wrong(f"{what}: block {at} is {stamp}, may be {sorted(content[at])}")
