"""All checks, in the order in which one would mend what they find."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from targetplugin.doctor import disks, ground, network, service
from targetplugin.doctor.finding import Finding, ok, problem
from targetplugin.doctor.machine import Machine

STATE_DIR = "/var/lib/targetplugin"


class Intended(Struct, frozen=True):
    """What is to be done with the machine; what is left out is looked at in general.

    Attributes:
        disks: paths that are to be given as media.
        size: bytes of the volume that is to fit on them.
        initiators: names of hosts that are to log in.
        portals: where exports are to listen.
    """

    disks: Sequence[str] = ()
    size: int | None = None
    initiators: Sequence[str] = ()
    portals: Sequence[str] = ()


def examine(
    machine: Machine, intended: Intended, socket: str, state_dir: str = STATE_DIR
) -> list[Finding]:
    """Looks at everything. Changes nothing, and raises nothing that one could mend."""
    return [
        *ground.look(machine),
        *_engine(),
        *service.look(machine, socket, state_dir),
        *network.look(machine, intended.portals, intended.initiators),
        *disks.look(machine, intended.disks, intended.size),
    ]


def _engine() -> Iterator[Finding]:
    """Whether the compiled part is there, and is for this Python and its libraries."""
    try:
        import targetplugin.engine.executor  # noqa: F401
    except ImportError as error:
        yield problem(
            "engine",
            f"The engine can't be loaded: {error}.",
            "Install the Debian package; in a checkout: tools/prepare engine",
        )
    else:
        yield ok("engine", "The engine is built for this Python.")
