"""Opening an image with all that it stands on: each file by us, below the folder of the first, so
that no name in a header leads anywhere else.

qemu-img is given the open descriptors with each one's format and what is below it, and has no name
to follow. Knows files; knows no volume.
"""

from __future__ import annotations

import errno
import io
import json
import os
from typing import Any

from msgspec import Struct, field

from targetplugin.errors import Reason, Refused
from targetplugin.media.by_path import by_path
from targetplugin.qemu import running
from targetplugin.subsystem.images import qcow2
from targetplugin.subsystem.images.qcow2 import Stamp, refuse

FORMATS = ("raw", "qcow2")
MOST_LINKS = 32
_REBASE = (
    "put the whole chain into one folder, and name it there with"
    " qemu-img rebase -u -b NAME -F FORMAT"
)


class Link(Struct):
    """One file of a chain, open. `size` is the disk's, bytes; `backing` the name of what is below."""

    name: str
    format: str
    file: io.FileIO
    size: int
    backing: str | None = None
    stamp: Stamp | None = None


class Image(Struct):
    """An image that can be restored, open until it is closed; a context manager.

    Attributes:
        path: as it was asked for; `folder` and the names of `links` are where it really is.
        size: that of the disk in it, bytes.
        links: from the image itself down to the one that stands for itself.
    """

    path: str
    format: str
    size: int
    folder: str
    links: list[Link] = field(default_factory=list)

    def __enter__(self) -> Image:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for link in self.links:
            link.file.close()

    @property
    def stamp(self) -> Stamp | None:
        """Of the image itself."""
        return self.links[0].stamp

    @property
    def descriptors(self) -> tuple[int, ...]:
        return tuple(link.file.fileno() for link in self.links)

    def opened(self, only: int | None = None) -> str:
        """The image as qemu-img takes it; `only`: that link alone, as if nothing were below it."""
        node: dict[str, Any] | None = None
        links = self.links if only is None else [self.links[only]]
        for link in reversed(links):
            file = {"driver": "file", "filename": running.place(link.file.fileno())}
            below = node
            node = {"driver": link.format, "file": file}
            if link.format == "qcow2":
                node["backing"] = below
        return "json:" + json.dumps(node)


def open_image(path: str, format: str | None = None) -> Image:
    """Opens an image and what it stands on, and judges their headers.

    Args:
        path: absolute; a symbolic link is followed here, and only here.
        format: "raw" or "qcow2"; None: by its first bytes. What it stands on states its format;
            and for it to stand on anything, its own is stated here or by its name: the first bytes
            of a raw disk are whatever its user wrote, a header that names other files say.
    Raises:
        Refused: no such file, not an absolute path, damaged, truncated, encrypted, of another
            lineage than what it stands on, or with a backing file outside of its folder.
    """
    if not os.path.isabs(path):
        raise refuse(path, "is not an absolute path", "give the path from /", Reason.USAGE)
    if format is not None and format not in FORMATS:
        raise Refused(Reason.USAGE, f"{format!r} is no format", hint="say raw or qcow2")
    try:
        return _open(path, format)
    except OSError as error:
        raise refuse(
            path, f"can't be read: {error.strerror}", "check it", Reason.ENVIRONMENT
        ) from error


def _open(path: str, format: str | None) -> Image:
    seen = by_path().look(path)
    if seen is None or seen.kind != "file":
        raise refuse(path, "is not there or no file", "check the path", Reason.NOT_FOUND)
    folder, name = os.path.split(seen.real)
    image = Image(path, format or "", 0, folder)
    try:
        stated = format is not None or name.endswith(".qcow2")
        _descend(image, name, format, stated)
        _check_lineage(image)
    except BaseException:
        image.close()
        raise
    image.format, image.size = image.links[0].format, image.links[0].size
    return image


def _descend(image: Image, top: str, format: str | None, stated: bool) -> None:
    """Opens and judges one file after the other."""
    seen: set[tuple[int, int]] = set()
    name: str | None = top
    while name is not None:
        shown = f"{image.folder}/{name}" if image.links else image.path
        if len(image.links) == MOST_LINKS:
            raise refuse(
                image.path,
                f"stands on more than {MOST_LINKS - 1} others",
                "make it shorter with qemu-img rebase, or convert it to a whole one",
            )
        link = Link(name, "", _file(shown, image.folder, name), 0)
        image.links.append(link)
        where = os.fstat(link.file.fileno())
        if (where.st_dev, where.st_ino) in seen:
            raise refuse(image.path, f"stands on itself: {name} comes again below it")
        seen.add((where.st_dev, where.st_ino))
        if format is None:  # of the first alone: what it stands on has its format stated
            magic = os.pread(link.file.fileno(), len(qcow2.MAGIC), 0)
            format = "qcow2" if magic == qcow2.MAGIC else "raw"
        link.format, link.size = format, where.st_size
        name = None
        if format == "qcow2":
            header = qcow2.read(link.file.fileno(), shown)
            link.size, link.stamp = header.size, header.stamp
            if header.backing is not None:
                if not stated:
                    raise refuse(
                        image.path,
                        "begins like a qcow2 image with a backing file, but nobody says that it is"
                        " one",
                        "say --format qcow2 if it is; a raw disk may begin with anything",
                    )
                name = link.backing = _inside(shown, image.folder, header.backing)
                format = _stated(shown, header)


def _file(shown: str, folder: str, name: str) -> io.FileIO:
    """A regular file of the folder, and no link to one."""
    try:
        return io.FileIO(by_path().image(folder, name))
    except FileNotFoundError:
        raise refuse(
            shown, "is not there, and another stands on it", _REBASE, Reason.NOT_FOUND
        ) from None
    except OSError as error:
        why = {
            errno.ELOOP: "is a symbolic link, and another stands on it",
            errno.EINVAL: "is no file, and another stands on it",
        }.get(error.errno or 0)
        if why is None:
            raise
        raise refuse(shown, why, _REBASE) from None


def _inside(path: str, folder: str, backing: str) -> str:
    """The name in the folder that a header means, as qemu-img would take it."""
    name = backing
    if name.startswith("/") and os.path.dirname(name) == folder:
        name = os.path.basename(name)
    name = name.removeprefix("./")
    if ":" in name:
        raise refuse(
            path, f"has a backing file that is no file of its folder: {backing!r}", _REBASE
        )
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise refuse(path, f"has a backing file outside its folder: {backing!r}", _REBASE)
    return name


def _stated(path: str, header: qcow2.Header) -> str:
    """The backing file's format. It is never found out: a disk's first bytes are its user's."""
    found = header.backing_format
    if found is None:
        raise refuse(
            path,
            "does not state the format of its backing file",
            "state it: qemu-img rebase -u -b NAME -F FORMAT",
        )
    if found not in FORMATS:
        raise refuse(
            path,
            f"has a backing file of format {found!r}",
            "convert the backing file to raw or qcow2 with qemu-img",
        )
    return found


def _check_lineage(image: Image) -> None:
    """Refuses a chain whose stamps say that its files do not belong on each other."""
    for above, under in zip(image.links, image.links[1:], strict=False):
        shown = f"{image.folder}/{above.name}"
        if above.stamp is None:
            continue
        if under.stamp is None and not above.stamp.base:  # a raw backup, which bears none
            if under.size != above.stamp.size:
                raise refuse(
                    f"{image.folder}/{under.name}",
                    f"has {under.size} bytes, and was written with {above.stamp.size}: it is"
                    " truncated, or another image",
                )
            continue
        stamp = under.stamp
        if stamp is None or stamp.volume != above.stamp.volume:
            raise refuse(shown, f"stands on {under.name}, which is no backup of its volume")
        same_name = above.backing == above.stamp.base_name
        known = (above.stamp.base,) if same_name else above.stamp.older
        if stamp.image not in known:
            raise refuse(
                shown,
                f"stands on {under.name}, which is not the image that it was written onto",
                "put that image back under this name",
            )
