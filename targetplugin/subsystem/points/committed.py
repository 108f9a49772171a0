"""What gives several volumes another content at once, a recover or a swap: while hosts of all are held, and
before any is switched, it is written down that it goes on.

So a crash leaves it on none, or on all: a volume that has no record of it, while another has, goes on with it
when it starts, before its hosts see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from targetplugin.catalog import Operation, Save, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.ground.floor import Floor
from targetplugin.subsystem.ground.operations import Operations
from targetplugin.subsystem.ground.views import now
from targetplugin.subsystem.mirror.settle import Fixed, Settle
from targetplugin.subsystem.points.point import MEDIUM_CHANGED
from targetplugin.subsystem.points.together import DONE, Together, refused_by

# Does a volume's part of it, of which there is no record: its operation, the volume, its save, its handle.
Follow = Callable[[Operation, Volume, Save, int], None]


class Committed:
    """See the module."""

    def __init__(
        self, floor: Floor, operations: Operations, settle: Settle, together: Together
    ) -> None:
        self._floor = floor
        self._operations = operations
        self._settle = settle
        self._together = together
        self._follow: dict[str, Follow] = {}

    def follows(self, verb: str, follow: Follow) -> None:
        """Says how a volume goes on with this verb."""
        self._follow[verb] = follow

    def commit(self, whole: Operation) -> None:
        """From here on a start that finds it in force on one volume goes on with it on the others."""
        self._floor.catalog.operation_set(whole.id, state="running", in_force=now())

    def settled(
        self,
        whole: Operation,
        rows: list[Operation],
        handles: Sequence[int],
        results: list[Any],
        fixed: Sequence[Fixed | None],
    ) -> None:
        """Writes down what is in force.

        Args:
            fixed: each volume's point, None where its result is a refusal.

        Raises:
            Refused: disks of a volume failed in that very moment; the others have it.
        """
        done = [result for result in results if not isinstance(result, Refused)]
        with self._floor.catalog.transaction():
            settled = [
                self._settle.commit(row, one)
                for row, one in zip(rows, fixed, strict=True)
                if one is not None
            ]
            self._floor.catalog.operation_set(
                whole.id,
                extents_changed=sum(row.extents_changed for row in settled),
                bytes_total=sum(row.bytes_total for row in settled),
                pause_us=max(result.pause.whole for result in done),
                drain_us=max(result.pause.drain for result in done),
                pause_work_us=max(result.pause.work for result in done),
            )
            self._operations.end_group(whole.id)
        for row, handle, one in zip(rows, handles, fixed, strict=True):
            assert row.volume is not None
            self._settle.trailers(row.volume, row.id)
            if one is not None:
                self._floor.engine.set_sense_ua(handle, *MEDIUM_CHANGED)
        self._floor.tell()
        if len(done) < len(results):
            error = refused_by(rows, results, DONE[whole.verb], "the others are, and it follows")
            error.hint = "look at its disks, and restart targetplugind"
            raise error

    def go_on(
        self, volume: Volume, handle: int, in_force: Callable[[Operation], bool | None]
    ) -> None:
        """Takes a volume that has just started, and has no hosts yet, where the others of a verb are.
        Where it is known to be in force on none of them, it never was, and is dropped.

        Args:
            in_force: what the media of another volume tell of its part; None: they are not all there.

        Raises:
            Refused: its save can't be had: then hosts must not see it as it is.
        """
        catalog = self._floor.catalog
        for row in catalog.operations(volume.uuid, running=True):
            follow = self._follow.get(row.verb)
            if follow is None or row.state != "prepared" or row.save is None:
                continue
            whole = catalog.operation_get(row.prepared["group"])
            assert whole is not None
            others = [part for part in self._operations.parts(whole) if part.id != row.id]
            if all(in_force(part) is False for part in others):
                self._together.drop(
                    whole, [row, *others], "the daemon ended before it was in force"
                )
                continue
            now_there = catalog.volume_get(volume.uuid)
            save = catalog.save_get(volume.uuid, row.save)
            assert now_there is not None
            if save is None:
                done = DONE[row.verb]
                raise Refused(
                    Reason.STATE,
                    f"{volume.name} is being {done} from {volume.name}@{row.save}, which is gone",
                    object=volume.name,
                )
            follow(row, now_there, save, handle)
            self._floor.engine.set_sense_ua(handle, *MEDIUM_CHANGED)
