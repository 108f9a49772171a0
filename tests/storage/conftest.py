"""Loop devices and small file systems for storage tests; skipped where they can't be made."""

import os
import subprocess
from contextlib import contextmanager

import pytest


def run(*command):
    """Runs a command and returns what it says."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def loop(tmp_path):
    """A function that makes a loop device of some size, or over some file."""
    made = []

    def make(size=64 << 20, *, file=None, sector=512, partitions=False):
        if file is None:
            file = tmp_path / f"loop{len(made)}.img"
            with open(file, "wb") as new:
                new.truncate(size)
        more = ["--partscan"] if partitions else []
        try:
            device = run(
                "losetup", "--find", "--show", "--sector-size", str(sector), *more, str(file)
            )
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no loop device can be made: {getattr(error, 'stderr', error)}")
        made.append(device)
        return device

    yield make
    for device in made:
        run("losetup", "--detach", device)


@pytest.fixture
def mounted(tmp_path):
    """A context manager that mounts something for as long as it lasts."""

    @contextmanager
    def mount(*arguments):
        place = tmp_path / "mount"
        place.mkdir(exist_ok=True)
        try:
            run("mount", *arguments, str(place))
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"nothing can be mounted: {getattr(error, 'stderr', error)}")
        try:
            yield place
        finally:
            run("umount", str(place))

    return mount


@pytest.fixture
def image(tmp_path):
    """A function that makes a file full of some bytes."""

    def make(name="disk.img", size=64 << 20, content=b""):
        path = tmp_path / name
        with open(path, "wb") as file:
            file.write(content)
            file.truncate(size)
            os.fsync(file.fileno())
        return str(path)

    return make
