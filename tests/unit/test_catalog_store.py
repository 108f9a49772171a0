"""The catalog: what is put in comes out, what must be unique is, transactions are whole."""

import sqlite3
import threading

import pytest

from targetplugin.catalog import (
    ALL,
    LIVE,
    Catalog,
    Export,
    Generation,
    Initiator,
    Leg,
    MediumRow,
    Save,
    Volume,
)
from targetplugin.catalog.journal import EVENTS_KEPT
from targetplugin.errors import Reason, Refused

LEDGER, OTHER = b"L" * 16, b"O" * 16
A, B, C = b"A" * 16, b"B" * 16, b"C" * 16
ASKED = bytes(range(16))


def medium(uuid: bytes) -> MediumRow:
    name = uuid.decode()[0].lower()
    return MediumRow(uuid, name, f"/dev/disk/by-id/virtio-{name}", "block", 64 << 20, 63 << 20)


@pytest.fixture
def catalog(tmp_path):
    catalog = Catalog(tmp_path / "state")
    yield catalog
    catalog.close()


@pytest.fixture
def ledger(catalog):
    for uuid in (A, B, C):
        catalog.medium_add(medium(uuid))
    return catalog.volume_add(Volume(LEDGER, "ledger", "6" * 32, 32 << 20, 65536), [A, B])


def refused(reason, function, *args, **kwargs):
    with pytest.raises(Refused) as caught:
        function(*args, **kwargs)
    assert caught.value.reason is reason
    return caught.value


# --- media ----------------------------------------------------------------------------------------


def test_a_medium_is_found_by_uuid_name_path_and_hex(catalog, ledger):
    row = catalog.medium_get(A)
    assert row.added
    for name in ("a", "/dev/disk/by-id/virtio-a", A.hex(), A.hex().upper()):
        assert catalog.medium_find(name) == row
    assert catalog.medium_find("z") is None
    assert catalog.medium_get(OTHER) is None
    assert [one.name for one in catalog.media()] == ["a", "b", "c"]


def test_a_medium_changes_its_path_and_state(catalog, ledger):
    row = catalog.medium_set(C, path="/dev/sdz", state="missing")
    assert (row.path, row.state) == ("/dev/sdz", "missing")
    assert catalog.medium_get(C) == row
    refused(Reason.NOT_FOUND, catalog.medium_set, OTHER, state="free")


def test_two_media_do_not_share_a_name_or_identity(catalog, ledger):
    assert (
        "media.name"
        in refused(
            Reason.EXISTS, catalog.medium_add, MediumRow(OTHER, "a", "/x", "file", 1, 1)
        ).message
    )
    refused(Reason.EXISTS, catalog.medium_add, MediumRow(A, "new", "/x", "file", 1, 1))


def test_a_medium_in_use_is_not_forgotten(catalog, ledger):
    refused(Reason.STATE, catalog.medium_remove, A)
    catalog.save_add(Save(LEDGER, 1, media=(C,)))
    assert "release" in refused(Reason.STATE, catalog.medium_remove, C).hint
    catalog.save_remove(LEDGER, 1)
    catalog.medium_remove(C)
    refused(Reason.NOT_FOUND, catalog.medium_remove, C)


# --- volumes and generations ----------------------------------------------------------------------


def test_a_volume_has_its_legs_in_order_and_a_live_generation(catalog, ledger):
    assert catalog.volume_find("ledger") == catalog.volume_get(LEDGER) == ledger
    assert catalog.legs(LEDGER) == [Leg(LEDGER, A, 0), Leg(LEDGER, B, 1)]
    assert catalog.generations(LEDGER) == [Generation(LEDGER, 1, 0, LIVE)]
    catalog.legs_set(LEDGER, [C, A])
    assert [leg.medium for leg in catalog.legs(LEDGER)] == [C, A]


def test_a_volume_that_cannot_be_added_leaves_nothing(catalog, ledger):
    refused(Reason.EXISTS, catalog.volume_add, Volume(OTHER, "other", "7" * 32, 1, 65536), [C, A])
    assert catalog.volumes() == [ledger]
    assert catalog.legs(OTHER) == []
    refused(Reason.STATE, catalog.volume_add, Volume(OTHER, "x", "7" * 32, 1, 65536), [OTHER])


def test_a_volume_keeps_counters_and_details(catalog, ledger):
    row = catalog.volume_set(LEDGER, events=2**40, op=9, details={"source": "3", "list": [1]})
    assert catalog.volume_get(LEDGER) == row
    assert row.details == {"source": "3", "list": [1]}


def test_a_point_freezes_the_live_generation(catalog, ledger):
    name = catalog.maps.write(LEDGER, 1, b"\5")
    row = catalog.advance(LEDGER, name)
    assert (row.generation, row.parent) == (2, 1)
    row = catalog.advance(LEDGER, ALL, parent=1)
    assert (row.generation, row.parent) == (3, 1)
    assert catalog.generations(LEDGER) == [
        Generation(LEDGER, 1, 0, name),
        Generation(LEDGER, 2, 1, ALL),
        Generation(LEDGER, 3, 1, LIVE),
    ]
    assert catalog.map_names() == [name]


def test_a_deleted_volume_leaves_only_its_history(catalog, ledger):
    catalog.save_add(Save(LEDGER, 1, media=(C,)))
    catalog.export_put(Export(LEDGER, "iqn.2026-11.org.example:l", (), 0, (Initiator("iqn.x"),)))
    catalog.backup_add(LEDGER, "/b.qcow2", "b", "qcow2", 1)
    operation = catalog.operation_add("save", volume=LEDGER, volume_name="ledger")
    catalog.volume_remove(LEDGER)
    for empty in (
        catalog.volumes(),
        catalog.legs(LEDGER),
        catalog.generations(LEDGER),
        catalog.saves(),
        catalog.exports(),
        catalog.backups(),
    ):
        assert empty == []
    assert catalog.operation_get(operation.id).volume_name == "ledger"
    catalog.medium_remove(A)
    refused(Reason.NOT_FOUND, catalog.volume_remove, LEDGER)


# --- saves ----------------------------------------------------------------------------------------


def test_a_save_is_found_by_generation_slot_label_and_medium(catalog, ledger):
    first = catalog.save_add(Save(LEDGER, 1, "night", media=(C,), created="2026-01-01T00:00:00Z"))
    second = catalog.save_add(Save(LEDGER, 2, "night", "filling", created="2026-01-02T00:00:00Z"))
    assert (first.slot, second.slot) == (1, 2)
    assert catalog.save_get(LEDGER, 1) == catalog.save_by_slot(LEDGER, 1) == first
    assert catalog.save_by_label(LEDGER, "night") == second
    assert catalog.save_on(C) == first
    assert catalog.save_on(A) is None
    assert catalog.saves(LEDGER) == catalog.saves() == [first, second]
    assert catalog.save_get(LEDGER, 3) is None


def test_the_lowest_free_slot_is_used_again(catalog, ledger):
    for generation in range(1, 256):
        assert catalog.save_add(Save(LEDGER, generation)).slot == generation
    assert "release" in refused(Reason.STATE, catalog.save_add, Save(LEDGER, 300)).hint
    catalog.save_remove(LEDGER, 200)
    catalog.save_remove(LEDGER, 7)
    assert catalog.save_add(Save(LEDGER, 301)).slot == 7
    assert catalog.save_add(Save(LEDGER, 302)).slot == 200


def test_a_save_changes_its_fill_and_media(catalog, ledger):
    catalog.save_add(Save(LEDGER, 1, fill="filling", media=(C,)))
    assert catalog.save_set(LEDGER, 1, fill="whole").media == (C,)
    assert catalog.save_set(LEDGER, 1, media=()).media == ()
    assert catalog.save_on(C) is None
    refused(Reason.NOT_FOUND, catalog.save_set, LEDGER, 9, fill="whole")
    refused(Reason.NOT_FOUND, catalog.save_set, LEDGER, 9, media=())


def test_a_medium_holds_one_save(catalog, ledger):
    catalog.save_add(Save(LEDGER, 1, media=(C,)))
    refused(Reason.EXISTS, catalog.save_add, Save(LEDGER, 2, media=(C,)))
    assert catalog.save_get(LEDGER, 2) is None


# --- exports and backups --------------------------------------------------------------------------


def test_an_export_comes_back_with_its_secrets_and_shows_none(catalog, ledger):
    hosts = (Initiator("iqn.b", "user", "secret-of-12"), Initiator("iqn.a"))
    export = Export(LEDGER, "iqn.2026-11.org.example:l", ("10.0.0.1:3260",), 0, hosts)
    assert catalog.export_put(export) == catalog.export_get(LEDGER) == export
    assert "secret" not in repr(catalog.export_get(LEDGER))
    fewer = Export(LEDGER, export.target, export.portals, 0, hosts[:1])
    catalog.export_put(fewer)
    assert catalog.exports() == [fewer]
    catalog.export_remove(LEDGER)
    assert catalog.export_get(LEDGER) is None
    refused(Reason.NOT_FOUND, catalog.export_remove, LEDGER)


def test_a_backups_number_is_never_used_again(catalog, ledger):
    one = catalog.backup_add(LEDGER, "/srv/l.qcow2", "weekly", "qcow2", 32 << 20)
    assert catalog.backups(LEDGER) == [one]
    catalog.backup_remove(one.number)
    assert catalog.backup_add(LEDGER, "/srv/m.raw", "", "raw", 1).number == one.number + 1
    assert catalog.backup_get(one.number) is None
    refused(Reason.NOT_FOUND, catalog.backup_remove, one.number)


# --- operations, requests, journal ----------------------------------------------------------------


def test_an_operation_carries_what_it_intends_and_ends_once(catalog, ledger):
    intent = {"leaving": [A.hex()], "generation": 1}
    row = catalog.operation_add("save", volume=LEDGER, prepared=intent, request=ASKED)
    assert (row.state, row.prepared, row.ended) == ("prepared", intent, None)
    assert catalog.operations(LEDGER, running=True) == [row]
    row = catalog.operation_set(row.id, state="running", progress=0.5, extents_copied=3)
    assert row.ended is None
    row = catalog.operation_set(row.id, state="done", progress=1.0, pause_us=800)
    assert row.ended
    assert row == catalog.operation_get(row.id)
    assert catalog.operations(LEDGER, running=True) == []


def test_an_operations_id_is_never_used_twice(catalog, tmp_path):
    first = catalog.operation_add("save")

    def undone():
        with catalog.transaction():
            catalog.operation_add("save")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        undone()
    second = catalog.operation_add("save")
    assert second.id > first.id
    assert [one.id for one in catalog.operations(limit=1)] == [second.id]
    refused(Reason.NOT_FOUND, catalog.operation_set, 99, state="done")
    with pytest.raises(TypeError):
        catalog.operation_set(second.id, colour="red")


def test_asking_twice_with_one_identifier_is_asking_once(catalog):
    assert catalog.request_begin(ASKED, b"hash") is None
    again = catalog.request_begin(ASKED, b"hash")
    assert (again.operation, again.result) == (None, None)
    operation = catalog.operation_add("save", request=ASKED)
    catalog.request_set(ASKED, operation.id)
    catalog.request_end(ASKED, {"save": "ledger@3"})
    again = catalog.request_begin(ASKED, b"hash")
    assert (again.operation, again.result) == (operation.id, {"save": "ledger@3"})


def test_the_same_identifier_with_another_body_is_refused(catalog):
    catalog.request_begin(ASKED, b"hash")
    refused(Reason.REQUEST_MISMATCH, catalog.request_begin, ASKED, b"other")
    catalog.request_forget(ASKED)
    assert catalog.request_begin(ASKED, b"other") is None
    refused(Reason.NOT_FOUND, catalog.request_end, b"x" * 16, {})
    refused(Reason.NOT_FOUND, catalog.request_set, b"x" * 16, 1)


def test_the_journal_keeps_the_newest(catalog):
    with catalog.transaction():
        for number in range(EVENTS_KEPT + 5):
            catalog.event_add("in-band", "iqn.x", f"{number}")
    events = catalog.events(EVENTS_KEPT * 2)
    assert len(events) == EVENTS_KEPT
    assert (events[0].what, events[-1].what) == (f"{EVENTS_KEPT + 4}", "5")


def test_meta_keeps_words(catalog):
    assert catalog.meta_get("node", "none") == "none"
    catalog.meta_set("node", "a")
    catalog.meta_set("node", "b")
    assert catalog.meta_get("node") == "b"


# --- transactions ---------------------------------------------------------------------------------


def test_a_transaction_is_all_or_nothing(catalog, ledger):
    def three():
        with catalog.transaction():
            catalog.save_add(Save(LEDGER, 1))
            catalog.advance(LEDGER, ALL)
            catalog.medium_add(medium(A))

    refused(Reason.EXISTS, three)
    assert catalog.saves() == []
    assert catalog.volume_get(LEDGER).generation == 1


def test_an_inner_transaction_is_undone_alone(catalog, ledger):
    def inner():
        with catalog.transaction():
            catalog.medium_set(A, state="failed")
            raise ZeroDivisionError

    with catalog.transaction():
        catalog.medium_set(C, state="failed")
        with pytest.raises(ZeroDivisionError):
            inner()
        catalog.medium_set(B, state="failed")
    assert [one.state for one in catalog.media()] == ["free", "failed", "failed"]


def test_what_follows_a_transaction_comes_once_it_is_durable(catalog, ledger):
    called = []

    def undone():
        with catalog.transaction():
            catalog.after(lambda: called.append("undone"))
            raise ZeroDivisionError

    with catalog.transaction():
        catalog.after(lambda: called.append("outer"))
        with pytest.raises(ZeroDivisionError):
            undone()
        with catalog.transaction():
            catalog.after(lambda: called.append("inner"))
        assert called == []
    assert called == ["outer", "inner"]
    catalog.after(lambda: called.append("outside"))
    with pytest.raises(ZeroDivisionError):
        undone()
    with catalog.transaction():
        pass
    assert called == ["outer", "inner", "outside"]


def test_threads_do_not_see_half_of_each_others_transactions(catalog, ledger):
    def change(state):
        for _ in range(50):
            with catalog.transaction():
                catalog.medium_set(A, state=state)
                catalog.medium_set(B, state=state)

    def look_in_one():
        for _ in range(50):
            with catalog.transaction():
                states = {catalog.medium_get(A).state, catalog.medium_get(B).state}
            assert len(states) == 1

    failures = []
    threading.excepthook, before = lambda args: failures.append(args), threading.excepthook
    try:
        threads = [
            threading.Thread(target=change, args=(state,)) for state in ("free", "failed")
        ] + [threading.Thread(target=look_in_one) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        threading.excepthook = before
    assert failures == []


def test_a_misspelt_column_is_a_bug_and_not_a_refusal(catalog, ledger):
    with pytest.raises(sqlite3.OperationalError):
        catalog.medium_set(A, colour="red")
