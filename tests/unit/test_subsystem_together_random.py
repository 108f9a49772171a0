"""Saves, recovers, undos and swaps of two volumes at random, with kills at every place between them: a model
knows that both have the same saves, and what each must hold.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from targetplugin.errors import Reason, Refused
from tests.unit.fake_engine import PowerCut
from tests.unit.house import House

BOTH = ("ledger", "journal")
EXTENTS = 32
NEVER = -1
BEFORE_IT_IS_WRITTEN_DOWN = -2
CUTS = (NEVER, NEVER, NEVER, BEFORE_IT_IS_WRITTEN_DOWN, 0, 1, 2)
Content = dict[str, dict[int, str]]  # of each volume: extent -> letter


class Model:
    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.house = House(folder)
        self.house.media("a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
        for name in BOTH:
            self.house.volume(name)
        self.now: Content = {name: {} for name in BOTH}
        self.saves: dict[str, Content] = {}
        self.names: dict[str, dict[str, str]] = {}  # what each volume's save is called
        self.undo: Content | None = None  # what an undo makes of them
        self.labels = 0
        self.cuts = self.refused = self.undone = self.swapped = 0

    def copy(self, content: Content) -> Content:
        return {name: dict(extents) for name, extents in content.items()}

    def cut(self) -> int:
        self.house.engine.cut_group = self.random.choice(CUTS)
        return self.house.engine.cut_group

    def write(self) -> None:
        name = self.random.choice(BOTH)
        extent, letter = self.random.randrange(EXTENTS), self.random.choice("klmnop")
        self.house.write(extent, letter, name)
        self.now[name][extent] = letter

    def forbidden(self, refused: Refused, *reasons: Reason) -> None:
        if refused.reason not in reasons:
            raise AssertionError(refused)
        self.refused += 1

    def save(self) -> None:
        self.labels += 1
        label = f"s{self.labels}"
        cut = self.cut()
        try:
            policy = self.random.choice(["split", "copy", None])
            self.house.subsystem.save_group(list(BOTH), label=label, policy=policy)
        except Refused as refused:
            self.forbidden(refused, Reason.BUSY, Reason.NO_MEDIUM)
            self.house.engine.cut_group = NEVER
            return
        except PowerCut:
            self.cuts += 1
            self.house.restart()
            self.house.finish()
            if cut != len(BOTH):
                return
        self.house.engine.cut_group = NEVER
        self.saves[label] = self.copy(self.now)
        self.names[label] = {name: f"{name}@{label}" for name in BOTH}

    def switched(self, run: Callable[[], object]) -> bool:
        """Whether all have another content by it now, whatever came in between."""
        cut = self.cut()
        try:
            run()
        except Refused as refused:
            self.forbidden(refused, Reason.BUSY, Reason.STATE)
            self.house.engine.cut_group = NEVER
            return False
        except PowerCut:
            self.cuts += 1
            self.house.restart()
            if cut in (BEFORE_IT_IS_WRITTEN_DOWN, 0):
                return False
        self.house.engine.cut_group = NEVER
        return True

    def undo_saves(self) -> list[str]:
        """Of each volume that has one: the undo save that an undo goes back to."""
        return [
            save["media"][0]
            for name in BOTH
            for save in self.house.show(name)["saves"]
            if save["undo"] and save["undo"] == self.last(name)
        ]

    def last(self, name: str) -> int:
        """The last operation that gave a volume another content."""
        verbs = ("recover", "undo", "swap")
        done = [o for o in self.house.subsystem.operations(name) if o["verb"] in verbs]
        return next((int(one["id"]) for one in done if one["state"] != "failed"), 0)

    def now_is(self, content: Content) -> None:
        """They were taken back, and what they were is kept for all, or for none."""
        before, self.now = self.now, self.copy(content)
        kept = self.undo_saves()
        assert len(kept) in (0, len(BOTH))
        self.undo = before if kept else None

    def recover(self) -> None:
        if not self.saves:
            return
        label = self.random.choice(list(self.saves))
        saves = [self.names[label][name] for name in BOTH]
        no_undo = self.random.random() < 0.2
        if self.switched(lambda: self.house.subsystem.recover_group(saves, no_undo=no_undo)):
            self.now_is(self.saves[label])

    def take_back(self) -> None:
        if self.undo is None:
            return
        if self.switched(lambda: self.house.subsystem.undo_group(list(BOTH))):
            self.undone += 1
            self.now_is(self.undo)

    def swap(self) -> None:
        if not self.saves:
            return
        label = self.random.choice(list(self.saves))
        saves = [self.names[label][name] for name in BOTH]
        known = {save for name in BOTH for save in self.house.saves(name)}
        if not self.switched(lambda: self.house.subsystem.swap_group(saves)):
            return
        self.swapped += 1
        self.labels += 1
        kept = f"swapped {self.labels}"
        self.names[kept] = {}
        for name in BOTH:
            (self.names[kept][name],) = set(self.house.saves(name)) - known
        del self.names[label]
        self.saves[kept], self.now = self.now, self.saves.pop(label)
        self.undo = None

    def give_up(self) -> None:
        if not self.saves:
            return
        label = self.random.choice(list(self.saves))
        self.house.finish()
        for name in BOTH:
            save = self.names[label][name]
            if len(self.house.show(name)["legs"]) < 2:
                self.house.subsystem.resync(save)
            else:
                self.house.subsystem.release(save)
        del self.saves[label], self.names[label]

    def restart(self) -> None:
        self.house.restart()

    def finish(self) -> None:
        self.house.finish()

    def hold(self) -> None:
        self.house.engine.hold_copies = True

    def check(self) -> None:
        for name in BOTH:
            every = [save for save in self.house.show(name)["saves"] if not save["undo"]]
            called = [f"{name}@{s['label']}" if s["label"] else s["name"] for s in every]
            assert sorted(called) == sorted(one[name] for one in self.names.values()), name
            for extent in self.random.sample(range(EXTENTS), 6):
                assert self.house.read(extent, name) == self.now[name].get(extent, ""), name

    def holds(self, medium: str, content: dict[int, str]) -> None:
        for extent in range(EXTENTS):
            held = self.house.on_medium(medium, extent)
            assert held == content.get(extent, ""), (medium, extent)

    def run(self, steps: int) -> None:
        every = [self.write] * 5 + [self.save, self.save, self.recover, self.recover]
        every += [self.take_back, self.take_back, self.swap]
        every += [self.give_up, self.restart, self.finish, self.hold]
        for _ in range(steps):
            self.random.choice(every)()
            self.check()
        self.house.finish()
        for label, content in self.saves.items():
            for name in BOTH:
                (save,) = [
                    save
                    for save in self.house.show(name)["saves"]
                    if self.names[label][name] in (save["name"], f"{name}@{save['label']}")
                ]
                self.holds(save["media"][0], content[name])
        if self.undo is not None:
            for name, medium in zip(BOTH, self.undo_saves(), strict=True):
                self.holds(medium, self.undo[name])
        self.check()
        assert self.house.subsystem.status()["operations"] == []
        self.house.end()


@pytest.mark.parametrize("seed", range(6))
def test_both_have_the_same_saves_and_are_taken_back_together(tmp_path: Path, seed: int) -> None:
    model = Model(tmp_path, seed)
    model.run(60)
    assert model.cuts
    assert model.refused < 30
