"""What stands on what, and who uses it: fake /sys and /proc in a folder, laid out as Linux does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from targetplugin.host import device, journal, lvm, mounts, processes, stack, users
from targetplugin.host.errors import Refused
from targetplugin.host.mounts import Mount
from targetplugin.host.stack import Logical

VG, OTHER_VG = "v" * 32, "w" * 32
NAA = "naa.60014051111111111111111111111111"
DISK = "/dev/sdb"


class Tree:
    """A host's /sys and /proc."""

    def __init__(self, folder: Path) -> None:
        self.sys, self.proc = folder / "sys", folder / "proc"
        (self.sys / "class/block").mkdir(parents=True)
        (self.sys / "dev/block").mkdir(parents=True)
        (self.sys / "block").mkdir()
        (self.proc / "self").mkdir(parents=True)
        self.lines: list[str] = []
        self.mounted()
        self.swaps()

    def disk(self, name: str, number: str, naa: str = "") -> Path:
        place = self.sys / "devices" / name
        (place / "holders").mkdir(parents=True)
        (place / "slaves").mkdir()
        (place / "dev").write_text(number + "\n")
        if naa:
            (place / "device").mkdir()
            (place / "device/wwid").write_text(naa + "\n")
        self._link(place, name, number)
        (self.sys / "block" / name).symlink_to(place)
        return place

    def partition(self, disk: str, name: str, number: str) -> None:
        place = self.sys / "devices" / disk / name
        (place / "holders").mkdir(parents=True)
        (place / "dev").write_text(number + "\n")
        (place / "partition").write_text("1\n")
        self._link(place, name, number)

    def _link(self, place: Path, name: str, number: str) -> None:
        (self.sys / "class/block" / name).symlink_to(place)
        (self.sys / "dev/block" / number).symlink_to(place)

    def mapped(self, name: str, number: str, uuid: str, mapped: str, *slaves: str) -> None:
        place = self.disk(name, number)
        if uuid:
            (place / "dm").mkdir()
            (place / "dm/uuid").write_text(uuid + "\n")
            (place / "dm/name").write_text(mapped + "\n")
        for slave in slaves:
            below = self.sys / "class/block" / slave
            (place / "slaves" / slave).symlink_to(below)
            (below / "holders" / name).symlink_to(place)

    def mounted(self, *lines: str, process: str = "self") -> None:
        """Lines of mountinfo: number, parent, device, root, where, and what is behind."""
        (self.proc / process).mkdir(exist_ok=True)
        self.lines = list(lines)
        text = "".join(f"{line}\n" for line in lines)
        (self.proc / process / "mountinfo").write_text(text)

    def swaps(self, *paths: str) -> None:
        rows = [f"{path} partition 1 0 -2\n" for path in paths]
        (self.proc / "swaps").write_text("Filename Type Size Used Priority\n" + "".join(rows))

    def process(self, pid: int, name: str = "job", *, files: tuple[str, ...] = ()) -> Path:
        place = self.proc / str(pid)
        (place / "fd").mkdir(parents=True, exist_ok=True)
        (place / "comm").write_text(name + "\n")
        for number, file in enumerate(files):
            (place / "fd" / str(number)).symlink_to(file)
        return place

    def namespace(self, process: str, name: str) -> None:
        (self.proc / process / "ns").mkdir(parents=True, exist_ok=True)
        (self.proc / process / "ns/mnt").symlink_to(f"mnt:[{name}]")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    tree = Tree(tmp_path)
    monkeypatch.setattr(stack, "SYS", tree.sys)
    for module in (processes, mounts, users):
        monkeypatch.setattr(module, "PROC", tree.proc)
    monkeypatch.setattr(journal, "FOLDER", tmp_path / "journal")
    tree.disk("sdb", "8:16")
    return tree


def line(
    where: str,
    device: str = "8:16",
    *,
    number: int = 40,
    parent: int = 1,
    root: str = "/",
    more: str = "shared:9",
    kind: str = "ext4",
    source: str = "/dev/sdb",
    options: str = "rw",
) -> str:
    """A line of mountinfo."""
    return (
        f"{number} {parent} {device} {root} {where} rw,relatime {more} - {kind} {source} {options}"
    )


# --- down to the disk ---------------------------------------------------------------------------


def test_a_partition_and_a_logical_volume_lead_to_their_disk(tree: Tree) -> None:
    tree.partition("sdb", "sdb1", "8:17")
    tree.mapped("dm-3", "253:3", f"LVM-{VG}{'l' * 32}", "data-my--lv", "sdb1")
    assert device.disk_below("/dev/data/my-lv", "dm-3") == "sdb"
    assert device.disk_below("/dev/sdb1", "sdb1") == "sdb"
    assert stack.above("sdb") == ["sdb", "sdb1", "dm-3"]
    assert stack.logical("dm-3") == Logical("data", "my-lv")
    assert stack.node("dm-3") == "/dev/mapper/data-my--lv"
    assert lvm.active(DISK) == [Logical("data", "my-lv")]


def test_several_paths_are_one_disk(tree: Tree) -> None:
    tree.disk("sdc", "8:32", NAA)
    tree.disk("sdd", "8:48", NAA)
    tree.disk("sde", "8:64", NAA.replace("1", "2"))
    tree.mapped("dm-0", "253:0", "mpath-36001405", "mpatha", "sdd", "sdc")
    tree.mapped("dm-1", "253:1", "part1-mpath-36001405", "mpatha1", "dm-0")
    tree.mapped("dm-2", "253:2", f"LVM-{VG}{'l' * 32}", "vg-lv", "dm-1")
    for name in ("dm-0", "dm-1", "dm-2", "sdc", "sdd"):
        assert device.disk_below(name, name) == "sdc"
    assert stack.paths("sdc") == ["sdc", "sdd"]
    assert stack.above("sdc") == ["sdc", "sdd", "dm-0", "dm-1", "dm-2"]
    assert stack.strangers("sdc") == []
    tree.mounted(line("/mnt", "253:2"))
    assert mounts.mounts("/dev/sdc") == [Mount("/dev/mapper/vg-lv", "/mnt", "ext4", "rw,relatime")]
    users.check_leavable("/dev/sdc")


def test_what_stands_on_several_disks_is_refused(tree: Tree) -> None:
    tree.disk("sdc", "8:32")
    tree.mapped("dm-0", "253:0", f"LVM-{VG}{'l' * 32}", "vg-lv", "sdb", "sdc")
    with pytest.raises(Refused, match="several disks: /dev/sdb, /dev/sdc"):
        device.disk_below("/dev/vg/lv", "dm-0")
    with pytest.raises(Refused, match="stands on /dev/sdc too"):
        users.check_leavable(DISK)


def test_a_request_goes_by_another_path_when_one_is_down(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.disk("sdc", "8:32", NAA)
    tree.disk("sdd", "8:48", NAA)
    asked = []

    def execute(path: str, cdb: bytes, **_: object) -> bytes:
        asked.append(path)
        if path == "/dev/sdc":
            raise device.Away("no answer")
        return bytes(4) + device.SIGNATURE

    monkeypatch.setattr(device.sgio, "execute", execute)
    monkeypatch.setattr(device, "whole_disk", lambda path: "/dev/sdc")
    device.Disk("/dev/sdc")
    assert asked == ["/dev/sdc", "/dev/sdd"]


def test_a_disk_that_does_not_answer_is_given_up_after_a_while(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(path: str, cdb: bytes, **_: object) -> bytes:
        raise device.Away("no answer")

    monkeypatch.setattr(device.sgio, "execute", execute)
    monkeypatch.setattr(device, "whole_disk", lambda path: DISK)
    monkeypatch.setattr(device, "PATIENCE", 0.05)
    monkeypatch.setattr(device, "PAUSE", 0.01)
    with pytest.raises(device.Away):
        device.Disk(DISK)


# --- what can be left ---------------------------------------------------------------------------


def test_a_disk_that_nobody_uses_can_be_left(tree: Tree) -> None:
    tree.process(7, files=("/dev/null",))
    users.check_unused(DISK)


def test_swap_is_refused(tree: Tree) -> None:
    tree.partition("sdb", "sdb2", "8:18")
    tree.swaps("/dev/sdb2")
    with pytest.raises(Refused, match="swap") as refused:
        users.check_unused(DISK)
    assert refused.value.hint == "swapoff /dev/sdb2"


@pytest.mark.parametrize(
    ("name", "uuid"), [("md0", ""), ("dm-0", "CRYPT-LUKS2-x"), ("bcache0", ""), ("dm-0", "")]
)
def test_what_can_t_be_taken_down_and_up_is_refused(tree: Tree, name: str, uuid: str) -> None:
    tree.mapped(name, "9:0", uuid, "secret", "sdb")
    with pytest.raises(Refused, match="can't be taken down"):
        users.check_unused(DISK)


def test_a_volume_group_with_other_disks_is_refused(tree: Tree) -> None:
    tree.disk("sdc", "8:32")
    tree.mapped("dm-0", "253:0", f"LVM-{VG}{'l' * 32}", "vg-here", "sdb")
    users.check_leavable(DISK)
    tree.mapped("dm-2", "253:2", f"LVM-{OTHER_VG}{'l' * 32}", "other-there", "sdc")
    users.check_leavable(DISK)
    tree.mapped("dm-1", "253:1", f"LVM-{VG}{'m' * 32}", "vg-there", "sdc")
    with pytest.raises(Refused, match="/dev/mapper/vg-there"):
        users.check_leavable(DISK)


def test_open_files_under_a_mount_are_named(tree: Tree, tmp_path: Path) -> None:
    where = tmp_path / "mnt"
    where.mkdir()
    (where / "file").touch()
    tree.mounted(line(str(where)))
    users.check_unused(DISK)
    tree.process(4711, "vi", files=("/dev/null", str(where / "file")))
    with pytest.raises(Refused, match=rf"in use.*vi \(pid 4711, {where}/file\)") as refused:
        users.check_unused(DISK)
    assert "nothing was done" in refused.value.hint


def test_a_swap_file_a_loop_device_and_an_export_are_named(tree: Tree, tmp_path: Path) -> None:
    where = tmp_path / "mnt"
    where.mkdir()
    for name in ("swap", "image"):
        (where / name).touch()
    tree.mounted(line(str(where)))
    tree.swaps(f"{where}/swap")
    loop = tree.disk("loop3", "7:3")
    (loop / "loop").mkdir()
    (loop / "loop/backing_file").write_text(f"{where}/image\n")
    (tree.proc / "fs/nfsd").mkdir(parents=True)
    (tree.proc / "fs/nfsd/exports").write_text(f"# Version 1.1\n{where} *(rw)\n")
    tree.mounted(
        line(str(where)), line(str(where / "below"), "0:50", number=50, parent=40, source="tmpfs")
    )
    with pytest.raises(Refused) as refused:
        users.check_unused(DISK)
    for named in ("swap file", "/dev/loop3", "NFS export", "below, mounted below it"):
        assert named in refused.value.message


def test_a_disk_that_is_mounted_in_a_container_is_refused(tree: Tree) -> None:
    root = "1 0 8:1 / / rw shared:1 - ext4 /dev/sda1 rw"
    tree.mounted(root, line("/nowhere"))
    tree.namespace("self", "1")
    tree.process(20, "service")
    tree.mounted(
        "5 4 8:1 / / rw master:1 - ext4 /dev/sda1 rw", line("/nowhere", parent=5), process="20"
    )
    tree.namespace("20", "2")
    users.check_unused(DISK)
    tree.process(21, "container")
    tree.mounted("6 0 0:60 / / rw - overlay overlay rw", line("/data", parent=6), process="21")
    tree.namespace("21", "3")
    with pytest.raises(Refused, match=r"container \(pid 21, /data\)"):
        users.check_unused(DISK)


def test_the_root_file_system_is_refused(tree: Tree) -> None:
    tree.mounted(line("/"))
    with pytest.raises(Refused, match="root file system"):
        users.check_unused(DISK)


def test_a_bind_mount_alone_is_refused(tree: Tree) -> None:
    tree.mounted(line("/srv", root="/some/folder"))
    with pytest.raises(Refused, match="bind mount"):
        users.check_unused(DISK)


@pytest.mark.skipif(not Path("/dev/loop0").is_block_device(), reason="there is no block device")
def test_who_writes_to_the_device_itself_is_named_and_readers_are_not(tree: Tree) -> None:
    info = os.stat("/dev/loop0")
    number = f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}"
    place = tree.process(9, "dd", files=("/dev/loop0",))
    (place / "fdinfo").mkdir()
    (place / "fdinfo/0").write_text("pos: 0\nflags: 02100000\n")
    assert processes.writers({number}) == []
    (place / "fdinfo/0").write_text("pos: 0\nflags: 02100002\n")
    assert [str(one) for one in processes.writers({number})] == ["dd (pid 9, /dev/loop0)"]


def test_the_journal_may_not_be_on_the_disk(tree: Tree, tmp_path: Path) -> None:
    tree.mounted(line(str(tmp_path)))
    with pytest.raises(Refused, match="is on /dev/sdb itself"), journal.exclusive(DISK):
        pass


# --- mounts -------------------------------------------------------------------------------------


def test_all_mounts_are_found_and_bind_mounts_come_last(tree: Tree) -> None:
    tree.partition("sdb", "sdb1", "8:17")
    tree.mounted(
        line("/bound", "8:17", number=41, root="/sub\\040dir", options="rw,errors=continue"),
        line("/whole", "8:17", number=42),
        line("/again", "8:17", number=43),
        line("/other", "8:99", number=44),
    )
    found = mounts.mounts(DISK)
    assert [(m.where, m.bound) for m in found] == [
        ("/whole", ""),
        ("/again", ""),
        ("/bound", "/whole/sub dir"),
    ]
    assert found[2].options == "rw,relatime"


def test_a_subvolume_is_no_bind_mount() -> None:
    one = mounts.Line(
        "1", "0", "0:40", "/home", "/home", "rw", (), "btrfs", "/dev/sdb", "rw,subvol=/home"
    )
    assert not one.bind


@pytest.mark.parametrize(
    ("was", "now", "part", "expected"),
    [
        ("/dev/sdb", "/dev/sdc", "/dev/sdb1", "/dev/sdc1"),
        ("/dev/sdb", "/dev/sdc", "/dev/sdb", "/dev/sdc"),
        ("/dev/sdb", "/dev/nvme0n1", "/dev/sdb2", "/dev/nvme0n1p2"),
        ("/dev/sdb", "/dev/sdc", "/dev/sdba1", "/dev/sdba1"),
        ("/dev/sdb", "/dev/sdc", "/dev/mapper/vg-lv", "/dev/mapper/vg-lv"),
    ],
)
def test_a_remembered_mount_moves_with_its_disk(
    was: str, now: str, part: str, expected: str
) -> None:
    assert mounts.moved(Mount(part, "/mnt", "ext4", "rw"), was, now).device == expected


def test_a_journal_is_found_by_the_disk_s_naa_when_its_name_changes(
    tree: Tree, tmp_path: Path
) -> None:
    tree.disk("sdc", "8:32", NAA)
    mount = Mount("/dev/sdc1", "/mnt", "ext4", "rw")
    journal.Entry("/dev/sdc", 1, "running", "l", 1, ["job"], [mount]).write()
    (tree.sys / "devices/sdc/device/wwid").unlink()
    tree.disk("sdq", "65:0", NAA)
    found = journal.read("/dev/sdq")
    assert found is not None
    assert (found.disk, found.mounts[0].device) == ("/dev/sdq", "/dev/sdq1")
