"""`status --watch`: the status again and again on the whole terminal, until q or Ctrl-C.

Owns the terminal's modes and gives them back as they were. What is shown is board.py's.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import Any

from targetplugin.control.client import AnswerLost, ControlError, DaemonAway
from targetplugin.terminal.errors import Misused
from targetplugin.terminal.session import Session

SECONDS = 1.0
_ENDS = b"qQ\x03\x04"  # q, and what a terminal sends for Ctrl-C and Ctrl-D where it makes no signal


def check_terminal(session: Session) -> None:
    """Raises Misused where there is nobody to watch."""
    why = ""
    if session.as_json:
        why = "--watch is for a person, and --json for a program"
    elif not (sys.stdin.isatty() and sys.stdout.isatty()):
        why = "--watch needs a terminal, and there is none"
    elif os.environ.get("TERM", "dumb") == "dumb":
        why = "--watch needs a terminal that can move its cursor, and TERM says that this one can't"
    if why:
        what = "ask again and again: targetplugin status --json; or: targetplugin events --follow"
        raise Misused(why, what)


def watch(session: Session, volume: str | None, seconds: float = SECONDS) -> None:
    """Shows the status until a person ends it.

    Raises:
        ControlError: the first status can't be had. Later ones are waited for.
    """
    check_terminal(session)
    from rich.console import Console
    from rich.live import Live

    from targetplugin.terminal.board import Rates, board

    status: dict[str, Any] = session.call("status", volume=volume)
    rates, note = Rates(), ""
    rates.look(status, time.monotonic())
    console = Console()
    with _keys(), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            now = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
            width, height = console.size
            live.update(board(status, rates, width, height, now, note), refresh=True)
            if _ended(seconds):
                return
            try:
                status = session.call("status", volume=volume)
                rates.look(status, time.monotonic())
                note = ""
            except (AnswerLost, DaemonAway) as error:
                session.close()
                note = f"{error.message}: what is below is as it was. Asking again."
            except ControlError as error:
                note = error.message


def _ended(seconds: float) -> bool:
    """Waits for a key, or so long. Whether it is one that ends."""
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    if not ready:
        return False
    typed = os.read(sys.stdin.fileno(), 64)
    return not typed or any(key in _ENDS for key in typed)


@contextlib.contextmanager
def _keys() -> Iterator[None]:
    """Keys come at once and are not echoed; Ctrl-C and a TERM end it, with the modes given back.

    Ctrl-Z does nothing: what it leaves behind would be a screen that is not the shell's.
    """
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    term = signal.signal(signal.SIGTERM, _interrupt)
    try:
        tty.setcbreak(fd, termios.TCSANOW)
        modes = termios.tcgetattr(fd)
        modes[6][termios.VSUSP] = b"\x00"
        termios.tcsetattr(fd, termios.TCSANOW, modes)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSAFLUSH, before)
        signal.signal(signal.SIGTERM, term)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
