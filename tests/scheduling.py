"""Which tests run side by side (pytest-xdist): the lab is one place, all else goes by files.

A module of its own, as it is imported where pytest-xdist is used alone.
"""

from __future__ import annotations

from xdist.scheduler import LoadScopeScheduling

LAB = "tests/vm/"
WITH_THE_LAB = "tests/sim/test_sim.py"  # the simulator's slice runs while the lab's machines wait


class OneLab(LoadScopeScheduling):
    """There is one lab, so its tests go one after another, by one worker. Each other file is one turn
    of whoever is free.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return LAB if file.startswith(LAB) or file == WITH_THE_LAB else file
