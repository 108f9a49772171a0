"""The verbs, and the only place where state changes: media, volumes, saves, exports.

Parses no CDB and no JSON. Its folders are floors, each stands on those before it: ground, images, mirror,
saves, hosts, backups, volumes, points, start; subsystem.py has them all, and is what doors ask.
"""

from targetplugin.subsystem.subsystem import Subsystem

__all__ = ["Subsystem"]
