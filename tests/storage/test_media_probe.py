"""A disk with anything on it is not taken: it is named; what is in use is never forced."""

import os
import subprocess
import zlib
from pathlib import Path

import pytest
from msgspec.structs import asdict

from targetplugin.errors import Reason, Refused
from targetplugin.media import device
from targetplugin.media.layout import BLOCK
from targetplugin.media.medium import Medium
from targetplugin.media.probe import check, findings
from targetplugin.media.trailer import Role, Trailer, encode
from targetplugin.qemu import launch

SIZE = 64 << 20


def refused(path, *, force=False):
    with pytest.raises(Refused) as caught:
        check(path, force=force)
    assert caught.value.reason is Reason.DATA
    assert caught.value.object == path
    return caught.value


def never(path, *words):
    """Refused with the words, even if it is forced."""
    for force in (False, True):
        error = refused(path, force=force)
        assert all(word in error.message for word in words), error.message
        assert "--force" not in error.hint
    return error


def only_by_force(path, *words):
    """Refused with the words, and taken if it is forced."""
    error = refused(path)
    assert all(word in error.message for word in words), error.message
    assert "--force" in error.hint
    check(path, force=True)


def give(path, **fields):
    """Makes a medium of it."""
    with Medium.open(path) as medium:
        fresh = medium.fresh_trailer()
        return medium.write_trailer(Trailer(**{**asdict(fresh), **fields}))


def test_an_empty_disk_is_taken(loop, image, tmp_path):
    for path in (loop(), image(), str(tmp_path / "not-there-yet")):
        check(path)


def test_looking_changes_nothing(image):
    path = image(content=b"data" * 100)
    before = Path(path).read_bytes()
    findings(path)
    assert Path(path).read_bytes() == before


@pytest.mark.parametrize(
    ("command", "word"),
    [
        (["mkfs.ext4", "-q", "-F"], "ext4"),
        (["mkswap"], "swap"),
        (["sfdisk", "--quiet", "--label", "gpt"], "gpt"),
    ],
)
def test_a_signature_is_named(image, command, word):
    path = image()
    subprocess.run([*command, path], check=True, input=b"size=8M\n", capture_output=True)
    only_by_force(path, word)


@pytest.mark.parametrize(
    ("at", "where"),
    [(0, "first"), ((1 << 20) - 1, "first"), (SIZE - (1 << 20), "last"), (SIZE - 1, "last")],
)
def test_a_byte_at_either_end_is_data(image, at, where):
    path = image()
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(b"\1")
    only_by_force(path, f"its {where} MiB holds data")


def test_a_disk_that_was_written_to_is_found_though_its_ends_are_empty(image):
    path = image()
    with open(path, "r+b") as file:
        file.seek(SIZE // 2)
        file.write(b"\1" * (1 << 20))
    only_by_force(path, "it holds data at 0x2")


def test_a_disk_that_was_given_and_is_free_is_taken(image):
    path = image()
    give(path)
    check(path)


def test_what_was_put_on_a_free_medium_since_is_found(image):
    path = image()
    give(path)
    subprocess.run(["mkfs.ext4", "-q", "-F", path], check=True)
    only_by_force(path, "ext4")


@pytest.mark.parametrize(
    ("role", "word"), [(Role.LEG, "a leg of volume ledger"), (Role.SAVE, "save 3 night of volume")]
)
def test_another_volumes_medium_is_named(image, role, word):
    path = image()
    give(path, role=role, volume=b"V" * 16, volume_name="ledger", generation=3, label="night")
    only_by_force(path, word, (b"V" * 16).hex())


def test_a_later_versions_medium_is_named(image):
    path = image()
    trailer = give(path)
    with Medium.open(path) as medium:
        block = bytearray(encode(trailer))
        block[16] = 1  # a feature that is not known here
        block[8:12] = bytes(4)
        block[8:12] = zlib.crc32(block).to_bytes(4, "little")
        medium.write(SIZE - BLOCK, bytes(block))
    assert "later version" in refused(path).message


def test_a_mounted_disk_is_never_taken(loop, mounted):
    path = loop()
    subprocess.run(["mkfs.ext4", "-q", path], check=True)
    with mounted(path) as place:
        assert f"umount {place}" in never(path, "is mounted at", str(place)).hint
    only_by_force(path, "ext4")


def test_a_mount_point_with_blanks_is_named_as_it_is(loop, mounted, tmp_path):
    path = loop()
    subprocess.run(["mkfs.ext4", "-q", path], check=True)
    with mounted(path) as place:
        odd = place / "ein Läufer"
        odd.mkdir()
        subprocess.run(["mount", "--bind", odd, odd], check=True)
        try:
            never(path, "is mounted at")
            assert any(str(odd) in finding.what for finding in findings(path))
        finally:
            subprocess.run(["umount", odd], check=True)


def test_the_file_behind_a_loop_device_is_never_taken(loop, image):
    path = image()
    over = loop(file=path)
    assert "losetup -d" in never(path, f"it is behind {over}").hint
    check(over)


def test_swap_space_is_never_taken(image):
    path = image(content=bytes(SIZE))
    subprocess.run(["chmod", "600", path], check=True)
    subprocess.run(["mkswap", path], check=True, capture_output=True)
    if subprocess.run(["swapon", path], capture_output=True).returncode:
        pytest.skip("no swap space can be made here")
    try:
        never(path, "it is swap space")
    finally:
        subprocess.run(["swapoff", path], check=True)


def test_a_disk_with_partitions_is_never_taken(loop):
    path = loop(partitions=True)
    subprocess.run(["sfdisk", "--quiet", path], check=True, input=b"size=8M\n", capture_output=True)
    found = [finding for finding in findings(path) if "partitions" in finding.what]
    if not found:
        pytest.skip("this kernel shows no partitions of loop devices")
    never(path, "it has partitions")


def in_sysfs(monkeypatch, folder, path, *names):
    """Makes believe that sysfs has these files for a device."""
    number = os.stat(path).st_rdev
    for name, content in names:
        place = folder / f"{os.major(number)}:{os.minor(number)}" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
    monkeypatch.setattr(device, "SYS_DEVICES", str(folder))


def test_partitions_are_named(loop, tmp_path, monkeypatch):
    path = loop()
    in_sysfs(monkeypatch, tmp_path, path, ("vdx1/partition", "1\n"), ("vdx1/dev", "254:240\n"))
    assert "wipefs --all" in never(path, "it has partitions: vdx1").hint


def test_a_mounted_partition_is_named(loop, mounted, tmp_path, monkeypatch):
    disk, part = loop(), loop()
    subprocess.run(["mkfs.ext4", "-q", part], check=True)
    number = os.stat(part).st_rdev
    dev = f"{os.major(number)}:{os.minor(number)}"
    in_sysfs(monkeypatch, tmp_path, disk, ("vdx1/partition", "1\n"), ("vdx1/dev", dev))
    with mounted(part) as place:
        assert f"umount {place}" in never(disk, f"vdx1 is mounted at {place}").hint


def test_what_is_built_on_a_disk_is_named(loop, tmp_path, monkeypatch):
    path = loop()
    in_sysfs(monkeypatch, tmp_path, path, ("holders/dm-7", ""))
    assert "lsblk" in never(path, "is part of dm-7").hint


def test_what_is_neither_file_nor_block_device_is_refused(tmp_path):
    for path in (str(tmp_path), "/dev/null"):
        with pytest.raises(Refused) as caught:
            check(path)
        assert caught.value.reason is Reason.USAGE


def test_a_link_that_leads_nowhere_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(Refused) as caught:
        check(str(tmp_path / "link"))
    assert caught.value.reason is Reason.NOT_FOUND


def test_without_wipefs_nothing_is_taken(image, monkeypatch):
    monkeypatch.setattr(launch.shutil, "which", lambda name, path=None: name != "wipefs" or None)
    with pytest.raises(Refused, match="wipefs is not installed") as caught:
        check(image())
    assert caught.value.reason is Reason.ENVIRONMENT
    assert "util-linux" in caught.value.hint
