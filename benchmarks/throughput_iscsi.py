"""Reads and writes over iSCSI, from the other machine: this project beside LIO's and other handlers."""

from __future__ import annotations

from dataclasses import replace

from . import comparison, subjects
from .machines import described, fresh_lab
from .table import Options, Table

# Large ones that wait for each other say as little as more of them: the network between is what counts.
LOADS = [load for load in comparison.LOADS if load.is_random or load.depth > 1]
MORE_TURNS = 2  # the network makes single runs differ more


def run(options: Options) -> list[Table]:
    turns = options.turns if options.quick else options.turns + MORE_TURNS
    with fresh_lab() as lab:
        subjects.set_up(lab)
        disks = subjects.remote_disks(lab)
        more = replace(options, turns=turns)
        found = comparison.measure(lab, "initiator", disks, more, LOADS)
        return comparison.tables(found, [f"{turns} turns", *subjects.NOTES, described(lab)])
