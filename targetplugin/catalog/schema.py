"""The tables of the catalog, and what is done when a database is older or newer than this program.

Owns the SQL that shapes; the SQL that reads and writes stands with the rows that it is about.
"""

from __future__ import annotations

import sqlite3

from targetplugin.errors import Reason, Refused

APPLICATION = 0x54504C47  # "TPLG": the database says whose it is

# One entry a version, each applied to a database of the version before. Entries are never changed
# once released; what comes later is added.
STEPS = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE media (
        uuid BLOB PRIMARY KEY CHECK (length(uuid) = 16),
        name TEXT NOT NULL UNIQUE,
        path TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('block', 'file')),
        size INTEGER NOT NULL,
        data_size INTEGER NOT NULL,
        state TEXT NOT NULL,
        added TEXT NOT NULL
    ) STRICT;
    CREATE TABLE volumes (
        uuid BLOB PRIMARY KEY CHECK (length(uuid) = 16),
        name TEXT NOT NULL UNIQUE,
        naa TEXT NOT NULL UNIQUE,
        size INTEGER NOT NULL,
        extent_size INTEGER NOT NULL,
        policy TEXT NOT NULL,
        rights TEXT NOT NULL,
        mirror INTEGER NOT NULL,
        generation INTEGER NOT NULL,
        parent INTEGER NOT NULL,
        events INTEGER NOT NULL,
        op INTEGER NOT NULL,
        created TEXT NOT NULL,
        details TEXT NOT NULL
    ) STRICT;
    CREATE TABLE legs (
        volume BLOB NOT NULL REFERENCES volumes (uuid) ON DELETE CASCADE,
        medium BLOB NOT NULL UNIQUE REFERENCES media (uuid),
        position INTEGER NOT NULL,
        PRIMARY KEY (volume, position)
    ) STRICT;
    CREATE TABLE generations (
        volume BLOB NOT NULL REFERENCES volumes (uuid) ON DELETE CASCADE,
        number INTEGER NOT NULL CHECK (number > 0),
        parent INTEGER NOT NULL CHECK (parent >= 0 AND parent <> number),
        map TEXT NOT NULL,
        PRIMARY KEY (volume, number)
    ) STRICT;
    CREATE TABLE saves (
        volume BLOB NOT NULL REFERENCES volumes (uuid) ON DELETE CASCADE,
        generation INTEGER NOT NULL,
        label TEXT NOT NULL,
        fill TEXT NOT NULL,
        origin TEXT NOT NULL CHECK (origin IN ('host', 'image')),
        created TEXT NOT NULL,
        door TEXT NOT NULL,
        slot INTEGER NOT NULL CHECK (slot BETWEEN 1 AND 255),
        PRIMARY KEY (volume, generation),
        UNIQUE (volume, slot)
    ) STRICT;
    CREATE TABLE save_media (
        volume BLOB NOT NULL,
        generation INTEGER NOT NULL,
        medium BLOB NOT NULL UNIQUE REFERENCES media (uuid),
        position INTEGER NOT NULL,
        PRIMARY KEY (volume, generation, position),
        FOREIGN KEY (volume, generation) REFERENCES saves (volume, generation) ON DELETE CASCADE
    ) STRICT;
    CREATE TABLE exports (
        volume BLOB PRIMARY KEY REFERENCES volumes (uuid) ON DELETE CASCADE,
        target TEXT NOT NULL,
        portals TEXT NOT NULL,
        lun INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE initiators (
        volume BLOB NOT NULL REFERENCES exports (volume) ON DELETE CASCADE,
        iqn TEXT NOT NULL,
        chap_user TEXT,
        chap_password TEXT,
        position INTEGER NOT NULL,
        PRIMARY KEY (volume, iqn)
    ) STRICT;
    CREATE TABLE operations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        verb TEXT NOT NULL,
        volume BLOB,
        volume_name TEXT NOT NULL,
        save INTEGER,
        state TEXT NOT NULL
            CHECK (state IN ('prepared', 'running', 'done', 'failed', 'aborted')),
        prepared TEXT NOT NULL,
        progress REAL NOT NULL,
        extents_changed INTEGER NOT NULL,
        extents_copied INTEGER NOT NULL,
        bytes_copied INTEGER NOT NULL,
        bytes_total INTEGER NOT NULL,
        pause_us INTEGER,
        started TEXT NOT NULL,
        in_force TEXT,
        ended TEXT,
        error TEXT,
        door TEXT NOT NULL,
        request BLOB
    ) STRICT;
    CREATE INDEX operations_of_volume ON operations (volume);
    CREATE INDEX operations_running ON operations (id) WHERE state IN ('prepared', 'running');
    CREATE TABLE requests (
        id BLOB PRIMARY KEY CHECK (length(id) = 16),
        body_hash BLOB NOT NULL,
        operation INTEGER REFERENCES operations (id),
        result TEXT,
        created TEXT NOT NULL
    ) STRICT;
    CREATE TABLE backups (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        volume BLOB NOT NULL REFERENCES volumes (uuid) ON DELETE CASCADE,
        path TEXT NOT NULL,
        label TEXT NOT NULL,
        format TEXT NOT NULL CHECK (format IN ('qcow2', 'raw')),
        size INTEGER NOT NULL,
        created TEXT NOT NULL
    ) STRICT;
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        time TEXT NOT NULL,
        door TEXT NOT NULL,
        who TEXT NOT NULL,
        what TEXT NOT NULL
    ) STRICT;
    """,
    """
    ALTER TABLE operations ADD COLUMN drain_us INTEGER;
    ALTER TABLE operations ADD COLUMN pause_work_us INTEGER;
    """,
    """
    ALTER TABLE saves ADD COLUMN undo INTEGER NOT NULL DEFAULT 0;
    """,
    """
    CREATE TABLE volume_groups (
        name TEXT PRIMARY KEY,
        created TEXT NOT NULL
    ) STRICT;
    CREATE TABLE group_members (
        name TEXT NOT NULL REFERENCES volume_groups (name) ON DELETE CASCADE,
        volume BLOB NOT NULL REFERENCES volumes (uuid) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        PRIMARY KEY (name, volume)
    ) STRICT;
    """,
    """
    CREATE TABLE shown (
        identity BLOB PRIMARY KEY CHECK (length(identity) = 16),
        volume BLOB NOT NULL,
        generation INTEGER NOT NULL,
        target TEXT NOT NULL,
        portals TEXT NOT NULL,
        lun INTEGER NOT NULL,
        UNIQUE (volume, generation),
        FOREIGN KEY (volume, generation) REFERENCES saves (volume, generation) ON DELETE CASCADE
    ) STRICT;
    CREATE TABLE shown_to (
        identity BLOB NOT NULL REFERENCES shown (identity) ON DELETE CASCADE,
        iqn TEXT NOT NULL,
        chap_user TEXT,
        chap_password TEXT,
        position INTEGER NOT NULL,
        PRIMARY KEY (identity, iqn)
    ) STRICT;
    """,
    """
    CREATE TABLE holds (
        volume BLOB NOT NULL,
        generation INTEGER NOT NULL,
        until TEXT NOT NULL,
        remaining REAL NOT NULL,
        boot TEXT NOT NULL,
        counted_from REAL NOT NULL,
        PRIMARY KEY (volume, generation),
        FOREIGN KEY (volume, generation) REFERENCES saves (volume, generation) ON DELETE CASCADE
    ) STRICT;
    CREATE TABLE retentions (
        volume BLOB PRIMARY KEY REFERENCES volumes (uuid) ON DELETE CASCADE,
        rules TEXT NOT NULL,
        due INTEGER NOT NULL CHECK (due IN (0, 1))
    ) STRICT;
    """,
    """
    ALTER TABLE events ADD COLUMN volume TEXT NOT NULL DEFAULT '';
    ALTER TABLE events ADD COLUMN kind TEXT NOT NULL DEFAULT '';
    ALTER TABLE events ADD COLUMN operation INTEGER;
    ALTER TABLE events ADD COLUMN details TEXT NOT NULL DEFAULT '{}';
    CREATE INDEX events_of_volume ON events (volume, id);
    CREATE TABLE hooks (
        program TEXT PRIMARY KEY,
        added TEXT NOT NULL
    ) STRICT;
    """,
    """
    ALTER TABLE backups ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE backups ADD COLUMN image TEXT NOT NULL DEFAULT '';
    ALTER TABLE backups ADD COLUMN backing TEXT NOT NULL DEFAULT '';
    """,
    """
    CREATE TABLE stores (
        volume BLOB PRIMARY KEY REFERENCES volumes (uuid) ON DELETE CASCADE,
        medium BLOB NOT NULL UNIQUE REFERENCES media (uuid)
    ) STRICT;
    """,
    """
    ALTER TABLE volumes ADD COLUMN blocks TEXT NOT NULL DEFAULT '512e';
    """,
)

VERSION = len(STEPS)


def bring_up(connection: sqlite3.Connection, path: str) -> None:
    """Makes the tables, or brings an older database to this version, as one transaction.

    Raises:
        Refused: ENVIRONMENT, it is newer, or no catalog of ours. sqlite3.Error: anything else.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if owner != APPLICATION and (owner or tables):
        raise Refused(
            Reason.ENVIRONMENT,
            f"{path} is a database of another program",
            object=path,
            hint="give targetplugind a state directory of its own with --state-dir",
        )
    if version > VERSION:
        raise Refused(
            Reason.ENVIRONMENT,
            f"{path} was written by a later version: its tables are of version {version},"
            f" this program knows {VERSION}",
            object=path,
            hint="use the version of targetplugin that wrote it, or a later one",
        )
    if version == VERSION:
        return
    script = "".join(STEPS[version:])
    connection.executescript(
        f"BEGIN IMMEDIATE; {script} PRAGMA application_id = {APPLICATION};"
        f" PRAGMA user_version = {VERSION}; COMMIT;"
    )
