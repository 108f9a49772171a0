"""Work beside the engine, on images mostly, while it goes on: a thread for each, what it has done, how
fast it may be, and how it ends.

Knows operations; knows no image.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from targetplugin.catalog import Operation, Volume
from targetplugin.errors import Reason, Refused
from targetplugin.subsystem.ground.floor import Floor
from targetplugin.subsystem.ground.operations import Operations, logged_as, named
from targetplugin.subsystem.ground.views import BESIDE, Shape
from targetplugin.subsystem.images.pace import Estimate
from targetplugin.subsystem.images.qemu_img import Run, Stopped
from targetplugin.subsystem.mirror.settle import Settle

log = logging.getLogger(__name__)
PROOF = 0.5  # of a whole backup or a restore, what the comparison is
ENDED = "the daemon ended before it was done"
Told = Callable[[float], None]  # is told how far the work is, 0.0 to 1.0
# Ends what a verb began, in the transaction that ends it; is told whether it was done.
End = Callable[[Operation, bool], None]


class ImageRuns:
    """See the module."""

    def __init__(self, floor: Floor, operations: Operations, settle: Settle) -> None:
        self._floor = floor
        self._operations = operations
        self._settle = settle
        self._threads: dict[int, threading.Thread] = {}
        self._runs: dict[int, Run] = {}
        self._stopping = False

    def stop(self) -> None:
        """Ends what runs and waits for it."""
        self._stopping = True
        for volume in self._floor.catalog.volumes():
            for stop in list(self._floor.runtime(volume.uuid).tasks.values()):
                stop()
        for thread in list(self._threads.values()):
            thread.join()

    def set_rate(self, op: int, rate: int | None) -> Shape:
        """See Subsystem.operation_rate."""
        shape = self._operations.get(op)
        if shape["verb"] not in BESIDE:
            raise Refused(
                Reason.STATE,
                f"operation {op} is a {shape['verb']}, which has no rate",
                object=str(op),
                hint="only backups, restores, fills and a volume's resize can be made slower",
            )
        row = self._floor.catalog.operation_get(op)
        if row is None or row.state != "running":
            raise Refused(
                Reason.STATE,
                f"operation {op} is over: it is {shape['state']}",
                object=str(op),
                hint="operation list shows those that run",
            )
        self._floor.catalog.operation_set(op, prepared={**row.prepared, "rate": rate})
        if (run := self._runs.get(op)) is not None:  # else it waits for its medium
            run.pace.set(rate)
        self._floor.tell()
        return self._operations.get(op)

    def begin(
        self,
        row: Operation,
        volume: Volume,
        work: Callable[[Run, Told], None],
        end: End,
        after: Callable[[Operation], None] = lambda row: None,
        *,
        lasts: bool = False,
    ) -> None:
        """Starts a thread. `work` does it; raises Refused, OSError or Stopped. `after`: see over().

        Args:
            lasts: it outlives the daemon: when that is stopped, the operation stays as it is.
        """
        run = Run(row.prepared.get("rate"))
        runtime = self._floor.runtime(volume.uuid)
        estimate = Estimate(progress=row.progress)
        runtime.tasks[row.id] = run.stop
        runtime.progress[row.id] = row.progress
        runtime.left[row.id] = estimate.left
        self._runs[row.id] = run

        def told(progress: float) -> None:
            runtime.progress[row.id] = progress
            estimate.note(progress)

        def body() -> None:
            with logged_as(row):
                through()

        def through() -> None:
            state, error = "done", None
            try:
                work(run, told)
            except Stopped:
                state, error = "aborted", "it was aborted"
                if self._stopping:
                    state, error = ("running" if lasts else "failed"), "the daemon was stopped"
            except Refused as refused:
                state, error = "failed", refused.message
            except OSError as failed:
                state, error = "failed", str(failed)
            except Exception as defect:
                log.exception("%s met a defect", named(row))
                state, error = "failed", f"a defect of the daemon: {type(defect).__name__}"
            with runtime.lock:
                if state != "running":
                    self.over(row, state, error, runtime.progress[row.id], end, after=after)
                for kept in (runtime.tasks, runtime.progress, runtime.left, self._runs):
                    del kept[row.id]
            del self._threads[row.id]
            self._floor.tell()

        thread = threading.Thread(target=body, name=f"{row.verb}-{row.id}", daemon=True)
        self._threads[row.id] = thread
        thread.start()

    def over(
        self,
        row: Operation,
        state: str,
        error: str | None,
        progress: float,
        end: End,
        *,
        free_others: bool = True,
        after: Callable[[Operation], None] = lambda row: None,
    ) -> None:
        """Ends the operation: what it holds first, then itself; can be done twice.

        Args:
            after: is called in between, when the catalog and the trailers have what it came to.
        """
        catalog = self._floor.catalog
        current = catalog.operation_get(row.id)
        assert current is not None
        assert current.volume is not None
        done = state == "done"
        with catalog.transaction():
            end(current, done)
        self._settle.trailers(current.volume, row.id, free_others=free_others)
        after(current)
        self._operations.end(
            current,  # as it runs: what the verb began with is not in force yet
            state=state,
            error=error,
            progress=1.0 if done else progress,
            bytes_copied=current.bytes_total if done else 0,
        )
