"""A PostgreSQL with its data on one file system and its journal on another: made, started, asked, stopped.

Runs on the initiator, as root; the server itself runs as `postgres`. Knows no table. Uses nothing of the
project.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

BIN = Path("/usr/lib/postgresql/15/bin")
MADE = Path("/var/lib/postgresql/15/main")  # by Debian's package, when the image was built
DATA, WAL = Path("/mnt/data"), Path("/mnt/wal")
PLACE, JOURNAL = DATA / "pg", WAL / "pg_wal"
RUN = Path("/run/bank")
LOG = RUN / "log"
PATIENCE = "120"  # seconds for a start
# So little memory that pages go to the disk all the time, and checkpoints come every few seconds.
SETTINGS = f"""
listen_addresses = ''
unix_socket_directories = '{RUN}'
max_connections = 8
shared_buffers = 1MB
backend_flush_after = 8kB
bgwriter_flush_after = 8kB
checkpoint_flush_after = 8kB
checkpoint_timeout = 30s
min_wal_size = 2MB
max_wal_size = 4MB
max_parallel_workers = 0
jit = off
recovery_init_sync_method = syncfs
"""


def make() -> None:
    """A server's files on both file systems, which are mounted and empty."""
    subprocess.run(["cp", "-a", MADE, PLACE], check=True)
    subprocess.run(["mv", PLACE / "pg_wal", JOURNAL], check=True)
    (PLACE / "pg_wal").symlink_to(JOURNAL)
    (PLACE / "postgresql.conf").write_text(SETTINGS)
    (PLACE / "pg_hba.conf").write_text("local all all trust\n")
    (PLACE / "pg_ident.conf").touch()
    os.sync()  # as initdb does: a server trusts that all of it is on the disk


def as_postgres(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, user="postgres", group="postgres", extra_groups=[], cwd="/", capture_output=True,
        text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def start() -> None:
    """Starts the server, which recovers if it has crashed. Raises RuntimeError: why it does not start."""
    RUN.mkdir(exist_ok=True)
    shutil.chown(RUN, "postgres", "postgres")
    LOG.unlink(missing_ok=True)
    words = ["-D", str(PLACE), "-l", str(LOG), "-w", "-t", PATIENCE, "start"]
    if as_postgres([str(BIN / "pg_ctl"), *words]).returncode:
        said = LOG.read_text() if LOG.exists() else ""
        fatal = [line for line in said.splitlines() if "PANIC" in line or "FATAL" in line]
        raise RuntimeError(f"PostgreSQL does not start: {'; '.join(fatal) or said}")


def recovered() -> bool:
    """Whether the last start had a crash to recover from."""
    return "automatic recovery in progress" in LOG.read_text()


def stop(mode: str) -> None:
    """`fast` writes all out; `immediate` is a crash."""
    words = ["-D", str(PLACE), "-m", mode, "-w", "-t", PATIENCE, "stop"]
    done = as_postgres([str(BIN / "pg_ctl"), *words])
    if done.returncode:
        raise RuntimeError(f"PostgreSQL does not stop: {done.stdout}{done.stderr}")


def client() -> list[str]:
    """The command that takes SQL on its input and prints bare values."""
    psql = [str(BIN / "psql"), "--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]
    return [*psql, "--set=ON_ERROR_STOP=1", f"--host={RUN}", "--username=postgres"]


def ask(sql: str) -> str:
    done = subprocess.run(client(), input=sql, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return done.stdout


def wrong_checksums() -> list[str]:
    """Of a server that was stopped `fast`: what `pg_checksums` finds."""
    done = as_postgres([str(BIN / "pg_checksums"), "--check", "-D", str(PLACE)])
    return [f"pages are damaged: {done.stdout}{done.stderr}"] if done.returncode else []
