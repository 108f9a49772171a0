"""What Linux is asked about a file or block device, reading, writing and zeroing: the calls.

Knows no trailer and refuses nothing: errors are OSError.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import stat
import struct

BLKROGET = 0x125E  # linux/fs.h
BLKSSZGET = 0x1268
BLKZEROOUT = 0x127F
BLKGETSIZE64 = 0x80081272
FALLOC_FL_KEEP_SIZE = 0x01  # linux/falloc.h
FALLOC_FL_PUNCH_HOLE = 0x02
FALLOC_FL_ZERO_RANGE = 0x10

SYS_DEVICES = "/sys/dev/block"

_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENOTTY)
_PIECE = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def sys_path(number: int) -> str:
    """The folder in sysfs of the block device with that number (st_rdev)."""
    return f"{SYS_DEVICES}/{os.major(number)}:{os.minor(number)}"


def holders(number: int) -> list[str]:
    """Names of the block devices that are built on one (device mapper, md)."""
    try:
        return sorted(os.listdir(f"{sys_path(number)}/holders"))
    except OSError:
        return []


def partitions(number: int) -> dict[str, int]:
    """The partitions of a disk: their names and device numbers."""
    place = sys_path(number)
    found = {}
    try:
        for name in sorted(os.listdir(place)):
            if os.path.exists(f"{place}/{name}/partition"):
                with open(f"{place}/{name}/dev") as file:
                    major, minor = file.read().split(":")
                found[name] = os.makedev(int(major), int(minor))
    except OSError:
        pass  # gone meanwhile
    return found


def is_block(fd: int) -> bool:
    """Whether a descriptor is of a block device."""
    return stat.S_ISBLK(os.fstat(fd).st_mode)


def size(fd: int) -> int:
    """Bytes of a file or block device."""
    if not is_block(fd):
        return os.fstat(fd).st_size
    return int(struct.unpack("Q", fcntl.ioctl(fd, BLKGETSIZE64, bytes(8)))[0])


def block_size(fd: int) -> int:
    """Bytes of a logical block: what direct I/O is a multiple of. A file has those of the device that its
    file system is on; 512, where that is none or several.
    """
    if not is_block(fd):
        below = sys_path(os.fstat(fd).st_dev)
        for place in ("queue", "../queue"):  # of a disk; of a partition, its disk's
            try:
                with open(f"{below}/{place}/logical_block_size") as file:
                    return int(file.read())
            except OSError:
                continue
        return 512
    return int(struct.unpack("i", fcntl.ioctl(fd, BLKSSZGET, bytes(4)))[0])


def read_only(fd: int) -> bool:
    """Whether a block device takes no writes."""
    return is_block(fd) and bool(struct.unpack("i", fcntl.ioctl(fd, BLKROGET, bytes(4)))[0])


def read(fd: int, offset: int, length: int) -> bytes:
    """Reads through an O_DIRECT descriptor. Raises OSError; EIO where the file ends before."""
    with mmap.mmap(-1, length) as buffer, memoryview(buffer) as view:
        done = 0
        while done < length:
            with view[done:] as rest:
                count = os.preadv(fd, [rest], offset + done)
            if count == 0:
                raise OSError(errno.EIO, f"it ends before {offset + length} bytes")
            done += count
        return bytes(view)


def write(fd: int, offset: int, data: bytes) -> None:
    """Writes durably through an O_DIRECT descriptor."""
    with mmap.mmap(-1, len(data)) as buffer, memoryview(buffer) as view:
        view[:] = data
        done = 0
        while done < len(data):
            with view[done:] as rest:
                done += os.pwritev(fd, [rest], offset + done, os.RWF_DSYNC)


def zero(fd: int, offset: int, length: int) -> None:
    """Makes a range read as zeros; os.fsync makes it durable.

    Never by discarding: what a discarded block reads as is the disk's own business. Holes in a
    file stay holes, and room that was set aside stays so.
    """
    if is_block(fd):
        try:
            fcntl.ioctl(fd, BLKZEROOUT, struct.pack("QQ", offset, length))
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            _write_zeros(fd, offset, length)
        return
    at = offset
    while at < offset + length:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return  # a hole up to the end
            raise
        if start >= offset + length:
            return
        end = min(os.lseek(fd, start, os.SEEK_HOLE), offset + length)
        _zero_data(fd, max(start, at), end - max(start, at))
        at = end


def _zero_data(fd: int, offset: int, length: int) -> None:
    for mode in (FALLOC_FL_ZERO_RANGE, FALLOC_FL_PUNCH_HOLE):
        if _libc.fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, offset, length) == 0:
            return
        code = ctypes.get_errno()
        if code not in _UNSUPPORTED:
            raise OSError(code, os.strerror(code))
    _write_zeros(fd, offset, length)


def _write_zeros(fd: int, offset: int, length: int) -> None:
    with mmap.mmap(-1, min(length, _PIECE)) as buffer, memoryview(buffer) as view:
        end = offset + length
        while offset < end:
            with view[: min(end - offset, len(view))] as piece:
                offset += os.pwritev(fd, [piece], offset)
