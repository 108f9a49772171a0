"""The catalog when disk, file or process fails: it says what to do, and nothing is lost."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys

import pytest

from targetplugin.catalog import Catalog, MediumRow
from targetplugin.catalog.schema import VERSION
from targetplugin.errors import Reason, Refused


def refused(function, *args):
    with pytest.raises(Refused) as caught:
        function(*args)
    assert caught.value.reason is Reason.ENVIRONMENT
    assert caught.value.hint
    return caught.value


def medium(number: int, name: str = "") -> MediumRow:
    return MediumRow(number.to_bytes(16), name or f"m{number}", "/x", "file", 1, 1)


@pytest.fixture
def state(tmp_path):
    """A state directory with a catalog in it that says something."""
    folder = tmp_path / "state"
    catalog = Catalog(folder)
    for number in range(200):
        catalog.medium_add(medium(number))
    catalog.close()
    return folder


def test_only_the_owner_may_read(tmp_path):
    catalog = Catalog(tmp_path / "state")
    catalog.meta_set("a", "b")
    modes = {
        name: stat.S_IMODE(os.stat(tmp_path / "state" / name).st_mode)
        for name in ("", "maps", "catalog.db", "catalog.db-wal")
    }
    catalog.close()
    assert modes == {"": 0o700, "maps": 0o700, "catalog.db": 0o600, "catalog.db-wal": 0o600}


def test_what_others_may_read_is_closed_to_them(state):
    os.chmod(state / "catalog.db", 0o644)
    Catalog(state).close()
    assert stat.S_IMODE(os.stat(state / "catalog.db").st_mode) == 0o600


def test_a_directory_that_others_may_write_is_refused(state):
    os.chmod(state, 0o777)
    assert "chmod" in refused(Catalog, state).hint


def test_it_says_what_was_said_before(state):
    catalog = Catalog(state)
    assert len(catalog.media()) == 200
    catalog.close()
    catalog.close()


def test_every_commit_is_flushed(state):
    catalog = Catalog(state)
    asked = [catalog._db.one(f"PRAGMA {name}")[0] for name in ("journal_mode", "synchronous")]
    catalog.close()
    assert asked == ["wal", 2]


def test_a_second_one_is_refused_while_the_first_lives(state):
    catalog = Catalog(state)
    assert "another targetplugind" in refused(Catalog, state).message
    catalog.medium_add(medium(999))  # and the first one is still whole
    catalog.close()
    Catalog(state).close()


@pytest.mark.parametrize("at", [0, 16, 100, 4096])
def test_a_damaged_database_is_refused_and_not_touched(state, at):
    path = state / "catalog.db"
    data = bytearray(path.read_bytes())
    data[at : at + 64] = b"\xa5" * 64
    path.write_bytes(data)
    assert "state directory" in refused(Catalog, state).hint
    assert path.read_bytes() == data


def test_a_row_that_its_index_does_not_know_is_noticed(state):
    path = state / "catalog.db"
    path.write_bytes(path.read_bytes().replace(b"m150", b"m999", 1))
    assert "damaged" in refused(Catalog, state).message


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "catalog.db").write_bytes(b"shopping list\n" * 100)
    assert "damaged" in refused(Catalog, tmp_path).message


def test_another_programs_database_is_refused(tmp_path):
    other = sqlite3.connect(tmp_path / "catalog.db")
    other.execute("CREATE TABLE photos (a)")
    other.close()
    assert "another program" in refused(Catalog, tmp_path).message


def test_a_newer_schema_is_refused_and_not_touched(state):
    newer = sqlite3.connect(state / "catalog.db")
    newer.execute(f"PRAGMA user_version = {VERSION + 1}")
    newer.close()
    message = refused(Catalog, state).message
    assert f"version {VERSION + 1}" in message
    assert f"knows {VERSION}" in message


def test_a_full_disk_is_refused_with_nothing_changed_and_then_goes_on(state):
    catalog = Catalog(state)
    pages = catalog._db.one("PRAGMA page_count")[0]
    catalog._db.one(f"PRAGMA max_page_count = {pages}")

    def too_much():
        with catalog.transaction():
            for number in range(200, 2000):
                catalog.medium_add(medium(number, f"{number}" * 50))

    error = refused(too_much)
    assert "full" in error.message
    assert "make room" in error.hint
    assert len(catalog.media()) == 200
    catalog._db.one("PRAGMA max_page_count = 1000000")
    catalog.medium_add(medium(200))
    catalog.close()


def test_after_sqlite_undid_everything_nothing_is_added(state):
    catalog = Catalog(state)

    def goes_on():
        with catalog.transaction():
            catalog.medium_add(medium(300))
            catalog._db._connection.execute("ROLLBACK")  # as SQLite does on a failing disk
            catalog.medium_add(medium(301))

    def ends():
        with catalog.transaction():
            catalog.medium_add(medium(302))
            catalog._db._connection.execute("ROLLBACK")

    refused(goes_on)
    refused(ends)
    assert len(catalog.media()) == 200
    catalog.medium_add(medium(303))
    catalog.close()


def test_a_state_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    assert "--state-dir" in refused(Catalog, tmp_path / "file" / "state").hint


def test_a_map_directory_that_cannot_be_used_gives_the_database_free(state):
    os.rmdir(state / "maps")
    (state / "maps").touch()
    refused(Catalog, state)
    os.unlink(state / "maps")
    Catalog(state).close()


# --- kill -9 --------------------------------------------------------------------------------------

WRITER = """
import sys
from targetplugin.catalog import Catalog, Generation, Volume
catalog = Catalog(sys.argv[1])
uuid = b"V" * 16
if catalog.volume_get(uuid) is None:
    catalog.volume_add(Volume(uuid, "v", "0" * 32, 1, 65536))
print("ready", flush=True)
while True:
    row = catalog.volume_get(uuid)
    bits = row.generation.to_bytes(4, "little") * 1000
    with catalog.transaction():
        operation = catalog.operation_add("save", volume=uuid, save=row.generation)
        catalog.advance(uuid, catalog.maps.write(uuid, row.generation, bits))
        catalog.operation_set(operation.id, state="done")
    print(row.generation, flush=True)
"""


def test_what_was_committed_outlives_a_kill_at_any_time(tmp_path):
    told = 0
    for round_ in range(12):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "state")],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout.readline() == "ready\n"
        for _ in range(3 + 5 * round_):
            told = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        told = max([told, *(int(line) for line in child.stdout.read().split("\n")[:-1])])
        child.wait()

        catalog = Catalog(tmp_path / "state")
        row = catalog.volumes()[0]
        assert row.generation in (told + 1, told + 2)  # the last may be in force and not yet told
        edges = catalog.generations(row.uuid)
        assert [edge.number for edge in edges] == list(range(1, row.generation + 1))
        for edge in edges[:-1]:
            assert catalog.maps.read(edge.map) == edge.number.to_bytes(4, "little") * 1000
        done = catalog.operations(limit=10**6)
        assert {one.state for one in done} == {"done"}
        assert len(done) == row.generation - 1
        catalog.maps.sweep(catalog.map_names())
        assert len(os.listdir(catalog.maps.directory)) == row.generation - 1
        catalog.close()
    assert told > 100
