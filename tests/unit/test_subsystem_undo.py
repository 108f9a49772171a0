"""A recover keeps what it replaces and can be undone; a save takes an older save's medium."""

from __future__ import annotations

import errno
import os

import pytest

from targetplugin.errors import Reason, Refused
from tests.unit.fake_engine import FakeEngine
from tests.unit.house import EXTENT, MIB, House

ONE = bytes(range(16))


def recovered(house: House, **options: bool) -> dict[str, object]:
    """A volume with "x" in extent 3 at ledger@1, "y" written over it, and then recovered."""
    house.write(3, "x")
    house.subsystem.save("ledger", policy="copy", onto="c")
    house.finish()
    house.write(3, "y")
    return dict(house.subsystem.recover("ledger", **options))


# --- the undo save ------------------------------------------------------------------------------


def test_a_recover_keeps_what_it_replaces_on_a_spare(house: House) -> None:
    house.engine.hold_copies = False
    answer = recovered(house)
    undo, operation = answer["undo"], answer["operation"]
    assert isinstance(undo, dict)
    assert isinstance(operation, dict)
    assert (undo["name"], undo["media"]) == ("ledger@2", ["d"])
    assert (undo["undo"], undo["label"]) == (operation["id"], f"undo-{operation['id']}")
    assert operation["undo"] == "ledger@2"
    house.finish()
    kept = house.show()["saves"][1]
    assert kept["fill"] == "whole"
    assert [house.on_medium(medium, 3) for medium in "acd"] == ["x", "x", "y"]


def test_the_point_of_the_undo_save_is_the_recover_s_own(house: House) -> None:
    recovered(house)
    assert (house.show()["generation"], house.show()["parent"]) == (3, 1)
    assert house.subsystem.diff("ledger@1")["extents"] == 0
    assert house.subsystem.diff("ledger@2")["extents"] == 1


def test_the_undo_save_fills_while_the_recover_copies(house: House) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger", policy="copy")
    house.finish()
    house.write(3, "y")
    house.write(4, "y")
    house.engine.hold_copies = True
    house.subsystem.recover("ledger")
    assert house.show()["saves"][1]["fill"] == "filling"
    house.write(3, "z")  # over an extent that both wait for
    house.finish()
    assert [house.read(extent) for extent in (3, 4)] == ["z", ""]
    assert [house.on_medium("d", extent) for extent in (3, 4)] == ["y", "y"]


def test_without_a_spare_a_recover_says_that_it_can_not_be_undone(house: House) -> None:
    house.subsystem.media_remove("d")
    answer = recovered(house)
    assert answer["undo"] is None
    assert "no free medium of 8" in str(answer["undo_why"])
    with pytest.raises(Refused) as refused:
        house.subsystem.undo("ledger")
    assert refused.value.reason is Reason.STATE
    assert "no undo save was taken" in refused.value.message


def test_no_undo_leaves_the_spare_alone(house: House) -> None:
    answer = recovered(house, no_undo=True)
    assert answer["undo"] is None
    assert house.states()["d"] == "free"


def test_preview_tells_where_the_undo_save_would_go(house: House) -> None:
    house.subsystem.save("ledger")
    before = house.show(), house.states()
    assert house.subsystem.recover("ledger", preview=True)["undo_onto"] == "c"
    assert house.subsystem.recover("ledger", preview=True, no_undo=True)["undo_onto"] is None
    assert (house.show(), house.states()) == before


def test_a_newer_recover_ends_the_undo_save_of_the_one_before(house: House) -> None:
    house.subsystem.media_add(str(house.folder / "e"), size=12 * MIB)
    recovered(house)
    house.finish()
    house.write(3, "z")
    house.subsystem.recover("ledger")
    house.finish()
    assert house.saves() == ["ledger@1", "ledger@3"]
    assert house.states()["d"] == "free"
    assert house.on_medium("e", 3) == "z"


def test_with_one_spare_a_newer_recover_takes_the_medium_of_the_undo_save_before(
    house: House,
) -> None:
    recovered(house)
    house.finish()
    house.write(5, "z")
    before = house.engine.status(house.handle())["filled"]
    answer = house.subsystem.recover("ledger")
    assert answer["undo"]["media"] == ["d"]
    house.finish()
    assert house.saves() == ["ledger@1", "ledger@3"]
    assert [house.on_medium("d", extent) for extent in (3, 5)] == ["x", "z"]
    # What lies there differs from the present content in what was written since and what the
    # recover brought back, and only that is copied.
    assert house.engine.status(house.handle())["filled"] - before == 2
    house.subsystem.undo("ledger")
    house.finish()
    assert [house.read(extent) for extent in (3, 5)] == ["x", "z"]


@pytest.mark.parametrize("in_force", [True, False])
def test_a_recover_cut_short_leaves_both_or_no_trace(house: House, in_force: bool) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger", policy="copy")
    house.finish()
    house.write(3, "y")
    house.engine.hold_copies = True
    run = house.subsystem.recover
    house.killed_in("recover", in_force=in_force, run=lambda: run("ledger"))
    house.finish()
    assert house.read(3) == ("x" if in_force else "y")
    if not in_force:
        assert house.saves() == ["ledger@1"]
        assert house.states()["d"] == "free"
        return
    assert house.saves() == ["ledger@1", "ledger@2"]
    assert house.show()["saves"][1]["undo"]
    assert house.on_medium("d", 3) == "y"
    house.subsystem.undo("ledger")
    house.finish()
    assert house.read(3) == "y"


@pytest.mark.parametrize("in_force", [True, False])
def test_a_recover_cut_short_keeps_the_undo_save_that_it_would_have_ended(
    house: House, in_force: bool
) -> None:
    recovered(house)
    house.finish()
    house.write(3, "z")
    run = house.subsystem.recover
    house.killed_in("recover", in_force=in_force, run=lambda: run("ledger"))
    house.finish()
    assert house.saves() == ["ledger@1", "ledger@3" if in_force else "ledger@2"]
    kept = house.show()["saves"][1]
    assert (kept["fill"], kept["media"]) == ("whole", ["d"])
    assert house.on_medium("d", 3) == ("z" if in_force else "y")
    trailer = house.floor.media[house.floor.medium_row("d").uuid].trailer
    assert trailer is not None
    assert trailer.generation == kept["generation"]


def test_a_recover_that_is_refused_leaves_the_spare_free(house: House) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger", policy="copy")
    house.finish()
    house.write(3, "y")
    house.engine.broken |= {house.floor.medium_row(name).uuid for name in "ab"}
    with pytest.raises(Refused):
        house.subsystem.recover("ledger")
    house.engine.broken.clear()
    assert house.saves() == ["ledger@1"]
    assert house.states()["d"] == "free"
    assert house.read(3) == "y"


def test_a_spare_that_can_not_be_written_keeps_no_one_from_recovering(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger", policy="copy")
    house.finish()
    house.write(3, "y")

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    spare = house.floor.media[house.floor.medium_row("d").uuid]
    monkeypatch.setattr(spare, "write", broken)
    answer = house.subsystem.recover("ledger")
    assert answer["undo"] is None
    assert "d can't be written" in answer["undo_why"]
    house.finish()
    assert house.read(3) == "x"
    monkeypatch.undo()
    house.restart()
    assert house.saves() == ["ledger@1"]
    assert house.states()["d"] == "free"


def test_an_engine_that_can_not_take_the_undo_save_recovers_without(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = FakeEngine.recover

    def refuses(self: FakeEngine, *words: object, **named: object) -> object:
        if named.get("undo") is not None:
            raise Refused(Reason.STATE, "there is no room")
        return plain(self, *words, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(FakeEngine, "recover", refuses)
    answer = recovered(house)
    assert (answer["undo"], answer["undo_why"]) == (None, "there is no room")
    assert house.states()["d"] == "free"
    house.restart()
    assert house.saves() == ["ledger@1"]
    assert house.read(3) == "x"


def test_a_bare_volume_means_no_undo_save(house: House) -> None:
    recovered(house)
    house.finish()
    house.write(3, "z")
    house.subsystem.recover("ledger")
    house.finish()
    assert house.read(3) == "x"


def test_who_finds_no_spare_is_told_of_the_undo_save_that_has_it(house: House) -> None:
    recovered(house)
    house.finish()
    with pytest.raises(Refused) as refused:
        house.subsystem.save("ledger", policy="copy")
    assert refused.value.reason is Reason.NO_MEDIUM
    assert "release ledger@2, which is there for undo ledger alone" in str(refused.value.hint)


def test_an_undo_save_is_released_like_any_other(house: House) -> None:
    answer = recovered(house)
    house.finish()
    operation = answer["operation"]
    assert isinstance(operation, dict)
    house.subsystem.release(f"ledger@undo-{operation['id']}")
    assert house.states()["d"] == "free"
    with pytest.raises(Refused) as refused:
        house.subsystem.undo("ledger")
    assert "given up since" in refused.value.message


# --- undo ---------------------------------------------------------------------------------------


def test_undo_takes_the_last_recover_back(house: House) -> None:
    answer = recovered(house)
    house.finish()
    house.write(7, "n")  # by a host, after the recover
    undone = house.subsystem.undo("ledger")
    house.finish()
    assert undone["undone"] == answer["operation"]["id"]  # type: ignore[index]
    assert undone["operation"]["verb"] == "undo"
    assert [house.read(extent) for extent in (3, 7)] == ["y", ""]
    assert house.subsystem.operation(undone["operation"]["id"])["state"] == "done"
    assert house.subsystem.diff("ledger@1")["extents"] == 2 - 1
    assert house.on_medium("c", 3) == "x"
    assert house.engine.volumes[house.handle()].attentions == [(0x28, 0)] * 2


def test_an_undo_can_be_undone_and_that_too(house: House) -> None:
    house.subsystem.media_add(str(house.folder / "e"), size=12 * MIB)
    recovered(house)
    house.finish()
    for letter in ("y", "x", "y", "x"):
        house.subsystem.undo("ledger")
        house.finish()
        assert house.read(3) == letter
        assert len([save for save in house.show()["saves"] if save["undo"]]) == 1
        assert sorted(house.states()[name] == "free" for name in "de") == [False, True]


def test_saves_between_are_unharmed_and_differentials_right_after_an_undo(house: House) -> None:
    for name in "ef":
        house.subsystem.media_add(str(house.folder / name), size=12 * MIB)
    recovered(house)
    house.finish()
    house.write(5, "p")
    house.subsystem.save("ledger", policy="copy", label="between")
    house.finish()
    house.write(6, "q")
    house.subsystem.undo("ledger")
    house.finish()
    assert [house.read(extent) for extent in (3, 5, 6)] == ["y", "", ""]
    (medium,) = next(s for s in house.show()["saves"] if s["label"] == "between")["media"]
    assert [house.on_medium(medium, extent) for extent in (3, 5, 6)] == ["x", "p", ""]
    marked = {run["offset"] // EXTENT for run in house.subsystem.diff("ledger@between")["list"]}
    assert marked >= {3, 5}
    house.subsystem.recover("ledger@between")
    house.finish()
    assert [house.read(extent) for extent in (3, 5, 6)] == ["x", "p", ""]


# --- while the recover copies -------------------------------------------------------------------


def allow(house: House, copies: int) -> None:
    """How many copies may be under way that no host waits for."""
    house.engine.volumes[house.handle()].core.allowed(copies)
    if copies:
        house.engine.checkpoint(house.handle())  # so that they begin
        house.finish()


WRITTEN = {3: "x", 40: "p", 100: "r"}  # by extent, when ledger@1 was saved
REPLACED = {3: "y", 40: "q", 100: "s", 120: "t"}


@pytest.fixture(params=["split", "copy", "sparse", "sparse undo"])
def copying(request: pytest.FixtureRequest, house: House) -> House:
    """A volume that is being recovered from `ledger@1`: nothing is copied, but for extent 3, which a host has
    written again; what was replaced is `ledger@2`, on a spare or without fill.
    """
    for extent, letter in WRITTEN.items():
        house.write(extent, letter)
    policy = request.param.partition(" ")[0]
    house.subsystem.save("ledger", policy=policy)
    house.finish()
    if request.param == "sparse undo":  # no spare is left for the undo save
        house.subsystem.volume_create("other", 8 * MIB, media=["d"], mirror=1)
    for extent, letter in REPLACED.items():
        house.write(extent, letter)
    allow(house, 0)
    answer = house.subsystem.recover("ledger@1")
    assert answer["undo"]["fill"] in ("filling", "unfilled")
    assert house.show()["state"] == "recovering"
    house.write(3, "w")
    return house


def content(house: House) -> dict[int, str]:
    return {extent: house.read(extent) for extent in (*REPLACED, 5)}


def test_a_recover_that_still_copies_is_taken_back_at_once(copying: House) -> None:
    house = copying
    recover = house.subsystem.operations("ledger")[0]
    answer = house.subsystem.undo("ledger")
    assert (answer["undone"], answer["undo"]) == (recover["id"], None)
    assert "had not copied all" in answer["undo_why"]
    assert content(house) == {**REPLACED, 5: ""}
    told = house.subsystem.operation(recover["id"])
    assert told["state"] == "aborted"
    assert (
        told["error"]
        == f"operation {answer['operation']['id']}, an undo, took it back while it copied"
    )
    house.write(40, "z")
    house.write(7, "z")
    allow(house, 2)
    assert house.show()["state"] == "serving" or len(house.show()["legs"]) == 1
    assert content(house) == {**REPLACED, 40: "z", 5: ""}
    assert house.subsystem.operation(answer["operation"]["id"])["state"] == "done"
    assert house.subsystem.diff("ledger@2")["extents"] == 2
    house.subsystem.recover("ledger@1")
    house.finish()
    assert content(house) == {**WRITTEN, 120: "", 5: ""}
    house.subsystem.release("ledger@1")


def test_what_was_taken_back_so_can_not_be_had_again(copying: House) -> None:
    copying.subsystem.undo("ledger")
    with pytest.raises(Refused, match="no undo save was taken before it"):
        copying.subsystem.undo("ledger")
    allow(copying, 2)


def test_the_medium_that_was_read_is_let_go(copying: House) -> None:
    copying.subsystem.undo("ledger")
    allow(copying, 2)
    kept = copying.show()["saves"][0]
    assert (kept["name"], kept["activity"]) == ("ledger@1", "idle")
    copying.subsystem.release("ledger@1")


@pytest.mark.parametrize("in_force", [False, True])
def test_such_an_undo_cut_short_is_in_force_or_the_recover_goes_on(
    copying: House, in_force: bool
) -> None:
    house = copying
    (recover, *_) = house.subsystem.operations("ledger")
    house.killed_in("recover", in_force=in_force, run=lambda: house.subsystem.undo("ledger"))
    wanted = {**REPLACED, 5: ""} if in_force else {**WRITTEN, 3: "w", 120: "", 5: ""}
    assert content(house) == wanted
    house.finish()
    assert content(house) == wanted
    undo = house.subsystem.operations("ledger")[0]
    states = [house.subsystem.operation(row["id"])["state"] for row in (recover, undo)]
    assert states == (["aborted", "done"] if in_force else ["done", "failed"])
    if not in_force:
        house.subsystem.undo("ledger")
        house.finish()
        assert content(house) == {**REPLACED, 5: ""}


def test_an_undo_that_still_copies_is_taken_back_too(house: House) -> None:
    house.media("e", size=12 * MIB)
    recovered(house)
    house.finish()
    house.write(3, "v")
    allow(house, 0)
    house.subsystem.undo("ledger")
    assert house.read(3) == "y"
    house.subsystem.undo("ledger")
    assert house.read(3) == "v"
    allow(house, 2)
    assert house.read(3) == "v"


def test_a_preview_of_such_an_undo_does_nothing(copying: House) -> None:
    before = copying.show()
    del before["operation"]  # whose estimate goes on
    told = copying.subsystem.undo("ledger", preview=True)
    assert told["undo_onto"] is None
    assert "had not copied all" in told["undo_why"]
    after = copying.show()
    assert after.pop("operation")["verb"] == "recover"
    assert after == before
    allow(copying, 2)


def test_a_recover_without_an_undo_save_is_waited_for(house: House) -> None:
    house.write(3, "x")
    house.subsystem.save("ledger")
    house.write(3, "y")
    allow(house, 0)
    house.subsystem.recover("ledger", no_undo=True)
    with pytest.raises(Refused, match="no undo save was taken"):
        house.subsystem.undo("ledger")
    allow(house, 2)


def test_undo_names_the_operation_that_it_means(house: House) -> None:
    house.subsystem.media_add(str(house.folder / "e"), size=12 * MIB)
    first = recovered(house)["operation"]
    house.finish()
    second = house.subsystem.recover("ledger")["operation"]
    house.finish()
    for number, reason in ((first["id"], Reason.STATE), (1, Reason.NOT_FOUND)):  # type: ignore[index]
        with pytest.raises(Refused) as refused:
            house.subsystem.undo("ledger", op=number)
        assert refused.value.reason is reason
    house.subsystem.undo("ledger", op=second["id"])


def test_undo_of_nothing_and_of_a_swap_is_refused_with_what_to_do(house: House) -> None:
    with pytest.raises(Refused) as refused:
        house.subsystem.undo("ledger")
    assert "was not recovered" in refused.value.message
    recovered(house)
    house.finish()
    house.subsystem.swap("ledger@1")
    with pytest.raises(Refused) as refused:
        house.subsystem.undo("ledger")
    assert refused.value.hint == "swap ledger@3 takes it back"


def test_the_same_undo_asked_twice_is_one(house: House) -> None:
    recovered(house)
    house.finish()
    first = house.subsystem.undo("ledger", request=ONE)
    house.finish()
    house.write(3, "z")
    house.restart()
    again = house.subsystem.undo("ledger", request=ONE)
    for key in ("undone", "undo", "undo_why", "save"):
        assert again[key] == first[key]
    assert house.read(3) == "z"
    with pytest.raises(Refused) as refused:
        house.subsystem.undo("ledger", no_undo=True, request=ONE)
    assert refused.value.reason is Reason.REQUEST_MISMATCH


def test_hosts_need_the_right_to_undo_and_can_not_force(house: House) -> None:
    recovered(house)
    house.finish()
    house.catalog.volume_set(house.floor.volume("ledger").uuid, rights="save")
    with pytest.raises(Refused) as refused:
        house.subsystem.undo("ledger", door="in-band")
    assert refused.value.reason is Reason.RIGHTS
    house.catalog.volume_set(house.floor.volume("ledger").uuid, rights="all")
    with pytest.raises(Refused) as refused:
        house.subsystem.undo("ledger", door="in-band", force=True)
    assert refused.value.reason is Reason.RIGHTS
    house.subsystem.undo("ledger", door="in-band")


@pytest.mark.parametrize("in_force", [True, False])
def test_an_undo_cut_short_goes_on_or_has_no_trace(house: House, in_force: bool) -> None:
    recovered(house)
    house.finish()
    house.engine.hold_copies = True
    run = house.subsystem.undo
    house.killed_in("recover", in_force=in_force, run=lambda: run("ledger"))
    house.finish()
    assert house.read(3) == ("y" if in_force else "x")
    operation = house.subsystem.operations("ledger")[0]
    assert operation["state"] == ("done" if in_force else "failed")


# --- a save onto an older one's medium ----------------------------------------------------------


def test_a_save_onto_an_older_one_s_medium_copies_only_what_differs(house: House) -> None:
    house.write(1, "a")
    house.write(3, "x")
    house.subsystem.save("ledger", policy="copy", label="night")
    house.finish()
    house.write(3, "y")
    house.subsystem.save("ledger", policy="copy", onto="d")
    house.finish()
    house.write(4, "z")
    before = house.engine.status(house.handle())["filled"]
    answer = house.subsystem.save("ledger", replace="ledger@night")
    assert answer["replaced"] == "ledger@1"
    assert (answer["save"]["label"], answer["save"]["media"]) == ("night", ["c"])
    house.finish()
    done = house.subsystem.operation(answer["operation"]["id"])
    assert (done["state"], done["extents_changed"], done["extents_copied"]) == ("done", 2, 2)
    assert house.engine.status(house.handle())["filled"] - before == 2
    assert house.saves() == ["ledger@2", "ledger@3"]
    assert [house.on_medium("c", extent) for extent in (1, 3, 4)] == ["a", "y", "z"]
    assert house.subsystem.diff("ledger@night")["extents"] == 0


def test_preview_of_such_a_save_tells_what_would_end(house: House) -> None:
    house.subsystem.save("ledger", policy="copy")
    house.finish()
    house.write(3, "y")
    before = house.show(), house.states()
    told = house.subsystem.save("ledger", replace="ledger@1", preview=True)
    assert (told["replaced"], told["onto"]) == ("ledger@1", "c")
    assert told["operation"]["extents_changed"] == 1
    assert (house.show(), house.states()) == before


def test_hosts_writes_are_kept_from_such_a_save_too(house: House) -> None:
    house.write(1, "a")
    house.subsystem.save("ledger", policy="copy")
    house.finish()
    house.write(3, "y")
    house.engine.hold_copies = True
    house.subsystem.save("ledger", replace="ledger@1", label="again")
    for extent in (1, 3, 5):
        house.write(extent, "n")
    house.finish()
    assert [house.on_medium("c", extent) for extent in (1, 3, 5)] == ["a", "y", ""]


@pytest.mark.parametrize("in_force", [True, False])
def test_such_a_save_cut_short_is_one_of_the_two(house: House, in_force: bool) -> None:
    house.write(1, "a")
    house.subsystem.save("ledger", policy="copy", label="night")
    house.finish()
    house.write(3, "y")
    run = house.subsystem.save
    house.killed_in("copy", in_force=in_force, run=lambda: run("ledger", replace="ledger@night"))
    house.write(1, "n")
    house.finish()
    (save,) = house.show()["saves"]
    assert (save["name"], save["label"]) == ("ledger@2" if in_force else "ledger@1", "night")
    assert save["fill"] == "whole"
    assert [house.on_medium("c", extent) for extent in (1, 3)] == ["a", "y" if in_force else ""]
    trailer = house.floor.media[house.floor.medium_row("c").uuid].trailer
    assert trailer is not None
    assert (trailer.generation, trailer.label) == (save["generation"], "night")


def test_a_refused_one_leaves_the_older_as_it_was(house: House) -> None:
    house.write(1, "a")
    house.subsystem.save("ledger", policy="copy", label="night")
    house.finish()
    house.write(1, "b")
    house.engine.broken |= {house.floor.medium_row("c").uuid}
    with pytest.raises(Refused):
        house.subsystem.save("ledger", replace="ledger@night")
    house.engine.broken.clear()
    assert house.saves() == ["ledger@1"]
    house.subsystem.recover("ledger@night")
    house.finish()
    assert house.read(1) == "a"


def test_one_that_something_depends_on_is_not_replaced(house: House) -> None:
    house.engine.hold_copies = True
    house.subsystem.save("ledger", policy="copy")
    with pytest.raises(Refused) as refused:
        house.subsystem.save("ledger", replace="ledger@1")
    assert refused.value.reason is Reason.BUSY
    house.finish()
    house.write(1, "b")
    house.engine.hold_copies = True
    house.subsystem.recover("ledger@1")
    with pytest.raises(Refused) as refused:
        house.subsystem.save("ledger", replace="ledger@1")
    assert refused.value.reason is Reason.BUSY


def test_neither_another_volume_s_nor_with_another_medium(house: House) -> None:
    house.subsystem.save("ledger", policy="copy")
    house.finish()
    with pytest.raises(Refused) as refused:
        house.subsystem.save("ledger", replace="ledger@1", onto="d")
    assert refused.value.reason is Reason.USAGE
    with pytest.raises(Refused) as refused:
        house.subsystem.save("ledger", replace="ledger@7")
    assert refused.value.reason is Reason.NOT_FOUND


def test_a_swapped_out_pair_of_legs_gives_one_medium_to_the_new_save(house: House) -> None:
    house.write(1, "a")
    house.subsystem.save("ledger", policy="copy")
    house.finish()
    house.subsystem.swap("ledger@1")
    house.write(1, "b")
    house.subsystem.save("ledger", replace="ledger@2")
    house.finish()
    assert house.on_medium("a", 1) == "b"
    assert house.states()["b"] == "free"
