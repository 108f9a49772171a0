"""Where Ansible finds the collection of this checkout: it wants a path that ends in its name."""

from __future__ import annotations

from pathlib import Path

COLLECTION = Path(__file__).parents[2] / "ansible"


def installed(folder: Path) -> Path:
    """Makes a path for ANSIBLE_COLLECTIONS_PATH, or for Python, below a folder. Returns it."""
    place = folder / "ansible_collections" / "targetplugin"
    place.mkdir(parents=True)
    (place / "iscsi").symlink_to(COLLECTION)
    return folder
