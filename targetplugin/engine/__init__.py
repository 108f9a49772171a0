"""The data path: TCMU rings, mirrored I/O, extent maps, copies. Knows no names, paths, catalog or
LIO, and makes no policy.
"""

from targetplugin.engine.core import decode_map_slot, decode_record
from targetplugin.engine.engine import Engine
from targetplugin.engine.group import CalledOff
from targetplugin.engine.record import (
    LegRecord,
    LegState,
    Record,
    SaveRecord,
    SaveState,
    StoreRecord,
    StoreState,
)
from targetplugin.engine.values import (
    SPARSE,
    Command,
    Compared,
    Event,
    MediumSpec,
    Pause,
    Point,
    RecoverMember,
    SaveMember,
    Sparse,
    SwapMember,
    ViewSpec,
    VolumeSpec,
)

__all__ = [
    "SPARSE",
    "CalledOff",
    "Command",
    "Compared",
    "Engine",
    "Event",
    "LegRecord",
    "LegState",
    "MediumSpec",
    "Pause",
    "Point",
    "Record",
    "RecoverMember",
    "SaveMember",
    "SaveRecord",
    "SaveState",
    "Sparse",
    "StoreRecord",
    "StoreState",
    "SwapMember",
    "ViewSpec",
    "VolumeSpec",
    "decode_map_slot",
    "decode_record",
]
