"""Tells targetcli of volumes, over the system's D-Bus, until SIGTERM.

Composition only.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

import sdnotify

from targetplugin import __version__, logs
from targetplugin.control.client import DEFAULT_SOCKET
from targetplugin.dbus.bus import Bus, Failed
from targetplugin.dbus.configs import trouble
from targetplugin.dbus.objects import SERVICE, Answer, Call, answer
from targetplugin.dbus.place import Place

LOOK_SECONDS = 2.0  # until it is seen that tcmu-runner waits for the name: the bus tells nobody

log = logging.getLogger("targetplugin.dbus")


def serve(socket: str) -> None:
    """Does not return. Raises OSError when the bus ends, Failed when it refuses."""
    bus = Bus()
    bus.watch(SERVICE)
    place = Place(bus)

    def asked(call: Call) -> Answer:
        return answer(call, lambda config: trouble(config, socket))

    place.settle()
    sdnotify.SystemdNotifier().notify("READY=1")
    while True:
        if not bus.receive(LOOK_SECONDS, asked):
            place.settle()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="targetplugin-dbus", description=__doc__.splitlines()[0])
    top.add_argument("--version", action="version", version=__version__)
    text = f"the daemon's control socket (default: {DEFAULT_SOCKET})"
    top.add_argument("--socket", default=DEFAULT_SOCKET, metavar="PATH", help=text)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """1: there is no bus, or it has ended; the log says why."""
    options = parser().parse_args(arguments)
    logs.begin("targetplugin-dbus")
    try:
        serve(options.socket)
    except (OSError, Failed) as error:
        log.critical("the system's D-Bus can't be used: %s (systemctl status dbus)", error)
    except KeyboardInterrupt:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
