"""A point on several volumes, at one instant: all or none, and hosts held no longer than a deadline.

Owns who waits for whom: all are ready before hosts of any are held, all are held before any is switched
(rule 21). The deadline is kept by the native threads, whatever becomes of this one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from errno import ECANCELED, EIO
from typing import Any

from msgspec import Struct, field

from targetplugin.engine.executor import Reactor, Together
from targetplugin.engine.served import Served, refusal
from targetplugin.engine.values import MediumSpec, Member, Point, RecoverMember, Sparse, SwapMember
from targetplugin.errors import Reason, Refused

LOOK = 20  # milliseconds between two looks at most, while nothing is told


class CalledOff(Refused):
    """This volume was not at fault, and nothing of it has changed."""

    def __init__(self) -> None:
        super().__init__(Reason.STATE, "it is called off: another volume could not")


class _Member(Struct):
    asked: Member
    served: Served
    place: int  # among those that were asked for
    attached: list[int] = field(default_factory=list)  # media that were made known for this
    arguments: dict[str, Any] = field(default_factory=dict)  # of its request
    stage: str = "none"  # as it was seen last
    number: int | None = None  # of the request, while its end is owed
    result: Point | Refused | None = None

    @property
    def kind(self) -> str:
        if isinstance(self.asked, RecoverMember):
            return "recover"
        if isinstance(self.asked, SwapMember):
            return "swap"
        return "split" if self.asked.leaving else "copy"


class Group:
    """One save, recover or swap of these members.

    Args:
        at: gives the volume under a handle. Raises Refused.
    """

    def __init__(self, at: Callable[[int], Served], members: Sequence[Member]) -> None:
        self._members = [
            _Member(asked, at(asked.handle), place) for place, asked in enumerate(members)
        ]
        # One order for all who take several volumes or threads at once.
        self._members.sort(key=lambda member: member.asked.handle)

    def run(
        self, deadline: int, commit: Callable[[], None] = lambda: None
    ) -> list[Point | Refused]:
        """See Engine.save_group, recover_group and swap_group."""
        handles = [member.asked.handle for member in self._members]
        if len(set(handles)) < len(handles):
            raise ValueError("a volume stands twice in a group")
        with contextlib.ExitStack() as stack:
            for member in self._members:
                stack.enter_context(member.served.verb)
            self._together = Together(deadline * 1000)
            try:
                self._run(deadline, commit)
            finally:
                self._end()
        results = sorted(self._members, key=lambda member: member.place)
        return [member.result or CalledOff() for member in results]

    def _run(self, deadline: int, commit: Callable[[], None]) -> None:
        for member in self._members:
            if not self._attach(member):
                return
        self._checkpoint()
        for member in self._members:
            if not self._ask(member):
                return
        if not self._all("ready"):
            return
        with self._parked():
            for member in self._members:
                member.served.core.may_pause()
        if self._all("held"):
            commit()
        with self._parked():
            lost = [m for m in self._members if m.served.core.stage() != "held"]
            late = self._together.late()
            if not lost and not late:
                for member in self._members:
                    member.served.core.go()
                return
            for member in self._members:
                member.served.core.call_off()
        if late:  # which may have called them off already
            lost = [member for member in self._members if member.stage != "held"]
        for member in lost or self._members:
            if late:
                why = f"writes that were under way were not over within {deadline} ms"
                member.result = Refused(
                    Reason.BUSY,
                    why if lost else f"the daemon was not done within {deadline} ms",
                    hint="repeat it when hosts write less, or with a longer deadline",
                )
            else:  # a leg of it failed; where that ended it, its request tells more
                member.result = refusal(member.kind, -EIO)

    # --- the steps ------------------------------------------------------------------------------

    def _attach(self, member: _Member) -> bool:
        """Makes its media known. False where that is refused."""
        try:
            member.arguments = self._arguments(member)
        except Refused as error:
            member.result = error
        return member.result is None

    def _arguments(self, member: _Member) -> dict[str, Any]:
        """What its request has beside its number, with media as the core knows them."""
        asked = member.asked
        if isinstance(asked, RecoverMember):
            return {
                "medium": self._known(member, asked.source),
                "generation": asked.generation,
                "base": asked.base,
                "save": None if asked.undo is None else self._known(member, asked.undo),
                "lacks": asked.lacks,
            }
        if isinstance(asked, SwapMember):
            return {"mask": self._mask(member, asked.legs), "generation": asked.generation}
        if asked.sparse:
            return {"medium": member.served.store()}
        if asked.save is not None:
            return {"medium": self._known(member, asked.save)}
        return {"mask": self._mask(member, asked.leaving)}

    def _mask(self, member: _Member, media: Sequence[MediumSpec | bytes]) -> int:
        return sum(1 << self._known(member, medium) for medium in media)

    def _known(self, member: _Member, medium: MediumSpec | bytes | Sparse) -> int:
        """The core's number of a medium, which is made known unless it is named alone."""
        if isinstance(medium, Sparse):
            return member.served.store()
        if isinstance(medium, bytes):
            return member.served.index(medium)
        member.attached.append(member.served.attach(medium))
        return member.attached[-1]

    def _checkpoint(self) -> None:
        """Empties the caches of all, so that none waits long for another's. Where one can't, it waits."""
        asked = []
        for member in self._members:
            number = member.served.reactor.request_number()
            with member.served:
                error = member.served.core.request("checkpoint", number)
            if error:
                member.served.reactor.request_free(number)
            else:
                asked.append((member.served.reactor, number))
        for reactor, number in asked:
            reactor.request_wait(number)

    def _ask(self, member: _Member) -> bool:
        """Asks for its point, which waits. False where that is refused."""
        served = member.served
        number = served.reactor.request_number()
        with served:
            served.reactor.saved_with(served.number, self._together)
            error = served.core.request(
                member.kind,
                number,
                op=member.asked.op,
                waits=True,
                **member.arguments,
            )
        if error:
            served.reactor.request_free(number)
            member.result = refusal(member.kind, error)
        else:
            member.number = number
        return not error

    def _all(self, stage: str) -> bool:
        """Waits until all are so far. False where one ended before, or time is over."""
        while True:
            with self._parked():
                stages = [member.served.core.stage() for member in self._members]
            for member, one in zip(self._members, stages, strict=True):
                if one != "none":
                    member.stage = one
            if all(one == stage for one in stages):
                return True
            if "none" in stages or self._together.late():
                return False
            self._together.wait(LOOK)

    @contextlib.contextmanager
    def _parked(self) -> Iterator[None]:
        """Holds all their threads at once."""
        reactors: list[Reactor] = []
        for member in self._members:
            if member.served.gone:
                raise Refused(Reason.NOT_FOUND, "the engine serves this volume no more")
            if member.served.reactor not in reactors:
                reactors.append(member.served.reactor)
        reactors.sort(key=id)  # one order for all who do this
        with contextlib.ExitStack() as stack:
            for reactor in reactors:
                stack.enter_context(reactor)
            yield

    # --- the end --------------------------------------------------------------------------------

    def _end(self) -> None:
        """Calls off what is not in force, and waits for the end of all."""
        for member in self._members:
            if member.number is not None:
                with member.served:
                    member.served.core.call_off()  # it does nothing to one that may go
        for member in self._members:
            if member.number is not None:
                self._wait(member)
        for member in self._members:  # before anything else can go wrong: the clock goes with this
            with member.served:
                member.served.reactor.saved_with(member.served.number, None)
        for member in self._members:
            if isinstance(member.result, Point):
                if member.kind in ("split", "swap"):
                    member.served.drop_unused()
                continue
            for index in member.attached:
                with contextlib.suppress(Refused):
                    member.served.drop(index)

    def _wait(self, member: _Member) -> None:
        assert member.number is not None
        error = member.served.reactor.request_wait(member.number)
        if not error:
            member.result = member.served.made(member.kind)
        elif error != -ECANCELED and member.result is None:
            member.result = refusal(member.kind, error)
