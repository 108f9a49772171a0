"""Whether a process that is gone still has requests on a medium.

They end when the disk answers, and until then they write to it, and read into memory that was the
process's. Its descriptors stay open as long, so that nobody can open the medium exclusively.
"""

from __future__ import annotations

from targetplugin.errors import Reason, Refused
from targetplugin.media import medium
from targetplugin.media.by_path import by_path


def held(path: str) -> bool:
    """Whether nobody can open a medium, and none that lives is seen to have it.

    Asks the disk for nothing, and changes nothing. False too where there is no such path.
    """
    try:
        medium.try_exclusively(path)
    except Refused as refused:
        try:
            return refused.reason is Reason.BUSY and not by_path().uses(path)
        except OSError:
            return False  # gone meanwhile
    return False
