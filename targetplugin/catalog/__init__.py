"""What must survive a crash: rows in SQLite, and frozen extent maps beside it.

Interprets no SCSI, touches no medium and decides nothing: it keeps what it is told.
"""

from targetplugin.catalog.maps import Maps
from targetplugin.catalog.rows import (
    ALL,
    LIVE,
    Backup,
    Event,
    Export,
    Generation,
    Group,
    Hold,
    Hook,
    Initiator,
    Leg,
    MediumRow,
    Operation,
    Request,
    Retention,
    Save,
    Shown,
    Volume,
)
from targetplugin.catalog.store import Catalog

__all__ = [
    "ALL",
    "LIVE",
    "Backup",
    "Catalog",
    "Event",
    "Export",
    "Generation",
    "Group",
    "Hold",
    "Hook",
    "Initiator",
    "Leg",
    "Maps",
    "MediumRow",
    "Operation",
    "Request",
    "Retention",
    "Save",
    "Shown",
    "Volume",
]
