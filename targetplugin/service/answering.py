"""Answering one line a connection, for one user alone."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

from targetplugin.errors import Reason, Refused
from targetplugin.service import handed

SECONDS = 10.0  # that a peer may take to ask, or to take the answer


def converse(
    user: int,
    perform: Callable[[bytes, socket.socket], tuple[bytes, list[int]]],
    refuse: Callable[[Refused], bytes],
    unit: str,
) -> Callable[[socket.socket], None]:
    """What answers a connection.

    Args:
        user: number of the one user that may ask.
        perform: the answer to a line, and the descriptors to hand over, which are given up here; is
            given the connection, too, on which it may hear that who asked goes away. Raises Refused.
        refuse: what is answered then.
        unit: systemd's name of the service.
    """
    log = logging.getLogger(f"targetplugin.{unit.rpartition('-')[2]}")

    def answer(connection: socket.socket) -> None:
        connection.settimeout(SECONDS)
        peer = handed.user(connection)
        line, _ = handed.receive(connection) if peer == user else (b"", [])
        descriptors: list[int] = []
        try:
            if peer != user:
                log.warning("user %d may not ask, and was refused", peer)
                raise Refused(Reason.RIGHTS, f"User {peer} may not ask this service.")
            told, descriptors = perform(line, connection)
        except Refused as refused:
            told = refuse(refused)
        except Exception as error:
            log.exception("a request met a defect")
            text = f"A defect of {unit}: {type(error).__name__}."
            hint = f"See journalctl -u {unit}, and report it."
            told = refuse(Refused(Reason.ENVIRONMENT, text, hint=hint))
        try:
            connection.settimeout(SECONDS)
            handed.send(connection, told, descriptors)
        finally:
            handed.close(descriptors)

    return answer
