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


class NoRoom(Refused):
    """There is no medium for a save: it may be there once an older save is given up."""


class Away(Refused):
    """The disk did not answer at all: it may, a little later or by another path."""


class Stopped(BaseException):
    """pitcopy was told to stop by a signal, where nothing keeps it from doing so."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
