"""The service that has the rights to files and disks, and opens those that the daemon asks for.

It listens on a unix socket, to one user, and does one request a connection, many at once: one disk that does
not answer holds none of the others. It keeps no state, so it may be killed and started again at any time, and
reads and writes no file or disk itself. What it may open is rules.py's.
"""

from __future__ import annotations

import argparse
import errno
import os
import socket
import sys
from collections.abc import Callable, Sequence

from targetplugin.media import asked
from targetplugin.media.by_path import ByPath
from targetplugin.media.here import Here
from targetplugin.media.rules import MediaAndImages
from targetplugin.service import answering, program


class Performer:
    """Does requests."""

    def __init__(self, by_path: ByPath) -> None:
        self._by_path = by_path

    def perform(self, line: bytes, _: socket.socket) -> tuple[bytes, list[int]]:
        """The answer, and the descriptors to hand over, which are the caller's. Raises Refused."""
        try:
            answer, descriptors = self._done(asked.request(line))
        except OSError as error:
            answer, descriptors = asked.Answer(error=error.errno or errno.EIO), []
        return asked.line(answer), descriptors

    def _done(self, request: asked.AnyRequest) -> tuple[asked.Answer, list[int]]:
        by_path, answer, opened = self._by_path, asked.Answer(), list[int]()
        match request:
            case asked.Look(path):
                answer = asked.Answer(seen=by_path.look(path))
            case asked.Real(paths):
                answer = asked.Answer(paths=by_path.real(paths))
            case asked.Stable(path):
                answer = asked.Answer(paths=[by_path.stable(path)])
            case asked.Disks():
                answer = asked.Answer(paths=by_path.disks())
            case asked.Uses(path):
                answer = asked.Answer(findings=by_path.uses(path))
            case asked.Read(path, direct):
                opened = [by_path.read(path, direct=direct)]
            case asked.Take(path):
                opened = [by_path.take(path)]
            case asked.Make(path, size):
                by_path.make(path, size)
            case asked.SetLength(path, before, length):
                by_path.set_length(path, before, length)
            case asked.Image(folder, name):
                opened = [by_path.image(folder, name)]
            case asked.Part(path):
                opened = [by_path.part(path)]
            case asked.Put(part, path, identity):
                by_path.put(part, path, identity)
            case asked.Drop(part):
                by_path.drop(part)
        return answer, opened


def converse(user: int, by_path: ByPath | None = None) -> Callable[[socket.socket], None]:
    """What answers a connection.

    Args:
        user: number of the one user that may ask.
    """

    perform = Performer(by_path or Here(MediaAndImages())).perform
    return answering.converse(user, perform, asked.refusal, "targetplugin-files")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return program.parser("targetplugin-files", __doc__.splitlines()[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """See program.run."""
    os.umask(0o077)
    return program.run(parser(), converse, arguments)


if __name__ == "__main__":
    sys.exit(main())
