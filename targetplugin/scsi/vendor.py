"""PIT COPY IN and OUT: the vendor commands as verbs of the subsystem. Translates both ways; decides nothing.

Layouts are scsi/pitcopy.py's. What the subsystem refuses becomes sense data here, and nowhere else.
"""

from __future__ import annotations

from typing import Any

from targetplugin.errors import Reason, Refused
from targetplugin.scsi import sense
from targetplugin.scsi.sense import Sense

SENSE = {
    Reason.USAGE: sense.INVALID_FIELD_IN_PARAMETER_LIST,
    Reason.NOT_FOUND: sense.INVALID_FIELD_IN_PARAMETER_LIST,
    Reason.EXISTS: sense.INVALID_FIELD_IN_PARAMETER_LIST,
    Reason.STATE: sense.COMMAND_SEQUENCE_ERROR,
    Reason.RIGHTS: sense.ACCESS_DENIED,
    Reason.BUSY: sense.OPERATION_IN_PROGRESS,
    Reason.NO_MEDIUM: sense.INSUFFICIENT_RESOURCES,
    Reason.DATA: sense.COMMAND_SEQUENCE_ERROR,
    Reason.REQUEST_MISMATCH: sense.INVALID_FIELD_IN_PARAMETER_LIST,
    Reason.HOSTS: sense.COMMAND_SEQUENCE_ERROR,
    Reason.ENVIRONMENT: sense.INTERNAL_TARGET_FAILURE,
}


class Vendor:
    """The vendor commands of one volume."""

    def __init__(self, subsystem: Any, volume: str) -> None:
        self._subsystem = subsystem
        self._volume = volume

    def sense_of(self, refused: Refused) -> Sense:
        """What a refusal is to a host."""
        value = SENSE[refused.reason]
        if refused.reason is Reason.BUSY:
            return sense.replace(value, progress=refused.progress or 0.0)
        return value
