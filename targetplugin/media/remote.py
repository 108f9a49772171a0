"""Files and devices for a daemon that has no rights to them: what is done by path is asked of the service
that has.

See by_path.ByPath.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from targetplugin.media import asked
from targetplugin.media.here import Identity, Seen
from targetplugin.media.uses import Finding
from targetplugin.service import handed
from targetplugin.service.asking import PATIENCE, Asker

UNIT = "targetplugin-files"
LONGEST = 60.0  # seconds for an answer that needs none of a disk
_AT_ONCE = 100  # paths in a line
EVER = None  # a disk that is opened may never answer; who asks has patience of its own


class RemoteFiles:
    """Args:
    path: of the service's socket.
    patience: seconds to ask again while nobody is there.
    """

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self.path = path
        self._asker = Asker(path, UNIT, "opens files", patience)

    def look(self, path: str) -> Seen | None:
        return self._ask(asked.Look(path), path).seen

    def real(self, paths: Sequence[str]) -> list[str]:
        found = []
        for at in range(0, len(paths), _AT_ONCE):
            found += self._ask(asked.Real(list(paths[at : at + _AT_ONCE])), "").paths
        return found

    def stable(self, path: str) -> str:
        return self._ask(asked.Stable(path), path).paths[0]

    def disks(self) -> list[str]:
        return self._ask(asked.Disks(), "").paths

    def uses(self, path: str) -> list[Finding]:
        return self._ask(asked.Uses(path), path).findings

    def read(self, path: str, *, direct: bool) -> int:
        return self._ask_for_one(asked.Read(path, direct), path, EVER)

    def take(self, path: str) -> int:
        return self._ask_for_one(asked.Take(path), path, EVER)

    def make(self, path: str, size: int) -> None:
        self._ask(asked.Make(path, size), path)

    def set_length(self, path: str, before: int, length: int) -> None:
        self._ask(asked.SetLength(path, before, length), path)

    def image(self, folder: str, name: str) -> int:
        return self._ask_for_one(asked.Image(folder, name), f"{folder}/{name}", LONGEST)

    def part(self, path: str) -> int:
        return self._ask_for_one(asked.Part(path), path, LONGEST)

    def put(self, part: str, path: str, identity: Identity) -> None:
        self._ask(asked.Put(part, path, identity), part)

    def drop(self, part: str) -> None:
        self._ask(asked.Drop(part), part)

    def _ask(self, request: asked.AnyRequest, path: str) -> asked.Answer:
        return self._asked(request, path, LONGEST, 0)[0]

    def _ask_for_one(self, request: asked.AnyRequest, path: str, longest: float | None) -> int:
        """The descriptor that comes with the answer."""
        _, descriptors = self._asked(request, path, longest, 1)
        if len(descriptors) != 1:
            raise self._asker.trouble("it handed no descriptor over")
        return descriptors[0]

    def _asked(
        self, request: asked.AnyRequest, path: str, longest: float | None, most: int
    ) -> tuple[asked.Answer, list[int]]:
        answer, descriptors = self._asker.ask(asked.line(request), asked.answer, longest, most)
        if answer.refused is not None or answer.error:
            handed.close(descriptors)
        if answer.refused is not None:
            raise answer.refused.refused()
        if answer.error:
            raise OSError(answer.error, os.strerror(answer.error), path)
        return answer, descriptors
