"""Asking disks that may neither answer nor fail: each is asked by a thread of its own, which may wait
for ever; who wants to know goes on after a while.

Knows nothing of what is asked.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from targetplugin.media.by_path import by_path

Answer = TypeVar("Answer")
SILENT = 12.0  # seconds, as the engine's


class Patience:
    """Remembers what has not been answered yet: nobody waits twice for the same about the same path.

    Attributes:
        answered: called with a path that was silent and answers at last, from a thread.
    """

    def __init__(self, seconds: float = SILENT) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._silent: set[tuple[object, str]] = set()  # a question, and a real path
        self.answered: Callable[[str], None] = lambda path: None

    def ask(
        self, question: Callable[[str], Answer], paths: Iterable[str]
    ) -> dict[str, Answer | None]:
        """Asks all paths at once.

        Returns:
            The answers; None where a path is silent.

        Raises:
            What the question does, of the first path for which it does.
        """
        paths = list(paths)
        reals = by_path().real(paths)
        questions = [
            _Question(self, question, path, real) for path, real in zip(paths, reals, strict=True)
        ]
        begun = time.monotonic()
        for one in questions:
            if one.asked:
                one.ended.wait(max(0.0, begun + self._seconds - time.monotonic()))
        answers: dict[str, Answer | None] = {}
        for one in questions:
            with self._lock:
                done = one.ended.is_set()
                if not done and one.asked:  # else it is there, or has answered meanwhile
                    self._silent.add(one.key)
            if done and one.error is not None:
                raise one.error
            answers[one.path] = one.answer if done else None
        return answers

    def begins(self, key: tuple[object, str]) -> bool:
        """Whether to ask: not while the same has no answer."""
        with self._lock:
            return key not in self._silent

    def ends(self, question: _Question) -> None:
        """There is an answer, however late."""
        with self._lock:
            question.ended.set()
            late = question.key in self._silent
            self._silent.discard(question.key)
        if late:
            self.answered(question.path)


class _Question:
    """One path's. `ended` is set when it has been answered; not at all if it is silent already."""

    def __init__(
        self, patience: Patience, question: Callable[[str], Any], path: str, real: str
    ) -> None:
        self._patience = patience
        self._question = question
        self.path = path
        self.key = (question, real)
        self.ended = threading.Event()
        self.answer: Any = None
        self.error: Exception | None = None
        self.asked = patience.begins(self.key)
        if self.asked:
            threading.Thread(target=self._run, name=f"ask {path}", daemon=True).start()

    def _run(self) -> None:
        try:
            self.answer = self._question(self.path)
        except Exception as error:
            self.error = error
        self._patience.ends(self)
