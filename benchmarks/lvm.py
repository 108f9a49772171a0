"""LVM's snapshots on the lab's target, as peers: thick ones on another disk or on the same, and thin ones.

Owns the commands. Thin snapshots share a pool on one disk; a pool's metadata is there too.
"""

from __future__ import annotations

from tests.vm import packages
from tests.vm.lab import Lab

GROUP = "peer"


class Lvm:
    """One logical volume of `size_mib` on the first of the disks, and at most one snapshot of it.

    Args:
        kind: "thick", its snapshot on the last of the disks, or "thin", all on the first one.
        room_mib: what a snapshot may grow to.
    """

    def __init__(self, lab: Lab, kind: str, size_mib: int, letters: str, *, room_mib: int) -> None:
        self._lab = lab
        self._kind = kind
        self._room = room_mib
        self._disks = [f"/dev/disk/by-id/virtio-media-{letter}" for letter in letters]
        self.disk = f"/dev/{GROUP}/origin"
        first = self._disks[0]
        self._shell(
            f"wipefs -qa {' '.join(self._disks)}; vgcreate -qq {GROUP} {' '.join(self._disks)}"
        )
        if kind == "thin":
            pool = f"--type thin-pool -L {size_mib + room_mib}M --poolmetadatasize 8M --poolmetadataspare n"
            self._shell(f"lvcreate -qq -y {pool} -Zn -n pool {GROUP} {first}")
            self._shell(f"lvcreate -qq -y -V {size_mib}M -T {GROUP}/pool -n origin")
        else:
            self._shell(f"lvcreate -qq -y -Wn -L {size_mib}M -n origin {GROUP} {first}")

    def snapshot(self) -> None:
        if self._kind == "thin":
            self._shell(f"lvcreate -qq -s -n kept {GROUP}/origin")
        else:
            place = self._disks[-1]
            self._shell(f"lvcreate -qq -y -s -L {self._room}M -n kept {GROUP}/origin {place}")

    def merge(self) -> None:
        """Takes the snapshot's content back; it is gone then. The volume must be closed."""
        self._shell(f"lvconvert -qq --merge -i 1 {GROUP}/kept")

    def drop(self) -> None:
        self._shell(f"lvremove -qq -y {GROUP}/kept")

    def delete(self) -> None:
        self._shell(f"vgremove -qq -y {GROUP}; pvremove -qq -y {' '.join(self._disks)}")

    def _shell(self, script: str) -> None:
        # lvmdbusd and event daemons are not in the lab: nothing to notify or to monitor by
        self._lab.shell("target", script, timeout=400, env={"LVM_SUPPRESS_FD_WARNINGS": "1"})


def prepare(lab: Lab) -> None:
    """What the image lacks for thin pools."""
    packages.install(lab, *packages.THIN)
    lab.shell("target", "modprobe -a dm-snapshot dm-thin-pool")
