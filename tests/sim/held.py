"""Points that wait for others, as a group's do: let on, called off or forgotten at random, and what must
be so meanwhile.
"""

from __future__ import annotations

from errno import ECANCELED
from typing import TYPE_CHECKING, Any

from tests.sim.oracle import Wrong

if TYPE_CHECKING:
    from tests.sim.world import World

READY, HELD = 10, 11  # events of the core


class Held:
    """`request` is the point that waits; others are as if there were none."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.request: dict[str, Any] | None = None
        self.generation = 0
        self.held = self.gone = self.called_off = False

    def asked(self, request: dict[str, Any]) -> None:
        self.request = request
        self.generation = self.world.core.generation
        self.held = self.gone = self.called_off = False

    def forget(self) -> None:
        """There is another core."""
        self.request = None
        self.held = False

    # --- what is done -----------------------------------------------------------------------------

    def step(self) -> bool:
        """Lets it on, or calls it off; False where it is not its time."""
        draw = self.world.random.random()
        stage = self.world.core.stage() if self.request else "none"
        if stage in ("ready", "held") and draw < 0.7:
            return self.let_on(stage)
        return stage != "none" and draw > 0.9 and self.call_off()

    def push(self) -> bool:
        """The same, where nothing else is under way."""
        stage = self.world.core.stage() if self.request else "none"
        if stage in ("ready", "held") and self.world.random.random() < 0.7:
            return self.let_on(stage)
        # One that is lost stands still until its time is over.
        return self.request is not None and self.call_off()

    def let_on(self, stage: str) -> bool:
        core = self.world.core
        done = core.may_pause() if stage == "ready" else core.go()
        if not done:
            raise Wrong(f"a point that is {stage} can't go on")
        if stage == "held":
            self.gone = True
            self.held = False
            self.world.interesting(0.3, 6)
        self.world.say("point", stage, "goes on")
        self.world.count(f"point {stage}")
        return True

    def call_off(self) -> bool:
        core = self.world.core
        stage = core.stage()
        if not core.call_off():
            if not self.gone:
                raise Wrong(f"a point that is {stage} can't be called off")
            return False
        if core.paused:
            raise Wrong("hosts are held for a point that was called off")
        self.world.say("point", stage, "is called off")
        self.world.count(f"point called off while {stage}")
        self.called_off = True
        self.held = False
        self.world.interesting()
        return True

    # --- what must be so --------------------------------------------------------------------------

    def event(self, kind: int) -> None:
        if kind == HELD:
            self.held = True
            self.world.interesting(0.3, 6)

    def answered(self) -> None:
        """A host's command was."""
        if self.held:
            raise Wrong("a host is answered while its volume waits for others")

    def done(self, status: int) -> None:
        if self.request is None:
            return
        if status == -ECANCELED and not self.called_off:
            raise Wrong("a point is called off by nobody")
        if status == 0:
            self.in_force(self.request)
        if status == -ECANCELED and self.world.core.generation != self.generation:
            raise Wrong("a point was called off, and has changed something")
        self.forget()

    def in_force(self, request: dict[str, Any]) -> None:
        """The point is, by its answer or by what a start finds."""
        if request.get("waits") and not self.gone:
            raise Wrong("a point is in force before it may be")
