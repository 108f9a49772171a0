"""Device-mapper tables in the target: a device over one of the lab's media that can be made to fail.

Owns the tables' text and how one takes another's place. Knows nothing of what lies on a device.
"""

from __future__ import annotations

from .lab import Lab

SECTOR = 512


class Dm:
    """A device `name` over (the first `size` bytes of) a medium; linear until it is told otherwise.

    Attributes:
        path: its stable path, which outlives a table's change.
        medium: what the lab calls the medium below it.
    """

    def __init__(self, lab: Lab, name: str, medium: str, size: int | None = None) -> None:
        self._lab = lab
        self.name = name
        self.medium = medium
        self.path = f"/dev/disk/by-id/dm-name-{name}"
        self._under = f"/dev/disk/by-id/virtio-{medium}"
        asked = lab.shell("target", f"blockdev --getsz {self._under}").stdout
        self._sectors = size // SECTOR if size else int(asked)
        self._healthy = True
        self._silent = False
        lab.shell(
            "target",
            f"modprobe -a dm-flakey dm-delay dm-log-writes;"
            f"dmsetup create {name} --table '{self._linear(0, self._sectors)}'; udevadm settle",
        )

    def remove(self) -> None:
        self._lab.shell("target", f"udevadm settle; dmsetup remove --retry {self.name}")

    # --- what it does from now on ---------------------------------------------------------------

    def heal(self) -> None:
        """All goes to the medium again."""
        if self._silent:
            self._lab.shell("target", f"dmsetup resume {self.name}")
            self._silent = False
        if not self._healthy:
            self.load(self._linear(0, self._sectors))
            self._healthy = True

    def error(self) -> None:
        """Every request fails."""
        self.load(f"0 {self._sectors} error")

    def bad_area(self, offset: int, length: int) -> None:
        """Requests for these bytes fail, the others do not."""
        first, count = offset // SECTOR, length // SECTOR
        after = first + count
        self.load(
            f"{self._linear(0, first)}\n{first} {count} error\n"
            f"{self._linear(after, self._sectors - after)}"
        )

    def flakey(self, up: int, down: int) -> None:
        """Works for `up` seconds and fails for `down`, in turns."""
        self.load(f"0 {self._sectors} flakey {self._under} 0 {up} {down}")

    def delay(self, milliseconds: int) -> None:
        """Reads, writes and flushes take so much longer."""
        one = f"{self._under} 0 {milliseconds}"
        self.load(f"0 {self._sectors} delay {one} {one} {one}")

    def silent(self) -> None:
        """No request ends until it heals."""
        self._lab.shell("target", f"dmsetup suspend --noflush --nolockfs {self.name}")
        self._silent = True

    def log_writes(self, log: str) -> None:
        """Every write, flush and FUA is noted on the device `log`, in the order of completion."""
        self.load(f"0 {self._sectors} log-writes {self._under} {log}")

    def load(self, table: str) -> None:
        """Puts a table in the place of the one in force; requests wait meanwhile."""
        script = (
            f"dmsetup load {self.name} && dmsetup suspend --nolockfs {self.name} || exit 1;"
            f"dmsetup resume {self.name}"
        )
        self._healthy = False
        self._lab.exec("target", ["sh", "-c", script], input=table + "\n")

    def _linear(self, first: int, count: int) -> str:
        return f"{first} {count} linear {self._under} {first}"
