"""The verbs, and the only place where state changes: media, volumes, saves, exports.

Parses no CDB and no JSON.
"""

from targetplugin.subsystem.subsystem import Subsystem

__all__ = ["Subsystem"]
