"""An engine on files, with a fake ring in front of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from targetplugin.engine import (
    Command,
    Engine,
    Event,
    MediumSpec,
    Record,
    VolumeSpec,
    decode_map_slot,
    decode_record,
)
from targetplugin.media import device
from tests.engine.fake_ring import FakeRing

SIZE = 16 << 20
UUID = bytes(range(16))


class Rig:
    """One volume of 16 MiB on an engine; `media` are files, `ring` is the kernel's end.

    Args:
        block: bytes of the volume's logical blocks.
        device: what makes a file the device that is to be the medium; None: the file is it.
    """

    def __init__(
        self, folder: Path, block: int = 512, device: Callable[[Path], str] | None = None
    ) -> None:
        self.folder = folder
        self.block = block
        self.device = device
        self.events: list[Event] = []
        self.happened = threading.Condition()
        self.commands: list[Command] = []
        self.media: dict[str, MediumSpec] = {}
        self.ring = FakeRing(block=block)
        self.handle = 0
        self.engine = self.make()

    def make(self) -> Engine:
        engine = Engine(1, self.on_command, self.on_event)
        engine.start()
        return engine

    def on_event(self, event: Event) -> None:
        with self.happened:
            self.events.append(event)
            self.happened.notify_all()

    def on_command(self, command: Command) -> None:
        self.commands.append(command)
        command.answer(0, b"answer to " + command.cdb[:1].hex().encode(), b"")

    def wait_event(self, kind: str, medium: str, timeout: float = 10) -> None:
        uuid = self.media[medium].uuid
        with self.happened:
            assert self.happened.wait_for(
                lambda: any(e.kind == kind and e.medium == uuid for e in self.events), timeout
            ), f"{kind} of {medium} does not come: {self.events}"

    def medium(self, name: str) -> MediumSpec:
        path = self.folder / name
        with path.open("wb") as file:
            file.truncate(SIZE + (2 << 20))
        there = path if self.device is None else self.device(path)
        fd = os.open(there, os.O_RDWR | getattr(os, "O_DIRECT", 0))
        uuid = name.encode().ljust(16, b".")
        spec = MediumSpec(
            uuid, fd, SIZE, SIZE + 4096, SIZE + 65536, 1, block_size=device.block_size(fd)
        )
        self.media[name] = spec
        return spec

    def content(self, name: str, offset: int, length: int) -> bytes:
        with (self.folder / name).open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def records(self, name: str) -> list[tuple[int, int, bytes]]:
        """(events, sequence, block) of the records on a medium."""
        raw = self.content(name, SIZE + 4096, 8192)
        blocks = [raw[:4096], raw[4096:]]
        return [(r.events, r.sequence, b) for b in blocks if (r := decode_record(b))]

    def record(self, name: str) -> Record:
        """The newest record on a medium."""
        found = decode_record(max(self.records(name))[2])
        assert found
        return found

    def create(self, *names: str) -> None:
        media = [self.medium(name) for name in names]
        self.handle = self.engine.add_volume(
            VolumeSpec(UUID, SIZE, 16, None, media, [], True, self.block)
        )
        self.serve()

    def serve(self) -> None:
        self.engine.attach_ring(
            self.handle, self.ring.engine_fd, self.ring.length, map_fd=self.ring.map_fd
        )

    def start_again(self, *names: str) -> None:
        """A new engine on the same media, as after a kill, from what the media say."""
        records = [found for name in names for found in self.records(name)]
        raw = [self.content(name, SIZE + 65536, 5 * 8192) for name in names]
        slots = [r[i : i + 4096] for r in raw for i in range(0, len(r), 4096)]
        slots = [slot for slot in slots if decode_map_slot(slot)]
        self.ring = FakeRing(block=self.block)
        self.engine = self.make()
        media = [self.media[name] for name in names]
        spec = VolumeSpec(UUID, SIZE, 16, max(records)[2], media, slots, block_size=self.block)
        self.handle = self.engine.add_volume(spec)
        self.serve()

    def close(self) -> None:
        self.engine.stop()
        for spec in self.media.values():
            os.close(spec.fd)
        self.ring.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()
