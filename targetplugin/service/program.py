"""The program of a small service: its options, its end, what systemd is told."""

from __future__ import annotations

import argparse
import logging
import pwd
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import sdnotify

from targetplugin import __version__, logs
from targetplugin.errors import Refused
from targetplugin.service.listener import Listener, listening


def parser(name: str, what: str) -> argparse.ArgumentParser:
    """The command line of the service `name`, of which `what` is said."""
    top = argparse.ArgumentParser(prog=name, description=what)
    top.add_argument("--version", action="version", version=__version__)
    text = "listen there (default: on the socket that systemd hands over)"
    top.add_argument("--socket", type=Path, metavar="PATH", help=text)
    text = "who may ask (default: root)"
    top.add_argument("--user", default="root", metavar="NAME", help=text)
    levels = ("debug", "info", "warning", "error")
    top.add_argument("--log-level", choices=levels, default="info")
    return top


def run(
    parser: argparse.ArgumentParser,
    converse: Callable[[int], Callable[[socket.socket], None]],
    arguments: Sequence[str] | None = None,
) -> int:
    """0: it ended as it was asked to; 1: it could not start, and the log says why.

    Args:
        converse: makes what talks with a peer, of the number of the one user that may ask.
    """
    options = parser.parse_args(arguments)
    logs.begin(parser.prog, options.log_level)
    log = logging.getLogger(f"targetplugin.{parser.prog.rpartition('-')[2]}")
    try:
        user = pwd.getpwnam(options.user).pw_uid
        where = listening(options.socket, parser.prog)
    except KeyError:
        log.critical("there is no user %s", options.user)
        return 1
    except Refused as refused:
        log.critical("%s (%s)", refused.message, refused.hint)
        return 1
    listener = Listener(where, converse(user))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: listener.stop())
    systemd = sdnotify.SystemdNotifier()
    systemd.notify("READY=1")
    listener.run()
    systemd.notify("STOPPING=1")
    return 0
