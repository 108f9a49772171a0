"""The kernel as QEMU boots it fastest: an uncompressed ELF file, and an initrd of few files.

Knows file formats (bzImage, cpio), not what the files are for.
"""

import lzma
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError

BOOT_MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "crc32c_generic",
    "ext4",
    "9pnet_virtio",
    "9p",
    "unix",
    "configfs",
    "autofs4",
)


def uncompressed(image: bytes) -> bytes:
    """The ELF kernel inside a bzImage (Documentation/x86/boot.rst, payload_offset)."""
    setup_sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start : start + length]
    if payload.startswith(b"\xfd7zXZ") or payload.startswith(b"\x5d\0\0"):
        elf = lzma.LZMADecompressor().decompress(payload)
    elif payload.startswith(b"\x1f\x8b"):
        elf = zlib.decompressobj(wbits=31).decompress(payload)
    else:
        raise LabError("The image's kernel is compressed in a way that the lab does not know.")
    if not elf.startswith(b"\x7fELF"):
        raise LabError("The image's kernel holds no ELF file: the lab can't boot it.")
    return elf


def modules_in_order(modules_dir: Path) -> list[Path]:
    """The modules a machine boots with, each after those that it needs."""
    needs: dict[str, list[str]] = {}
    for line in (modules_dir / "modules.dep").read_text().splitlines():
        module, _, others = line.partition(":")
        needs[module] = others.split()
    names = {Path(module).name.removesuffix(".ko").replace("-", "_"): module for module in needs}
    order: list[str] = []

    def visit(module: str) -> None:
        for other in needs[module]:
            visit(other)
        if module not in order:
            order.append(module)

    for name in BOOT_MODULES:
        if name in names:  # else it is built in
            visit(names[name])
    return [modules_dir / module for module in order]


@dataclass(frozen=True)
class Entry:
    """One file, directory or link of an archive."""

    path: str
    mode: int
    data: bytes = b""


def directory(path: str) -> Entry:
    return Entry(path, 0o040755)


def file(path: str, data: bytes, mode: int = 0o644) -> Entry:
    return Entry(path, 0o100000 | mode, data)


def link(path: str, to: str) -> Entry:
    return Entry(path, 0o120777, to.encode())


def archive(entries: list[Entry]) -> bytes:
    """A cpio archive in the kernel's format (Documentation/driver-api/early-userspace)."""
    parts: list[bytes] = []
    made: set[str] = set()

    def add(number: int, entry: Entry) -> None:
        name = entry.path.encode() + b"\0"
        numbers = (number, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08x" % value for value in numbers) + name
        parts.append(head + bytes(-len(head) % 4))
        parts.append(entry.data + bytes(-len(entry.data) % 4))

    number = 0
    for entry in entries:
        parents = [str(parent) for parent in Path(entry.path).parents][-2::-1]
        for path in parents:
            if path not in made:
                made.add(path)
                number += 1
                add(number, directory(path))
        if entry.path not in made:
            made.add(entry.path)
            number += 1
            add(number, entry)
    add(0, Entry("TRAILER!!!", 0))
    return b"".join(parts)
