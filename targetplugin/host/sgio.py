"""SG_IO: a CDB to a SCSI disk and its answer back. Knows no command. Source: <scsi/sg.h>, interface
version 3.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from typing import NamedTuple

from targetplugin.host.errors import Away, Refused
from targetplugin.scsi import sense
from targetplugin.scsi.sense import Sense

SG_IO = 0x2285
TO_DEVICE, FROM_DEVICE, NO_DATA = -2, -3, -1
TIMEOUT_MS = 60_000
CHECK_CONDITION = 2
DRIVER_SENSE = 8
ATTENTIONS = 3  # how often a UNIT ATTENTION is let pass


class _Header(ctypes.Structure):
    _fields_ = (
        ("interface_id", ctypes.c_int),
        ("dxfer_direction", ctypes.c_int),
        ("cmd_len", ctypes.c_ubyte),
        ("mx_sb_len", ctypes.c_ubyte),
        ("iovec_count", ctypes.c_ushort),
        ("dxfer_len", ctypes.c_uint),
        ("dxferp", ctypes.c_void_p),
        ("cmdp", ctypes.c_void_p),
        ("sbp", ctypes.c_void_p),
        ("timeout", ctypes.c_uint),
        ("flags", ctypes.c_uint),
        ("pack_id", ctypes.c_int),
        ("usr_ptr", ctypes.c_void_p),
        ("status", ctypes.c_ubyte),
        ("masked_status", ctypes.c_ubyte),
        ("msg_status", ctypes.c_ubyte),
        ("sb_len_wr", ctypes.c_ubyte),
        ("host_status", ctypes.c_ushort),
        ("driver_status", ctypes.c_ushort),
        ("resid", ctypes.c_int),
        ("duration", ctypes.c_uint),
        ("info", ctypes.c_uint),
    )


class Exchanged(NamedTuple):
    """What comes back: SCSI status, sense data, data without what it left over, and what the host's adapter
    and driver say.
    """

    status: int
    sense: bytes
    data: bytes
    host: int
    driver: int


class Checked(Exception):
    """The device answered CHECK CONDITION."""

    def __init__(self, value: Sense) -> None:
        super().__init__(value.sentence())
        self.value = value


def execute(path: str, cdb: bytes, *, data_out: bytes = b"", data_in: int = 0) -> bytes:
    """Sends a CDB; returns what the device sent back, without what it left over.

    Args:
        path: a block or sg device. data_in: how much is expected at most, bytes.

    Raises:
        Checked: the device says why not. Away: it did not answer. Refused: it could not be asked.
    """
    for _ in range(ATTENTIONS):
        try:
            return _once(path, cdb, data_out, data_in)
        except Checked as checked:
            if checked.value.key != 0x6:  # a UNIT ATTENTION tells of something else that happened
                raise
    return _once(path, cdb, data_out, data_in)


def exchange(fd: int, cdb: bytes, data_out: bytes, data_in: int) -> Exchanged:
    """The same with no judgement of what comes back; raises OSError where it can't be sent.

    Args:
        fd: a descriptor of the device.
    """
    buffer = ctypes.create_string_buffer(data_out, len(data_out)) if data_out else None
    if data_in:
        buffer = ctypes.create_string_buffer(data_in)
    command = ctypes.create_string_buffer(cdb, len(cdb))
    told = ctypes.create_string_buffer(252)
    header = _Header(
        interface_id=ord("S"),
        dxfer_direction=TO_DEVICE if data_out else FROM_DEVICE if data_in else NO_DATA,
        cmd_len=len(cdb),
        mx_sb_len=252,
        dxfer_len=len(data_out) or data_in,
        dxferp=ctypes.addressof(buffer) if buffer is not None else None,
        cmdp=ctypes.addressof(command),
        sbp=ctypes.addressof(told),
        timeout=TIMEOUT_MS,
    )
    fcntl.ioctl(fd, SG_IO, header)
    got = buffer.raw[: data_in - max(0, header.resid)] if data_in and buffer is not None else b""
    sensed = told.raw[: header.sb_len_wr]
    return Exchanged(header.status, sensed, got, header.host_status, header.driver_status)


def _once(path: str, cdb: bytes, data_out: bytes, data_in: int) -> bytes:
    try:
        fd = _opened(path)
    except OSError as error:
        raise _unasked(path, error) from None
    try:
        came = exchange(fd, cdb, data_out, data_in)
    except OSError as error:
        raise _unasked(path, error) from None
    finally:
        os.close(fd)
    if came.status == CHECK_CONDITION or came.driver & DRIVER_SENSE:
        raise Checked(sense.decode(came.sense) or Sense(0x4, 0x44))
    if came.status or came.host or came.driver:
        raise Away(
            f"{path} did not answer: SCSI status {came.status:#x}, host {came.host:#x}",
            "look whether its session is logged in (iscsiadm -m session) and at dmesg",
        )
    return came.data


def _opened(path: str) -> int:
    """A descriptor; of a disk that is write-protected, as a shown save, one that only reads."""
    flags = os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDWR | flags)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        return os.open(path, os.O_RDONLY | flags)


def _unasked(path: str, error: OSError) -> Refused:
    if error.errno in (errno.EPERM, errno.EACCES):
        return Refused(
            f"{path}: no permission to send SCSI commands", "run as root: CAP_SYS_RAWIO is needed"
        )
    if error.errno in (errno.ENOTTY, errno.EINVAL):
        return Refused(f"{path} is not a SCSI disk", "name the disk, as in /dev/sdb")
    kind = Away if error.errno in (errno.ENXIO, errno.ENODEV, errno.EIO, errno.ENOENT) else Refused
    return kind(f"{path}: {os.strerror(error.errno or 5)}", "look at lsblk and dmesg")
