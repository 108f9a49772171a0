"""How block devices stand on each other on this host: partitions, paths, LVM, multipath. Reads
/sys and nothing else; names are the kernel's, as in sdb, sdb1, dm-0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SYS = Path("/sys")
DISK, PARTITION, MULTIPATH, LVM, OTHER = "disk", "partition", "multipath", "lvm", "other"
LVM_PREFIX, GROUP_ID = (
    "LVM-",
    32,
)  # a logical volume's dm uuid: LVM-, then its group's, then its own
PLAIN_ID = len(LVM_PREFIX) + 64  # one that is longer is a part that LVM keeps for itself


@dataclass(frozen=True)
class Logical:
    """An active LVM logical volume: its group's and its own name."""

    group: str
    name: str

    def __str__(self) -> str:
        return f"{self.group}/{self.name}"


def place(name: str) -> Path:
    """The directory of a device below /sys."""
    return SYS / "class/block" / name.replace("/", "!")


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _names(folder: Path) -> list[str]:
    try:
        return sorted(one.name for one in folder.iterdir())
    except OSError:
        return []


def of_number(major: int, minor: int) -> str:
    """The name of the device with that number; "" if there is none."""
    found = (SYS / "dev/block" / f"{major}:{minor}").resolve()
    return found.name if found.exists() else ""


def number(name: str) -> str:
    """As "8:16"; "" if the device is not there."""
    return _text(place(name) / "dev")


def node(name: str) -> str:
    """The path below /dev; of a mapped device the name that it keeps when it is made again."""
    mapped = _text(place(name) / "dm/name")
    return f"/dev/mapper/{mapped}" if mapped else f"/dev/{name.replace('!', '/')}"


def kind(name: str) -> str:
    """DISK, PARTITION, MULTIPATH (or a partition of one), LVM, or OTHER: md, crypt, bcache..."""
    if (place(name) / "partition").exists():
        return PARTITION
    uuid = _text(place(name) / "dm/uuid")
    if uuid.startswith(LVM_PREFIX):
        return LVM
    if uuid.startswith("mpath-") or (uuid.startswith("part") and "-mpath-" in uuid):
        return MULTIPATH
    if name.startswith(("dm-", "md", "bcache", "drbd")) or _names(place(name) / "slaves"):
        return OTHER
    return DISK


def below(name: str) -> list[str]:
    """The disks on which a device stands, down to those that stand on nothing."""
    if (place(name) / "partition").exists():
        return below(place(name).resolve().parent.name)
    slaves = _names(place(name) / "slaves")
    if not slaves:
        return [name]
    return list(dict.fromkeys(disk for slave in slaves for disk in below(slave)))


def holders(name: str) -> list[str]:
    """What stands on a device directly; of a disk without what stands on its partitions."""
    return _names(place(name) / "holders")


def identity(name: str) -> str:
    """The NAA of a SCSI disk, as in "naa.6001405..."; "" where the kernel knows none."""
    found = _text(place(name) / "device/wwid")
    return found if found.startswith("naa.") else ""


def paths(name: str) -> list[str]:
    """All paths to the logical unit of a disk, the disk first: those of the same NAA."""
    naa = identity(name)
    if not naa:
        return [name]
    return [name, *(n for n in _names(SYS / "block") if n != name and identity(n) == naa)]


def above(name: str) -> list[str]:
    """A disk, the other paths to it, and all that stands on it, from the bottom up."""
    found = paths(name)
    for one in found:
        inside = [n for n in _names(place(one)) if (place(one) / n / "partition").exists()]
        found += [n for n in [*inside, *holders(one)] if n not in found]
    return found


def strangers(name: str) -> list[str]:
    """Disks that share with this one something that stands on both, such as a striped volume."""
    mine = set(paths(name))
    shared = dict.fromkeys(disk for one in above(name) for disk in below(one))
    return [disk for disk in shared if disk not in mine]


# --- LVM ----------------------------------------------------------------------------------------


def logical(name: str) -> Logical | None:
    """What logical volume a mapped device is; None of others, and of what LVM keeps for itself."""
    uuid = _text(place(name) / "dm/uuid")
    if not uuid.startswith(LVM_PREFIX) or len(uuid) != PLAIN_ID:
        return None
    group, _, own = _text(place(name) / "dm/name").replace("--", "\0").partition("-")
    return Logical(group.replace("\0", "-"), own.replace("\0", "-"))


def groups_elsewhere(name: str) -> list[str]:
    """Mapped devices of this disk's volume groups that stand on other disks too."""
    mine = set(paths(name))
    groups = {_group_id(one) for one in above(name)} - {""}
    return [
        node(one)
        for one in _names(SYS / "block")
        if _group_id(one) in groups and not set(below(one)) <= mine
    ]


def _group_id(name: str) -> str:
    uuid = _text(place(name) / "dm/uuid")
    return uuid[: len(LVM_PREFIX) + GROUP_ID] if uuid.startswith(LVM_PREFIX) else ""
