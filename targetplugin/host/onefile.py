"""`python3 -m targetplugin.host.onefile FILE`: pitcopy as one executable file that can be copied to
a host.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import zipapp
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
FILES = ("__init__.py", "scsi/__init__.py", "scsi/sense.py", "scsi/pitcopy.py")


def build(target: Path) -> None:
    """Writes the file; it needs Python 3.11 or newer on the host, and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        host = [f"host/{path.name}" for path in (PACKAGE / "host").glob("*.py")]
        for name in [*FILES, *host]:
            place = root / "targetplugin" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PACKAGE / name, place)
        (root / "__main__.py").write_text(
            "import sys\nfrom targetplugin.host.pitcopy import main\nsys.exit(main())\n"
        )
        zipapp.create_archive(root, target, interpreter="/usr/bin/env python3", compressed=True)
    target.chmod(0o755)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python3 -m targetplugin.host.onefile FILE")
    build(Path(sys.argv[1]))
