"""The machine that is looked at: its files, its user, its kernel. Tests hand in a folder in its place."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct, field


class Machine(Struct, frozen=True):
    """Where to look.

    Attributes:
        root: what stands for /.
        user: the effective user's number.
        release: of the kernel that runs, as uname says it.
        programs: where programs are looked for.
    """

    root: Path = Path("/")
    user: int = field(default_factory=os.geteuid)
    release: str = field(default_factory=lambda: os.uname().release)
    programs: str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

    def place(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def text(self, path: str) -> str:
        """What a file says, without its last newline; "" where it can't be read."""
        try:
            return self.place(path).read_text(errors="replace").strip()
        except OSError:
            return ""

    def there(self, path: str) -> bool:
        try:
            return self.place(path).exists()
        except OSError:
            return False

    def log(self) -> str:
        """What the kernel's log holds; "" where it can't be read."""
        found = []
        try:
            with open(self.place("/dev/kmsg"), "rb", buffering=0, opener=_without_waiting) as file:
                while record := file.read(8192):  # one record a read, dev-kmsg in the kernel's ABI
                    found.append(record.decode(errors="replace"))
        except OSError:
            pass  # the end of the log, EAGAIN, or no right to it
        return "".join(found)

    @property
    def is_root(self) -> bool:
        return self.user == 0


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
