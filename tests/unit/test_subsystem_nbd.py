"""What a function reads is read by qemu-img, and by nobody else's rules."""

from __future__ import annotations

import errno
import os
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.images import nbd, qemu_img

MIB = 1 << 20
SIZE = 3 * MIB + 512
CONTENT = bytes(MIB) + os.urandom(2 * MIB) + b"e" * 512


def read(offset: int, length: int) -> bytes:
    assert offset % 512 == 0
    assert length % 512 == 0
    assert length <= MIB
    return CONTENT[offset : offset + length]


def test_qemu_img_makes_an_image_of_it_and_finds_it_the_same(tmp_path: Path) -> None:
    path = str(tmp_path / "image.qcow2")
    run = qemu_img.Run()
    with nbd.Server(read, SIZE) as server:
        place = qemu_img.Offered(server.client.fileno(), SIZE)
        qemu_img.write(run, place, path, "qcow2", lambda done: None)
    raw = tmp_path / "raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", path, str(raw)], check=True)
    assert raw.read_bytes() == CONTENT
    for content, same in ((CONTENT, True), (CONTENT[:-1] + b"f", False)):
        with (
            nbd.Server(lambda at, n, c=content: c[at : at + n], SIZE) as server,  # type: ignore[misc]
            qemu_img.look(path) as image,
        ):
            place = qemu_img.Offered(server.client.fileno(), SIZE)
            assert qemu_img.same(run, image, place, lambda done: None) is same


def test_a_client_asks_for_no_part_of_a_block(tmp_path: Path) -> None:
    """qemu-img asks an image that is not in whole blocks for whole ones of the server."""
    content = os.urandom(MIB)
    asked: list[tuple[int, int]] = []

    def noted(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return content[offset : offset + length]

    path = tmp_path / "image"
    path.write_bytes(content[: MIB // 2 + 512])
    with nbd.Server(noted, MIB, 4096) as server, qemu_img.look(str(path), "raw") as image:
        place = qemu_img.Offered(server.client.fileno(), MIB)
        assert qemu_img.same(qemu_img.Run(), image, place, lambda done: None) is False
    assert asked
    assert all(offset % 4096 == length % 4096 == 0 for offset, length in asked)
    with nbd.Server(read, 512 * 8, 4096) as server:
        end = greeted(server)
        option(end, 7, struct.pack(">IH", 0, 0))
        take(end, 20)
        assert take(end, 14) == struct.pack(">HIII", 3, 4096, MIB, MIB)
        take(end, 20)
        assert ask(end, 0, 512, 512) == (errno.EINVAL, b"")


def test_a_read_that_fails_ends_the_client_and_is_kept(tmp_path: Path) -> None:
    why = Refused(Reason.NOT_FOUND, "the save was lost")

    def fails(offset: int, length: int) -> bytes:
        if offset >= MIB:
            raise why
        return bytes(length)

    with nbd.Server(fails, SIZE) as server:
        place = qemu_img.Offered(server.client.fileno(), SIZE)
        with pytest.raises(Refused, match="qemu-img convert failed"):
            qemu_img.write(qemu_img.Run(), place, str(tmp_path / "image"), "raw", lambda done: None)
    assert server.failure is why


# --- by hand -----------------------------------------------------------------------------------------


def take(end: socket.socket, count: int) -> bytes:
    return end.recv(count, socket.MSG_WAITALL)


def greeted(server: nbd.Server) -> socket.socket:
    end = server.client
    end.settimeout(10)
    assert take(end, 18) == b"NBDMAGICIHAVEOPT\0\3"
    end.sendall(struct.pack(">I", 3))
    return end


def option(end: socket.socket, number: int, data: bytes = b"") -> tuple[int, bytes]:
    end.sendall(struct.pack(">8sII", b"IHAVEOPT", number, len(data)) + data)
    magic, same, kind, length = struct.unpack(">QIII", take(end, 20))
    assert (magic, same) == (0x3E889045565A9, number)
    return kind, take(end, length) if length else b""


def begun(server: nbd.Server) -> socket.socket:
    end = greeted(server)
    assert option(end, 8)[0] == 0x80000001, "structured replies are not known"
    kind, info = option(end, 7, struct.pack(">IH", 0, 0))
    assert (kind, info) == (3, struct.pack(">HQH", 0, SIZE, 3))
    assert take(end, 20)[12:16] == struct.pack(">I", 3)
    assert take(end, 14) == struct.pack(">HIII", 3, 512, MIB, MIB)
    assert take(end, 20)[12:16] == struct.pack(">I", 1)
    return end


def ask(end: socket.socket, kind: int, offset: int, length: int) -> tuple[int, bytes]:
    end.sendall(struct.pack(">IHHQQI", 0x25609513, 0, kind, 77, offset, length))
    magic, error, cookie = struct.unpack(">IIQ", take(end, 16))
    assert (magic, cookie) == (0x67446698, 77)
    return error, b"" if error else take(end, length)


@pytest.mark.parametrize(
    ("kind", "offset", "length"),
    [
        pytest.param(1, 0, 0, id="a write"),
        pytest.param(4, 0, 512, id="a trim"),
        pytest.param(0, 511, 512, id="not at a block"),
        pytest.param(0, 0, 513, id="not whole blocks"),
        pytest.param(0, 0, 0, id="nothing"),
        pytest.param(0, 0, MIB + 512, id="too much"),
        pytest.param(0, SIZE, 512, id="behind the end"),
        pytest.param(0, (1 << 64) - 512, 512, id="far behind the end"),
    ],
)
def test_all_but_reads_within_it_are_refused(kind: int, offset: int, length: int) -> None:
    with nbd.Server(read, SIZE) as server:
        end = begun(server)
        assert ask(end, kind, offset, length) == (errno.EINVAL, b"")
        assert ask(end, 0, SIZE - 512, 512) == (0, b"e" * 512), "and it goes on"


@pytest.mark.parametrize(
    "data", [b"", b"\0\0\0\3", b"\0\0\0\3" + b"x" * 16, b"\0\0\0\3IHAVEOPT\xff"]
)
def test_a_client_that_goes_or_speaks_something_else_ends_it(data: bytes) -> None:
    with nbd.Server(read, SIZE) as server:
        server.client.sendall(data)
        server.client.shutdown(socket.SHUT_WR)
    assert server.failure is None
    assert not server._thread.is_alive()
