"""Reads and writes through tcm_loop, on the target itself: this project beside LIO's and other handlers."""

from __future__ import annotations

from . import comparison, subjects
from .machines import described, fresh_lab
from .table import Options, Table


def run(options: Options) -> list[Table]:
    with fresh_lab() as lab:
        subjects.set_up(lab)
        disks = subjects.local_disks(lab)
        found = comparison.measure(lab, "target", disks, options)
        return comparison.tables(found, [*subjects.NOTES, described(lab)])
