"""The SQLite file under the catalog: opening it, its one lock, transactions, its errors' meaning.

Knows no table; schema.py does.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from targetplugin.catalog import schema
from targetplugin.errors import Reason, Refused

_FULL = "the disk is full"
_SPACE = "make room on its file system, and repeat"
# Primary result codes of SQLite: what to say, and what to do.
_TROUBLE = {
    sqlite3.SQLITE_FULL: (_FULL, _SPACE),
    sqlite3.SQLITE_READONLY: ("it can't be written", "make its file system and folder writable"),
    sqlite3.SQLITE_CANTOPEN: ("it can't be opened", "make its folder writable for targetplugind"),
    sqlite3.SQLITE_PERM: ("it can't be opened", "make its folder writable for targetplugind"),
    sqlite3.SQLITE_IOERR: ("the disk fails", "look at the disk and at the kernel's log (dmesg)"),
    sqlite3.SQLITE_BUSY: ("another targetplugind has it", "stop that one first"),
    sqlite3.SQLITE_LOCKED: ("another targetplugind has it", "stop that one first"),
    sqlite3.SQLITE_CORRUPT: ("it is damaged", ""),
    sqlite3.SQLITE_NOTADB: ("it is damaged", ""),
}
_DAMAGED = (
    "put a copy of the whole state directory back; volumes' data is on their media and untouched"
)


class Database:
    """One connection for all threads, behind one lock. A process that has it keeps others out."""

    def __init__(self, path: str) -> None:
        """Opens or makes it. Raises Refused (ENVIRONMENT)."""
        self.path = path
        self.lock = threading.RLock()
        self._depth = 0
        self._after: list[Callable[[], None]] = []
        self._prepare_files()
        with self._meaning():
            self._connection = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False, timeout=1.0
            )
        try:
            with self._meaning():
                self._set_up()
        except BaseException:
            self._connection.close()
            raise

    def _prepare_files(self) -> None:
        """The file exists with mode 0600 before anything is in it: it holds CHAP secrets.

        A file that is there is not opened here: closing it would drop SQLite's locks (fcntl's way).
        """
        folder = os.path.dirname(self.path)
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            if os.stat(folder).st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise Refused(
                    Reason.ENVIRONMENT,
                    f"{folder} can be written by other users",
                    object=folder,
                    hint=f"chmod go-w {folder}, or choose another --state-dir",
                )
            if os.path.exists(self.path):
                os.chmod(self.path, 0o600)
                return
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            sync_folder(folder)
        except OSError as error:
            raise trouble(self.path, error) from error

    def _set_up(self) -> None:
        connection = self._connection
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        said = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if said != "ok":
            raise Refused(
                Reason.ENVIRONMENT,
                f"{self.path} is damaged: {said}",
                object=self.path,
                hint=_DAMAGED,
            )
        schema.bring_up(connection, self.path)

    def close(self) -> None:
        """Undoes what is not committed. Closing twice is closing once."""
        with self.lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and durable when the outermost block ends. Raises Refused."""
        with self.lock, self._meaning():
            self._check_whole()
            begin, end, undo = "BEGIN IMMEDIATE", "COMMIT", ["ROLLBACK"]
            if self._depth:
                name = f"inner{self._depth}"
                begin, end = f"SAVEPOINT {name}", f"RELEASE {name}"
                undo = [f"ROLLBACK TO {name}", end]
            self._connection.execute(begin)
            self._depth += 1
            calls = len(self._after)
            try:
                yield
                self._check_whole()
                self._connection.execute(end)
            except BaseException:
                del self._after[calls:]
                if self._connection.in_transaction:
                    for statement in undo:
                        self._connection.execute(statement)
                raise
            finally:
                self._depth -= 1
            if not self._depth:
                done, self._after = self._after, []
                for call in done:
                    call()

    def after(self, call: Callable[[], None]) -> None:
        """Calls it when what is under way is durable: never where that is undone, now where there is
        nothing.
        """
        with self.lock:
            if self._depth:
                self._after.append(call)
            else:
                call()

    def _check_whole(self) -> None:
        """Full and failing disks make SQLite undo everything by itself: then nothing may follow."""
        if self._depth and not self._connection.in_transaction:
            raise Refused(
                Reason.ENVIRONMENT,
                f"{self.path}: a change was undone, because the disk is full or fails",
                object=self.path,
                hint=_SPACE,
            )

    # --- statements: names of tables and columns are the program's own, values are bound --------

    def all(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        with self.lock, self._meaning():
            return self._connection.execute(sql, values).fetchall()

    def one(self, sql: str, *values: Any) -> sqlite3.Row | None:
        rows = self.all(sql, *values)
        return rows[0] if rows else None

    def run(self, sql: str, *values: Any) -> int:
        """Returns how many rows it concerned."""
        with self.transaction():
            return self._connection.execute(sql, values).rowcount

    def insert(self, table: str, values: Mapping[str, Any]) -> int:
        """Returns the row's number. Raises Refused: EXISTS, a name or identity is taken."""
        columns = ", ".join(values)
        marks = ", ".join("?" for _ in values)
        with self.transaction():
            done = self._connection.execute(
                f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(values.values())
            )
            return int(done.lastrowid or 0)

    def update(self, table: str, key: Mapping[str, Any], values: Mapping[str, Any]) -> int:
        """Returns how many rows it changed."""
        sets = ", ".join(f"{name} = ?" for name in values)
        where = " AND ".join(f"{name} = ?" for name in key)
        return self.run(f"UPDATE {table} SET {sets} WHERE {where}", *values.values(), *key.values())

    @contextmanager
    def _meaning(self) -> Iterator[None]:
        """SQLite's errors as refusals; those that can only be a bug pass as they are."""
        try:
            yield
        except sqlite3.IntegrityError as error:
            code = error.sqlite_errorcode
            if code in (sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY):
                what = str(error).rpartition(": ")[2]
                raise Refused(
                    Reason.EXISTS,
                    f"it is taken already: {what}",
                    object=what,
                    hint="choose another name or medium",
                ) from error
            if code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
                raise Refused(
                    Reason.STATE,
                    "something depends on it, or something that it names is not there",
                    hint="look at targetplugin status for what uses it",
                ) from error
            raise
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code not in _TROUBLE:
                raise
            why, hint = _TROUBLE[code]
            raise Refused(
                Reason.ENVIRONMENT,
                f"{self.path}: {why} ({error})",
                object=self.path,
                hint=hint or _DAMAGED,
            ) from error


def sync_folder(folder: str) -> None:
    """Makes a folder's names durable. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def trouble(path: str, error: OSError) -> Refused:
    """What to tell when the state directory fails."""
    why = os.strerror(error.errno) if error.errno else str(error)
    hint = "give targetplugind a state directory with room that it may write (--state-dir)"
    if isinstance(error, PermissionError) and os.geteuid() != 0:
        hint = "start it as the service that it is: systemctl start targetplugind"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = _SPACE
    return Refused(
        Reason.ENVIRONMENT,
        f"what targetplugind knows can't be kept in {path}: {why}",
        object=path,
        hint=hint,
    )
