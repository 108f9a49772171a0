"""Media are found again by what their superblocks say, not by where they were."""

import pytest

from targetplugin.media.discover import Wanted, find, peek
from targetplugin.media.here import Here
from targetplugin.media.layout import BLOCK
from targetplugin.media.medium import Medium
from targetplugin.media.trailer import decode


@pytest.fixture
def by_id(tmp_path):
    folder = tmp_path / "by-id"
    folder.mkdir()
    return folder


@pytest.fixture
def look(by_id, tmp_path):
    """find, in a folder of links of its own and with no other disks."""
    return lambda *wanted: find(wanted, at=Here(by_id=str(by_id), sys_block=str(tmp_path / "none")))


@pytest.fixture
def given(image):
    """A function that makes a medium and returns its path and uuid."""

    def make(name):
        path = image(name)
        with Medium.open(path) as medium:
            return path, medium.write_trailer(medium.fresh_trailer()).uuid

    return make


def test_it_is_found_where_it_was(given, look):
    path, uuid = given("a.img")
    found = look(Wanted(uuid, path))[uuid]
    assert found.path == path
    assert found.trailer.uuid == uuid


def test_it_is_found_while_another_has_it_open(given, look):
    path, uuid = given("a.img")
    with Medium.open(path):
        assert look(Wanted(uuid, path))[uuid].path == path


def test_it_is_found_where_it_is_now(given, look, by_id):
    path, uuid = given("a.img")
    (by_id / "virtio-a").symlink_to(path)
    found = look(Wanted(uuid, "/dev/vdx"))[uuid]
    assert found.path == str(by_id / "virtio-a")
    assert found.trailer.uuid == uuid


def test_a_path_that_holds_another_medium_now_is_not_taken(given, look):
    path, mine = given("a.img")
    other = bytes(16)
    found = look(Wanted(other, path))[other]
    assert (found.path, found.trailer) == ("", None)
    assert "another medium" in found.why
    assert mine.hex() in found.why


def test_two_media_that_changed_places_are_both_found(given, look, by_id):
    (one, first), (two, second) = given("a.img"), given("b.img")
    for link, path in (("virtio-a", one), ("virtio-b", two)):
        (by_id / link).symlink_to(path)
    found = look(Wanted(first, two), Wanted(second, one))
    assert peek(found[first].path).uuid == first
    assert peek(found[second].path).uuid == second


def test_of_two_that_claim_to_be_it_none_is_taken(given, look, by_id, image):
    path, uuid = given("a.img")
    with open(path, "rb") as file:
        copy = image("copy.img", content=file.read())
    (by_id / "virtio-a").symlink_to(path)
    (by_id / "virtio-copy").symlink_to(copy)
    found = look(Wanted(uuid, "/dev/vdx"))[uuid]
    assert found.path == ""
    assert "both" in found.why
    assert look(Wanted(uuid, path))[uuid].path == path  # but where it always was, it is it


def test_one_disk_under_two_links_is_one_disk(given, look, by_id):
    path, uuid = given("a.img")
    for link in ("virtio-a", "wwn-0x5"):
        (by_id / link).symlink_to(path)
    assert look(Wanted(uuid, "/dev/vdx"))[uuid].path


def test_what_is_nowhere_is_told_as_it_is(given, look, image):
    assert look(Wanted(bytes(16), "/dev/vdx"))[bytes(16)].why == "/dev/vdx is not there"
    empty = image("empty.img")
    assert "no medium of this subsystem" in look(Wanted(bytes(16), empty))[bytes(16)].why


def test_a_block_device_is_found_among_all_of_the_system(loop, tmp_path):
    device = loop()
    with Medium.open(device) as medium:
        uuid = medium.write_trailer(medium.fresh_trailer()).uuid
    found = find([Wanted(uuid, "/dev/vdx")], at=Here(by_id=str(tmp_path / "none")))[uuid]
    assert found.path == device


def test_peeking_repairs_nothing(given):
    path, uuid = given("a.img")
    with Medium.open(path) as medium:
        place = medium.layout.superblocks[0]
        medium.write(place, bytes(BLOCK))
    assert peek(path).uuid == uuid
    with open(path, "rb") as file:
        file.seek(place)
        assert decode(file.read(BLOCK)) is None


@pytest.mark.parametrize("path", ["/dev/null", "/proc", "/nowhere"])
def test_what_can_not_be_a_medium_has_no_trailer(path):
    assert peek(path) is None


def test_a_tiny_file_has_no_trailer(image):
    assert peek(image(size=0)) is None
    assert peek(image(size=100_000)) is None
