"""What is done by path, done by this process: see by_path.ByPath.

A file is found first, without opening it, then looked at, and then that very one is opened: what a path
leads to may change meanwhile. Errors are OSError.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from msgspec import Struct

from targetplugin.errors import Reason, Refused
from targetplugin.media import disks, names, uses
from targetplugin.media.uses import Finding

Identity = list[int]


class Seen(Struct, frozen=True):
    """What is at a path.

    Attributes:
        kind: "nothing" is a link that leads nowhere.
        real: the absolute path without links.
        link: whether the path is a symbolic link.
        number: of a block device (st_rdev).
        size: bytes of a file.
        identity: what tells a file from others after a restart.
    """

    kind: Literal["file", "block", "folder", "other", "nothing"]
    real: str
    link: bool
    number: int
    size: int
    identity: Identity


class Rules:
    """What may be opened and made: here, anything that this process may. Each raises Refused."""

    def check_found(self, real: str, status: os.stat_result, writes: bool) -> None:
        """A file or block device is about to be opened."""

    def check_made(self, real: str) -> None:
        """A file is about to be made, or to get this name."""

    def check_part(self, part: str, path: str | None) -> None:
        """A file is about to be what is not yet whole; `path`: it gets this name."""


class Here:
    """See by_path.ByPath.

    Args:
        by_id, sys_block: where disks are looked for.
    """

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        by_id: str = names.BY_ID,
        sys_block: str = disks.SYS_BLOCK,
    ) -> None:
        self._rules = rules or Rules()
        self._by_id = by_id
        self._sys_block = sys_block

    # --- looking -------------------------------------------------------------------------------

    def look(self, path: str) -> Seen | None:
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        link = stat.S_ISLNK(status.st_mode)
        if link:
            try:
                status = os.stat(path)
            except FileNotFoundError:
                return Seen("nothing", os.path.realpath(path), True, 0, 0, [])
        return Seen(
            _kind(status.st_mode),
            os.path.realpath(path),
            link,
            status.st_rdev,
            status.st_size,
            [status.st_ino, status.st_size, status.st_mtime_ns],
        )

    def real(self, paths: Sequence[str]) -> list[str]:
        return [os.path.realpath(path) for path in paths]

    def stable(self, path: str) -> str:
        return names.stable_path(path, self._by_id)

    def disks(self) -> list[str]:
        return list(disks.disks(self._by_id, self._sys_block))

    def uses(self, path: str) -> list[Finding]:
        return uses.uses(path)

    # --- media ---------------------------------------------------------------------------------

    def read(self, path: str, *, direct: bool) -> int:
        with self._found(path, writes=False) as at:
            return _again(at, os.O_RDONLY, direct=direct)

    def take(self, path: str) -> int:
        with self._found(path, writes=True) as at:
            if stat.S_ISBLK(os.fstat(at).st_mode):
                # Keeps mounts, md, LVM and another daemon out, until the last request is over.
                return _again(at, os.O_RDWR | os.O_EXCL | os.O_DIRECT)
            descriptor = _again(at, os.O_RDWR, direct=True)
            try:
                # The lock is on this very descriptor: it stays until the last request on it is over.
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BaseException:
                os.close(descriptor)
                raise
            return descriptor

    def make(self, path: str, size: int) -> None:
        with self._folder(path) as (below, name, real):
            self._rules.check_made(real)
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
            descriptor = os.open(name, flags, 0o600, dir_fd=below)
            try:
                os.ftruncate(descriptor, size)
                os.fsync(descriptor)
            except BaseException:
                os.unlink(name, dir_fd=below)
                raise
            finally:
                os.close(descriptor)
            _sync(below)

    def set_length(self, path: str, before: int, length: int) -> None:
        with self._found(path, writes=True) as at:
            descriptor = _again(at, os.O_RDWR)
            try:
                if os.fstat(descriptor).st_size not in (before, length):
                    raise Refused(
                        Reason.BUSY,
                        f"{path} has changed its size just now",
                        object=path,
                        hint="repeat",
                    )
                os.ftruncate(descriptor, length)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    # --- images --------------------------------------------------------------------------------

    def image(self, folder: str, name: str) -> int:
        at = os.open(f"{folder}/{name}", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        with _closing(at):
            mode = os.fstat(at).st_mode
            elsewhere = _where(at) != f"{folder}/{name}"  # a folder on the way is a link by now
            if elsewhere or not stat.S_ISREG(mode):
                code = errno.ELOOP if elsewhere or stat.S_ISLNK(mode) else errno.EINVAL
                raise OSError(code, os.strerror(code), f"{folder}/{name}")
            self._rules.check_found(_where(at), os.fstat(at), False)
            return _again(at, os.O_RDONLY)

    def part(self, path: str) -> int:
        with self._folder(path) as (below, name, real):
            self._rules.check_part(real, None)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(
                    name, dir_fd=below
                )  # its name is this one's alone: it was asked for twice
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
            return os.open(name, flags, 0o600, dir_fd=below)

    def put(self, part: str, path: str, identity: Identity) -> None:
        with self._folder(part) as (below, name, real):
            folder = os.path.dirname(real)
            to = os.path.basename(path)
            self._rules.check_part(real, f"{folder}/{to}")
            if self._identity(below, name) == identity:
                with contextlib.suppress(FileNotFoundError):
                    self._rules.check_found(f"{folder}/{to}", _status(below, to), True)
                self._rules.check_made(f"{folder}/{to}")
                os.rename(name, to, src_dir_fd=below, dst_dir_fd=below)
            elif self._identity(below, to) != identity:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), part)
            _sync(below)

    def drop(self, part: str) -> None:
        with contextlib.suppress(FileNotFoundError), self._folder(part) as (below, name, real):
            self._rules.check_part(real, None)
            os.unlink(name, dir_fd=below)

    # --- inside --------------------------------------------------------------------------------

    @contextmanager
    def _found(self, path: str, *, writes: bool) -> Iterator[int]:
        """A descriptor that only says which one it is; it must be a file or a block device."""
        at = os.open(path, os.O_PATH | os.O_CLOEXEC)
        with _closing(at):
            status = os.fstat(at)
            if _kind(status.st_mode) not in ("file", "block"):
                raise OSError(errno.EINVAL, "neither a file nor a block device", path)
            self._rules.check_found(_where(at), status, writes)
            yield at

    @contextmanager
    def _folder(self, path: str) -> Iterator[tuple[int, str, str]]:
        """The folder of a path, the name in it, and the path without links."""
        folder, name = os.path.split(os.path.abspath(path))
        below = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        with _closing(below):
            yield below, name, os.path.join(_where(below), name)

    def _identity(self, below: int, name: str) -> Identity | None:
        try:
            status = _status(below, name)
        except FileNotFoundError:
            return None
        return [status.st_ino, status.st_size, status.st_mtime_ns]


def _kind(mode: int) -> Literal["file", "block", "folder", "other"]:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISBLK(mode):
        return "block"
    return "folder" if stat.S_ISDIR(mode) else "other"


@contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


def _where(at: int) -> str:
    """The path without links of what is open."""
    return os.readlink(f"/proc/self/fd/{at}")


def _again(at: int, flags: int, *, direct: bool = False) -> int:
    """Opens what was found. `direct`: past the page cache, where its file system can (tmpfs can't)."""
    flags |= os.O_CLOEXEC
    if direct:
        with contextlib.suppress(OSError):
            return os.open(f"/proc/self/fd/{at}", flags | os.O_DIRECT)
    return os.open(f"/proc/self/fd/{at}", flags)


def _status(below: int, name: str) -> os.stat_result:
    return os.stat(name, dir_fd=below, follow_symlinks=False)


def _sync(below: int) -> None:
    """Makes a folder's names durable."""
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=below)
    with _closing(folder):
        os.fsync(folder)
