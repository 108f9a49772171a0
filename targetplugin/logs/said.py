"""What is looked at again and again is logged when it changes, not at each look."""

from __future__ import annotations

from typing import Any


class Said:
    """The last thing that was said of each of several things."""

    def __init__(self) -> None:
        self._last: dict[Any, str] = {}

    def new(self, of: Any, what: str) -> bool:
        """Whether that was not the last thing said of it."""
        if self._last.get(of) == what:
            return False
        self._last[of] = what
        return True

    def forget(self, of: Any) -> bool:
        """It is well again: what is said next is new. Whether anything was said."""
        return self._last.pop(of, None) is not None
