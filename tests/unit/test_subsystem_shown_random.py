"""Clones and shown saves among all other verbs at random: each holds what its save held, and what was
written to it since, through kills too.
"""

from __future__ import annotations

import string
from pathlib import Path

import pytest

from targetplugin.errors import Refused
from tests.unit.fake_kernel import HOST, FakeKernel
from tests.unit.house import EXTENT, letter_of
from tests.unit.test_subsystem_random import EXPECTED, EXTENTS, Content, Model

MOST_CLONES = 2


class Crowd(Model):
    """The same, and hosts that have clones of saves or look at them."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, seed)
        self.house.media("g", "h")
        self.house.kernel = self.house.rings = FakeKernel()
        self.house.restart()
        self.clones: dict[str, Content] = {}
        self.shown: set[str] = set()
        self.made = 0

    def write(self) -> None:
        others = [self.clone, self.clone, self.write_clone, self.delete_clone, self.show, self.hide]
        self.random.choice([super().write] * 3 + others)()

    def kept(self) -> list[str]:
        """Saves that no later recover releases by itself."""
        return [name for name in self.saves if name not in self.undos]

    def clone(self) -> None:
        kept = self.kept()
        if not kept or len(self.clones) == MOST_CLONES:
            return
        name = self.random.choice(kept)
        self.made += 1
        clone = f"clone{self.made}"
        told = self.verb("recover", lambda: self.house.subsystem.clone(name, clone))
        there = clone in [volume["name"] for volume in self.house.subsystem.volume_list()]
        assert there <= (told == "done"), "it was refused, or undone, and is there"
        if there:
            self.clones[clone] = dict(self.saves[name])

    def write_clone(self) -> None:
        for clone, content in self.clones.items():
            extent = self.random.randrange(EXTENTS)
            content[extent] = self.random.choice(string.ascii_letters)
            self.house.write(extent, content[extent], clone)

    def delete_clone(self) -> None:
        if self.clones and self.random.random() < 0.5:
            clone = self.random.choice(list(self.clones))
            del self.clones[clone]
            self.house.subsystem.volume_delete(clone, force=True)

    def show(self) -> None:
        kept = self.kept()
        name = self.random.choice(kept) if kept else ""
        if not name or name in self.shown:
            return
        try:
            self.house.subsystem.export(name, [HOST])
        except Refused as refused:
            assert refused.reason in EXPECTED, refused.message  # noqa: PT017
            return
        self.shown.add(name)

    def hide(self) -> None:
        if self.shown:
            self.house.subsystem.unexport(self.shown.pop())

    def check(self, *, whole: bool = False) -> None:
        super().check(whole=whole)
        assert self.shown <= set(self.saves), "a shown save was taken away"
        handles = {self.house.subsystem.volume_of(h): h for h in self.house.engine.volumes}
        for name in self.shown:
            for extent in self.random.sample(range(EXTENTS), 4):
                seen = self.house.engine.read(handles[name], extent * EXTENT, EXTENT)
                assert letter_of(seen) == self.saves[name].get(extent, ""), (name, extent)
        for clone, content in self.clones.items():
            for extent in range(EXTENTS) if whole else self.random.sample(range(EXTENTS), 8):
                assert self.house.read(extent, clone) == content.get(extent, ""), (clone, extent)
            assert not whole or self.house.show(clone)["state"] == "serving"


@pytest.mark.parametrize("seed", range(4))
def test_clones_and_shown_saves_hold_what_they_must_through_anything(
    tmp_path: Path, seed: int
) -> None:
    Crowd(tmp_path, seed).run(60)
