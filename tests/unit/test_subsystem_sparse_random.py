"""Saves without fill among all other verbs at random: each holds what the volume was, whatever comes."""

from __future__ import annotations

from pathlib import Path

import pytest

from targetplugin.errors import Refused
from tests.unit.fake_engine import PowerCut
from tests.unit.house import EXTENT, letter_of
from tests.unit.test_subsystem_random import EXPECTED, EXTENTS, Model


class SparseModel(Model):
    """The model of all saves, with some that share a store."""

    def sparse(self) -> None:
        generation = self.house.show()["generation"]
        if self.random.random() < 0.2:
            self.house.engine.cut_in_store = "save_sparse"
        try:
            self.house.subsystem.save("ledger", policy="sparse")
        except PowerCut:
            self.house.restart()
        except Refused as refused:
            assert refused.reason in EXPECTED, refused.message  # noqa: PT017
            return
        finally:
            self.house.engine.cut_in_store = ""
        self.saves[f"ledger@{generation}"] = dict(self.now)

    def fill(self) -> None:
        name = self.chosen()
        try:
            answer = self.house.subsystem.fill(name)
        except Refused as refused:
            assert refused.reason in EXPECTED, refused.message  # noqa: PT017
            return
        if self.random.random() < 0.4:
            self.house.restart()
        assert self.house.wait(answer)["state"] == "done"
        self.filled = name

    def check(self, *, whole: bool = False) -> None:
        super().check()
        told = self.house.show()
        shared = [save for save in told["saves"] if save["kept_bytes"] is not None]
        assert {save["fill"] for save in shared} <= {"unfilled"}
        assert bool(told["store"]) == bool(shared)
        handle = self.house.handle()
        for save in shared:
            held = self.saves[save["name"]]
            for extent in range(EXTENTS) if whole else self.random.sample(range(EXTENTS), 4):
                data = self.house.engine.look(handle, save["generation"], extent * EXTENT, EXTENT)
                assert letter_of(data) == held.get(extent, ""), save["name"]
        filled = [save for save in told["saves"] if save["name"] == self.filled]
        for save in filled:
            assert save["fill"] == "whole"
            for extent in range(EXTENTS):
                seen = self.house.on_medium(save["media"][0], extent)
                assert seen == self.saves[self.filled].get(extent, "")
        self.filled = ""

    filled = ""


@pytest.mark.parametrize("seed", [1, 2, 12, 16])
def test_each_holds_what_the_volume_was_through_anything(tmp_path: Path, seed: int) -> None:
    model = SparseModel(tmp_path, seed)
    model.run(
        60,
        [model.write] * 6
        + [model.sparse] * 6
        + [model.fill, model.fill, model.recover, model.recover, model.undo, model.save]
        + [model.release, model.release, model.swap, model.resync, model.replace]
        + [model.finish, model.finish, model.restart, model.hold, model.lose_leg]
        + [model.keep, model.let_go],
    )
    assert model.done["sparse"]
