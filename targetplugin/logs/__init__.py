"""What the programs log: records with fields, to systemd's journal where it takes standard error, else as
lines with `key=value` behind. Knows no part of the project.

A log call says what happened. Whose operation it was, of which volume, and who asked is said once, where it
is known (context.py), and comes along.
"""

from targetplugin.logs.context import FIELDS, Fields, Value, about, came_from, extra, learn, now
from targetplugin.logs.said import Said
from targetplugin.logs.start import begin

__all__ = [
    "FIELDS",
    "Fields",
    "Said",
    "Value",
    "about",
    "begin",
    "came_from",
    "extra",
    "learn",
    "now",
]
