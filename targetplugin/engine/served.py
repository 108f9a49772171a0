"""A volume that a native thread serves, and a command of its hosts that Python has. Owns who may touch
either: only who holds the thread, and only while the volume is there.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

from targetplugin.engine.core import Core
from targetplugin.engine.executor import Reactor
from targetplugin.engine.values import MediumSpec
from targetplugin.errors import Reason, Refused

log = logging.getLogger(__name__)


@dataclass
class Served:
    """A volume under a handle."""

    reactor: Reactor
    number: int  # of the reactor's
    core: Core
    media: dict[int, MediumSpec] = field(default_factory=dict)
    verb: threading.Lock = field(default_factory=threading.Lock)
    gone: bool = False  # it was removed; its number may be another volume's

    def __enter__(self) -> None:
        """Holds its native thread, so that its state can be read and changed."""
        self.reactor.park()
        if self.gone:
            self.reactor.unpark()
            raise Refused(Reason.NOT_FOUND, "the engine serves this volume no more")

    def __exit__(self, *_: object) -> None:
        self.reactor.unpark()


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
