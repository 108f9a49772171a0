"""How fast a run may be, and how long it will still take. Knows clocks and numbers, and no work."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

_CREDIT = 0.05  # seconds of a pause that may be made up for
_WINDOW = 30.0  # seconds that an estimate looks back


class Pace:
    """A limit in bytes a second that can be changed at any time; None: no limit."""

    def __init__(
        self, rate: int | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._rate = rate
        self._free_at = clock()  # when what was moved so far is paid for

    @property
    def rate(self) -> int | None:
        return self._rate

    def set(self, rate: int | None) -> None:
        """From now on; what is owed is owed at the new rate."""
        with self._lock:
            now = self._clock()
            owed = max(0.0, self._free_at - now) * (self._rate or 0)
            self._rate = rate
            self._free_at = now + (owed / rate if rate else 0.0)

    def took(self, count: int) -> float:
        """So many bytes were moved. Returns how many seconds nothing more may be."""
        with self._lock:
            now = self._clock()
            if not self._rate:
                return 0.0
            self._free_at = max(self._free_at, now - _CREDIT) + count / self._rate
            return max(0.0, self._free_at - now)

    def owed(self) -> float:
        """How many seconds nothing more may be moved."""
        with self._lock:
            return max(0.0, self._free_at - self._clock()) if self._rate else 0.0


class Estimate:
    """How long a run will still take, by what it did in the last seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, progress: float = 0.0) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, float]] = deque([(clock(), progress)])

    def note(self, progress: float) -> None:
        """How far it is, 0.0 to 1.0."""
        now = self._clock()
        self._seen.append((now, progress))
        while len(self._seen) > 2 and self._seen[1][0] < now - _WINDOW:
            self._seen.popleft()

    def left(self) -> float | None:
        """Seconds; None where nothing can be said yet."""
        (start, before), (_, done) = self._seen[0], self._seen[-1]
        spent, did = self._clock() - start, done - before
        return (1.0 - done) * spent / did if did > 0 else None
