"""Saves and recovers of two volumes at random, with kills at every place between them: a model knows that
both have the same saves, and what each must hold.
"""

from __future__ import annotations

import random
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
        self.house.media("a", "b", "c", "d", "e", "f", "g", "h")
        for name in BOTH:
            self.house.volume(name)
        self.now: Content = {name: {} for name in BOTH}
        self.saves: dict[str, Content] = {}
        self.labels = 0
        self.cuts = self.refused = 0

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

    def recover(self) -> None:
        if not self.saves:
            return
        label = self.random.choice(list(self.saves))
        cut = self.cut()
        try:
            self.house.subsystem.recover_group([f"{name}@{label}" for name in BOTH])
        except Refused as refused:
            self.forbidden(refused, Reason.BUSY, Reason.STATE)
            self.house.engine.cut_group = NEVER
            return
        except PowerCut:
            self.cuts += 1
            self.house.restart()
            if cut in (BEFORE_IT_IS_WRITTEN_DOWN, 0):
                return
        self.house.engine.cut_group = NEVER
        self.now = self.copy(self.saves[label])

    def give_up(self) -> None:
        if not self.saves:
            return
        label = self.random.choice(list(self.saves))
        self.house.finish()
        for name in BOTH:
            if len(self.house.show(name)["legs"]) < 2:
                self.house.subsystem.resync(f"{name}@{label}")
            else:
                self.house.subsystem.release(f"{name}@{label}")
        del self.saves[label]

    def restart(self) -> None:
        self.house.restart()

    def finish(self) -> None:
        self.house.finish()

    def hold(self) -> None:
        self.house.engine.hold_copies = True

    def check(self) -> None:
        for name in BOTH:
            labels = [save["label"] for save in self.house.show(name)["saves"]]
            assert sorted(labels) == sorted(self.saves), name
            for extent in self.random.sample(range(EXTENTS), 6):
                assert self.house.read(extent, name) == self.now[name].get(extent, ""), name

    def run(self, steps: int) -> None:
        every = [self.write] * 5 + [self.save, self.save, self.recover, self.recover]
        every += [self.give_up, self.restart, self.finish, self.hold]
        for _ in range(steps):
            self.random.choice(every)()
            self.check()
        self.house.finish()
        for label, content in self.saves.items():
            for name in BOTH:
                (save,) = [s for s in self.house.show(name)["saves"] if s["label"] == label]
                for extent in range(EXTENTS):
                    held = self.house.on_medium(save["media"][0], extent)
                    assert held == content[name].get(extent, ""), (name, label, extent)
        self.check()
        assert self.house.subsystem.status()["operations"] == []
        self.house.end()


@pytest.mark.parametrize("seed", range(6))
def test_both_have_the_same_saves_and_are_taken_back_together(tmp_path: Path, seed: int) -> None:
    model = Model(tmp_path, seed)
    model.run(40)
    assert model.cuts
    assert model.refused < 20
