"""Runs a command on a terminal of 80 columns and 24 lines, types q after a while, and prints as JSON how it
ended, what it wrote there, and whether the terminal is as it was: screen.py SECONDS COMMAND...
"""

import fcntl
import json
import os
import pty
import select
import struct
import sys
import termios
import time

COLUMNS, LINES = 80, 24
PATIENCE = 60  # seconds to end in


def main() -> None:
    seconds, command = float(sys.argv[1]), sys.argv[2:]
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("4H", LINES, COLUMNS, 0, 0))
    before = termios.tcgetattr(slave)
    child = os.fork()
    if child == 0:
        os.login_tty(slave) if hasattr(os, "login_tty") else _login(slave)
        os.environ["TERM"] = "xterm"
        os.execvp(command[0], command)
    said, began, status = bytearray(), None, None
    end = time.monotonic() + seconds + PATIENCE
    typed = False
    while status is None and time.monotonic() < end:
        if select.select([master], [], [], 0.1)[0]:
            said += os.read(master, 65536)
            began = began or time.monotonic()  # it takes a while to start
        if began and not typed and time.monotonic() > began + seconds:
            os.write(master, b"q")
            typed = True
        done, how = os.waitpid(child, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(how)
    same = termios.tcgetattr(slave) == before
    print(json.dumps({"status": status, "said": said.decode(errors="replace"), "same": same}))


def _login(slave: int) -> None:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for number in (0, 1, 2):
        os.dup2(slave, number)


main()
