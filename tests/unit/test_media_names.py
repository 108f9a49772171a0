"""Names of disks: lasting paths first, and of those the ones that tell people most."""

import os

import pytest

from targetplugin.errors import Refused
from targetplugin.media import names


@pytest.fixture
def by_id(tmp_path):
    def make(*links):
        for link in links:
            (tmp_path / link).symlink_to("/dev/null")
        return str(tmp_path)

    return make


def test_links_that_tell_people_most_come_first(by_id):
    folder = by_id("wwn-0x5000", "nvme-eui.0025", "scsi-SACME_disk_7", "virtio-a", "virtio-a-part1")
    assert [os.path.basename(path) for path in names.by_id_paths(folder)] == [
        "virtio-a",
        "virtio-a-part1",
        "scsi-SACME_disk_7",
        "nvme-eui.0025",
        "wwn-0x5000",
    ]


def test_a_block_device_is_known_by_its_link(by_id, monkeypatch):
    folder = by_id("wwn-0x5000", "virtio-a")
    monkeypatch.setattr("stat.S_ISBLK", lambda mode: True)  # /dev/null stands in for a disk
    assert names.stable_path("/dev/null", folder) == f"{folder}/virtio-a"


def test_a_path_by_id_stays_as_it_was_given(by_id):
    folder = by_id("wwn-0x5000", "virtio-a")
    assert names.stable_path(f"{folder}/wwn-0x5000", folder) == f"{folder}/wwn-0x5000"


def test_a_file_is_known_by_its_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "disk.img").touch()
    assert names.stable_path("disk.img") == str(tmp_path / "disk.img")


def test_a_name_that_is_taken_gets_a_number():
    path = "/dev/disk/by-id/virtio-media-a"
    assert names.medium_name(path) == "virtio-media-a"
    assert names.medium_name(path, ["virtio-media-a"]) == "virtio-media-a-2"
    assert names.medium_name(path, ["virtio-media-a", "virtio-media-a-2"]) == "virtio-media-a-3"


def test_odd_characters_do_not_get_into_a_name():
    assert names.medium_name("/srv/my disk (old)@1.img") == "my-disk-old-1.img"


def test_a_path_without_a_name_is_refused():
    with pytest.raises(Refused):
        names.medium_name("/")
