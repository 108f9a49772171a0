"""Verbs, hosts' writes, kills and lost legs at random; a model knows what the volume and each save
must hold.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable
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
        self.held: set[str] = set()
        self.last = 0  # how many saves the rules keep; 0: there are none
        self.done: dict[str, int] = {}
        self.undos: list[str] = []  # saves that recovers took

    def run(self, steps: int, kinds: list[Callable[[], None]] | None = None) -> None:
        kinds = kinds or (
            [self.write] * 6
            + [
                self.save,
                self.save,
                self.recover,
                self.undo,
                self.replace,
                self.swap,
                self.resync,
                self.release,
                self.restore,
            ]
            + [self.finish, self.finish, self.restart, self.hold, self.lose_leg]
            + [self.keep, self.let_go]
            + [self.add_leg, self.remove_leg, self.replace_leg, self.scrub]
        )
        for _ in range(steps):
            step = self.random.choice(kinds)
            before = len(self.saves)
            step()
            self.house.subsystem.settled()
            for old in self.undos[:-1]:
                if old not in self.house.saves():  # a newer one has ended it
                    self.undos.remove(old)
                    self.saves.pop(old, None)
            self.released()
            name = step.__name__
            self.done[name] = self.done.get(name, 0) + 1
            for old in self.undos[:-1]:
                if old not in self.house.saves():  # a newer one has ended it
                    self.undos.remove(old)
                    self.saves.pop(old, None)
            assert set(self.house.saves()) == set(self.saves), (name, before)
            assert self.held <= set(self.saves), name
            self.check()
        self.finish()
        undos = [save for save in self.house.show()["saves"] if save["undo"]]
        assert len([save for save in undos if not save["held_until"]]) <= 1
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

    def retain(self) -> None:
        """Other rules from here on; they do nothing before the next save."""
        self.last = self.random.randint(1, 3)
        self.house.subsystem.retain("ledger", last=self.last)

    def released(self) -> None:
        """What rules let go is neither held nor an image nor one of the newest that are whole."""
        there = {save["name"]: save for save in self.house.show()["saves"]}
        gone = [name for name in self.saves if name not in there]
        if not gone:
            return
        doors = [(o["save"], o["door"]) for o in self.house.subsystem.operations(limit=200)]
        whole = [n for n, s in there.items() if s["fill"] == "whole" and s["origin"] == "host"]
        for name in gone:
            assert self.last, name
            assert (name, "policy") in doors
            assert name not in self.held
            assert int(name.partition("@")[2]) < 1_000_000_000
            newer = [n for n in whole if int(n.partition("@")[2]) > int(name.partition("@")[2])]
            assert len(newer) >= self.last, name
            del self.saves[name]
            self.done["released by rules"] = self.done.get("released by rules", 0) + 1

    def keep(self) -> None:
        """A user holds a save: from then on it stays, whatever comes."""
        name = self.random.choice(sorted(self.saves) or ["ledger@999"])
        try:
            self.house.subsystem.hold(name, seconds=3600)
        except Refused as refused:
            assert refused.reason in EXPECTED, refused.message  # noqa: PT017
        else:
            self.held.add(name)

    def let_go(self) -> None:
        if self.held:
            self.house.subsystem.unhold(self.held.pop(), force=True)

    def chosen(self) -> str:
        return self.random.choice([*self.saves, "ledger@999"])

    def recover(self) -> None:
        name = self.chosen()
        no_undo = self.random.random() < 0.2
        self.take_back(name, lambda: self.house.subsystem.recover(name, no_undo=no_undo))

    def undo(self) -> None:
        taken = [save for save in self.house.show()["saves"] if save["undo"]]
        name = max(taken, key=lambda save: int(save["undo"]))["name"] if taken else ""
        self.take_back(name, lambda: self.house.subsystem.undo("ledger"))

    def take_back(self, name: str, ask: object) -> None:
        generation = self.house.show()["generation"]
        if self.verb("recover", ask) != "done":
            return
        old, self.now = self.now, dict(self.saves[name])
        undo = f"ledger@{generation}"
        if undo in self.house.saves():
            self.saves[undo] = dict(old)
            self.undos.append(undo)

    def replace(self) -> None:
        name = self.chosen()
        generation = self.house.show()["generation"]
        ask = lambda: self.house.subsystem.save("ledger", replace=name)  # noqa: E731
        if self.verb("copy", ask) == "done":
            del self.saves[name]
            self.saves[f"ledger@{generation}"] = dict(self.now)

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


@pytest.mark.parametrize("seed", range(3))
def test_rules_release_what_they_do_not_keep_and_nothing_else_through_anything(
    tmp_path: Path, seed: int
) -> None:
    model = Model(tmp_path, seed)
    model.retain()
    model.run(
        40,
        [model.write] * 2
        + [model.save] * 5
        + [model.recover, model.swap, model.retain, model.keep, model.let_go, model.let_go]
        + [model.finish] * 4
        + [model.restart, model.hold],
    )
    assert model.done["released by rules"]
