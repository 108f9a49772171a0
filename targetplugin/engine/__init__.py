"""The data path: TCMU rings, mirrored I/O, extent maps, copies. Knows no names, paths, catalog or
LIO, and makes no policy.
"""

from targetplugin.engine.core import decode_map_slot, decode_record
from targetplugin.engine.engine import Engine
from targetplugin.engine.record import LegRecord, LegState, Record, SaveRecord, SaveState
from targetplugin.engine.values import (
    Command,
    Event,
    MediumSpec,
    Pause,
    Point,
    ViewSpec,
    VolumeSpec,
)

__all__ = [
    "Command",
    "Engine",
    "Event",
    "LegRecord",
    "LegState",
    "MediumSpec",
    "Pause",
    "Point",
    "Record",
    "SaveRecord",
    "SaveState",
    "ViewSpec",
    "VolumeSpec",
    "decode_map_slot",
    "decode_record",
]
