"""Hostile and damaged images: every name that leads elsewhere, and headers of any bytes."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.images import chain, increment, qcow2, qemu_img
from targetplugin.subsystem.images.qcow2 import Stamp

CLUSTER = 65536
SIZE = 4 << 20
needs_qemu = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not there")


def stamp(volume: int = 1, image: str = "i", **more: object) -> Stamp:
    return Stamp(bytes([volume]) * 16, 3, image, SIZE, "2026-01-05T22:00:00.000Z", **more)  # type: ignore[arg-type]


def made(
    path: Path,
    backing: tuple[str, str] = ("base.raw", "raw"),
    mark: Stamp | None = None,
    data: dict[int, bytes] | None = None,
) -> str:
    """An increment by our own writer."""
    descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    image = increment.Increment(descriptor, SIZE, CLUSTER)
    for at, piece in sorted((data or {0: b"x" * CLUSTER}).items()):
        image.put(at, piece)
    low = backing[0] if backing[1] == "qcow2" else ""
    image.end(backing, mark or stamp(base="i" if low else "", base_name=low))
    os.close(descriptor)
    return str(path)


def base(folder: Path, name: str = "base.raw") -> Path:
    path = folder / name
    path.write_bytes(b"")
    os.truncate(path, SIZE)
    return path


def refused(path: str, why: str, format: str | None = "qcow2") -> Refused:
    with pytest.raises(Refused) as found, chain.open_image(path, format):
        pass
    assert why in found.value.message, found.value.message
    assert found.value.hint
    return found.value


def patched(path: str, at: int, data: bytes) -> str:
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)
    return path


# --- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/etc/passwd", "outside its folder"),
        ("../base.raw", "outside its folder"),
        ("..", "outside its folder"),
        (".", "outside its folder"),
        ("sub/base.raw", "outside its folder"),
        ("./../base.raw", "outside its folder"),
        (".//etc/passwd", "outside its folder"),
        ("sub/../base.raw", "outside its folder"),
        ("base\0.raw", "outside its folder"),
        ('json:{"driver":"raw","file":{"driver":"file","filename":"/etc/passwd"}}', "is no file"),
        ("nbd://192.0.2.1/x", "is no file"),
        ("nbd:unix:/run/x", "is no file"),
        ("file:base.raw", "is no file"),
        ("fat:rw:base", "is no file"),
        ("./nbd:x", "is no file"),
        ("base.raw:x", "is no file"),
    ],
)
def test_no_name_of_a_backing_file_leads_elsewhere(tmp_path: Path, name: str, why: str) -> None:
    base(tmp_path)
    (tmp_path / "sub").mkdir()
    base(tmp_path / "sub")
    error = refused(made(tmp_path / "top.qcow2", (name, "raw")), why)
    assert error.reason is Reason.DATA
    assert "qemu-img rebase" in error.hint


def test_a_name_in_the_folder_may_be_written_in_full(tmp_path: Path) -> None:
    base(tmp_path)
    for name in ("base.raw", "./base.raw", f"{tmp_path}/base.raw"):
        with chain.open_image(made(tmp_path / "top.qcow2", (name, "raw")), "qcow2") as image:
            assert [link.name for link in image.links] == ["top.qcow2", "base.raw"]
            assert [link.format for link in image.links] == ["qcow2", "raw"]
            assert "base.raw" not in image.opened()  # qemu-img has no name to follow


@pytest.mark.parametrize("kind", ["link out", "link in", "pipe", "folder", "nothing"])
def test_a_backing_file_is_a_file_and_no_link(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    outside = base(tmp_path, "outside.raw")
    place = tmp_path / "in" / "base.raw"
    if kind == "link out":
        place.symlink_to(outside)
    elif kind == "link in":
        place.symlink_to(base(tmp_path / "in", "other.raw"))
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    why = {"pipe": "is no file", "folder": "is no file", "nothing": "is not there"}
    refused(made(tmp_path / "in" / "top.qcow2"), why.get(kind, "is a symbolic link"))


def test_an_image_itself_may_be_found_by_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    base(tmp_path / "real")
    made(tmp_path / "real" / "top.qcow2")
    (tmp_path / "latest").symlink_to("real/top.qcow2")
    with chain.open_image(str(tmp_path / "latest")) as image:
        assert image.folder == str(tmp_path / "real")


def test_a_backing_files_format_is_stated_and_never_found_out(tmp_path: Path) -> None:
    made(tmp_path / "base.raw", ("/etc/passwd", "raw"))  # a disk whose user wrote a header on it
    os.truncate(tmp_path / "base.raw", SIZE)
    with chain.open_image(made(tmp_path / "top.qcow2", ("base.raw", "raw")), "qcow2") as image:
        assert [link.format for link in image.links] == ["qcow2", "raw"]
    path = made(tmp_path / "top.qcow2", ("base.raw", "raw"))
    refused(patched(path, qcow2.HEADER, struct.pack(">I", 0x12345678)), "does not state the format")
    refused(made(tmp_path / "top.qcow2", ("base.raw", "vmdk")), "of format 'vmdk'")
    refused(made(tmp_path / "top.qcow2", ("base.raw", "")), "format")


def test_a_raw_disk_that_begins_like_an_image_stands_on_nothing(tmp_path: Path) -> None:
    """Its user could bring another volume's backup from the same folder onto it."""
    base(tmp_path, "secret.raw")
    path = made(tmp_path / "disk.raw", ("secret.raw", "raw"))
    refused(path, "nobody says that it is one", None)
    with chain.open_image(path, "raw") as image:
        assert len(image.links) == 1
    os.rename(path, tmp_path / "disk.qcow2")
    with chain.open_image(str(tmp_path / "disk.qcow2")) as image:
        assert len(image.links) == 2


def test_a_chain_does_not_bite_its_tail_and_has_an_end(tmp_path: Path) -> None:
    made(tmp_path / "a", ("b", "qcow2"))
    made(tmp_path / "b", ("a", "qcow2"))
    refused(str(tmp_path / "a"), "stands on itself")
    made(tmp_path / "self", ("self", "qcow2"))
    refused(str(tmp_path / "self"), "stands on itself")
    os.link(tmp_path / "self", tmp_path / "same")
    refused(str(tmp_path / "same"), "stands on itself")
    base(tmp_path)
    below = ("base.raw", "raw")
    for number in range(chain.MOST_LINKS - 1):
        made(tmp_path / f"{number}", below)
        below = (str(number), "qcow2")
    with chain.open_image(str(tmp_path / below[0]), "qcow2") as image:
        assert len(image.links) == chain.MOST_LINKS
    refused(made(tmp_path / "more", below), f"more than {chain.MOST_LINKS - 1} others")


@needs_qemu
def test_the_longest_chain_is_read_and_compared(tmp_path: Path) -> None:
    content = bytearray(SIZE)
    base(tmp_path)
    below = ("base.raw", "raw")
    for number in range(chain.MOST_LINKS - 1):
        piece = bytes([number + 1]) * CLUSTER
        content[number * CLUSTER : (number + 1) * CLUSTER] = piece
        made(tmp_path / f"{number}", below, data={number * CLUSTER: piece})
        below = (str(number), "qcow2")
    disk = tmp_path / "disk"
    disk.write_bytes(content)
    run = qemu_img.Run()
    with open(disk, "r+b") as file, qemu_img.look(str(tmp_path / below[0]), "qcow2") as image:
        target = qemu_img.Target(file.fileno(), SIZE, False, False)
        qemu_img.check(run, image)
        assert qemu_img.same(run, image, target, lambda _: None)
        os.pwrite(file.fileno(), b"!", SIZE - 1)
        assert not qemu_img.same(run, image, target, lambda _: None)
        qemu_img.fill(run, image, target, lambda _: None)
    assert disk.read_bytes() == content


# --- lineage ---------------------------------------------------------------------------------------


def test_files_of_different_volumes_are_no_chain(tmp_path: Path) -> None:
    base(tmp_path)
    made(tmp_path / "low", mark=stamp(2, "low"))
    above = stamp(1, "top", base="low", base_name="low", older=("low",))
    refused(made(tmp_path / "top", ("low", "qcow2"), above), "is no backup of its volume")


def test_a_raw_base_that_is_truncated_is_refused(tmp_path: Path) -> None:
    os.truncate(base(tmp_path), SIZE - 512)
    refused(made(tmp_path / "top"), "it is truncated, or another image")


def test_under_another_name_an_older_one_may_be_stood_on(tmp_path: Path) -> None:
    base(tmp_path)
    made(tmp_path / "one", mark=stamp(image="one"))
    made(tmp_path / "other", mark=stamp(image="other"))
    above = stamp(image="three", base="two", base_name="two", older=("two", "one"))
    with chain.open_image(made(tmp_path / "top", ("one", "qcow2"), above), "qcow2"):
        pass
    refused(made(tmp_path / "top", ("other", "qcow2"), above), "not the image")
    os.rename(tmp_path / "one", tmp_path / "two")  # by mistake, not by rebase
    refused(made(tmp_path / "top", ("two", "qcow2"), above), "not the image")


# --- headers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "data", "why"),
    [
        (0, b"VMDK", "is no qcow2 image"),
        (4, struct.pack(">I", 4), "of version 4"),
        (8, struct.pack(">Q", 1 << 40), "lies outside"),
        (16, struct.pack(">I", 1024), "lies outside"),
        (16, struct.pack(">I", 0), "lies outside"),
        (20, struct.pack(">I", 63), "clusters of 2^63"),
        (20, struct.pack(">I", 8), "clusters of 2^8"),
        (24, struct.pack(">Q", 1 << 63), "a disk of"),
        (24, struct.pack(">Q", (1 << 63) - 1), "L1 entries"),
        (24, struct.pack(">Q", 1 << 50), "L1 entries"),
        (32, struct.pack(">I", 1), "is encrypted"),
        (32, struct.pack(">I", 2), "is encrypted"),
        (36, struct.pack(">I", (1 << 32) - 1), "L1 entries"),
        (36, struct.pack(">I", 0), "L1 entries"),
        (40, struct.pack(">Q", 1 << 62), "is truncated"),
        (40, struct.pack(">Q", 512), "do not lie on clusters"),
        (48, struct.pack(">Q", 1 << 50), "is truncated"),
        (48, struct.pack(">Q", 0), "do not lie on clusters"),
        (56, struct.pack(">I", 1 << 31), "is truncated"),
        (72, struct.pack(">Q", 2), "is marked corrupt"),
        (72, struct.pack(">Q", 4), "keeps its data in another file"),
        (72, struct.pack(">Q", 1 << 5), "features that are not known here (0x20)"),
        (72, struct.pack(">Q", 1 << 63), "features that are not known"),
        (96, struct.pack(">I", 7), "reference counts"),
        (100, struct.pack(">I", 8), "it says that it has 8 bytes"),
        (100, struct.pack(">I", 1 << 30), "it says that it has"),
        (108, struct.pack(">I", 1 << 31), "an extension leads out"),
    ],
)
def test_a_damaged_or_hostile_header_is_refused_with_why(
    tmp_path: Path, at: int, data: bytes, why: str
) -> None:
    base(tmp_path)
    refused(patched(made(tmp_path / "top"), at, data), why, "qcow2")


def test_a_later_or_damaged_stamp_is_refused(tmp_path: Path) -> None:
    base(tmp_path)
    path = made(tmp_path / "top")
    whole = Path(path).read_bytes()
    for old, new, why in (
        (b'"version":1', b'"version":2', "a later targetplugin wrote it"),
        (b'"version":1', b'"versiom":1', "a damaged stamp"),
        (b'"generation":3', b'"generation":x', "a damaged stamp"),
        (b'"image":"i"', b'"image": 1 ', "a damaged stamp"),
        (b'"older":[]', b'"older":77', "a damaged stamp"),
    ):
        assert whole.count(old) == 1
        Path(path).write_bytes(whole.replace(old, new))
        refused(path, why)


def test_an_image_that_was_resized_is_refused(tmp_path: Path) -> None:
    base(tmp_path)
    path = made(tmp_path / "top")
    refused(patched(path, 24, struct.pack(">Q", SIZE // 2)), "was resized")


def test_a_truncated_image_is_refused(tmp_path: Path) -> None:
    base(tmp_path)
    data = {n * CLUSTER: bytes([n + 1]) * CLUSTER for n in range(20)}
    path = made(tmp_path / "top", data=data)
    whole = os.path.getsize(path)
    for length in (whole - 1, whole - CLUSTER, whole // 2, CLUSTER, 200, 100, 4):
        os.truncate(path, length)
        error = refused(path, "the image", "qcow2")
        assert error.reason is Reason.DATA
    assert refused(path, "").hint


@needs_qemu
def test_an_image_without_a_stamp_that_is_truncated_is_found_out_by_its_tables(
    tmp_path: Path,
) -> None:
    raw, path = tmp_path / "raw", str(tmp_path / "image.qcow2")
    raw.write_bytes(random.Random(1).randbytes(SIZE))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), path], check=True)
    os.truncate(path, os.path.getsize(path) - 3 * CLUSTER)
    with qemu_img.look(path) as image, pytest.raises(Refused) as found:
        qemu_img.check(qemu_img.Run(), image)
    assert "is damaged or truncated" in found.value.message


@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(
    changes=st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=12)), max_size=6)
)
def test_any_bytes_in_a_header_are_read_or_refused(
    tmp_path: Path, changes: list[tuple[int, bytes]]
) -> None:
    """And whatever is read names no file but those of the folder."""
    base(tmp_path)
    path = made(tmp_path / "top")
    for at, data in changes:
        patched(path, at, data)
    try:
        with chain.open_image(path, "qcow2") as image:
            assert {link.name for link in image.links} <= {"top", "base.raw"}
    except Refused:
        pass


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(name=st.text(min_size=1, max_size=40) | st.sampled_from(["/", "..", "./.", "a/../b"]))
def test_any_name_is_a_plain_one_or_refused(tmp_path: Path, name: str) -> None:
    try:
        found = chain._inside("top", "/folder", name)
    except Refused:
        return
    assert "/" not in found
    assert ":" not in found
    assert found not in ("", ".", "..")


# --- what is written -------------------------------------------------------------------------------


@needs_qemu
@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    size=st.integers(1, 600).map(lambda n: n * 4096),
    cluster=st.sampled_from([4096, 16384, 65536]),
    runs=st.lists(st.tuples(st.integers(0, 600), st.integers(1, 50), st.booleans()), max_size=8),
)
def test_what_is_written_is_what_any_reader_reads(
    tmp_path: Path, size: int, cluster: int, runs: list[tuple[int, int, bool]]
) -> None:
    noise = random.Random(size)
    below = noise.randbytes(size)
    (tmp_path / "base").write_bytes(below)
    disk = bytearray(below)
    spans = []
    for first, count, zeros in sorted(runs):
        at, end = min(first * 4096, size), min((first + count) * 4096, size)
        if at < end:
            disk[at:end] = bytes(end - at) if zeros else noise.randbytes(end - at)
            spans.append({"offset": at, "length": end - at})
    path = tmp_path / "top"
    descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    image = increment.Increment(descriptor, size, cluster)
    pieces = list(increment.pieces(spans, size, cluster))
    increment.write(image, pieces, lambda at, n: bytes(disk[at : at + n]), lambda _: None)
    image.end(("base", "raw"), stamp())
    os.close(descriptor)
    told = subprocess.run(["qemu-img", "check", path], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    subprocess.run(["qemu-img", "convert", "-O", "raw", path, tmp_path / "raw"], check=True)
    assert (tmp_path / "raw").read_bytes() == disk


@needs_qemu
def test_counts_that_need_several_blocks_and_tables_that_are_far_apart(tmp_path: Path) -> None:
    """Clusters of 4 KiB: a block of counts is for 8 MiB, a table of clusters for 2 MiB."""
    size, path = 1 << 40, tmp_path / "top"
    (tmp_path / "base").write_bytes(b"")
    os.truncate(tmp_path / "base", size)
    descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    image = increment.Increment(descriptor, size, 4096)
    data = random.Random(1).randbytes(1 << 20)
    places = [*((n << 20) for n in range(20)), 1 << 35, size - (1 << 20)]
    for at in places:
        image.put(at, data)
    image.end(("base", "raw"), Stamp(bytes(16), 1, "i", size, ""))
    os.close(descriptor)
    told = subprocess.run(["qemu-img", "check", path], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    with qemu_img.look(str(path), "qcow2") as found:
        assert found.size == size
    one = tmp_path / "one"
    for at in places[-3:]:
        top = {"driver": "qcow2", "file": {"driver": "file", "filename": str(path)}}
        window = {"driver": "raw", "offset": at, "size": len(data), "file": top}
        source = "json:" + json.dumps(window)
        subprocess.run(["qemu-img", "convert", "-O", "raw", source, one], check=True)
        assert one.read_bytes() == data


def test_clusters_grow_with_the_disk_and_shrink_with_extents() -> None:
    assert increment.cluster_of(1 << 30, 4096) == 4096
    assert increment.cluster_of(1 << 30, 65536) == 65536
    assert increment.cluster_of(1 << 30, 1 << 20) == 65536
    assert increment.cluster_of(16 << 40, 4096) == 8192
    assert increment.cluster_of(1 << 50, 65536) == 65536


@needs_qemu
def test_a_stamp_is_kept_by_qemu_img_and_hinders_no_reader(tmp_path: Path) -> None:
    raw, path = tmp_path / "raw", str(tmp_path / "image.qcow2")
    raw.write_bytes(b"k" * SIZE)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), path], check=True)
    with open(path, "r+b") as file:
        qemu_img.stamp(file.fileno(), path, stamp())
    subprocess.run(["qemu-img", "check", path], check=True, capture_output=True)
    amend: list[Callable[[], list[str]]] = [
        lambda: ["qemu-img", "amend", "-f", "qcow2", "-o", "lazy_refcounts=on", path],
        lambda: ["qemu-img", "bitmap", "--add", path, "b"],
        lambda: ["qemu-io", "-c", "write 0 4k", path],
    ]
    for command in amend:
        subprocess.run(command(), check=True, capture_output=True)
        with chain.open_image(path) as image:
            assert image.stamp is not None
            assert image.stamp.image == "i"
