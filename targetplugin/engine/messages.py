"""What comes out of volumes by itself: commands of hosts that Python answers, and events. Owns the threads on
which those above are told of it.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence

from targetplugin.engine.executor import Reactor
from targetplugin.engine.served import Served
from targetplugin.engine.values import Command, Event
from targetplugin.errors import Refused

log = logging.getLogger(__name__)

EVENTS = {
    1: "leg_stale",
    2: "leg_in_sync",
    3: "save_whole",
    4: "save_broken",
    5: "recovered",
    6: "recover_failed",
    12: "sparse_lost",
    13: "store_low",
    14: "store_broken",
    32: "answers_again",
}
COMMAND_THREADS = 4
VIEW_THREADS = (
    4  # of views alone: what they look up may be on a disk that does not answer for a while
)
# Fixed-format sense: HARDWARE ERROR, 44h/00h
INTERNAL_TARGET_FAILURE = bytes([0x70, 0, 4, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x44, 0, 0, 0, 0, 0])


class Answerer:
    """Fetches and answers a command that Python has, once: after that its tag may be another
    command's, with another serial.
    """

    def __init__(self, served: Served, tag: int, serial: int) -> None:
        self.served, self.tag, self.serial = served, tag, serial
        self.given = False

    def fetch(self) -> tuple[bytes, bytes, int] | None:
        """Its CDB, data out and room for data in; None where it is answered already. Raises Refused
        where the volume is gone.
        """
        with self.served:
            return self.served.reactor.command_fetch(self.served.number, self.tag, self.serial)

    def __call__(self, status: int, data: bytes, sense: bytes) -> None:
        with self.served:
            if self.given:
                log.warning("a SCSI command was answered twice; the first answer stands")
                return
            self.given = True
            self.served.reactor.command_answer(
                self.served.number, self.tag, self.serial, status, data, sense, status == 0
            )


Commands = queue.SimpleQueue[tuple[int, Answerer] | None]


class Messages:
    """Sorts what native threads have to say, and tells it: commands on several threads, for those above may
    take their time with one, events on one, in order.

    Attributes:
        on_command, on_event, on_kept: as Engine has them.
    """

    def __init__(
        self,
        volumes: Mapping[int, Served],
        on_command: Callable[[Command], None],
        on_event: Callable[[Event], None],
        on_kept: Callable[[int, int], None],
    ) -> None:
        self.on_command = on_command
        self.on_event = on_event
        self.on_kept = on_kept
        self._volumes = volumes
        self._commands: Commands = queue.SimpleQueue()
        self._of_views: Commands = queue.SimpleQueue()
        self._events: queue.SimpleQueue[Event | tuple[int, int] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def start(self, reactors: Sequence[Reactor]) -> None:
        """Begins to tell what these have to say."""
        for index, reactor in enumerate(reactors):
            self._thread(f"messages-{index}", self._sort, reactor)
        for index in range(COMMAND_THREADS):
            self._thread(f"commands-{index}", self._run_commands, self._commands)
        for index in range(VIEW_THREADS):
            self._thread(f"views-{index}", self._run_commands, self._of_views)
        self._thread("events", self._tell_events)

    def _thread(self, name: str, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def stop(self) -> None:
        """Ends the threads, when the native ones have ended."""
        for _ in range(COMMAND_THREADS):
            self._commands.put(None)
        for _ in range(VIEW_THREADS):
            self._of_views.put(None)
        self._events.put(None)
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(10)

    def _sort(self, reactor: Reactor) -> None:
        while (message := reactor.next_message()) is not None:
            kind, handle = message[0], message[1]
            served = self._volumes.get(handle)
            if served is None:
                continue
            if kind == "command":
                commands = self._of_views if served.core.looked_up else self._commands
                commands.put((handle, Answerer(served, *message[2:])))
            elif kind == "kept":
                self._events.put((handle, message[2]))
            else:
                self._events.put(Event(handle, EVENTS.get(message[2], "unknown"), message[3]))

    def _tell_events(self) -> None:
        while (event := self._events.get()) is not None:
            try:
                if isinstance(event, Event):
                    self.on_event(event)
                else:
                    self.on_kept(*event)
            except Exception:
                log.exception("an event of the engine could not be handled: %s", event)

    def _run_commands(self, commands: Commands) -> None:
        while (item := commands.get()) is not None:
            handle, answer = item
            try:
                if (fetched := answer.fetch()) is not None:
                    self.on_command(Command(handle, *fetched, answer))
            except Exception:
                log.exception("a SCSI command could not be answered")
                with contextlib.suppress(Refused):
                    answer(2, b"", INTERNAL_TARGET_FAILURE)
