"""Verbs, hosts' writes, kills and lost legs at random; a model knows what the volume and each save
must hold.
"""

from __future__ import annotations

import random
import string
from pathlib import Path

import pytest

from targetplugin.errors import Reason, Refused
from tests.unit.fake_engine import PowerCut
from tests.unit.house import House, image

EXTENTS = 128
EXPECTED = (Reason.BUSY, Reason.STATE, Reason.NO_MEDIUM, Reason.NOT_FOUND)
Content = dict[int, str]


class Model:
    """Runs steps from a seed and says what is wrong."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.house = House(folder)
        self.house.media("a", "b", "c", "d", "e", "f")
        self.house.volume()
        self.now: Content = {}
        self.saves: dict[str, Content] = {}
        self.done: dict[str, int] = {}

    def run(self, steps: int) -> None:
        for _ in range(steps):
            step = self.random.choice(
                [self.write] * 6
                + [
                    self.save,
                    self.save,
                    self.recover,
                    self.swap,
                    self.resync,
                    self.release,
                    self.restore,
                ]
                + [self.finish, self.finish, self.restart, self.hold, self.lose_leg]
                + [self.add_leg, self.remove_leg, self.replace_leg, self.scrub]
            )
            before = len(self.saves)
            step()
            name = step.__name__
            self.done[name] = self.done.get(name, 0) + 1
            assert set(self.house.saves()) == set(self.saves), (name, before)
            self.check()
        self.finish()
        self.check(whole=True)
        self.house.end()

    def check(self, *, whole: bool = False) -> None:
        for extent in self.random.sample(range(EXTENTS), 12):
            assert self.house.read(extent) == self.now.get(extent, ""), extent
        for save in self.house.show()["saves"]:
            held = self.saves[save["name"]]
            differ = {e for e in range(EXTENTS) if held.get(e, "") != self.now.get(e, "")}
            told = self.house.subsystem.diff(save["name"])["list"]
            marked = {
                extent
                for run in told
                for extent in range(
                    run["offset"] // 65536, (run["offset"] + run["length"]) // 65536
                )
            }
            assert differ <= marked, save["name"]
            assert save["fill"] == "whole" or not whole
            if save["fill"] == "whole" and (whole or self.random.random() < 0.1):
                for medium in save["media"]:
                    for extent in range(EXTENTS):
                        assert self.house.on_medium(medium, extent) == held.get(extent, "")

    # --- steps ---------------------------------------------------------------------------------

    def write(self) -> None:
        extent = self.random.randrange(EXTENTS)
        self.now[extent] = self.random.choice(string.ascii_letters)
        self.house.write(extent, self.now[extent])

    def hold(self) -> None:
        self.house.engine.hold_copies = True

    def finish(self) -> None:
        self.house.finish()
        self.house.subsystem._comeback.look()
        self.house.finish()

    def restart(self) -> None:
        if self.random.random() < 0.5:
            self.house.restart()
        else:
            self.house.end()
            self.house.boot()

    def add_leg(self) -> None:
        if len(self.house.show()["legs"]) < 3:
            self.verb("", lambda: self.house.subsystem.leg_add("ledger"))

    def remove_leg(self) -> None:
        legs = [leg["medium"] for leg in self.house.show()["legs"]]
        leg = self.random.choice(legs)
        self.verb("", lambda: self.house.subsystem.leg_remove("ledger", leg))

    def replace_leg(self) -> None:
        """Those that are out of sync now, at once; what failed is given anew."""
        self.house.subsystem.volume_set("ledger", replace_failed=True, replace_after=0)
        self.house.subsystem._replace.look()
        self.house.subsystem.volume_set("ledger", replace_failed=False)
        for name, state in self.house.states().items():
            if state == "failed":
                self.house.subsystem.media_remove(name)
                self.house.subsystem.media_add(str(self.house.folder / name))

    def scrub(self) -> None:
        try:
            answer = self.house.subsystem.scrub("ledger", rate=1 << 40)
        except Refused as refused:
            assert refused.reason in EXPECTED, refused.message  # noqa: PT017
            return
        assert self.house.wait(answer)["result"]["list"] == []

    def lose_leg(self) -> None:
        states = {leg["medium"]: leg["state"] for leg in self.house.show()["legs"]}
        in_sync = [name for name, state in states.items() if state == "in_sync"]
        if len(in_sync) < 2:
            return
        uuid = self.house.floor.medium_row(self.random.choice(in_sync)).uuid
        self.house.engine.broken.add(uuid)
        self.write()
        self.house.engine.broken.clear()
        self.house.subsystem.settled()

    def verb(self, kind: str, ask: object) -> str:
        """Asks for a point, now and then with a kill in it: "done", "refused" or "undone"."""
        kill = self.random.random()
        if kill < 0.15:
            self.house.engine.cut_before = kind
        elif kill < 0.3:
            self.house.engine.cut_after = kind
        try:
            ask()  # type: ignore[operator]
        except PowerCut:
            self.house.restart()
            return "done" if kill >= 0.15 else "undone"
        except Refused as refused:
            assert refused.reason in EXPECTED, refused.message  # noqa: PT017
            self.house.engine.cut_before = self.house.engine.cut_after = ""
            return "refused"
        self.house.engine.cut_before = self.house.engine.cut_after = ""
        return "done"

    def save(self) -> None:
        in_sync = sum(leg["state"] == "in_sync" for leg in self.house.show()["legs"])
        policy = self.random.choice(["split", "copy"])
        kind = "split" if policy == "split" and in_sync > 1 else "copy"
        generation = self.house.show()["generation"]
        if self.verb(kind, lambda: self.house.subsystem.save("ledger", policy=policy)) == "done":
            self.saves[f"ledger@{generation}"] = dict(self.now)

    def restore(self) -> None:
        letters = "".join(self.random.choices(string.ascii_letters, k=16))
        path = image(self.house.folder / "image", letters)
        try:
            answer = self.house.subsystem.restore("ledger", image=path)
        except Refused as refused:
            assert refused.reason is Reason.NO_MEDIUM, refused.message  # noqa: PT017
            return
        assert self.house.wait(answer)["state"] == "done"
        self.saves[answer["save"]["name"]] = dict(enumerate(letters))

    def chosen(self) -> str:
        return self.random.choice([*self.saves, "ledger@999"])

    def recover(self) -> None:
        name = self.chosen()
        if self.verb("recover", lambda: self.house.subsystem.recover(name)) == "done":
            self.now = dict(self.saves[name])

    def swap(self) -> None:
        name = self.chosen()
        generation = self.house.show()["generation"]
        if self.verb("swap", lambda: self.house.subsystem.swap(name)) == "done":
            self.now, old = dict(self.saves.pop(name)), self.now
            self.saves[f"ledger@{generation}"] = dict(old)

    def resync(self) -> None:
        name = self.chosen()
        if len(self.house.show()["legs"]) > 3:
            return
        if self.verb("", lambda: self.house.subsystem.resync(name)) == "done":
            del self.saves[name]

    def release(self) -> None:
        name = self.chosen()
        if self.verb("", lambda: self.house.subsystem.release(name)) == "done":
            del self.saves[name]


@pytest.mark.parametrize("seed", range(6))
def test_the_volume_and_its_saves_hold_what_they_must_through_anything(
    tmp_path: Path, seed: int
) -> None:
    Model(tmp_path, seed).run(50)
