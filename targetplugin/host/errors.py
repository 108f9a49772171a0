"""What a user of pitcopy is told when something can't be done. Owns the kinds, and their exit codes."""

from __future__ import annotations


class Refused(Exception):
    """It can't be done now; nothing was changed, unless the message says what was."""

    status = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Usage(Refused):
    """The command line asks for something that is wrong in itself."""

    status = 2


class Busy(Refused):
    """An operation of the volume stands in the way; progress is 0.0 to 1.0."""

    def __init__(self, message: str, progress: float) -> None:
        super().__init__(message, "wait for it, or repeat with --wait")
        self.progress = progress
