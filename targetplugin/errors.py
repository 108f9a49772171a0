"""The errors that a person or a program is told about. Owns their kinds; knows no SCSI, JSON or exit code.

    Exception
    └── Refused              something was asked that can't be done now, and nothing was changed
        └── reason: Reason   why, as a value that the doors map to sense data, JSON or an exit code

Anything else that escapes is a bug and is shown as one.
"""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """Why a request was refused."""

    USAGE = "usage"  # an argument is wrong in itself
    NOT_FOUND = "not_found"
    EXISTS = "exists"
    STATE = "state"  # the state of the object does not allow it
    RIGHTS = "rights"  # whoever asks may not
    BUSY = "busy"  # an operation that is running forbids it
    NO_MEDIUM = "no_medium"  # no free medium fits
    DATA = "data"  # data would be lost or overwritten
    REQUEST_MISMATCH = "request_mismatch"  # a request identifier came again with another body
    HOSTS = "hosts"  # hosts of more than one initiator name are logged in
    ENVIRONMENT = "environment"  # a disk, a file, a permission or the kernel failed


class Refused(Exception):
    """What was asked is not done, and nothing has changed.

    Args:
        reason: the kind of refusal.
        message: what is refused and why, one sentence, with the object's name in it.
        object: the name of the object at fault, for programs.
        hint: what to do next, one sentence.
        progress: how far the operation that stands in the way is, 0.0 to 1.0.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        object: str = "",
        hint: str = "",
        progress: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.object = object
        self.hint = hint
        self.progress = progress
